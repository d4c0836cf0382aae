"""One task: what a stage is given to work with, and how its end is recorded."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from stillsun.config.schema import ChannelConfig
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.core.compiling import hearing_compilation
from stillsun.errors import InputError
from stillsun.io.store import Field, StoreWriter
from stillsun.pipeline.console import ESSENTIAL, Progress, logging_to
from stillsun.pipeline.digests import digest, plain
from stillsun.pipeline.locks import locked
from stillsun.pipeline.os_errors import told_in_words
from stillsun.pipeline.plan import Plan, Task
from stillsun.pipeline.provenance import PROVENANCE, source_hash
from stillsun.products.base import FRAMES, FilesProduct, StoreProduct
from stillsun.products.channel import Channel
from stillsun.stages.base import StageContext

_LOG = logging.getLogger(__name__)


@dataclass
class SoFar:
    """
    What the tasks of a run left behind so far.

    Attributes
    ----------
    made : frozenset of str
        Tasks whose results are there.
    notes : dict
        Task to what its stage noted.
    failed : dict
        Task to why it failed.
    seconds : dict
        Task to the time it took.
    """

    made: frozenset[str] = frozenset()
    notes: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Digest of what a report says of the tasks."""
        notes = {name: notes for name, notes in self.notes.items() if notes}
        return digest([notes, self.failed] if self.failed else notes)


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

    `bars` asks for progress bars instead of log lines; `log` is the log file of a task that runs in a process
    of its own.
    """
    start = time.monotonic()
    places, product = task.places, task.product
    with told_in_words(places.channel(task.channel).directory), ExitStack() as stack:
        if log is not None:
            stack.enter_context(logging_to(log, quiet=True, console=False))
        lock = places.lock(task.channel)
        said = "%s: waits for another run that works on this channel (%s)"
        waits = partial(_LOG.warning, said, task.name, lock)
        waited = stack.enter_context(locked(lock, settings.run.run.lock, waits))
        mark = places.redo(task.channel, task.stage.name)
        if waited and task.is_made():
            mark.unlink(missing_ok=True)
            return TaskResult("reused", product.notes, time.monotonic() - start)
        progress = stack.enter_context(Progress(task.name, bars=bars, file=places.progress(task.channel)))
        _LOG.debug("%s: starts (%s)", task.name, task.digest)
        context = stage_context(task, plan, settings, backend, so_far, progress, stack)
        with hearing_compilation(_say_compiling):
            files = task.stage.run(context)
        state, notes = "made", context.notes
        if not isinstance(product, FilesProduct):
            notes = product.notes
        elif files is None:
            product.remove()
            state = "empty"
        else:
            told = so_far.told if task.stage.reports_on_run else ""
            product.write(task.digest, list(files), notes, told)
        mark.unlink(missing_ok=True)
    return TaskResult(state, notes, time.monotonic() - start)


@cache
def _say_compiling() -> None:
    """Once a process."""
    said = "compiling what this machine has not run yet: it takes up to some minutes, once"
    _LOG.info(said, extra=ESSENTIAL)


def stage_context(
    task: Task,
    plan: Plan,
    settings: Settings,
    backend: Backend,
    so_far: SoFar,
    progress: Progress,
    stack: ExitStack,
) -> StageContext:
    """
    What a stage works with; `stack` closes the products when the task is over.

    An InputError is raised if another run made again what it reads.
    """
    stage, name, run = task.stage, task.channel, settings.run
    sources = _sources(task, plan, settings, so_far)
    kinds = (*stage.reads, *stage.optional)
    notes: list[str] = []

    def channel(owner: str, wanted: tuple[type[StoreProduct], ...]) -> Channel:
        found = {kind: sources.get(f"{owner}:{kind.name}") for kind in wanted}
        products = [
            kind(source.product.work, owner, stage.parts.get(kind, ()))
            for kind, source in found.items()
            if source is not None
        ]
        opened = Channel.of(settings, owner, task.places.channel(owner), products)
        return stack.enter_context(opened)

    tools: dict[str, Any] = {
        "backend": backend,
        "work": task.product.work,
        "create": _creator(task, settings, notes),
        "notes": notes,
        "progress": progress,
        "digest": task.digest,
        "provenance": {**PROVENANCE, "hash": source_hash()},
        "told": so_far.notes,
        "failed": so_far.failed,
        "seconds": so_far.seconds,
    }
    if stage.per_observation:
        channels = {owner: channel(owner, kinds) for owner in settings.channels}
        paths, config = task.places.channel(""), getattr(run, stage.name)
        return StageContext(
            "", run.observation, ChannelConfig(), {}, paths, {}, channels=channels, config=config, **tools
        )
    own = channel(name, kinds)
    reference = None if own.is_reference else channel(settings.reference, stage.reads_reference)
    values = (own.name, own.observation, own.settings, own.options, own.paths, own.products)
    return StageContext(*values, reference=reference, config=own.options[stage.name], **tools)


def _creator(task: Task, settings: Settings, notes: list[str]) -> Any:
    """The function `create` of a stage's context; notes made before the store is finished are kept in it."""
    stage, product = task.stage, task.product

    @contextmanager
    def create(
        rows: int, fields: Mapping[str, Field], attributes: Mapping[str, Any] | None = None
    ) -> Iterator[StoreWriter]:
        if not isinstance(product, StoreProduct):
            raise TypeError(f"stage {stage.name} declares no store that it writes")
        options = json.dumps(plain(settings.stages[task.channel][stage.name]))
        about = {"stage": stage.name, **PROVENANCE, "channel": task.channel, "config": options}
        if stage.frame_independent_files:
            about[FRAMES] = task.frames
        with product.create(task.digest, rows, fields, {**about, **(attributes or {})}) as store:
            if store.resumed:
                _LOG.info("%s: goes on, %d of %d rows are done", task.name, store.done().sum(), rows)
            yield store
            store.write_notes(notes)

    return create


def _sources(task: Task, plan: Plan, settings: Settings, so_far: SoFar) -> dict[str, Task]:
    """
    What a task reads, as far as it is there.

    A product that could not be made is not there: what needs it was not started, what can do without does.
    One that was there and is no more belongs to another run; a result without it would pass for one with it.
    """
    found = {}
    for key, source in plan.inputs(settings, task.stage, task.channel).items():
        if source is None:
            continue
        if source.is_made():
            found[key] = source
        elif source.name in so_far.made:
            raise InputError(
                f"{source.name} was made again meanwhile, by another run with other options",
                file=source.product.work,
                remedy="When that has ended, the same command goes on; runs that differ need an "
                "observation.work_dir each, or are jobs of a sweep",
            )
    return found
