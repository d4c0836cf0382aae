"""What a stage is given to work with: its options, open products, and a place for its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import InputError
from stillsun.io.store import Field, Layout, StoreReader, StoreWriter, create_section, create_store
from stillsun.pipeline.digest import plain
from stillsun.pipeline.plan import input_tasks
from stillsun.pipeline.provenance import PROVENANCE, source_hash
from stillsun.pipeline.task import FRAMES, Plan, Task
from stillsun.stages.base import ChannelView, ObservationContext, Progress, StageContext

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SoFar:
    """
    What the tasks of a run left behind so far.

    Attributes
    ----------
    notes : dict
        Task to what its stage noted, or how it failed.
    seconds : dict
        Task to the time it took.
    made : frozenset of str
        Tasks whose results are there.
    """

    notes: dict[str, list[str]]
    seconds: dict[str, float]
    made: frozenset[str]


def stage_context(
    task: Task,
    plan: Plan,
    settings: Settings,
    backend: Backend,
    so_far: SoFar,
    progress: Progress,
    notes: list[str],
    stack: ExitStack,
) -> StageContext:
    """
    Build the context of a stage for one channel.

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
    progress : callable
        Told how far the stage is.
    notes : list of str
        Takes the stage's notes.
    stack : ExitStack
        Closes the products when the task is over.

    Returns
    -------
    StageContext
        The context.

    Raises
    ------
    InputError
        If another run made again what it reads.
    """
    stage, channel = task.stage, task.channel
    sources = _sources(task, plan, settings, so_far)
    config = settings.stages[channel][stage.name]
    is_reference = channel == settings.reference

    @contextmanager
    def create(
        rows: int, fields: Mapping[str, Field], attributes: Mapping[str, Any] | None = None
    ) -> Iterator[StoreWriter]:
        about = {"stage": stage.name, **PROVENANCE, "channel": channel, "config": json.dumps(plain(config))}
        if stage.aside:
            about[FRAMES] = task.frames
        layout = Layout(rows, fields, {**about, **(attributes or {})})
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
        provenance={**PROVENANCE, "hash": source_hash()},
        notes=notes,
    )


def observation_context(
    task: Task,
    plan: Plan,
    settings: Settings,
    so_far: SoFar,
    progress: Progress,
    notes: list[str],
    stack: ExitStack,
) -> ObservationContext:
    """
    Build the context of a stage of the whole observation.

    Parameters
    ----------
    task : Task
        What to do.
    plan : Plan
        The plan it belongs to.
    settings : Settings
        Checked configuration.
    so_far : SoFar
        What the tasks before it left behind.
    progress : callable
        Told how far the stage is.
    notes : list of str
        Takes the stage's notes.
    stack : ExitStack
        Closes the products when the task is over.

    Returns
    -------
    ObservationContext
        The context.

    Raises
    ------
    InputError
        If another run made again what it reads.
    """
    sources = _sources(task, plan, settings, so_far)
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
    return ObservationContext(
        config=getattr(settings.run, task.stage.name),
        observation=settings.run.observation,
        channels=views,
        directory=task.layout.work,
        notes=so_far.notes,
        seconds=so_far.seconds,
        progress=progress,
        digest=task.digest,
        provenance=PROVENANCE,
        own_notes=notes,
    )


def _sources(task: Task, plan: Plan, settings: Settings, so_far: SoFar) -> dict[str, Task]:
    """
    What a task reads, as far as it is there.

    A product that could not be made is not there: what needs it was not started, what can do without does.
    One that was there and is no more belongs to another run; a result without it would pass for one with it.
    """
    found = {}
    for key, source in input_tasks(plan, settings, task.stage, task.channel).items():
        if source is None:
            continue
        if source.is_made():
            found[key] = source
        elif source.name in so_far.made:
            raise InputError(
                f"{source.name} was made again meanwhile, by another run with other options",
                file=source.layout.work,
                remedy="When that has ended, the same command goes on; runs that differ need an "
                "observation.work_dir each, or are jobs of a sweep",
            )
    return found


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
