"""What a plan will take: bursts, room on the disk, time; for that the first raw files are opened."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillsun.config.schema import SpeckleEngine
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import InputError, StillsunError
from stillsun.io import inventory
from stillsun.pipeline.places import Places, Workspace
from stillsun.pipeline.plan import Plan, Task
from stillsun.pipeline.record import read_record
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import Calibration
from stillsun.products.reconstructed import Reconstructed

# Microseconds of one core for a pixel: of an exposure (the first two, and speckle), or of an image. Measured
# at 448 x 448 and 512 x 512 pixels, 32 exposures, kernels 128 to 12 (docs/benchmarks.md).
_COSTS = {"calibrate": 0.01, "assemble": 0.01, "masking": 0.9, "none": 0.1, "destretch": 0.5, "export": 0.05}
_BEHIND_AO = 2.5
# Stages whose time hardly grows with the number of images, seconds.
_ONCE = {"register": 10.0, "align": 20.0, "movie": 10.0, "report": 20.0}
_FLOAT = 4


@dataclass(frozen=True)
class Size:
    """
    How much a channel is.

    Attributes
    ----------
    pixels : int
        Of an exposure.
    exposures : int
        Of a burst.
    bursts : int
        In the sequence.
    fiducials : int
        Exposures of darks, flats, target and line grid.
    words : str
        The same for people.
    """

    pixels: int
    exposures: int
    bursts: int
    fiducials: int = 0
    words: str = ""


@dataclass
class Forecast:
    """
    What a plan will take.

    Attributes
    ----------
    sizes : dict
        Channel to its size, where it is known.
    lasting, passing : float
        Bytes that stay, and that an external program needs for a time.
    seconds : float
        About how long it takes.
    measured : bool
        That comes from run times in the work directory alone.
    unknown : list of str
        Tasks that it leaves out.
    faults : list of str
        What is wrong with the first files.
    free : float
        Bytes that are free.
    """

    sizes: dict[str, Size] = field(default_factory=dict)
    lasting: float = 0.0
    passing: float = 0.0
    seconds: float = 0.0
    measured: bool = True
    unknown: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    free: float = math.inf

    def text(self) -> str:
        """For people, below the plan."""
        width = max((len(name) for name in self.sizes), default=0)
        lines = [f"{name:<{width}}  {size.words}" for name, size in self.sizes.items()]
        passing = f", and {_bytes(self.passing)} for the time of the reconstruction" if self.passing else ""
        short = "; NOT ENOUGH" if self.lasting + self.passing > self.free else ""
        lines.append(f"disk: about {_bytes(self.lasting)}{passing}; {_bytes(self.free)} are free{short}")
        if self.measured:
            said = f"about {_duration(self.seconds)}, by the run times in this directory"
        else:
            said = f"on the order of {_duration(self.seconds)}, by figures of another machine"
        left = f"; without {', '.join(self.unknown)}, of unknown length" if self.unknown else ""
        lines.append(f"time: {said}{left}")
        return "\n".join(lines)


def forecast(plan: Plan, settings: Settings, space: Workspace, backend: Backend) -> Forecast:
    """Open the first raw file of each sequence that will be read, and estimate; nothing is written."""
    found = Forecast()
    tasks = [task for task in plan.tasks if task.is_new]
    for channel in dict.fromkeys(t.channel for t in tasks if t.channel):
        size = _size(channel, [t for t in tasks if t.channel == channel], settings, space, found.faults)
        if size is not None:
            found.sizes[channel] = size
    times = _Times(read_record(Places(space.directory)).get("tasks", {}), settings, space)
    for task in tasks:
        size = found.sizes.get(task.channel)
        lasting, passing = _room(task, size, settings)
        found.lasting += lasting
        found.passing += passing
        known = times.recorded(task, size)
        seconds = known if known is not None else _figure(task, size, settings, backend)
        if seconds is None:
            found.unknown.append(task.name)
            continue
        found.measured &= known is not None
        rows = task.product.progress(task.digest)
        found.seconds += seconds * (1 - rows[0] / max(rows[1], 1) if rows else 1)
    place = next(p for p in (space.directory, *space.directory.parents) if p.exists())
    found.free = shutil.disk_usage(place).free
    return found


def _size(
    channel: str, tasks: list[Task], settings: Settings, space: Workspace, faults: list[str]
) -> Size | None:
    """By the first raw files where they will be read, else by what is stored."""
    own, observation = settings.channel(channel), settings.run.observation
    roles = list(dict.fromkeys(role for task in tasks for role in task.stage.raw))
    known: dict[str, tuple[int, int, int, int]] = {}
    for role in roles:
        if role == "reconstructed" or not inventory.find_files(observation, own, role):
            continue
        try:
            known[role] = _sequence(settings, channel, role)
        except StillsunError as error:
            faults.append(f"{channel}: {error}")
    stored = _stored(space.work, channel)
    data = known.get("data")
    if data is None:
        return stored
    files, exposures, rows, columns = data
    each = settings.stages[channel]["assemble"].frames_per_burst
    bursts = exposures // each
    words = (
        f"about {bursts} bursts of {each} exposures, {rows} x {columns} pixels, in {files} files"
        if bursts
        else f"NO burst: about {exposures} exposures, where one needs {each}"
    )
    fiducials = sum(n for role, (_, n, _, _) in known.items() if role != "data")
    return Size(rows * columns, each, bursts, fiducials, words)


def _sequence(settings: Settings, channel: str, role: str) -> tuple[int, int, int, int]:
    """Files, about how many exposures, rows, columns; by the first file and the sizes of all."""
    observation, own = settings.run.observation, settings.channel(channel)
    files = inventory.find_files(observation, own, role)
    source = inventory.open_source(observation, own, role, first=True)
    count, rows, columns = source.shape
    total = sum(file.stat().st_size for file in files)
    return len(files), round(count * total / max(1, files[0].stat().st_size)), rows, columns


def _stored(work: Path, channel: str) -> Size | None:
    try:
        with Bursts(work, channel) as bursts, Calibration(work, channel) as calibration:
            pixels, rows = math.prod(calibration.shape), bursts.rows
            each = int(bursts.attributes.get("frames_per_burst", 1))
    except (InputError, KeyError):
        return None
    return Size(pixels, each, rows, words=f"{rows} bursts of {each} exposures")


def _units(stage: str, size: Size) -> float:
    """Pixels that a stage works on."""
    if stage == "calibrate":
        return float(size.pixels * max(1, size.fiducials))
    images = size.pixels * size.bursts
    return float(images * size.exposures if stage in ("assemble", "speckle") else images)


def _room(task: Task, size: Size | None, settings: Settings) -> tuple[float, float]:
    """Bytes that stay, and that are needed for a time."""
    if size is None:
        return 0.0, 0.0
    options = settings.stages[task.channel]
    images = _FLOAT * size.pixels * size.bursts
    lasting, passing = 0.0, 0.0
    match task.stage.name:
        case "calibrate":
            lasting = size.pixels * _FLOAT * (8 + options["calibrate"].noise_frames)
        case "assemble":
            lasting = 2 * _FLOAT * size.pixels
        case "speckle":
            lasting = images
            files = images * size.exposures
            if options["speckle"].keep_bursts:
                lasting += files
            elif options["speckle"].engine is SpeckleEngine.kisip:
                passing = files
        case "destretch":
            lasting = images * 1.25
        case "export":
            lasting = images * (2 if options["export"].reconstructed else 1)
    return lasting, passing


def _figure(task: Task, size: Size | None, settings: Settings, backend: Backend) -> float | None:
    """Seconds by documented figures; None where there is none."""
    stage = task.stage.name
    if stage in _ONCE:
        return _ONCE[stage]
    cost = _COSTS.get(stage)
    if stage == "speckle":
        config = settings.stages[task.channel][stage]
        cost = _COSTS.get(config.engine.name)
        if cost is not None and config.engine is SpeckleEngine.masking and config.ao_used:
            cost *= _BEHIND_AO
    if cost is None or size is None or backend.is_gpu:
        return None
    return cost * 1e-6 * _units(stage, size) / max(1, backend.threads)


class _Times:
    """Run times that are recorded in a work directory, with what they were taken for."""

    def __init__(
        self, entries: Mapping[str, Mapping[str, Any]], settings: Settings, space: Workspace
    ) -> None:
        self._entries, self._settings, self._work = entries, settings, space.work
        self._sizes = {name: _stored(space.work, name) for name in settings.channels}

    def recorded(self, task: Task, size: Size | None) -> float | None:
        """As it went, a pixel, for the channel or else for others; None where it has not been run."""
        stage = task.stage.name
        if not task.channel or stage in _ONCE:
            return self._seconds(task.name)
        if size is None:
            return None
        own = [name for name in (task.channel, *self._sizes) if name in self._sizes]
        rates = (self._rate(stage, name) for name in own)
        rate = next((rate for rate in rates if rate is not None), None)
        return None if rate is None else rate * self._of(stage, size)

    def _rate(self, stage: str, channel: str) -> float | None:
        seconds, size = self._seconds(f"{channel}/{stage}"), self._sizes[channel]
        if seconds is None or size is None or not size.bursts:
            return None
        if stage == "speckle" and self._engine(channel) != self._settings.stages[channel][stage].engine.name:
            return None
        return seconds / self._of(stage, size)

    def _engine(self, channel: str) -> str:
        """That which the images that are there were made with."""
        try:
            with Reconstructed(self._work, channel) as made:
                return str(made.attributes.get("engine"))
        except InputError:
            return ""

    @staticmethod
    def _of(stage: str, size: Size) -> float:
        # How many darks and flats there were is not stored.
        return float(size.pixels) if stage == "calibrate" else max(1.0, _units(stage, size))

    def _seconds(self, name: str) -> float | None:
        entry = self._entries.get(name, {})
        found = entry.get("seconds") or entry.get("expected")
        return None if found is None else float(found)


def _bytes(number: float) -> str:
    power = min(4, int(math.log10(max(number, 1000.0)) // 3))
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1, round(seconds))} s"
