"""Carries out a plan: reuse, failure policy, timing, and the record of what was done."""

from __future__ import annotations

import fcntl
import json
import logging
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stillsun import __version__
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend, get_backend
from stillsun.errors import StillsunError
from stillsun.io.store import Field, StoreReader, StoreWriter, create_section, create_store, stored_digest
from stillsun.io.store import Layout as StoreLayout
from stillsun.pipeline.console import Progress, logging_to
from stillsun.pipeline.digest import plain
from stillsun.pipeline.executors import open_executor
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.plan import Action, Plan, Task, input_tasks
from stillsun.pipeline.workspace import Workspace, read_stamp, write_json, write_stamp
from stillsun.stages.base import ChannelView, ObservationContext, StageContext

_LOG = logging.getLogger(__name__)
_PACKAGES = ("numpy", "scipy", "numba", "h5py", "astropy", "sunpy", "hydra-core", "cupy")
PROVENANCE = {"program": "stillsun", "version": __version__}


@dataclass
class Outcome:
    """
    How a run ended.

    Attributes
    ----------
    made, reused : list of str
        Tasks.
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
    made : bool
        False if another run had made it in the meantime.
    notes : list of str
        What the stage noted.
    seconds : float
        Time it took.
    """

    made: bool
    notes: list[str]
    seconds: float


def execute(plan: Plan, settings: Settings, space: Workspace, backend: Backend, *, bars: bool) -> Outcome:
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

    Returns
    -------
    Outcome
        What was done, and what failed.
    """
    outcome = Outcome()
    pending = list(plan.tasks)
    running: dict[Future[TaskResult], Task] = {}
    log = Layout(space.directory).log
    with open_executor(settings.run.executor, backend.threads) as (executor, workers):
        share = (
            get_backend(backend.name, threads=max(1, backend.threads // workers)) if workers > 1 else backend
        )
        while pending or running:
            for task in [t for t in pending if _is_ready(t, plan, settings, outcome)]:
                if len(running) >= workers:
                    break
                pending.remove(task)
                if _settled(task, plan, settings, outcome):
                    continue
                known = Outcome(
                    notes=dict(outcome.notes), seconds=dict(outcome.seconds), failed=dict(outcome.failed)
                )
                remote = log if workers > 1 else None
                running[executor.submit(run_task, task, plan, settings, share, known, bars, remote)] = task
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _collect(running.pop(future), future, outcome)
    _write_manifest(plan, settings, space, backend, outcome)
    return outcome


def _is_ready(task: Task, plan: Plan, settings: Settings, outcome: Outcome) -> bool:
    ended = {*outcome.made, *outcome.reused, *outcome.failed, *outcome.skipped}
    if task.stage.whole:
        # A report wants to know how everything before it ended.
        sources = plan.tasks[: plan.tasks.index(task)]
    else:
        sources = [s for s in input_tasks(plan, settings, task.stage, task.channel).values() if s is not None]
    return all(s.name in ended for s in sources)


def _settled(task: Task, plan: Plan, settings: Settings, outcome: Outcome) -> bool:
    """Deal with a task that needs no work; says whether it is one."""
    sources = [s for s in input_tasks(plan, settings, task.stage, task.channel).values() if s is not None]
    if not task.stage.whole and any(s.name in outcome.failed or s.name in outcome.skipped for s in sources):
        outcome.skipped.append(task.name)
        _LOG.warning("%s: left out, because a step before it failed", task.name)
        return True
    if task.action is Action.make:
        return False
    outcome.reused.append(task.name)
    outcome.notes[task.name] = _stored_notes(task)
    _LOG.info("%s: %s", task.name, "up to date" if task.action is Action.reuse else "taken as it is")
    return True


def _collect(task: Task, future: Future[TaskResult], outcome: Outcome) -> None:
    error = future.exception()
    if error is None:
        result = future.result()
        (outcome.made if result.made else outcome.reused).append(task.name)
        outcome.notes[task.name] = result.notes
        outcome.seconds[task.name] = result.seconds
        _LOG.info("%s: done in %.1f s", task.name, result.seconds)
        return
    _LOG.debug("traceback of %s", task.name, exc_info=error)
    _LOG.error("%s failed: %s", task.name, error if isinstance(error, StillsunError) else repr(error))
    outcome.failed[task.name] = error


def run_task(
    task: Task,
    plan: Plan,
    settings: Settings,
    backend: Backend,
    outcome: Outcome,
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
    outcome : Outcome
        What happened so far.
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
    with ExitStack() as stack:
        if log is not None:
            stack.enter_context(logging_to(log, quiet=True))
        waited = stack.enter_context(_locked(task.layout.lock(task.channel), task.name))
        if waited and _is_made(task):
            return TaskResult(False, _stored_notes(task), time.monotonic() - start)
        progress = stack.enter_context(Progress(task.name, bars=bars))
        _LOG.debug("%s: starts (%s)", task.name, task.digest)
        notes: list[str] = []
        if task.stage.whole:
            context: Any = _observation_context(task, plan, settings, outcome, progress, notes, stack)
        else:
            context = _stage_context(task, plan, settings, backend, progress, notes, stack)
        files = task.stage.run(context)
    if task.stage.writes:
        notes = _stored_notes(task)
    else:
        stamp = task.layout.stamp(task.channel, task.stage.name)
        write_stamp(stamp, task.layout.work, task.digest, list(files or []), notes)
    return TaskResult(True, notes, time.monotonic() - start)


def _stage_context(
    task: Task,
    plan: Plan,
    settings: Settings,
    backend: Backend,
    progress: Progress,
    notes: list[str],
    stack: ExitStack,
) -> StageContext:
    stage, channel = task.stage, task.channel
    sources = input_tasks(plan, settings, stage, channel)
    config = settings.stages[channel][stage.name]
    is_reference = channel == settings.reference

    @contextmanager
    def create(
        rows: int, fields: Mapping[str, Field], attributes: Mapping[str, Any] | None = None
    ) -> Iterator[StoreWriter]:
        about = {"stage": stage.name, **PROVENANCE, "channel": channel, "config": json.dumps(plain(config))}
        layout = StoreLayout(rows, fields, {**about, **(attributes or {})})
        path, group = task.layout.store(channel, stage.writes)
        with (
            create_store(path, layout, task.digest)
            if group == "/"
            else create_section(path, group, layout, task.digest)
        ) as store:
            if store.resumed:
                _LOG.info("%s: goes on, %d of %d rows are done", task.name, store.done().sum(), rows)
            yield store
            store.write_notes(notes)

    return StageContext(
        channel=channel,
        settings=settings.channel(channel),
        config=config,
        observation=settings.run.observation,
        backend=backend,
        inputs=_open(sources, channel, (*stage.reads, *stage.optional), stack),
        reference={} if is_reference else _open(sources, settings.reference, stage.reads_reference, stack),
        is_reference=is_reference,
        paths=task.layout.channel(channel),
        create=create,
        progress=progress,
        digest=task.digest,
        provenance=PROVENANCE,
        notes=notes,
    )


def _observation_context(
    task: Task,
    plan: Plan,
    settings: Settings,
    outcome: Outcome,
    progress: Progress,
    notes: list[str],
    stack: ExitStack,
) -> ObservationContext:
    # A product that could not be made is not there; stages of the whole observation live with that.
    sources = {
        key: source
        for key, source in input_tasks(plan, settings, task.stage, "").items()
        if source is not None and _is_made(source)
    }
    products = (*task.stage.reads, *task.stage.optional)
    views = {
        name: ChannelView(
            settings.channel(name),
            settings.stages[name],
            _open(sources, name, products, stack),
            task.layout.channel(name),
        )
        for name in settings.channels
    }
    failures = {name: [f"FAILED: {error}"] for name, error in outcome.failed.items()}
    return ObservationContext(
        config=getattr(settings.run, task.stage.name),
        observation=settings.run.observation,
        channels=views,
        directory=task.layout.work,
        notes={**outcome.notes, **failures},
        seconds=outcome.seconds,
        progress=progress,
        digest=task.digest,
        provenance=PROVENANCE,
        own_notes=notes,
    )


def _open(
    sources: Mapping[str, Task | None], channel: str, products: tuple[str, ...], stack: ExitStack
) -> dict[str, StoreReader]:
    readers = {}
    for product in products:
        source = sources.get(f"{channel}:{product}")
        if source is not None:
            path, group = source.layout.store(channel, product)
            readers[product] = stack.enter_context(StoreReader(path, group))
    return readers


@contextmanager
def _locked(path: Path, name: str) -> Iterator[bool]:
    """Keep other runs off a channel; yields whether this run had to wait for one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("%s: waits for another run that works on this channel (%s)", name, path)
            fcntl.flock(handle, fcntl.LOCK_EX)
            waited = True
        yield waited


