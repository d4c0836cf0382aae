"""Shifts by correlation: of tiles, windowed and batched, and of whole frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from stillsun.core._device import peaks_on_device
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, to_host
from stillsun.core.tiles import Lattice, gather, window

#: Width of the equal Gaussian windows of both tiles, as a share of the kernel.
WINDOW_SIGMA = 0.25

_CHUNK_BYTES = {False: 500_000, True: 200_000_000}  # of tiles at a time: a cache's size, a device's share
_LEAST_SHARE = 0.25  # of a tile's window must have data

# Least squares of a + b y + c x + d y^2 + e x^2 + f y x over the 3 x 3 values around the peak.
_PLACES = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.float64)
_FIT = np.linalg.pinv(
    np.stack(
        [
            np.ones(9),
            _PLACES[:, 0],
            _PLACES[:, 1],
            _PLACES[:, 0] ** 2,
            _PLACES[:, 1] ** 2,
            _PLACES.prod(axis=1),
        ],
        1,
    )
)


def correlate_tiles(
    image: Any, reference: Any, points: Lattice, radius: float, bins: int, backend: Backend
) -> tuple[Any, Any]:
    """
    Measure the shift of every tile.

    Parameters
    ----------
    image, reference : array
        (rows, columns) float32 on the backend, binned by `bins`, NaN where there are no data.
    points : Lattice
        The tiles, in pixels of the frame before binning.
    radius : float
        Largest shift that is looked for, in pixels of the frame, at most half a kernel.
    bins : int
        Pixels of the frame in one of the images along an axis; the tiles are aligned to it.
    backend : Backend
        Where to compute.

    Returns
    -------
    shifts : array
        (2, tiles_y, tiles_x) float64, order y, x, pixels of the frame: content of `image` moves by
        +shift to match `reference`. 0 where there is no measurement.
    measured : array
        (tiles_y, tiles_x) bool: both tiles have data and contrast, and the correlation has a positive
        peak within the radius.

    Notes
    -----
    Both tiles lose their weighted mean and get the same Gaussian window, sigma a quarter of the
    kernel; unequal windows bias the shift. The peak of their circular cross-correlation is
    interpolated by a quadratic surface through its 3 x 3 neighbourhood.
    """
    size = points.y.kernel // bins
    weights = window(size, WINDOW_SIGMA * size)
    reach = int(np.clip(np.ceil(radius / bins), 1, (size - 1) // 2 - 1))
    count = points.y.count * points.x.count
    iy, ix = np.divmod(np.arange(count), points.x.count)
    starts_y = points.y.start // bins + iy * (points.y.step // bins)
    starts_x = points.x.start // bins + ix * (points.x.step // bins)
    xp = backend.xp
    shifts, measured = xp.zeros((2, count)), xp.zeros(count, bool)
    on_device = backend.asarray(weights)

    def work(first: int, last: int) -> None:
        part = slice(first, last)
        tiles, share = gather((image, reference), starts_y[part], starts_x[part], on_device, backend)
        ours, theirs = backend.fft.rfft2(tiles)
        product = theirs * xp.conj(ours)
        surfaces = backend.fft.irfft2(product, s=(size, size))
        if backend.is_gpu:
            found, good = peaks_on_device(surfaces, reach, _FIT, backend)
        else:
            found, good = _peaks(surfaces, reach, _FIT)
        shifts[:, part] = found * bins
        measured[part] = good & (share >= _LEAST_SHARE)

    chunk = max(1, _CHUNK_BYTES[backend.is_gpu] // (4 * size * size))
    over_blocks(work, count, backend, chunk)
    shifts = xp.where(measured, shifts, 0)
    return shifts.reshape(2, *points.count), measured.reshape(points.count)


def correlate_frames(image: Any, reference: Any, radius: tuple[int, int], backend: Backend) -> Any:
    """
    Measure the shift of a whole frame.

    Parameters
    ----------
    image, reference : array
        (rows, columns) float32 on the backend, background removed, NaN where there are no data.
    radius : tuple of int
        Largest shift that is looked for in y and x.
    backend : Backend
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (2,) float64, order y, x: content of `image` moves by +shift to match `reference`.

    Notes
    -----
    The frames are padded by the radius: nothing wraps around.
    """
    xp, fft = backend.xp, backend.fft
    padded = [fft.next_fast_len(n + r + 1, True) for n, r in zip(image.shape, radius, strict=True)]
    ours, theirs = (fft.rfft2(xp.nan_to_num(a), s=padded) for a in (image, reference))
    surface = fft.irfft2(theirs * xp.conj(ours), s=padded)
    rows, columns = (xp.arange(-r, r + 1) % n for r, n in zip(radius, padded, strict=True))
    near = surface[rows[:, None], columns]
    at = int(near.argmax())
    peak = np.array([at // near.shape[1], at % near.shape[1]])
    peak = np.clip(peak, 1, np.array(near.shape) - 2)
    cut = to_host(near[peak[0] - 1 : peak[0] + 2, peak[1] - 1 : peak[1] + 2])
    found, _ = _peaks(np.roll(cut, (-1, -1), (0, 1))[None], 1, _FIT)
    return peak - np.array(radius) + found[:, 0]


@njit(cache=True, nogil=True)
def _peaks(surfaces, reach, fit):  # type: ignore[no-untyped-def]
    count, size, width = surfaces.shape
    shifts = np.zeros((2, count))
    good = np.zeros(count, np.bool_)
    c = np.empty(6)
    for t in range(count):
        surface = surfaces[t]
        best = np.float32(0)
        by = bx = -reach - 1
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                value = surface[y % size, x % width]
                if value > best:
                    best, by, bx = value, y, x
        # A peak on the limit of the search is the flank of another one; no peak is neither.
        if best <= 0 or (reach > 1 and (abs(by) == reach or abs(bx) == reach)):
            continue
        for k in range(6):
            c[k] = 0
            for i in range(9):
                value = surface[(by + i // 3 - 1) % size, (bx + i % 3 - 1) % width]
                c[k] += fit[k, i] * np.float64(value)
        det = 4 * c[3] * c[4] - c[5] * c[5]
        if det <= 0 or c[3] >= 0:
            continue
        dy, dx = (c[5] * c[2] - 2 * c[4] * c[1]) / det, (c[5] * c[1] - 2 * c[3] * c[2]) / det
        if abs(dy) < 1 and abs(dx) < 1:
            shifts[0, t], shifts[1, t], good[t] = by + dy, bx + dx, True
    return shifts, good
