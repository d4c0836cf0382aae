"""Control-point lattice: half-overlapping square tiles that cover a frame, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._device import gather_on_device
from stillsun.core.backend import Backend
from stillsun.errors import ConfigError

#: The smallest tile in which a shift can be measured.
SMALLEST_KERNEL = 4


@dataclass(frozen=True)
class Axis:
    """
    Tiles along one axis of a frame.

    Attributes
    ----------
    kernel : int
        Pixels of a tile.
    step : int
        Pixels from one tile to the next, half a kernel.
    start : int
        First pixel of the first tile; negative where it reaches beyond the frame.
    count : int
        Number of tiles.
    """

    kernel: int
    step: int
    start: int
    count: int

    @property
    def centres(self) -> np.ndarray:
        """Centres of the tiles in pixels, (count,) float64: the control points."""
        return self.start + self.step * np.arange(self.count) + (self.kernel - 1) / 2

    def binned(self, bins: int) -> Axis:
        """
        The same tiles on a binned frame.

        Parameters
        ----------
        bins : int
            Pixels of the frame in one binned pixel; the tiles are aligned to it.

        Returns
        -------
        Axis
            In binned pixels.
        """
        return Axis(self.kernel // bins, self.step // bins, self.start // bins, self.count)

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Cubic interpolation between the control points (Catmull-Rom).

        Parameters
        ----------
        positions : numpy.ndarray
            (n,), pixels.

        Returns
        -------
        first : numpy.ndarray
            (n,) int32: the control points ``first - 1`` to ``first + 2`` count; what lies beyond the
            outermost one has its value.
        weights : numpy.ndarray
            (4, n) float32, which sum to 1.
        """
        t = (positions - self.start - (self.kernel - 1) / 2) / self.step
        t = np.clip(t, 0, self.count - 1)
        first = np.minimum(t.astype(np.int32), max(self.count - 2, 0))
        f = t - first
        weights = np.stack(
            [
                ((-0.5 * f + 1) * f - 0.5) * f,
                (1.5 * f - 2.5) * f * f + 1,
                ((-1.5 * f + 2) * f + 0.5) * f,
                (0.5 * f - 0.5) * f * f,
            ]
        )
        return first, weights.astype(np.float32)


@dataclass(frozen=True)
class Lattice:
    """
    The tiles of one kernel over a frame.

    Tiles overlap by half. They cover the frame, equally far beyond both edges, whatever its size: a
    kernel larger than the frame is one tile. The lattice follows from shape and kernel alone, so that
    stored shifts can be replayed on any frame of that shape.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    y, x : Axis
        Tiles along the rows' and the columns' axis.
    """

    shape: tuple[int, int]
    y: Axis
    x: Axis

    @property
    def count(self) -> tuple[int, int]:
        """Tiles in y and x."""
        return self.y.count, self.x.count


def check_kernels(kernels: Sequence[int]) -> tuple[int, ...]:
    """
    Check the kernels of a destretch.

    Parameters
    ----------
    kernels : sequence of int
        Sizes of the tiles in pixels.

    Returns
    -------
    tuple of int
        The same.

    Raises
    ------
    ConfigError
        If there is none, one is too small, a 0 is not the first, or they grow.
    """
    checked = tuple(int(k) for k in kernels)
    tiles = checked[1:] if checked[:1] == (0,) else checked
    if not checked or any(k != float(given) for k, given in zip(checked, kernels, strict=True)):
        raise ConfigError("kernels are whole numbers, at least one", found=list(kernels))
    if any(k < SMALLEST_KERNEL for k in tiles) or any(a < b for a, b in pairwise(tiles)):
        raise ConfigError(
            "kernels go from large to small, a 0 for the whole frame first",
            expected=f"0, or {SMALLEST_KERNEL} pixels and more",
            found=list(checked),
        )
    return checked


def lattice(shape: tuple[int, int], kernel: int) -> Lattice:
    """
    Lay the tiles of a kernel over a frame.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    kernel : int
        Pixels of a tile.

    Returns
    -------
    Lattice
        The tiles.

    Raises
    ------
    ConfigError
        If the kernel is too small to measure a shift in.
    """
    if kernel < SMALLEST_KERNEL:
        raise ConfigError(
            "tile too small", expected=f"a kernel of {SMALLEST_KERNEL} pixels or more", found=kernel
        )
    rows, columns = shape
    return Lattice((rows, columns), _axis(rows, kernel), _axis(columns, kernel))


