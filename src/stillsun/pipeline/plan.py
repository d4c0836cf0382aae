"""From the configuration to tasks: what is made, what is reused, what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.errors import ConfigError, InputError
from stillsun.io import inventory
from stillsun.pipeline.places import Places, Workspace
from stillsun.products.base import Product, StoreProduct
from stillsun.stages.base import Stage
from stillsun.stages.registry import stage_of_channel


class Action(Enum):
    """What is done about a task."""

    make = "make"
    reuse = "reuse"
    take = "take as it is"


@dataclass
class Task:
    """
    One stage for one channel.

    Attributes
    ----------
    stage : Stage
        What is done.
    channel : str
        For which channel; empty for a stage of the whole observation.
    digest : str
        What the result is made from.
    frames : str
        What the frames in it are made from: the digest without files that they do not depend on.
    action : Action
        Make, reuse (same digest), or take (stage not chosen: whatever is there).
    product : Product
        The result, there or not.
    again : bool
        It is there with this digest, but is made again: it was forced, or something it is made of is made.
    same_frames : bool
        It is made, but the frames in it are those that are there.
    why : str
        Why it is made.
    """

    stage: Stage
    channel: str
    digest: str
    frames: str
    action: Action
    product: Product
    again: bool = False
    same_frames: bool = False
    why: str = ""

    @property
    def name(self) -> str:
        """Channel and stage."""
        return f"{self.channel}/{self.stage.name}" if self.channel else self.stage.name

    @property
    def places(self) -> Places:
        """Where its result belongs."""
        return Places(self.product.work)

    def is_made(self) -> bool:
        """Look whether the result is there, with the task's digest."""
        return self.product.digest == self.digest


@dataclass
class Plan:
    """
    All tasks of a run in the order in which they can be done.

    Attributes
    ----------
    tasks : list of Task
        The tasks.
    findings : list of str
        What stands in the way; empty for a plan that can be carried out.
    redo : list of Path
        Marks of all that is to be made again, here or, where stage or channel are not chosen, in a later run.
    faulty : set of str
        ``CHANNEL:product`` of the tasks that the findings are about, and of those that would follow.
    """

    tasks: list[Task] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    redo: list[Path] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def lookup(self, stage: str, channel: str) -> Task | None:
        """The task of a stage for a channel."""
        return next((t for t in self.tasks if t.stage.name == stage and t.channel == channel), None)

    def producer(self, kind: type[StoreProduct], channel: str) -> Task | None:
        """The task that writes a product."""
        return next((t for t in self.tasks if t.stage.writes is kind and t.channel == channel), None)

    def inputs(self, settings: Settings, stage: Stage, channel: str) -> dict[str, Task | None]:
        """Tasks whose results a task reads, by ``CHANNEL:product``; None for what nothing writes."""
        keys = _input_keys(settings, stage, channel)
        return {key: self.producer(kind, owner) for key, (owner, kind) in keys.items()}

    def table(self) -> str:
        """The plan as text, one line a task."""
        width = max((len(t.name) for t in self.tasks), default=0)
        return "\n".join(
            f"{t.name:<{width}}  {t.action.value:<13}  {t.product}{t.why and f'  ({t.why})'}"
            for t in self.tasks
        )


def plain(value: Any) -> Any:
    """Turn configuration objects into values that JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """Digest of anything that `plain` understands, 32 hexadecimal digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def files_digest(files: Iterable[Path]) -> str:
    """Digest of files by name, size and time of change; their content is not read."""
    found = [(file.name, file.stat()) for file in files]
    return digest([[name, status.st_size, status.st_mtime_ns] for name, status in found])


def make_plan(settings: Settings, stages: Mapping[str, Stage], space: Workspace, backend: str) -> Plan:
    """
    Decide for every stage and channel what is to be done; nothing but raw files' sizes is looked at.

    `stages` are all stages in order, `backend` is the name of the resolved backend.
    """
    planner = _Planner(settings, space, backend)
    plan = planner.plan
    for stage in stages.values():
        channels = [""] if stage.per_observation else settings.channels
        if not stage.per_observation and settings.reference not in channels:
            # A run without the reference channel goes by what is left of an earlier one.
            planner.take(stage, settings.reference)
        for channel in channels:
            own = stage
            if channel:
                own = stage_of_channel(stage, settings.stages[channel], channel == settings.reference)
            planner.add(own, channel)
    again: set[str] = set()
    for stage in stages.values():
        for channel in [""] if stage.per_observation else settings.run.observation.channels:
            task = plan.lookup(stage.name, channel)
            if task is None or task.action is Action.take:
                follows = not again.isdisjoint(_input_keys(settings, stage, channel))
            else:
                follows = task.again
            if follows:
                again.add(f"{channel}:{stage.product_name}")
                plan.redo.append(space.target(stage).redo(channel, stage.name))
    return plan