def _is_made(task: Task) -> bool:
    if task.stage.writes:
        return stored_digest(*task.layout.store(task.channel, task.stage.writes)) == task.digest
    stamp = read_stamp(task.layout.stamp(task.channel, task.stage.name), task.layout.work)
    return stamp.get("digest") == task.digest


def _stored_notes(task: Task) -> list[str]:
    if not task.stage.writes:
        return list(
            read_stamp(task.layout.stamp(task.channel, task.stage.name), task.layout.work).get("notes", [])
        )
    with StoreReader(*task.layout.store(task.channel, task.stage.writes)) as store:
        return store.notes


def _write_manifest(
    plan: Plan, settings: Settings, space: Workspace, backend: Backend, outcome: Outcome
) -> None:
    if not outcome.made and not outcome.failed:
        return
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    tasks = {
        t.name: {
            "digest": t.digest,
            "state": _state(t, outcome),
            "seconds": outcome.seconds.get(t.name),
            "error": str(outcome.failed[t.name]) if t.name in outcome.failed else None,
            "notes": outcome.notes.get(t.name, []),
        }
        for t in plan.tasks
    }
    write_json(
        Layout(space.directory).manifest,
        {
            **PROVENANCE,
            "python": platform.python_version(),
            "packages": versions,
            "machine": platform.platform(),
            "backend": backend.device,
            "command": sys.argv,
            "configuration": plain(settings.run),
            "tasks": tasks,
        },
    )


def _state(task: Task, outcome: Outcome) -> str:
    for name, names in (("failed", outcome.failed), ("skipped", outcome.skipped), ("made", outcome.made)):
        if task.name in names:
            return name
    return "reused"
