"""Every path that the pipeline may write, and where the products of a run are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.io import inventory
from stillsun.io.atomic import write_whole
from stillsun.products.base import RECORDS, Product
from stillsun.products.channel import ChannelPaths
from stillsun.stages.base import Stage
from stillsun.stages.registry import all_stages, stage_of_channel


@dataclass(frozen=True)
class Places:
    """Places below a work directory; where a channel is asked for, an empty name is the observation."""

    work: Path

    def channel(self, name: str) -> ChannelPaths:
        """Directories of a channel."""
        return ChannelPaths(self.work / name)

    def redo(self, channel: str, stage: str) -> Path:
        """Mark of a result that is to be made again, although its digest is right: an empty file."""
        return self._record(channel, f"{stage}.redo")

    def lock(self, channel: str) -> Path:
        """File that a run locks while it works on a channel."""
        return self._record(channel, "lock")

    def progress(self, channel: str) -> Path:
        """How far the task is that works on a channel; there only while it runs, and after a kill."""
        return self._record(channel, "progress.json")

    def _record(self, channel: str, name: str) -> Path:
        return self.work / RECORDS / f"{channel or 'observation'}.{name}"

    @property
    def run_lock(self) -> Path:
        """File that every run holds (shared) while it goes on."""
        return self.work / RECORDS / "run.lock"

    @property
    def record_lock(self) -> Path:
        """File that is locked while the record is changed."""
        return self.work / RECORDS / "manifest.lock"

    @property
    def log(self) -> Path:
        """The log file."""
        return self.work / "stillsun.log"

    @property
    def manifest(self) -> Path:
        """What was run, with which configuration and versions, and how each task ended."""
        return self.work / RECORDS / "manifest.json"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.work / "report" / "index.html"


@dataclass(frozen=True)
class Workspace:
    """
    The places of one run.

    A sweep's job keeps what its overrides change in its own directory, and everything else in the work
    directory, where all jobs find it.

    Attributes
    ----------
    work : Path
        The work directory.
    job : Path or None
        Directory of a sweep's job.
    changed : callable
        ``changed(stage)``: the job's overrides change this stage's result.
    swept : tuple of str
        The overrides that the sweep's jobs differ in.
    """

    work: Path
    job: Path | None = None
    changed: Callable[[Stage], bool] = lambda stage: False
    swept: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where the run as a whole belongs."""
        return self.job or self.work

    def target(self, stage: Stage) -> Places:
        """Where a stage's result is written."""
        return Places(self.job if self.job is not None and self.changed(stage) else self.work)

    def product(self, stage: Stage, channel: str) -> Product:
        """What a stage makes for a channel, there or not."""
        return stage.product(self.target(stage).work, channel)


def changed_by(overrides: Iterable[str], stages: Mapping[str, Stage]) -> frozenset[str]:
    """Stages whose results the overrides of a sweep's job may change, and all that follow from them."""
    changed: set[str] = set()
    for override in overrides:
        parts = override.lstrip("+~").partition("=")[0].split(".")
        if parts[0] in stages:
            changed.add(parts[0])
        elif parts[:2] == ["observation", "channels"] and len(parts) > 3 and parts[3] in stages:
            changed.add(parts[3])
        elif parts[0] == "backend" or (
            parts[0] == "observation" and len(parts) > 1 and parts[1] != "work_dir"
        ):
            changed.update(stages)
    makers = {stage.writes: stage.name for stage in stages.values() if stage.writes}
    for stage in stages.values():
        if {makers[kind] for kind in (*stage.reads, *stage.optional, *stage.reads_reference)} & changed:
            changed.add(stage.name)
    return frozenset(changed)


def workspace_of(record: Mapping[str, Any], work: Path) -> Workspace:
    """Where the products of a recorded run are; `work`: its work directory, or that of a sweep's job."""
    if not record["is_job"]:
        return Workspace(work)
    changed = changed_by(record["swept"], all_stages())
    return Workspace(Path(record["work"]), work, lambda stage: stage.name in changed, tuple(record["swept"]))


def check_files(settings: Settings, stages: Mapping[str, Stage]) -> list[str]:
    """Raw files of the stages to be run that are missing; no content is read."""
    chosen = {s.name for s in settings.run.stages}
    findings: list[str] = []
    for name in settings.channels:
        own = [
            stage_of_channel(stage, settings.stages[name], name == settings.reference)
            for stage in stages.values()
            if not stage.per_observation
        ]
        roles = {role for stage in own if stage.name in chosen or stage.implicit for role in stage.raw}
        if roles:
            findings += inventory.check(settings.run.observation, name, sorted(roles))
    return findings


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name and rename it."""
    write_whole(path, json.dumps(value, indent=1) + "\n")
