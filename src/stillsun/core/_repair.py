"""Tiles without a trustworthy shift get one from their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from stillsun.core._device import kept, run_kernel
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend
from stillsun.core.robust import robust_deviation

_OUTLIER = 4.0  # robust standard deviations
_NEIGHBOURS = (1, 4)  # sigmas in tiles of the means that replace a tile, the closer first
_REACH = 3  # sigmas at which a mean is cut off
_LEAST = 1e-2  # of a mean's weight must be on plausible tiles


def repair(shifts: Any, measured: Any, limit: float, slack: float, backend: Backend) -> tuple[Any, float]:
    """
    Replace missing and implausible shifts.

    Parameters
    ----------
    shifts : array
        (2, tiles_y, tiles_x), pixels.
    measured : array
        (tiles_y, tiles_x) bool: there is a measurement.
    limit : float
        Largest plausible shift in pixels along an axis.
    slack : float
        Pixels by which a tile may always differ from its neighbours.
    backend : Backend
        Where to compute.

    Returns
    -------
    shifts : array
        (2, tiles_y, tiles_x) float32. 0 everywhere where no tile can be trusted.
    share : float
        Share of replaced tiles among those measured.

    Notes
    -----
    A shift is implausible where it exceeds `limit`, or differs from the median of the 3 x 3 tiles
    around it by more than four robust standard deviations of that difference (1.4826 times the median
    of its size) and the slack. It is replaced by the Gaussian mean of its plausible
    neighbours (sigma one tile, else four, else the mean of all). The others are left as they are: a
    median filter over all would cost more accuracy than it brings.
    """
    xp = backend.xp
    shifts = shifts.astype(np.float32)
    known = int(measured.sum())
    if not known:
        return xp.zeros_like(shifts), 0.0
    differs = _differences_device(shifts, backend) if backend.is_gpu else _differences(shifts)
    scatter = robust_deviation(differs[:, measured], xp)
    good = measured & (differs < _OUTLIER * scatter + slack).all(axis=0) & (abs(shifts) <= limit).all(axis=0)
    count = int(good.sum())
    if not count:
        return xp.zeros_like(shifts), 1.0
    fill = _fill_device if backend.is_gpu else _fill
    shifts = xp.where(good, shifts, np.float32(0))
    mean = shifts.sum(axis=(1, 2), dtype=np.float64) / count
    return fill(shifts, good, mean.astype(np.float32), backend), 1 - count / known


def _differences_device(shifts: Any, backend: Backend) -> Any:
    (values,) = backend.contiguous(np.float32, shifts)
    out = backend.xp.empty_like(values)
    run_kernel("median_distance", values.shape, (values, out), values.shape[1:], backend)
    return out


def _fill(shifts: np.ndarray, good: np.ndarray, mean: np.ndarray, backend: Backend) -> np.ndarray:
    lines = _lines()
    filled, there = shifts.copy(), good.astype(np.float32)
    over_blocks(lambda a, b: _fill_missing(shifts, there, mean, *lines, filled, a, b), len(good), backend)
    return filled


def _fill_device(shifts: Any, good: Any, mean: Any, backend: Backend) -> Any:
    filled = backend.xp.empty_like(shifts)
    lines = kept(_lines, backend)
    numbers = *good.shape, *(len(line) // 2 for line in lines), np.float32(_LEAST)
    run_kernel("fill_missing", good.shape, (shifts, good, mean, *lines, filled), numbers, backend)
    return filled


def _lines() -> tuple[np.ndarray, ...]:
    return tuple(_weights(sigma) for sigma in _NEIGHBOURS)


def _weights(sigma: int) -> np.ndarray:
    places = np.arange(-_REACH * sigma, _REACH * sigma + 1)
    line = np.exp(-(places**2) / (2 * sigma**2))
    return (line / line.sum()).astype(np.float32)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _fill_missing(shifts, there, mean, close, wide, filled, start, stop):  # type: ignore[no-untyped-def]
    rows, columns = there.shape
    for y in range(start, stop):
        for x in range(columns):
            if there[y, x] > 0:
                continue
            filled[0, y, x], filled[1, y, x] = mean
            for line in (close, wide):
                reach = len(line) // 2
                first, behind = max(0, x - reach), min(columns, x + reach + 1)
                near = dy = dx = np.float32(0)
                for v in range(max(0, y - reach), min(rows, y + reach + 1)):
                    height = line[v - y + reach]
                    for u in range(first, behind):
                        weight = height * line[u - x + reach]
                        near += weight * there[v, u]
                        # Shifts are 0 where they are not to be trusted.
                        dy += weight * shifts[0, v, u]
                        dx += weight * shifts[1, v, u]
                if near > _LEAST:
                    filled[0, y, x], filled[1, y, x] = dy / near, dx / near
                    break


@njit(cache=True, nogil=True)
def _differences(shifts):  # type: ignore[no-untyped-def]
    """Distance of every value from the median of the 3 x 3 around it; the edge is repeated."""
    axes, rows, columns = shifts.shape
    out = np.empty_like(shifts)
    # Least, middle and greatest of the three values above each other; the median is the middle one of
    # the greatest of the least, the middle of the middle, and the least of the greatest.
    low = np.empty(columns + 2, shifts.dtype)
    mid, high = np.empty_like(low), np.empty_like(low)
    for axis in range(axes):
        for y in range(rows):
            a, b, c = shifts[axis, max(y - 1, 0)], shifts[axis, y], shifts[axis, min(y + 1, rows - 1)]
            for x in range(columns):
                less, more = min(a[x], b[x]), max(a[x], b[x])
                low[x + 1], high[x + 1] = min(less, c[x]), max(more, c[x])
                mid[x + 1] = max(less, min(more, c[x]))
            for line in (low, mid, high):
                line[0], line[columns + 1] = line[1], line[columns]
            for x in range(columns):
                p = max(low[x], low[x + 1], low[x + 2])
                q = _middle(mid[x], mid[x + 1], mid[x + 2])
                r = min(high[x], high[x + 1], high[x + 2])
                out[axis, y, x] = abs(b[x] - _middle(p, q, r))
    return out


@njit(cache=True, nogil=True, inline="always")
def _middle(a, b, c):  # type: ignore[no-untyped-def]
    return max(min(a, b), min(max(a, b), c))
