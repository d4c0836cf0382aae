"""What each channel of a simulated observation sees: the Sun through telescope and air, flats, slides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from zlib import crc32

import numpy as np
import scipy.ndimage

from stillsun.synth.channels import ChannelSetup, rotation
from stillsun.synth.flow import default_flow
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.imaging import Imager, PreparedScene
from stillsun.synth.mirror import AdaptiveOptics
from stillsun.synth.observationfile import first_exposure
from stillsun.synth.scene import Appearance, Scene, granulation_scene, image_scene
from stillsun.synth.seeing import Atmosphere
from stillsun.synth.settings import Features, SimulationSettings
from stillsun.synth.telescope import MountState
from stillsun.synth.truth import ChannelTruth

_FLAT_BLUR_ARCSEC = 1.6
_REFERENCE_M = 500e-9
_AHEAD = 4  # frames
_Result = TypeVar("_Result")


class Views:
    """
    Light on the chips, before the cameras make numbers of it.

    Parameters
    ----------
    settings : SimulationSettings
        What is simulated.
    telescope : MountState
        Pointing, seeing and light level in time.
    pool : ThreadPoolExecutor
        Threads that compute frames ahead.

    Attributes
    ----------
    scene : Scene
        The Sun.
    imagers : dict of str to Imager
        Telescope and air as each channel looks through them.
    seconds : float
        Length of the sequence.
    extent : float
        Side of the upright square of sky that holds all channels, arcsec.
    """

    def __init__(self, settings: SimulationSettings, telescope: MountState, pool: ThreadPoolExecutor) -> None:
        self._settings, self._telescope, self._pool = settings, telescope, pool
        optics = AdaptiveOptics(
            settings.ao_modes,
            settings.ao_efficiency,
            order=settings.ao_order,
            field=settings.ao_field_arcsec,
            lag=settings.ao_lag_ms / 1000,
        )
        turn = rotation(settings.crota2_deg)
        self.imagers = {
            setup.name: Imager(
                setup.shape,
                setup.jacobian(settings.crota2_deg),
                turn @ setup.offset_arcsec,
                setup.wavelength_nm * 1e-9,
                optics=optics,
                integrate=True,
            )
            for setup in settings.channels
        }
        reference = settings.channels[0]
        self._field_radius = 0.5 * min(reference.shape) * min(reference.plate_scale)
        self.extent = max(self._extent(setup) for setup in settings.channels)
        self.scene = self._make_scene()
        pattern = self.scene.pattern(0.0, Appearance.continuum)
        sigma = _FLAT_BLUR_ARCSEC * np.array(pattern.shape) / self.scene.period
        blurred = scipy.ndimage.gaussian_filter(pattern, sigma, mode="wrap")
        self._quiet = Scene(blurred / blurred.mean(), self.scene.period)
        self._atmosphere = Atmosphere(
            settings.layers, settings.r0_m, seed=settings.seed, frozen=settings.frozen
        )
        self.seconds = settings.bursts * settings.frames_per_burst * settings.channels[0].interval_ms / 1000

    def data(self, setup: ChannelSetup, truth: ChannelTruth) -> Iterator[np.ndarray]:
        """
        The Sun, frame by frame.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.
        truth : ChannelTruth
            Filled with what cannot be seen: images without seeing, times, Fried parameters, shifts.

        Yields
        ------
        numpy.ndarray, shape (y, x), float32
            Brightness, mean of the quiet Sun near 1.
        """
        s = self._settings
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
                r0 = self._telescope.fried_parameter(seconds)
                light = self._telescope.light_level(seconds) / 4.0
                image, shifts = imager.expose(prepared, self._atmosphere, seconds, (s.r0_m / r0) ** (5 / 6))
                return image * np.float32(light), shifts, (seconds, r0 * colour, light)

            for image, shifts, (seconds, r0, light) in self._ahead(frame, numbers):
                truth.time.append(seconds)
                truth.r0.append(r0)
                truth.transparency.append(light)
                truth.shifts.append(shifts)
                yield image

    def flats(self, setup: ChannelSetup, count: int) -> Iterator[np.ndarray]:
        """
        The Sun out of focus while the telescope wanders over it.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.
        count : int
            Frames.

        Yields
        ------
        numpy.ndarray, shape (y, x), float32
            Brightness.
        """
        rng = np.random.default_rng([self._settings.seed, crc32(setup.name.encode()), 99])
        corner, jacobian = self._placement(setup, self._settings.crota2_deg)
        rows, columns = (np.arange(n) for n in setup.shape)
        wander = rng.uniform(0, self.scene.period[0], (count, 2))
        yield from self._ahead(
            lambda k: self._quiet.image(corner + wander[k], jacobian, rows, columns, 0.0), range(count)
        )

    def fiducials(
        self, setup: ChannelSetup, slide: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """
        A slide at the prime focus, sharp, in front of the wandering Sun.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.
        slide : callable
            Its transmission at places (x, y) on the sky, arcsec.

        Yields
        ------
        numpy.ndarray, shape (y, x), float32
            Brightness.
        """
        imager = self.imagers[setup.name]
        corner, jacobian = self._placement(setup, 0.0)
        columns, rows = np.meshgrid(imager.columns, imager.rows)
        x, y = (corner[k] + jacobian[k, 0] * columns + jacobian[k, 1] * rows for k in (0, 1))
        sharp = imager.ideal(imager.prepare(slide(x, y)))
        for light in self.flats(setup, self._settings.fiducial_frames):
            yield sharp * light

    def flow_in_pixels(self, setup: ChannelSetup) -> np.ndarray:
        """
        Motion of the Sun on a chip.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.

        Returns
        -------
        numpy.ndarray, shape (2, rows, columns), float32
            Velocity (y, x), pixels per second.
        """
        corner, jacobian = self._placement(setup, self._settings.crota2_deg)
        rows, columns = np.indices(setup.shape)
        x, y = (corner[k] + jacobian[k, 0] * columns + jacobian[k, 1] * rows for k in (0, 1))
        velocity = np.stack(self.scene.flow.velocity(x, y)) * self._settings.scene_speed
        pixels = np.einsum("ij,jrc->irc", np.linalg.inv(jacobian), velocity)
        return pixels[::-1].astype(np.float32)

    def _ahead(self, function: Callable[[int], _Result], numbers: Iterable[int]) -> Iterator[_Result]:
        """Results in order, some of them computed ahead by the threads."""
        waiting: deque[Future[_Result]] = deque()
        for number in numbers:
            waiting.append(self._pool.submit(function, number))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _scene_for(self, setup: ChannelSetup, seconds: float) -> np.ndarray:
        imager = self.imagers[setup.name]
        corner, jacobian = self._placement(setup, self._settings.crota2_deg, seconds)
        now = self._settings.scene_speed * seconds
        return self.scene.image(corner, jacobian, imager.rows, imager.columns, now, setup.look)

    def _placement(
        self, setup: ChannelSetup, crota2: float, seconds: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sky position of the chip's first pixel, and the step from pixel to pixel; None: before the data."""
        s, offset = self._settings, np.array(setup.offset_arcsec)
        if seconds is not None and setup is not s.channels[0]:
            offset += np.array(s.drift_arcsec) * (seconds / self.seconds)
        if seconds is not None and s.relock is not None and seconds >= s.relock[0]:
            offset += s.relock[1:]
        jacobian = setup.jacobian(crota2)
        middle = (np.array(setup.shape[::-1]) - 1) / 2
        return rotation(crota2) @ offset - jacobian @ middle, jacobian

    def _extent(self, setup: ChannelSetup) -> float:
        """Side of the upright square of sky that a channel's scene needs, arcsec."""
        imager = self.imagers[setup.name]
        sides = np.abs(setup.jacobian(self._settings.crota2_deg)) @ [len(imager.columns), len(imager.rows)]
        ways = (setup.offset_arcsec, self._settings.drift_arcsec, (self._settings.relock or (0, 0, 0))[1:])
        return float(sides.max() + 2 * sum(np.hypot(*way) for way in ways))

    def _make_scene(self) -> Scene:
        s = self._settings
        flow = default_flow(self._field_radius, s.flow_km_s)
        if s.scene is not None:
            return image_scene(s.scene, scale=s.scene_scale, flow=flow)
        r = self._field_radius
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
