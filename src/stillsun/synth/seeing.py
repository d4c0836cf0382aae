"""Turbulence above the telescope: von Karman phase screens at several heights that drift with the wind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import scipy.fft

REFERENCE_WAVELENGTH_M = 500e-9
_SCREEN_PIXELS = 2048
_SCREEN_PIXEL_M = 0.02


@dataclass(frozen=True)
class Layer:
    """
    One thin layer of turbulence.

    Attributes
    ----------
    height : float
        Height above the telescope, m.
    share : float
        Share of the turbulence (of the integral of Cn2).
    speed : float
        Wind speed, m/s.
    direction : float
        Direction in which the wind blows, degrees from +x towards +y.
    """

    height: float
    share: float
    speed: float
    direction: float


DEFAULT_LAYERS = (
    Layer(0.0, 0.60, 6.0, 30.0),
    Layer(2500.0, 0.25, 10.0, 75.0),
    Layer(8000.0, 0.15, 20.0, 112.0),
)


class Atmosphere:
    """
    Optical path differences over the pupil, for any time and direction, the same for all channels.

    The screens are periodic (41 m) and drift unchanged with the wind (frozen flow), or, for
    independent frames, are read at random places.

    Parameters
    ----------
    layers : sequence of Layer
        The layers; shares are normalised.
    r0 : float
        Fried parameter of all layers together at 500 nm, m.
    outer_scale : float
        Outer scale of the von Karman spectrum, m.
    seed : int
        Seed of everything random.
    frozen : bool
        Frozen flow; False: frames at different times are independent.

    References
    ----------
    Lane, Glindemann & Dainty 1992, Waves Random Media 2, 209.
    """

    def __init__(
        self,
        layers: Sequence[Layer] = DEFAULT_LAYERS,
        r0: float = 0.10,
        outer_scale: float = 20.0,
        seed: int = 0,
        frozen: bool = True,
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        total = sum(layer.share for layer in layers)
        self._seed = seed
        self._frozen = frozen
        self._heights = np.array([layer.height for layer in layers])
        angle = np.radians([layer.direction for layer in layers])
        speed = np.array([layer.speed for layer in layers])
        self._wind = np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=1)
        self._start = rng.uniform(0, _SCREEN_PIXELS * _SCREEN_PIXEL_M, (len(layers), 2))
        self._screens = np.stack(
            [_screen(r0 * (layer.share / total) ** (-3 / 5), outer_scale, rng) for layer in layers]
        )

    def path(
        self,
        pupil: np.ndarray,
        directions: np.ndarray,
        seconds: float,
        strength: float = 1.0,
        before: float = 0.0,
    ) -> np.ndarray:
        """
        Optical path difference over the pupil for several directions at one instant.

        Parameters
        ----------
        pupil : numpy.ndarray, shape (points, 2)
            Positions (x, y) in the pupil, m.
        directions : numpy.ndarray, shape (directions, 2)
            Directions (x, y) on the sky, radians.
        seconds : float
            Time.
        strength : float
            Factor on the path difference; (r0 / r0_now)^(5/6) gives another Fried parameter.
        before : float
            As it was so many seconds earlier, before the wind moved the screens on.

        Returns
        -------
        numpy.ndarray, shape (directions, points), float32
            Path difference, m.
        """
        if self._frozen:
            start = self._start - self._wind * (seconds - before)
        else:
            # Microseconds as the key: channels exposed at the same time share their seeing.
            key = round(seconds * 1e6) & 0xFFFFFFFF
            rng = np.random.default_rng([self._seed, 3, key])
            start = rng.uniform(0, _SCREEN_PIXELS * _SCREEN_PIXEL_M, self._start.shape) + self._wind * before
        offsets = (start[:, None, :] + self._heights[:, None, None] * directions) / _SCREEN_PIXEL_M
        return _gather(
            self._screens,
            np.mod(offsets, _SCREEN_PIXELS),
            np.asarray(pupil, dtype=np.float64) / _SCREEN_PIXEL_M,
            np.float32(strength),
        )


def _screen(r0: float, outer_scale: float, rng: np.random.Generator) -> np.ndarray:
    """Path difference in metres with a von Karman spectrum, periodic."""
    n, step = _SCREEN_PIXELS, _SCREEN_PIXEL_M
    fy, fx = scipy.fft.fftfreq(n, step)[:, None], scipy.fft.rfftfreq(n, step)[None, :]
    power = 0.0229 * r0 ** (-5 / 3) * (fx * fx + fy * fy + outer_scale**-2) ** (-11 / 6)
    power[0, 0] = 0.0
    # Bilinear interpolation passes (2 + cos(2 pi f step)) / 3 of the power on each axis: made up for here.
    power *= 9 / ((2 + np.cos(2 * np.pi * fy * step)) * (2 + np.cos(2 * np.pi * fx * step)))
    # White noise of unit variance has |FFT|^2 = n^2; a cell of the spectrum holds power * (1 / (n step))^2.
    amplitude = (np.sqrt(power) * (n / (n * step))).astype(np.float32)
    white = scipy.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32))
    phase = scipy.fft.irfft2(white * amplitude, s=(n, n))
    return (phase * np.float32(REFERENCE_WAVELENGTH_M / (2 * np.pi))).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _gather(screens, offsets, pupil, strength):  # type: ignore[no-untyped-def]
    """Sum of bilinear samples of periodic screens: pupil points moved by an offset each direction."""
    layers, directions = offsets.shape[:2]
    size = screens.shape[1]
    out = np.empty((directions, pupil.shape[0]), np.float32)
    for d in range(directions):
        for p in range(pupil.shape[0]):
            total = np.float32(0)
            for k in range(layers):
                x = offsets[k, d, 0] + pupil[p, 0] + size
                y = offsets[k, d, 1] + pupil[p, 1] + size
                c = int(x)
                r = int(y)
                wx = np.float32(x - c)
                wy = np.float32(y - r)
                c0, c1 = c % size, (c + 1) % size
                r0, r1 = r % size, (r + 1) % size
                low = screens[k, r0, c0] + wx * (screens[k, r0, c1] - screens[k, r0, c0])
                high = screens[k, r1, c0] + wx * (screens[k, r1, c1] - screens[k, r1, c0])
                total += low + wy * (high - low)
            out[d, p] = strength * total
    return out
