"""A whole observation: every camera's raw files, telescope log, full-disk image, truth, configuration."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import numba
import numpy as np
import scipy.ndimage

from stillsun.errors import ConfigError
from stillsun.synth.camera import Detector
from stillsun.synth.channels import ChannelSetup, rotation
from stillsun.synth.flow import default_flow
from stillsun.synth.fulldisk import HMI_CADENCE, write_fulldisk
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.imaging import AdaptiveOptics, Imager, PreparedScene
from stillsun.synth.observationfile import first_exposure, observation_text, sequence_start, spool_directory
from stillsun.synth.rawfiles import write_rosa, write_spool
from stillsun.synth.scene import Look, Scene, granulation_scene, image_scene
from stillsun.synth.seeing import Atmosphere
from stillsun.synth.settings import Features, SimulationSettings
from stillsun.synth.slides import line_grid, target
from stillsun.synth.telescope import TelescopeState
from stillsun.synth.truth import ChannelTruth, write_truth

Progress = Callable[[int, int], None]

_FLAT_BLUR_ARCSEC = 1.6
_REFERENCE_M = 500e-9
_AHEAD = 4  # frames
_RAW = "level0"
_DISKS = "hmi"
_Result = TypeVar("_Result")


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
    partial = out.with_name(out.name + ".part")
    for place in (out, partial):
        # What an interrupted simulation left behind is made again.
        ours = place is partial and (partial / _RAW).is_dir()
        if place.exists() and not ours and (not place.is_dir() or any(place.iterdir())):
            raise ConfigError(
                "the place for the simulated observation is not empty",
                file=place,
                remedy="Give a new directory, or remove this one first",
            )
    if partial.exists():
        shutil.rmtree(partial)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(settings.threads or available, available))
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        with ThreadPoolExecutor(threads) as pool:
            _Simulation(out, partial, settings, pool, progress).write()
    finally:
        numba.set_num_threads(before)
    partial.replace(out)
    return out / "observation.yaml"


class _Simulation:
    def __init__(
        self,
        out: Path,
        partial: Path,
        settings: SimulationSettings,
        pool: ThreadPoolExecutor,
        progress: Progress | None,
    ) -> None:
        self.out, self.partial, self.settings = out, partial, settings
        self.pool, self.progress = pool, progress
        self.telescope = TelescopeState(settings)
        optics = AdaptiveOptics(settings.ao_modes, settings.ao_efficiency)
        turn = rotation(settings.crota2_deg)
        self.imagers = {
            setup.name: Imager(
                setup.shape,
                setup.jacobian(settings.crota2_deg),
                turn @ setup.offset_arcsec,
                setup.wavelength_nm * 1e-9,
                optics=optics,
            )
            for setup in settings.channels
        }
        reference = settings.channels[0]
        self.field_radius = 0.5 * min(reference.shape) * min(reference.plate_scale)
        self.extent = max(self._extent(setup) for setup in settings.channels)
        self.scene = self._make_scene()
        blurred = scipy.ndimage.gaussian_filter(
            self.scene.pattern(0.0, Look.continuum),
            _FLAT_BLUR_ARCSEC * np.array(self.scene.pattern(0.0, Look.continuum).shape) / self.scene.period,
            mode="wrap",
        )
        self.quiet = Scene(blurred / blurred.mean(), self.scene.period)
        self.atmosphere = Atmosphere(
            settings.layers, settings.r0_m, seed=settings.seed, frozen=settings.frozen
        )
        self.seconds = settings.bursts * settings.frames_per_burst * settings.channels[0].interval_ms / 1000
        around = settings.dark_frames + settings.flat_frames + 2 * settings.fiducial_frames
        self.total = sum(settings.frame_count(s) + around for s in settings.channels)
        self.done = 0

    def write(self) -> None:
        s = self.settings
        raw = self.partial / _RAW
        raw.mkdir(parents=True)
        truths = [self._write_channel(setup, raw) for setup in self.settings.channels]
        log = f"dcss_{self.settings.start:%Y%m%d}.txt"
        last = max(s.frame_seconds(c, s.frame_count(c)) for c in s.channels)
        self.telescope.write_log(raw / log, max(self.seconds, last))
        # No frame is farther than a cadence of HMI from an image.
        images = max(1, ceil(self.seconds / (2 * HMI_CADENCE)))
        for number in range(images):
            time = s.start + timedelta(seconds=round((number + 0.5) * self.seconds / images))
            pointing = self.telescope.pointing(time)
            write_fulldisk(self.partial / _DISKS, s, self.scene, pointing, self.extent / 2, time)
        write_truth(self.partial / "truth.h5", self._facts(), truths)
        text = observation_text(s, self.out, self.out / _RAW / log, self.out / _DISKS)
        (self.partial / "observation.yaml").write_text(text, encoding="utf-8")

    def _extent(self, setup: ChannelSetup) -> float:
        """Side of the upright square of sky that a channel's scene needs, arcsec."""
        imager = self.imagers[setup.name]
        sides = np.abs(setup.jacobian(self.settings.crota2_deg)) @ [len(imager.columns), len(imager.rows)]
        ways = (setup.offset_arcsec, self.settings.drift_arcsec, (self.settings.relock or (0, 0, 0))[1:])
        return float(sides.max() + 2 * sum(np.hypot(*way) for way in ways))

    def _make_scene(self) -> Scene:
        s = self.settings
        flow = default_flow(self.field_radius, s.flow_km_s)
        if s.scene is not None:
            return image_scene(s.scene, scale=s.scene_scale, flow=flow)
        r = self.field_radius
        spots = {
            Features.quiet: (),
            Features.pores: (
                DarkSpot(0.42 * r, 0.30 * r, float(np.clip(0.16 * r, 0.6, 2.0))),
                DarkSpot(-0.55 * r, -0.38 * r, float(np.clip(0.11 * r, 0.5, 1.4))),
                DarkSpot(0.20 * r, -0.62 * r, float(np.clip(0.08 * r, 0.4, 1.0))),
            ),
            Features.spot: (
                DarkSpot(0.15 * r, 0.10 * r, float(np.clip(0.50 * r, 2.0, 14.0))),
                DarkSpot(-0.62 * r, -0.45 * r, float(np.clip(0.10 * r, 0.5, 1.5))),
            ),
        }[s.features]
        return granulation_scene(self.extent + 2, s.seed, flow=flow, spots=spots)

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
        imager = self.imagers[setup.name]
        truth = ChannelTruth(
            setup, detector, imager.point_rows, imager.point_columns, self._flow_in_pixels(setup)
        )
        sequences: dict[str, tuple[int, Iterator[np.ndarray | None]]] = {
            "dark": (s.dark_frames, (None for _ in range(s.dark_frames))),
            "flat": (s.flat_frames, self._flats(setup, s.flat_frames)),
            "data": (s.frame_count(setup), self._data(setup, truth)),
            "linegrid": (s.fiducial_frames, self._fiducials(setup, line_grid)),
            "target": (s.fiducial_frames, self._fiducials(setup, target)),
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

    def _data(self, setup: ChannelSetup, truth: ChannelTruth) -> Iterator[np.ndarray]:
        s = self.settings
        imager = self.imagers[setup.name]
        length = s.burst_length(setup)
        count = s.frame_count(setup)
        first = first_exposure(s, setup)
        colour = (setup.wavelength_nm * 1e-9 / _REFERENCE_M) ** 1.2
        for begin in range(0, count, length):
            numbers = range(begin, min(begin + length, count))
            middle = first + s.frame_seconds(setup, begin) + length / 2 * setup.interval_ms / 1000
            prepared = imager.prepare(self._scene_for(setup, middle))
            if len(numbers) == length:
                truth.image.append(imager.ideal(prepared))

            def frame(
                number: int, prepared: PreparedScene = prepared
            ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
                seconds = first + s.frame_seconds(setup, number) + setup.exposure_ms / 2000
                r0 = self.telescope.fried_parameter(seconds)
                light = self.telescope.light_level(seconds) / 4.0
                image, shifts = imager.expose(prepared, self.atmosphere, seconds, (s.r0_m / r0) ** (5 / 6))
                return image * np.float32(light), shifts, (seconds, r0 * colour, light)

            for image, shifts, (seconds, r0, light) in self._ahead(frame, numbers):
                truth.time.append(seconds)
                truth.r0.append(r0)
                truth.transparency.append(light)
                truth.shifts.append(shifts)
                yield image

    def _ahead(self, function: Callable[[int], _Result], numbers: Iterable[int]) -> Iterator[_Result]:
        """Results in order, some of them computed ahead by the threads."""
        waiting: deque[Future[_Result]] = deque()
        for number in numbers:
            waiting.append(self.pool.submit(function, number))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _scene_for(self, setup: ChannelSetup, seconds: float) -> np.ndarray:
        imager = self.imagers[setup.name]
        corner, jacobian = self._placement(setup, self.settings.crota2_deg, seconds)
        now = self.settings.scene_speed * seconds
        return self.scene.image(corner, jacobian, imager.rows, imager.columns, now, setup.look)

    def _placement(
        self, setup: ChannelSetup, crota2: float, seconds: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sky position of the chip's first pixel, and the step from pixel to pixel; None: before the data."""
        s, offset = self.settings, np.array(setup.offset_arcsec)
        if seconds is not None and setup is not s.channels[0]:
            offset += np.array(s.drift_arcsec) * (seconds / self.seconds)
        if seconds is not None and s.relock is not None and seconds >= s.relock[0]:
            offset += s.relock[1:]
        jacobian = setup.jacobian(crota2)
        middle = (np.array(setup.shape[::-1]) - 1) / 2
        return rotation(crota2) @ offset - jacobian @ middle, jacobian

    def _flats(self, setup: ChannelSetup, count: int) -> Iterator[np.ndarray]:
        """The Sun out of focus while the telescope wanders over it."""
        rng = np.random.default_rng([self.settings.seed, crc32(setup.name.encode()), 99])
        corner, jacobian = self._placement(setup, self.settings.crota2_deg)
        rows, columns = (np.arange(n) for n in setup.shape)
        wander = rng.uniform(0, self.scene.period[0], (count, 2))
        yield from self._ahead(
            lambda k: self.quiet.image(corner + wander[k], jacobian, rows, columns, 0.0), range(count)
        )

    def _fiducials(
        self, setup: ChannelSetup, slide: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """A slide at the prime focus, sharp, in front of the wandering Sun."""
        imager = self.imagers[setup.name]
        corner, jacobian = self._placement(setup, 0.0)
        columns, rows = np.meshgrid(imager.columns, imager.rows)
        x, y = (corner[k] + jacobian[k, 0] * columns + jacobian[k, 1] * rows for k in (0, 1))
        sharp = imager.ideal(imager.prepare(slide(x, y)))
        for light in self._flats(setup, self.settings.fiducial_frames):
            yield sharp * light

    def _flow_in_pixels(self, setup: ChannelSetup) -> np.ndarray:
        corner, jacobian = self._placement(setup, self.settings.crota2_deg)
        rows, columns = np.indices(setup.shape)
        x, y = (corner[k] + jacobian[k, 0] * columns + jacobian[k, 1] * rows for k in (0, 1))
        velocity = np.stack(self.scene.flow.velocity(x, y)) * self.settings.scene_speed
        pixels = np.einsum("ij,jrc->irc", np.linalg.inv(jacobian), velocity)
        return pixels[::-1].astype(np.float32)
