"""From the configuration to tasks: what is made, what is reused, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.errors import ConfigError, InputError
from stillsun.io import inventory
from stillsun.io.store import StoreReader
from stillsun.pipeline.digest import digest, files_digest, plain
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.task import FRAMES, Action, Plan, Task
from stillsun.pipeline.workspace import Workspace
from stillsun.stages.base import Stage
from stillsun.stages.registry import stage_of_channel


def changed_by(overrides: list[str], stages: Mapping[str, Stage]) -> frozenset[str]:
    """
    Stages whose results a sweep's job may change.

    Parameters
    ----------
    overrides : list of str
        Overrides that the sweep's jobs differ in.
    stages : mapping of str to Stage
        All stages in order.

    Returns
    -------
    frozenset of str
        The stages that an override names, and all that follow from them.
    """
    changed: set[str] = set()
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        parts = key.split(".")
        if parts[0] in stages:
            changed.add(parts[0])
        elif parts[:2] == ["observation", "channels"] and len(parts) > 3 and parts[3] in stages:
            changed.add(parts[3])
        elif parts[0] == "backend" or (
            parts[0] == "observation" and len(parts) > 1 and parts[1] != "work_dir"
        ):
            changed.update(stages)
    products = {s.writes: s.name for s in stages.values() if s.writes}
    for stage in stages.values():
        sources = {products[p] for p in (*stage.reads, *stage.optional, *stage.reads_reference)}
        if sources & changed:
            changed.add(stage.name)
    return frozenset(changed)


def check_files(settings: Settings, stages: Mapping[str, Stage]) -> list[str]:
    """
    Look whether the raw files of the stages to be run are there; no content is read.

    Parameters
    ----------
    settings : Settings
        Checked configuration.
    stages : mapping of str to Stage
        All stages.

    Returns
    -------
    list of str
        What is missing.
    """
    chosen = {s.name for s in settings.run.stages}
    findings: list[str] = []
    for name in settings.channels:
        own = [
            stage_of_channel(stage, settings.stages[name], name == settings.reference)
            for stage in stages.values()
            if not stage.whole
        ]
        roles = {role for stage in own if stage.name in chosen or stage.always for role in stage.raw}
        if roles:
            findings += inventory.check(settings.run.observation, name, sorted(roles))
    return findings


def make_plan(settings: Settings, stages: Mapping[str, Stage], space: Workspace, backend: str) -> Plan:
    """
    Decide for every stage and channel what is to be done; nothing but raw files' sizes is looked at.

    Parameters
    ----------
    settings : Settings
        Checked configuration.
    stages : mapping of str to Stage
        All stages in order.
    space : Workspace
        Where products are.
    backend : str
        Name of the resolved backend.

    Returns
    -------
    Plan
        Tasks and findings.
    """
    chosen = {s.name for s in settings.run.stages}
    forced = {s.name for s in settings.run.force}
    plan = Plan()
    for stage in stages.values():
        channels = [""] if stage.whole else settings.channels
        if not stage.whole and settings.reference not in channels:
            # A run without the reference channel goes by what is left of an earlier one.
            found = space.find(stage, settings.reference, None)
            if found is not None:
                plan.tasks.append(_taken(stage, settings.reference, found))
        for channel in channels:
            own = stage
            if not stage.whole:
                own = stage_of_channel(stage, settings.stages[channel], channel == settings.reference)
            task = _task(plan, settings, own, channel, space, backend, chosen, forced)
            if task is not None:
                plan.tasks.append(task)
    plan.redo = _marks(plan, settings, stages, space)
    return plan


def _marks(plan: Plan, settings: Settings, stages: Mapping[str, Stage], space: Workspace) -> list[Path]:
    again: set[str] = set()
    marks: list[Path] = []
    for stage in stages.values():
        for channel in [""] if stage.whole else settings.run.observation.channels:
            task = plan.lookup(stage.name, channel)
            if task is None or task.action is Action.take:
                follows = not again.isdisjoint(_input_keys(settings, stage, channel))
            else:
                follows = task.again
            if follows:
                again.add(f"{channel}:{stage.writes}")
                marks.append(space.target(stage).redo(channel, stage.name))
    return marks


def _task(
    plan: Plan,
    settings: Settings,
    stage: Stage,
    channel: str,
    space: Workspace,
    backend: str,
    chosen: set[str],
    forced: set[str],
) -> Task | None:
    if stage.name not in chosen and not stage.always:
        found = space.find(stage, channel, None)
        if found is None:
            return None
        return _taken(stage, channel, found)
    inputs: dict[str, str] = {}
    remade = False
    sources = input_tasks(plan, settings, stage, channel)
    if not plan.faulty.isdisjoint(sources):
        plan.faulty.add(f"{channel}:{stage.writes}")
        return None
    for product, source in sources.items():
        if source is None:
            owner, _, name = product.partition(":")
            if name not in stage.optional and (owner in settings.channels or not owner):
                plan.findings.append(_missing(settings, stage, channel, product, chosen))
            continue
        frames_only = product.partition(":")[2] in stage.frames_of
        inputs[product] = source.frames if frames_only else source.digest
        remade |= source.action is Action.make and not (frames_only and source.same_frames)
    try:
        ingredients = _ingredients(settings, stage, channel, backend, inputs)
    except ConfigError as error:
        plan.findings.append(str(error))
        plan.faulty.add(f"{channel}:{stage.writes}")
        return None
    wanted = digest(ingredients)
    frames = digest({**ingredients, "files": _files_of_frames(stage, ingredients["files"])})
    found = space.find(stage, channel, wanted)
    target = space.target(stage)
    to_redo = stage.name in forced or target.redo(channel, stage.name).exists()
    if found is not None and not to_redo and not remade:
        return Task(stage, channel, wanted, frames, Action.reuse, found[0])
    try:
        stage.check(_options(settings, stage, channel))
    except ConfigError as error:
        plan.findings.append(str(error))
    same = not (to_redo or remade) and _stored_frames(stage, target, channel) == frames
    return Task(stage, channel, wanted, frames, Action.make, target, found is not None, same)


def _taken(stage: Stage, channel: str, found: tuple[Layout, str]) -> Task:
    layout, made_from = found
    return Task(
        stage, channel, made_from, _stored_frames(stage, layout, channel) or made_from, Action.take, layout
    )


def _files_of_frames(stage: Stage, digests: list[str]) -> list[str]:
    return [d for key, d in zip(stage.files, digests, strict=True) if key not in stage.aside]


def _stored_frames(stage: Stage, layout: Layout, channel: str) -> str | None:
    if not stage.aside:
        return None
    try:
        with StoreReader(*layout.store(channel, stage.writes)) as store:
            return store.attributes.get(FRAMES)
    except InputError:
        return None


def input_tasks(plan: Plan, settings: Settings, stage: Stage, channel: str) -> dict[str, Task | None]:
    """
    Tasks whose results a task reads.

    Parameters
    ----------
    plan : Plan
        Plan so far.
    settings : Settings
        Checked configuration.
    stage : Stage
        Stage that reads.
    channel : str
        Its channel.

    Returns
    -------
    dict
        ``CHANNEL:product`` to the task that writes it, or None.
    """
    keys = _input_keys(settings, stage, channel)
    return {key: plan.producer(product, owner) for key, (owner, product) in keys.items()}


def _input_keys(settings: Settings, stage: Stage, channel: str) -> dict[str, tuple[str, str]]:
    """``CHANNEL:product`` of all that a stage reads, and both apart."""
    channels = settings.channels if stage.whole else [channel]
    pairs = [(c, p) for c in channels for p in (*stage.reads, *stage.optional)]
    if channel != settings.reference:
        pairs += [(settings.reference, p) for p in stage.reads_reference]
    return {f"{c}:{p}": (c, p) for c, p in pairs}


def _missing(settings: Settings, stage: Stage, channel: str, product: str, chosen: set[str]) -> str:
    owner, _, name = product.partition(":")
    who = channel or "the observation"
    return (
        f"stages: {stage.name} of {who} needs the product {name!r} of {owner}, which is not in "
        f"{settings.run.observation.work_dir}; add the stage that makes it to stages "
        f"(chosen: {', '.join(sorted(chosen))})"
    )


def _options(settings: Settings, stage: Stage, channel: str) -> Any:
    return getattr(settings.run, stage.name) if stage.whole else settings.stages[channel][stage.name]


def _ingredients(
    settings: Settings, stage: Stage, channel: str, backend: str, inputs: Mapping[str, str]
) -> dict[str, Any]:
    run = settings.run
    options = _options(settings, stage, channel)
    kept = plain(options)
    for key in stage.ignores:
        *groups, name = key.split(".")
        reduce(dict.__getitem__, groups, kept).pop(name)
    found: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "backend": backend,
        "options": kept,
        "observation": {k: attrgetter(k)(run.observation) for k in stage.observation},
        "inputs": dict(inputs),
        "files": [_file_digest(run, options, stage.name, key) for key in stage.files],
    }
    if not stage.whole:
        settings_of = settings.channel(channel)
        found["channel"] = {"name": channel, "reference": channel == settings.reference}
        found["settings"] = {k: getattr(settings_of, k) for k in stage.settings}
        found["raw"] = {
            role: files_digest(inventory.find_files(run.observation, settings_of, role)) for role in stage.raw
        }
    return found


def _file_digest(run: Any, options: Any, stage: str, key: str) -> str:
    value, name = getattr(options, key, None), f"{stage}.{key}"
    if value is None:
        value, name = getattr(run.observation, key, None), f"observation.{key}"
    if value is None:
        return "none"
    path = Path(value)
    if not path.is_file():
        raise ConfigError(
            f"{name}: no such file", file=path, remedy="Correct the path or set the key to null"
        )
    return files_digest([path])
