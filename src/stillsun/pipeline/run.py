"""Carries out a plan: reuse, failure policy, timing, and the record of what was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from stillsun.config.schema import ExecutorName
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import StillsunError
from stillsun.io.store import StoreReader
from stillsun.pipeline.bars import Board
from stillsun.pipeline.console import CONSOLE_ONLY, ESSENTIAL, Progress, logging_to
from stillsun.pipeline.contexts import SoFar, observation_context, stage_context
from stillsun.pipeline.digest import digest
from stillsun.pipeline.executors import open_executor
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.locks import locked
from stillsun.pipeline.plan import input_tasks
from stillsun.pipeline.record import RunRecord
from stillsun.pipeline.systemerrors import told_in_words
from stillsun.pipeline.task import Action, Plan, Task
from stillsun.pipeline.workspace import Workspace, read_stamp, write_stamp

_LOG = logging.getLogger(__name__)

# How often bars of other processes are looked after, seconds.
_LOOK = 0.5
# How the notes of a failed task begin.
FAILED = "FAILED: "


@dataclass
class Outcome:
    """
    How a run ended.

    Attributes
    ----------
    made, reused : list of str
        Tasks.
    empty : list of str
        Tasks whose stage ended without a result; they are tried again by the next run.
    failed : dict
        Task to its error.
    skipped : list of str
        Tasks that needed a failed one.
    seconds : dict
        Task to the time it took.
    notes : dict
        Task to what its stage noted.
    """

    made: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, BaseException] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """
    How a task ended.

    Attributes
    ----------
    state : {"made", "reused", "empty"}
        Reused: another run had made it in the meantime; empty: the stage ended without a result.
    notes : list of str
        What the stage noted.
    seconds : float
        Time it took.
    """

    state: str
    notes: list[str]
    seconds: float


def execute(
    plan: Plan, settings: Settings, space: Workspace, backend: Backend, *, bars: bool, command: str
) -> Outcome:
    """
    Do the tasks of a plan, each as soon as what it reads is there.

    A failed task stops what needs its result, not the other channels.

    Parameters
    ----------
    plan : Plan
        What to do.
    settings : Settings
        Checked configuration.
    space : Workspace
        Where products are.
    backend : Backend
        Where to compute.
    bars : bool
        Progress bars instead of log lines.
    command : str
        Command line, for the record; empty for what leaves none.

    Returns
    -------
    Outcome
        What was done, and what failed.
    """
    outcome = Outcome()
    pending = list(plan.tasks)
    running: dict[Future[TaskResult], Task] = {}
    places = Layout(space.directory)
    record = RunRecord(places)
    earlier = record.earlier()
    outcome.notes.update(_earlier_failures(plan, earlier))
    # Before anything is made: what is to be made again still is after a kill.
    for mark in plan.redo:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    with (
        ExitStack() as stack,
        record.kept(settings, backend, space, plan, command),
        open_executor(settings.run.executor, backend.threads, len(settings.channels)) as (
            executor,
            workers,
            threads,
        ),
    ):
        share = replace(backend, threads=threads)
        # Tasks in other processes: what they do is told here, from what they leave.
        apart = settings.run.executor.name is not ExecutorName.serial
        board = stack.enter_context(Board()) if bars and apart else None
        while pending or running:
            for task in [t for t in pending if _is_ready(t, plan, settings, outcome)]:
                if len(running) >= workers:
                    break
                pending.remove(task)
                if _settled(task, plan, settings, outcome, earlier):
                    if task.name in outcome.skipped:
                        record.task(task.name, state="skipped")
                    continue
                made = frozenset((*outcome.made, *outcome.reused))
                so_far = SoFar(_said(outcome), dict(outcome.seconds), made)
                remote = places.log if apart else None
                record.task(task.name, state="running")
                shown = bars and not apart
                running[executor.submit(run_task, task, plan, settings, share, so_far, shown, remote)] = task
            if board is not None:
                board.show({t.name: t.layout.progress(t.channel) for t in running.values()})
            if running:
                pause = None if board is None else _LOOK
                for future in wait(running, pause, FIRST_COMPLETED).done:
                    _collect(running.pop(future), future, outcome, record, told=not apart)
    return outcome


def _said(outcome: Outcome) -> dict[str, list[str]]:
    """What the tasks noted so far, or failed for."""
    return {**outcome.notes, **{name: [f"{FAILED}{error}"] for name, error in outcome.failed.items()}}


def _told(said: Mapping[str, list[str]]) -> str:
    return digest({name: notes for name, notes in said.items() if notes})


def _earlier_failures(plan: Plan, earlier: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What stages that are not done now failed for, or noted, when they left no result."""
    found: dict[str, list[str]] = {}
    tasks = {task.name: task for task in plan.tasks}
    for name, entry in earlier.items():
        task = tasks.get(name)
        settled = task is not None and (task.action is not Action.take or task.digest == entry.get("digest"))
        if entry.get("state") == "failed" and not settled:
            found[name] = [f"{FAILED}{entry.get('error')}"]
        elif entry.get("state") == "empty" and not settled:
            found[name] = list(entry.get("notes") or [])
    return found


def _is_ready(task: Task, plan: Plan, settings: Settings, outcome: Outcome) -> bool:
    ended = {*outcome.made, *outcome.reused, *outcome.empty, *outcome.failed, *outcome.skipped}
    if task.stage.whole:
        # A report wants to know how everything before it ended.
        sources = plan.tasks[: plan.tasks.index(task)]
    else:
        sources = [s for s in input_tasks(plan, settings, task.stage, task.channel).values() if s is not None]
    return all(s.name in ended for s in sources)