class _Planner:
    """A plan that grows stage by stage."""

    def __init__(self, settings: Settings, space: Workspace, backend: str) -> None:
        self.plan = Plan()
        self._settings, self._space, self._backend = settings, space, backend
        self._chosen = {s.name for s in settings.run.stages}
        self._forced = {s.name for s in settings.run.force}

    def take(self, stage: Stage, channel: str) -> None:
        """Add a task whose result is taken as it is, if it is there."""
        product = self._space.product(stage, channel)
        found = product.digest
        if found is not None:
            frames = _stored_frames(stage, product) or found
            self.plan.tasks.append(Task(stage, channel, found, frames, Action.take, product))

    def add(self, stage: Stage, channel: str) -> None:
        """Add the task of a stage for a channel, or say why it cannot be done."""
        plan = self.plan
        if stage.name not in self._chosen and not stage.implicit:
            self.take(stage, channel)
            return
        sources = plan.inputs(self._settings, stage, channel)
        if not plan.faulty.isdisjoint(sources):
            plan.faulty.add(f"{channel}:{stage.product_name}")
            return
        inputs: dict[str, str] = {}
        remade: list[str] = []
        for key, (owner, kind) in _input_keys(self._settings, stage, channel).items():
            source = sources[key]
            if source is None:
                if kind not in stage.optional and owner in self._settings.channels:
                    plan.findings.append(self._missing(stage, channel, owner, kind))
                continue
            frames_only = kind in stage.uses_frames_only
            inputs[key] = source.frames if frames_only else source.digest
            if source.action is Action.make and not (frames_only and source.same_frames):
                remade.append(source.name)
        try:
            ingredients = self._ingredients(stage, channel, inputs)
        except ConfigError as error:
            plan.findings.append(str(error))
            plan.faulty.add(f"{channel}:{stage.product_name}")
            return
        plan.tasks.append(self._task(stage, channel, ingredients, remade))

    def _task(self, stage: Stage, channel: str, ingredients: dict[str, Any], remade: Sequence[str]) -> Task:
        wanted = digest(ingredients)
        kept = zip(stage.files, ingredients["files"], strict=True)
        frames = digest(
            {**ingredients, "files": [d for key, d in kept if key not in stage.frame_independent_files]}
        )
        product = self._space.product(stage, channel)
        there = product.digest == wanted
        mark = self._space.target(stage).redo(channel, stage.name)
        to_redo = stage.name in self._forced or mark.exists()
        if there and not to_redo and not remade:
            return Task(stage, channel, wanted, frames, Action.reuse, product)
        try:
            stage.check(self._options(stage, channel))
        except ConfigError as error:
            self.plan.findings.append(str(error))
        same = not (to_redo or remade) and _stored_frames(stage, product) == frames
        why = self._why(stage, product, wanted, ingredients["options"], remade)
        return Task(stage, channel, wanted, frames, Action.make, product, there, same, why)

    def _why(
        self, stage: Stage, product: Product, wanted: str, options: Mapping[str, Any], remade: Sequence[str]
    ) -> str:
        """Words on why a stage is made."""
        if stage.name in self._forced:
            return "forced"
        if (found := product.digest) is None:
            rows = product.progress(wanted)
            return "not there yet" if rows is None else f"goes on at {rows[0]} of {rows[1]}"
        if remade:
            return f"made of {', '.join(remade)}"
        if found == wanted:
            return "a run that was ended was to make it again"
        changed = _changed_options(product, options)
        return changed or "a raw file, a setting, what it is made of, or the program has changed"

    def _missing(self, stage: Stage, channel: str, owner: str, kind: type[StoreProduct]) -> str:
        return (
            f"stages: {stage.name} of {channel or 'the observation'} needs the product {kind.name!r} of "
            f"{owner}, which is not in {self._settings.run.observation.work_dir}; add the stage that makes "
            f"it to stages (chosen: {', '.join(sorted(self._chosen))})"
        )

    def _options(self, stage: Stage, channel: str) -> Any:
        if stage.per_observation:
            return getattr(self._settings.run, stage.name)
        return self._settings.stages[channel][stage.name]

    def _ingredients(self, stage: Stage, channel: str, inputs: Mapping[str, str]) -> dict[str, Any]:
        observation, options = self._settings.run.observation, self._options(stage, channel)
        kept = plain(options)
        for key in stage.ignores:
            *groups, name = key.split(".")
            reduce(dict.__getitem__, groups, kept).pop(name)
        found: dict[str, Any] = {
            "stage": stage.name,
            "version": stage.version,
            "backend": self._backend,
            "options": kept,
            "observation": {k: attrgetter(k)(observation) for k in stage.observation},
            "inputs": dict(inputs),
            "files": [_file_digest(observation, options, stage.name, key) for key in stage.files],
        }
        if channel:
            own = self._settings.channel(channel)
            found["channel"] = {"name": channel, "reference": channel == self._settings.reference}
            found["settings"] = {k: getattr(own, k) for k in stage.settings}
            found["raw"] = {
                role: files_digest(inventory.find_files(observation, own, role)) for role in stage.raw
            }
        return found


def _changed_options(product: Product, options: Mapping[str, Any]) -> str:
    """Keys of a stage that were otherwise when its product was made."""
    if not isinstance(product, StoreProduct):
        return ""
    try:
        with product:
            before = product.options
    except (InputError, ValueError):
        return ""
    said = [f"{k} was {before[k]}, is {v}" for k, v in options.items() if k in before and before[k] != v]
    return "; ".join(said)


def _stored_frames(stage: Stage, product: Product) -> str | None:
    try:
        return product.frames_digest if stage.frame_independent_files else None
    except InputError:
        return None


def _input_keys(settings: Settings, stage: Stage, channel: str) -> dict[str, tuple[str, type[StoreProduct]]]:
    """``CHANNEL:product`` of all that a stage reads, and both apart."""
    channels = settings.channels if stage.per_observation else [channel]
    pairs = [(c, kind) for c in channels for kind in (*stage.reads, *stage.optional)]
    if channel != settings.reference:
        pairs += [(settings.reference, kind) for kind in stage.reads_reference]
    return {f"{c}:{kind.name}": (c, kind) for c, kind in pairs}


def _file_digest(observation: Any, options: Any, stage: str, key: str) -> str:
    value, name = getattr(options, key, None), f"{stage}.{key}"
    if value is None:
        value, name = getattr(observation, key, None), f"observation.{key}"
    if value is None:
        return "none"
    path = Path(value)
    if not path.is_file():
        raise ConfigError(
            f"{name}: no such file", file=path, remedy="Correct the path or set the key to null"
        )
    return files_digest([path])