def whole(shape: tuple[int, int]) -> Lattice:
    """
    One control point for the whole frame.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    Lattice
        A single tile, whose value holds everywhere.
    """
    return Lattice(shape, Axis(shape[0], 1, 0, 1), Axis(shape[1], 1, 0, 1))


def alignment(kernel: int) -> int:
    """
    To what multiple of pixels the tiles of a kernel are aligned: so far the frame may be binned.

    Parameters
    ----------
    kernel : int
        Pixels of a tile.

    Returns
    -------
    int
        4, 2 or 1; a binned tile keeps at least 12 pixels.
    """
    return 4 if kernel >= 48 else 2 if kernel >= 24 else 1


def _axis(size: int, kernel: int) -> Axis:
    bins = alignment(kernel)
    step = max(1, kernel // 2 // bins) * bins
    count = max(1, -(-(size - kernel) // step) + 1)
    beyond = (count - 1) * step + kernel - size
    return Axis(kernel, step, -(beyond // 2 // bins) * bins, count)


def window(size: int, sigma: float) -> np.ndarray:
    """
    Two-dimensional Gaussian window of a tile.

    Parameters
    ----------
    size : int
        Pixels of the tile along an axis.
    sigma : float
        Width in pixels.

    Returns
    -------
    numpy.ndarray
        (size, size) float32, about 1 at the centre.
    """
    line = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    return (line[:, None] * line).astype(np.float32)


def gather(
    images: tuple[Any, Any], starts_y: np.ndarray, starts_x: np.ndarray, weights: Any, backend: Backend
) -> tuple[Any, Any]:
    """
    Take windowed tiles without their mean from two images.

    Parameters
    ----------
    images : tuple of array
        Two of (rows, columns) float32 on the backend; NaN where there are no data.
    starts_y, starts_x : numpy.ndarray
        (n,) int, first row and column of each tile; a tile may reach beyond the frame.
    weights : array
        (size, size) float32, the window.
    backend : Backend
        Where to compute.

    Returns
    -------
    tiles : array
        (2, n, size, size) float32: ``(value - weighted mean) * weight``, 0 in both where one of them
        has no data: an edge that only one of them has would look like a shift.
    share : array
        (n,) float32, share of the window's weight that has data.
    """
    count, size = len(starts_y), weights.shape[0]
    if backend.is_gpu:
        return gather_on_device(images, (starts_y, starts_x), weights, backend)
    tiles = np.empty((2, count, size, size), np.float32)
    share = np.empty(count, np.float32)
    _gather(*images, starts_y, starts_x, weights, tiles, share)
    return tiles, share


@njit(cache=True, nogil=True)
def _gather(first, second, starts_y, starts_x, weights, tiles, share):  # type: ignore[no-untyped-def]
    rows, columns = first.shape
    size = weights.shape[0]
    whole = 0.0
    for i in range(size):
        for j in range(size):
            whole += weights[i, j]
    for t in range(len(starts_y)):
        total = mean_a = mean_b = 0.0
        left, right = max(0, -starts_x[t]), min(size, columns - starts_x[t])
        top, bottom = max(0, -starts_y[t]), min(size, rows - starts_y[t])
        for i in range(top, bottom):
            for j in range(left, right):
                a = first[starts_y[t] + i, starts_x[t] + j]
                b = second[starts_y[t] + i, starts_x[t] + j]
                if a == a and b == b:
                    total += weights[i, j]
                    mean_a += weights[i, j] * a
                    mean_b += weights[i, j] * b
        share[t] = total / whole
        tiles[:, t] = 0
        if total == 0:
            continue
        offset_a, offset_b = np.float32(mean_a / total), np.float32(mean_b / total)
        for i in range(top, bottom):
            for j in range(left, right):
                a = first[starts_y[t] + i, starts_x[t] + j]
                b = second[starts_y[t] + i, starts_x[t] + j]
                if a == a and b == b:
                    tiles[0, t, i, j] = (a - offset_a) * weights[i, j]
                    tiles[1, t, i, j] = (b - offset_b) * weights[i, j]
