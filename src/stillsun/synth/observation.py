"""A whole observation: every camera's raw files, telescope log, full-disk image, truth, configuration."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from math import ceil
from pathlib import Path
from zlib import crc32

import numba
import numpy as np

from stillsun.errors import ConfigError
from stillsun.synth.camera import Detector
from stillsun.synth.channels import ChannelSetup
from stillsun.synth.fulldisk import HMI_CADENCE, write_fulldisk
from stillsun.synth.observationfile import observation_text, sequence_start, spool_directory
from stillsun.synth.rawfiles import write_rosa, write_spool
from stillsun.synth.settings import SimulationSettings
from stillsun.synth.slides import line_grid, target
from stillsun.synth.telescope import MountState
from stillsun.synth.truth import ChannelTruth, write_truth
from stillsun.synth.views import Views

Progress = Callable[[int, int], None]

_RAW = "level0"
_DISKS = "hmi"


def simulate(out: Path, settings: SimulationSettings, progress: Progress | None = None) -> Path:
    """
    Write a simulated observation.

    Parameters
    ----------
    out : Path
        Directory to be made; it must not hold anything yet. Work is done beside it, in ``OUT.part``.
    settings : SimulationSettings
        What is simulated. The same settings give the same bytes.
    progress : callable, optional
        Called with (frames done, frames in all).

    Returns
    -------
    Path
        The observation file. The directory gets its name when everything in it is complete.

    Raises
    ------
    ConfigError
        If the directory is not empty, the scene file is missing, or a channel cannot be simulated.
    InputError
        If the scene file cannot be used.
    """
    out = Path(out).expanduser().resolve()
    part = out.with_name(out.name + ".part")
    for place in (out, part):
        # What an interrupted simulation left behind is made again.
        ours = place is part and (part / _RAW).is_dir()
        if place.exists() and not ours and (not place.is_dir() or any(place.iterdir())):
            raise ConfigError(
                "the place for the simulated observation is not empty",
                file=place,
                remedy="Give a new directory, or remove this one first",
            )
    if part.exists():
        shutil.rmtree(part)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(settings.threads or available, available))
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        with ThreadPoolExecutor(threads) as pool:
            _Simulation(out, part, settings, pool, progress).write()
    finally:
        numba.set_num_threads(before)
    part.replace(out)
    return out / "observation.yaml"


class _Simulation:
    def __init__(
        self,
        out: Path,
        part: Path,
        settings: SimulationSettings,
        pool: ThreadPoolExecutor,
        progress: Progress | None,
    ) -> None:
        self.out, self.part, self.settings = out, part, settings
        self.progress = progress
        self.telescope = MountState(settings)
        self.views = Views(settings, self.telescope, pool)
        around = settings.dark_frames + settings.flat_frames + 2 * settings.fiducial_frames
        self.total = sum(settings.frame_count(s) + around for s in settings.channels)
        self.done = 0

    def write(self) -> None:
        s = self.settings
        raw = self.part / _RAW
        raw.mkdir(parents=True)
        truths = [self._write_channel(setup, raw) for setup in self.settings.channels]
        log = f"dcss_{self.settings.start:%Y%m%d}.txt"
        last = max(s.frame_seconds(c, s.frame_count(c)) for c in s.channels)
        self.telescope.write_log(raw / log, max(self.views.seconds, last))
        # No frame is farther than a cadence of HMI from an image.
        images = max(1, ceil(self.views.seconds / (2 * HMI_CADENCE)))
        for number in range(images):
            time = s.start + timedelta(seconds=round((number + 0.5) * self.views.seconds / images))
            pointing = self.telescope.pointing(time)
            write_fulldisk(self.part / _DISKS, s, self.views.scene, pointing, self.views.extent / 2, time)
        write_truth(self.part / "truth.h5", self._facts(), truths)
        text = observation_text(s, self.out, self.out / _RAW / log, self.out / _DISKS)
        (self.part / "observation.yaml").write_text(text, encoding="utf-8")

    def _facts(self) -> dict[str, object]:
        s = self.settings
        x, y = self.telescope.pointing(s.start)
        facts = {
            f.name: getattr(s, f.name)
            for f in dataclasses.fields(s)
            if isinstance(getattr(s, f.name), (int, float, str, tuple))
            and f.name not in ("channels", "layers", "threads")
        }
        return {
            **facts,
            "channels": [c.name for c in s.channels],
            "layers": [dataclasses.astuple(layer) for layer in s.layers],
            "scene": str(s.scene or ""),
            "features": s.features.value,
            "start": s.start.isoformat(),
            "pointing_arcsec": [x, y],
        }

    def _write_channel(self, setup: ChannelSetup, raw: Path) -> ChannelTruth:
        s = self.settings
        key = crc32(setup.name.encode())
        detector = Detector(
            setup.shape,
            [s.seed, key],
            electrons=s.electrons,
            read_noise=s.read_noise,
            electrons_per_dn=setup.electrons_per_dn,
            bias=setup.bias_dn,
            saturation=setup.saturation_dn,
            fringes=not setup.is_rosa,
        )
        views = self.views
        imager = views.imagers[setup.name]
        truth = ChannelTruth(
            setup, detector, imager.point_rows, imager.point_columns, views.flow_in_pixels(setup)
        )
        sequences: dict[str, tuple[int, Iterator[np.ndarray | None]]] = {
            "dark": (s.dark_frames, (None for _ in range(s.dark_frames))),
            "flat": (s.flat_frames, views.flats(setup, s.flat_frames)),
            "data": (s.frame_count(setup), views.data(setup, truth)),
            "linegrid": (s.fiducial_frames, views.fiducials(setup, line_grid)),
            "target": (s.fiducial_frames, views.fiducials(setup, target)),
        }
        for number, (role, (_, images)) in enumerate(sequences.items()):
            frames = self._read_out(detector, images, [s.seed, key, number])
            if setup.is_rosa:
                assert setup.computer is not None
                write_rosa(
                    raw / setup.computer,
                    frames,
                    computer=setup.computer,
                    serial=setup.serial,
                    start=sequence_start(s, setup, role),
                    exposure_ms=setup.exposure_ms,
                    interval_ms=setup.interval_ms,
                    frames_per_file=s.frames_per_file,
                    kind=role if role in ("dark", "flat") else "",
                )
            else:
                write_spool(
                    raw / spool_directory(s, role),
                    frames,
                    start=sequence_start(s, setup, role),
                    seconds=partial(s.frame_seconds, setup),
                )
        return truth

    def _read_out(
        self, detector: Detector, images: Iterator[np.ndarray | None], seed: list[int]
    ) -> Iterator[np.ndarray]:
        rng = np.random.Generator(np.random.SFC64(seed))
        for image in images:
            yield detector.expose(image, rng)
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)
