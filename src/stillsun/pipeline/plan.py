"""From the configuration to tasks: what is made, what is reused, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.errors import ConfigError, StillsunError
from stillsun.io import inventory
from stillsun.pipeline.decision import Inputs, changed_options, decide, stored_frames
from stillsun.pipeline.digests import file_digest, files_digest, plain
from stillsun.pipeline.places import Places, Workspace
from stillsun.products.base import Product, StoreProduct
from stillsun.stages.base import Stage
from stillsun.stages.registry import stage_of_channel


class Action(Enum):
    """What is done about a task; it is open where what is read of something to be made may stay the same."""

    make = "make"
    open = "reuse or make"
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
    product : Product
        The result, there or not.
    ingredients : mapping
        What it is made from, but for products.
    taken : bool
        Its stage is not chosen: whatever is there is taken.
    is_stale : bool
        It is taken although a run with its stage would make it again, as far as that can be told.
    remake : bool
        It is to be made whatever is there: it was forced, or a run that did not end was to make it again.
    is_new : bool
        It is to be made, or was made by this run.
    is_open : bool
        It is up to date if what is to be made before it comes out as it is.
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
    product: Product
    ingredients: Mapping[str, Any] = field(default_factory=dict, repr=False)
    taken: bool = False
    is_stale: bool = False
    remake: bool = False
    is_new: bool = False
    is_open: bool = False
    again: bool = False
    same_frames: bool = False
    why: str = ""

    @property
    def name(self) -> str:
        """Channel and stage."""
        return f"{self.channel}/{self.stage.name}" if self.channel else self.stage.name

    @property
    def action(self) -> Action:
        """Make, reuse (same digest), either, or take."""
        if self.taken:
            return Action.take
        if self.is_new:
            return Action.make
        return Action.open if self.is_open else Action.reuse

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

    def settle(self, settings: Settings, task: Task) -> None:
        """Decide about a task again, now that all it reads is there, or could not be made."""
        keys = _input_keys(settings, task.stage, task.channel)
        inputs = Inputs()
        sources = self.inputs(settings, task.stage, task.channel)
        for key, source in sources.items():
            if source is not None:
                inputs.add(key, task.stage, keys[key][1], source, settled=True)
        if not task.taken:
            decide(task, inputs, settled=True)
            return
        task.is_stale = bool(inputs.remade) or any(s is not None and s.is_stale for s in sources.values())
        if task.ingredients and not task.is_stale:
            asked = replace(task, taken=False)
            decide(asked, inputs, settled=True)
            task.is_stale = asked.is_new

    def table(self) -> str:
        """The plan as text, one line a task."""
        width = max((len(t.name) for t in self.tasks), default=0)
        return "\n".join(
            f"{t.name:<{width}}  {t.action.value:<13}  {t.product}{t.why and f'  ({t.why})'}"
            for t in self.tasks
        )


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
            if task is None or task.taken:
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
            frames = stored_frames(stage, product) or found
            task = Task(stage, channel, found, frames, product, taken=True)
            # Whether it is out of date is told where no raw files need be there for it.
            if not stage.raw and (not channel or channel in self._settings.channels):
                with suppress(StillsunError):
                    task.ingredients = self._ingredients(stage, channel)
            self.plan.tasks.append(task)

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
        inputs = Inputs()
        for key, (owner, kind) in _input_keys(self._settings, stage, channel).items():
            source = sources[key]
            if source is not None:
                inputs.add(key, stage, kind, source, settled=False)
            elif kind not in stage.optional and owner in self._settings.channels:
                plan.findings.append(self._missing(stage, channel, owner, kind))
        try:
            ingredients = self._ingredients(stage, channel)
        except ConfigError as error:
            plan.findings.append(str(error))
            plan.faulty.add(f"{channel}:{stage.product_name}")
            return
        product = self._space.product(stage, channel)
        mark = self._space.target(stage).redo(channel, stage.name)
        remake = stage.name in self._forced or mark.exists()
        task = Task(stage, channel, "", "", product, ingredients, remake=remake)
        decide(task, inputs, settled=False)
        task.why = self._why(task, inputs)
        plan.tasks.append(task)
        if task.is_new:
            try:
                stage.check(self._options(stage, channel))
            except ConfigError as error:
                plan.findings.append(str(error))

    def _why(self, task: Task, inputs: Inputs) -> str:
        """Words on why a stage is made, or may be."""
        product = task.product
        if task.is_open:
            return f"made if {', '.join(inputs.unsure)} comes out otherwise"
        if not task.is_new:
            return ""
        if task.stage.name in self._forced:
            return "forced"
        if product.digest is None:
            rows = product.progress(task.digest)
            return "not there yet" if rows is None else f"goes on at {rows[0]} of {rows[1]}"
        if inputs.remade:
            return f"made of {', '.join(inputs.remade)}"
        if task.again:
            return "a run that was ended was to make it again"
        changed = changed_options(product, task.ingredients["options"])
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

    def _ingredients(self, stage: Stage, channel: str) -> dict[str, Any]:
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
            "files": [file_digest(observation, options, stage.name, key) for key in stage.files],
        }
        if channel:
            own = self._settings.channel(channel)
            found["channel"] = {"name": channel, "reference": channel == self._settings.reference}
            found["settings"] = {k: getattr(own, k) for k in stage.settings}
            found["raw"] = {
                role: files_digest(inventory.find_files(observation, own, role)) for role in stage.raw
            }
        return found


def _input_keys(settings: Settings, stage: Stage, channel: str) -> dict[str, tuple[str, type[StoreProduct]]]:
    """``CHANNEL:product`` of all that a stage reads, and both apart."""
    channels = settings.channels if stage.per_observation else [channel]
    pairs = [(c, kind) for c in channels for kind in (*stage.reads, *stage.optional)]
    if channel != settings.reference:
        pairs += [(settings.reference, kind) for kind in stage.reads_reference]
    return {f"{c}:{kind.name}": (c, kind) for c, kind in pairs}
