"""Evolving granulation as a periodic pattern: weighted cells that are born, grow, shrink and vanish."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
import scipy.fft
import scipy.ndimage

CELL_ARCSEC = 1.45
PIXEL_ARCSEC = 0.04
_LIFE_SECONDS = 1100.0
_CHROMOSPHERE_STRIDE = 3
_SPOT_PENUMBRA_FROM = 3.0
_MEAN_LEVEL = 0.885


@dataclass(frozen=True)
class DarkSpot:
    """
    A pore, or a sunspot where it is larger than 3 arcsec.

    Attributes
    ----------
    x, y : float
        Centre, arcsec.
    radius : float
        Outer radius, arcsec; of the penumbra if there is one.
    """

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Components:
    """
    What the looks of all channels are mixed from, on one periodic grid at one time.

    Attributes
    ----------
    granules : numpy.ndarray, shape (n, n), float32
        Photospheric brightness without magnetic elements, mean near 1.
    points : numpy.ndarray, shape (n, n), float32
        Magnetic bright points, 0 to 1.
    network : numpy.ndarray, shape (n, n), float32
        Smooth map of the magnetic network, 0 to 1.
    fibrils : numpy.ndarray, shape (n, n), float32
        Chromospheric fibrils, zero mean, unit variance.
    spots : numpy.ndarray, shape (n, n), float32
        1 inside dark spots, 0 outside.
    """

    granules: np.ndarray
    points: np.ndarray
    network: np.ndarray
    fibrils: np.ndarray
    spots: np.ndarray


class Granulation:
    """
    Granulation-like pattern on a periodic square, a function of time and of nothing else.

    Cells are those of an additively weighted Voronoi diagram (an old and serviceable picture of
    granulation) whose borders are bent by noise. Every slot of a lattice holds one granule after
    another; a granule's weight and brightness rise after its birth and fall before its death, so that
    neighbours take over its area smoothly.

    Parameters
    ----------
    side : float
        Wanted period, arcsec; rounded up to whole cells.
    seed : int
        Seed of everything random.
    spots : sequence of DarkSpot
        Pores and sunspots.
    """

    def __init__(self, side: float, seed: int, spots: tuple[DarkSpot, ...] = ()) -> None:
        self._cells = max(8, int(np.ceil(side / CELL_ARCSEC)))
        # A size that the FFT likes, and a multiple of the chromosphere's stride.
        unit = scipy.fft.next_fast_len(int(np.ceil(side / PIXEL_ARCSEC / _CHROMOSPHERE_STRIDE)), real=True)
        self.pixels = unit * _CHROMOSPHERE_STRIDE
        self.period = self._cells * CELL_ARCSEC
        self.pixel = self.period / self.pixels
        self._spots = spots
        self._rng = np.random.default_rng([seed, 1])
        n = self._cells
        self._phase = self._rng.random((n, n))
        self._life = _LIFE_SECONDS * self._rng.uniform(0.7, 1.5, (n, n))
        self._slot_seed = int(self._rng.integers(1 << 31))
        self._bend = tuple(0.20 * self._noise(1.1) + 0.07 * self._noise(0.35) for _ in range(2))  # arcsec
        self._texture = [self._noise(0.25) for _ in range(2)]
        self._meso = self._noise(4.0)
        patches = self._noise(5.0) + 0.5 * self._noise(2.0)
        self._network = _smoothstep((patches - 0.6) / 1.0).astype(np.float32)

    def at(self, seconds: float) -> Components:
        """
        Make the pattern of one time.

        Parameters
        ----------
        seconds : float
            Time, seconds; may be negative.

        Returns
        -------
        Components
            The pattern, periodic in both axes.
        """
        px, py, weight, glow, tag = self._granules(seconds)
        border, brightness, corner = _voronoi(
            self.pixels, self.pixel, CELL_ARCSEC, px, py, weight, glow, tag, *self._bend
        )
        angle = 2 * np.pi * seconds / 1500.0
        texture = np.cos(angle) * self._texture[0] + np.sin(angle) * self._texture[1]
        body = _smoothstep(border / 0.34)
        lanes = 0.70 + 0.03 * self._meso
        granules = lanes + body * (brightness - lanes) + (0.015 + 0.035 * body) * texture + 0.02 * self._meso
        points = corner * (0.25 + 0.75 * self._network) * (self._network > 0.02)
        points += 0.35 * np.exp(-((border / 0.06) ** 2)) * self._network**2
        darkness, dim = self._dark
        granules = granules * (1 - darkness) + dim * (1 + 0.12 * texture) * darkness
        return Components(
            (granules / _MEAN_LEVEL).astype(np.float32),
            (np.clip(points, 0, 1) * (1 - darkness)).astype(np.float32),
            self._network,
            (np.cos(angle) * self._fibrils[0] + np.sin(angle) * self._fibrils[1]).astype(np.float32),
            darkness.astype(np.float32),
        )

    def _granules(self, seconds: float) -> tuple[np.ndarray, ...]:
        age = seconds / self._life + self._phase
        number = np.floor(age).astype(np.int64)
        young = np.clip(np.minimum(age - number, number + 1 - age) / 0.25, 0, 1)
        grown = young * young * (3 - 2 * young)
        slot = np.arange(number.size).reshape(number.shape)
        jx, jy, size, glow, tag = (_hashed(self._slot_seed, slot, number, k) for k in range(5))
        row, column = np.indices(number.shape)
        px = (column + 0.5 + 0.85 * (jx - 0.5)) * CELL_ARCSEC
        py = (row + 0.5 + 0.85 * (jy - 0.5)) * CELL_ARCSEC
        weight = (0.30 * (size - 0.5) - 0.75 * (1 - grown)) * CELL_ARCSEC
        bright = 0.96 + 0.14 * glow + 0.10 * (size - 0.5) + 0.10 * (grown - 1)
        return px, py, weight, bright, tag

    @cached_property
    def _dark(self) -> tuple[np.ndarray, np.ndarray]:
        """Cover (0 to 1) and brightness of pores and spots."""
        cover = np.zeros((self.pixels, self.pixels), dtype=np.float32)
        dim = np.ones_like(cover)
        axis = np.arange(self.pixels) * self.pixel
        for spot in self._spots:
            dx = _wrap(axis[None, :] - spot.x, self.period)
            dy = _wrap(axis[:, None] - spot.y, self.period)
            r = np.hypot(dx + self._bend[0], dy + self._bend[1]) / spot.radius
            inside = 1 - _smoothstep((r - 0.85) / 0.25)
            level = np.full_like(r, 0.30)
            if spot.radius > _SPOT_PENUMBRA_FROM:
                filaments = max(24, round(9 * spot.radius))
                streaks = np.sin(filaments * np.arctan2(dy, dx) + 2.5 * self._meso + 3.0 * r)
                umbra = 1 - _smoothstep((r - 0.38) / 0.12)
                level = umbra * 0.15 + (1 - umbra) * (0.74 + 0.12 * streaks)
            dim = np.where(inside > cover, level, dim).astype(np.float32)
            cover = np.maximum(cover, inside).astype(np.float32)
        return cover, dim

    @cached_property
    def _fibrils(self) -> list[np.ndarray]:
        """Noise smeared along the lines of a smooth direction field, on a coarser grid."""
        direction = self._noise(7.0)[::_CHROMOSPHERE_STRIDE, ::_CHROMOSPHERE_STRIDE] * 1.2
        step = PIXEL_ARCSEC * _CHROMOSPHERE_STRIDE
        fields = []
        for _ in range(2):
            grain = self._rng.standard_normal(direction.shape).astype(np.float32)
            grain = scipy.ndimage.gaussian_filter(grain, 0.13 / step, mode="wrap")
            smeared = _smear(grain, np.cos(direction), np.sin(direction), int(1.6 / step))
            smeared = (smeared - smeared.mean()) / smeared.std()
            fields.append(
                scipy.ndimage.zoom(smeared, _CHROMOSPHERE_STRIDE, order=1, mode="grid-wrap", grid_mode=True)
            )
        return fields

    def _noise(self, scale: float) -> np.ndarray:
        """Periodic noise of unit variance whose power falls beyond a scale in arcsec."""
        n = self.pixels
        fy, fx = np.fft.fftfreq(n, self.pixel)[:, None], np.fft.rfftfreq(n, self.pixel)[None, :]
        amplitude = (1 + (fx * fx + fy * fy) * (2.5 * scale) ** 2) ** (-11 / 12 - 0.5)
        amplitude[0, 0] = 0
        white = scipy.fft.rfft2(self._rng.standard_normal((n, n), dtype=np.float32))
        field = scipy.fft.irfft2(white * amplitude.astype(np.float32), s=(n, n))
        return (field / field.std()).astype(np.float32)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _wrap(x: np.ndarray, period: float) -> np.ndarray:
    return (x + period / 2) % period - period / 2


def _hashed(seed: int, slot: np.ndarray, number: np.ndarray, stream: int) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend on the arguments only (a 64-bit finaliser)."""
    state = slot.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += number.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    state += np.uint64((seed * 8 + stream) * 0x165667B19E3779F9 % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


@numba.njit(parallel=True, cache=True, nogil=True)
def _voronoi(n, pixel, cell, px, py, weight, glow, tag, bend_x, bend_y):  # type: ignore[no-untyped-def]
    """Distance to the border, brightness of the cell, and closeness to a corner where a point glows."""
    slots = px.shape[0]
    border = np.empty((n, n), np.float32)
    bright = np.empty((n, n), np.float32)
    corner = np.empty((n, n), np.float32)
    for i in numba.prange(n):
        for j in range(n):
            x = j * pixel + bend_x[i, j]
            y = i * pixel + bend_y[i, j]
            row = int(np.floor(y / cell))
            column = int(np.floor(x / cell))
            d1 = d2 = d3 = 1e9
            b1 = t1 = t2 = t3 = 0.0
            for a in range(row - 2, row + 3):
                for b in range(column - 2, column + 3):
                    r = a % slots
                    c = b % slots
                    # The pattern is periodic: the slot may be a copy of one on the other side.
                    dx = x - px[r, c] - (b - c) * cell
                    dy = y - py[r, c] - (a - r) * cell
                    d = np.sqrt(dx * dx + dy * dy) - weight[r, c]
                    if d < d1:
                        d3, t3 = d2, t2
                        d2, t2 = d1, t1
                        d1, t1, b1 = d, tag[r, c], glow[r, c]
                    elif d < d2:
                        d3, t3 = d2, t2
                        d2, t2 = d, tag[r, c]
                    elif d < d3:
                        d3, t3 = d, tag[r, c]
            border[i, j] = 0.5 * (d2 - d1)
            bright[i, j] = b1
            mixed = t1 + t2 + t3
            corner[i, j] = np.exp(-(((d3 - d1) / 0.15) ** 2)) if mixed - np.floor(mixed) < 0.5 else 0.0
    return border, bright, corner


@numba.njit(parallel=True, cache=True, nogil=True)
def _smear(grain, ux, uy, steps):  # type: ignore[no-untyped-def]
    """Line integral convolution over a periodic direction field."""
    rows, columns = grain.shape
    out = np.zeros_like(grain)
    for i in numba.prange(rows):
        for j in range(columns):
            total = 0.0
            for sense in (-1.0, 1.0):
                x, y = float(j), float(i)
                for _ in range(steps):
                    r = int(np.round(y)) % rows
                    c = int(np.round(x)) % columns
                    total += grain[r, c]
                    x += sense * ux[r, c]
                    y += sense * uy[r, c]
            out[i, j] = total
    return out