def _settled(
    task: Task, plan: Plan, settings: Settings, outcome: Outcome, earlier: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Deal with a task that needs no work; says whether it is one."""
    sources = input_tasks(plan, settings, task.stage, task.channel)
    # What is optional, or the reference channel's, is left out of the context instead.
    needed = [sources.get(f"{task.channel}:{product}") for product in task.stage.reads]
    if any(s is not None and s.name in (*outcome.failed, *outcome.skipped) for s in needed):
        outcome.skipped.append(task.name)
        _LOG.warning("%s: left out, because a step before it failed", task.name)
        return True
    if task.action is Action.make:
        return False
    stamp = task.layout.stamp(task.channel, task.stage.name)
    if (
        task.stage.tells
        and task.action is Action.reuse
        and read_stamp(stamp, task.layout.work).get("told") != _told(_said(outcome))
    ):
        return False
    outcome.reused.append(task.name)
    outcome.notes[task.name] = [*outcome.notes.get(task.name, []), *_stored_notes(task)]
    known = earlier.get(task.name, {})
    if known.get("digest") == task.digest and known.get("seconds") is not None:
        outcome.seconds[task.name] = known["seconds"]
    _LOG.info("%s: %s", task.name, "up to date" if task.action is Action.reuse else "taken as it is")
    return True


def _collect(
    task: Task, future: Future[TaskResult], outcome: Outcome, record: RunRecord, *, told: bool
) -> None:
    """Take over how a task ended; `told`: its notes are on the console already."""
    error: BaseException | None
    try:
        error = future.exception()
    except CancelledError:
        error = StillsunError(
            "the Dask scheduler, or the connection to it, is gone",
            remedy="Look after the cluster and its memory; the same command goes on from here",
        )
    if error is None:
        result = future.result()
        getattr(outcome, result.state).append(task.name)
        outcome.notes[task.name] = result.notes
        if result.state == "reused":
            # What was waited is not what it takes.
            record.task(task.name, state="done", notes=result.notes)
            _LOG.info("%s: made by another run meanwhile", task.name, extra=ESSENTIAL)
            return
        outcome.seconds[task.name] = result.seconds
        state = "empty" if result.state == "empty" else "done"
        record.task(task.name, state=state, seconds=result.seconds, notes=result.notes)
        for note in [] if told else result.notes:
            _LOG.warning("%s: %s", task.name, note, extra=CONSOLE_ONLY)
        words = "no result" if state == "empty" else "done"
        _LOG.info("%s: %s after %.1f s", task.name, words, result.seconds, extra=ESSENTIAL)
        return
    _LOG.debug("traceback of %s", task.name, exc_info=error)
    _LOG.error("%s failed: %s", task.name, error if isinstance(error, StillsunError) else repr(error))
    outcome.failed[task.name] = error
    record.task(task.name, state="failed", error=str(error) or repr(error))


def run_task(
    task: Task,
    plan: Plan,
    settings: Settings,
    backend: Backend,
    so_far: SoFar,
    bars: bool,
    log: Path | None = None,
) -> TaskResult:
    """
    Do one task, alone on its channel.

    Parameters
    ----------
    task : Task
        What to do.
    plan : Plan
        The plan it belongs to.
    settings : Settings
        Checked configuration.
    backend : Backend
        Where to compute.
    so_far : SoFar
        What the tasks before it left behind.
    bars : bool
        Progress bars instead of log lines.
    log : Path, optional
        Log file, where the task runs in a process of its own.

    Returns
    -------
    TaskResult
        How it ended.
    """
    start = time.monotonic()
    with told_in_words(task.layout.channel(task.channel).directory), ExitStack() as stack:
        if log is not None:
            stack.enter_context(logging_to(log, quiet=True, console=False))
        lock = task.layout.lock(task.channel)
        said = "%s: waits for another run that works on this channel (%s)"
        waits = partial(_LOG.warning, said, task.name, lock)
        waited = stack.enter_context(locked(lock, settings.run.run.lock, waits))
        mark = task.layout.redo(task.channel, task.stage.name)
        if waited and task.is_made():
            mark.unlink(missing_ok=True)
            return TaskResult("reused", _stored_notes(task), time.monotonic() - start)
        file = task.layout.progress(task.channel)
        progress = stack.enter_context(Progress(task.name, bars=bars, file=file))
        _LOG.debug("%s: starts (%s)", task.name, task.digest)
        notes: list[str] = []
        if task.stage.whole:
            context: Any = observation_context(task, plan, settings, so_far, progress, notes, stack)
        else:
            context = stage_context(task, plan, settings, backend, so_far, progress, notes, stack)
        files = task.stage.run(context)
        state = "made"
        stamp = task.layout.stamp(task.channel, task.stage.name)
        if task.stage.writes:
            notes = _stored_notes(task)
        elif files is None:
            stamp.unlink(missing_ok=True)
            state = "empty"
        else:
            told = _told(so_far.notes) if task.stage.tells else ""
            write_stamp(stamp, task.layout.work, task.digest, list(files), notes, told)
        mark.unlink(missing_ok=True)
    return TaskResult(state, notes, time.monotonic() - start)


def _stored_notes(task: Task) -> list[str]:
    if not task.stage.writes:
        return list(
            read_stamp(task.layout.stamp(task.channel, task.stage.name), task.layout.work).get("notes", [])
        )
    with StoreReader(*task.layout.store(task.channel, task.stage.writes)) as store:
        return store.notes
