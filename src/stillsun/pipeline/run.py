"""Carries out a plan: reuse, failure policy, timing, and the record of what was done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from stillsun.config.schema import ExecutorName
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import StillsunError
from stillsun.pipeline.bars import Board
from stillsun.pipeline.console import CONSOLE_ONLY, ESSENTIAL, FILE_ONLY
from stillsun.pipeline.executors import open_executor
from stillsun.pipeline.places import Places, Workspace
from stillsun.pipeline.plan import Action, Plan, Task
from stillsun.pipeline.record import RunRecord
from stillsun.pipeline.work import SoFar, TaskResult, run_task
from stillsun.products.base import FilesProduct

_LOG = logging.getLogger(__name__)

# How often bars of other processes are looked after, seconds.
_LOOK = 0.5


@dataclass
class Outcome:
    """
    How a run ended.

    Attributes
    ----------
    made, reused : list of str
        Tasks.
    taken, stale : list of str
        Those of the reused ones whose stages were not chosen, and of these the ones that are out of date.
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
    failed_before : dict
        Tasks that an earlier run left as failures and this one does not do, and why they failed.
    """

    made: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, BaseException] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    failed_before: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> set[str]:
        """Tasks that need no more work."""
        return {*self.made, *self.reused, *self.empty, *self.failed, *self.skipped}

    @property
    def so_far(self) -> SoFar:
        """What the next task is told."""
        failed = {**self.failed_before, **{name: str(error) for name, error in self.failed.items()}}
        return SoFar(frozenset((*self.made, *self.reused)), dict(self.notes), failed, dict(self.seconds))


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
    places = Places(space.directory)
    record = RunRecord(places)
    earlier = record.earlier()
    _take_over(outcome, plan, earlier)
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
                was_planned = task.is_new
                plan.settle(settings, task)
                if _settled(task, plan, settings, outcome, earlier):
                    if task.name in outcome.skipped:
                        record.task(task.name, state="skipped")
                    elif was_planned:
                        record.task(task.name, state="done", digest=task.digest)
                    continue
                remote = places.log if apart else None
                record.task(task.name, state="running", digest=task.digest)
                shown = bars and not apart
                given = (task, plan, settings, share, outcome.so_far, shown, remote)
                running[executor.submit(run_task, *given)] = task
            if board is not None:
                board.show({t.name: t.places.progress(t.channel) for t in running.values()})
            if running:
                pause = None if board is None else _LOOK
                for future in wait(running, pause, FIRST_COMPLETED).done:
                    _collect(running.pop(future), future, outcome, record, told=not apart)
    return outcome


def _take_over(outcome: Outcome, plan: Plan, earlier: Mapping[str, Mapping[str, Any]]) -> None:
    """What stages that are not done now failed for, or noted, when they left no result."""
    tasks = {task.name: task for task in plan.tasks}
    for name, entry in earlier.items():
        task = tasks.get(name)
        settled = task is not None and (not task.taken or task.digest == entry.get("digest"))
        if entry.get("state") == "failed" and not settled:
            outcome.failed_before[name] = str(entry.get("error"))
        elif entry.get("state") == "empty" and not settled:
            outcome.notes[name] = list(entry.get("notes") or [])


def _is_ready(task: Task, plan: Plan, settings: Settings, outcome: Outcome) -> bool:
    if task.stage.per_observation:
        # A report wants to know how everything before it ended.
        sources = plan.tasks[: plan.tasks.index(task)]
    else:
        sources = [s for s in plan.inputs(settings, task.stage, task.channel).values() if s is not None]
    return all(s.name in outcome.ended for s in sources)


def _settled(
    task: Task, plan: Plan, settings: Settings, outcome: Outcome, earlier: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Deal with a task that needs no work; says whether it is one."""
    sources = plan.inputs(settings, task.stage, task.channel)
    # What is optional, or the reference channel's, is left out of the context instead.
    needed = [sources.get(f"{task.channel}:{kind.name}") for kind in task.stage.reads]
    if any(s is not None and s.name in (*outcome.failed, *outcome.skipped) for s in needed):
        outcome.skipped.append(task.name)
        _LOG.warning("%s: left out, because a step before it failed", task.name)
        return True
    if task.action is Action.make:
        return False
    product = task.product
    if (
        task.stage.reports_on_run
        and task.action is Action.reuse
        and isinstance(product, FilesProduct)
        and product.read().get("told") != outcome.so_far.told
    ):
        return False
    outcome.reused.append(task.name)
    outcome.notes[task.name] = [*outcome.notes.get(task.name, []), *product.notes]
    known = earlier.get(task.name, {})
    if known.get("digest") == task.digest and known.get("seconds") is not None:
        outcome.seconds[task.name] = known["seconds"]
    if task.taken:
        outcome.taken.append(task.name)
    if task.is_stale:
        outcome.stale.append(task.name)
    taken = f"taken as it is{', out of date' if task.is_stale else ''}"
    _LOG.info("%s: %s", task.name, taken if task.taken else "up to date")
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
    said = error if isinstance(error, StillsunError) else repr(error)
    _LOG.error("%s failed: %s", task.name, said, extra=FILE_ONLY)
    # On the console the end of the run says why, once.
    _LOG.error("%s failed: the log says why, and so does the end of the run", task.name, extra=CONSOLE_ONLY)
    outcome.failed[task.name] = error
    record.task(task.name, state="failed", error=str(error) or repr(error))
