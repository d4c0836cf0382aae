"""Small remaining shifts of tiles by windowed least squares, without a Fourier transform."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from stillsun.core._device import kept, run_kernel
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, to_host
from stillsun.core.tiles import Axis, Lattice, whole

#: Width of the Gaussian window as a share of the kernel. The sums of a correlation window (a quarter of
#: the kernel) and half as much of the neighbours': narrower follows noise where the contrast is low.
WINDOW_SIGMA = 0.3

#: Largest shift, in (binned) pixels, for which images of granulation may be taken as linear.
LARGEST_SHIFT = 3.0

# Of the last step, see `polish_tiles`.
_NARROW_SIGMA = 0.2  # of the kernel: the window
_COARSE = 5.6  # radians over the kernel: wave number of detail that is too coarse for that window
_AROUND = 1.5  # tiles: width of the mean of the normal equations that is leaned on then
_LEAST_DETAIL = 0.01  # of the mean: gradient power that is taken for none

_REACH = 2.3  # sigmas at which the window is cut off
_LEAST_SHARE = 0.25  # of a tile's window must have data
_SUMS = 6
_STRIPE = 64  # pixels of a whole frame that a thread of a device sums


def refine_tiles(image: Any, reference: Any, points: Lattice, bins: int, backend: Backend) -> tuple[Any, Any]:
    """
    Measure shifts of about a pixel of every tile.

    Parameters
    ----------
    image, reference : array
        (rows, columns) float32 on the backend, binned by `bins`, of equal contrast and without
        background, NaN where there are no data.
    points : Lattice
        The tiles, in pixels of the frame before binning.
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
        (tiles_y, tiles_x) bool: the tile has data, structure in both directions, and a shift small
        enough for the method.

    Notes
    -----
    One Gauss-Newton step of Lucas & Kanade (1981, Proc. IJCAI, 674) with the mean of the gradients of
    both images, which is unbiased to second order in the shift: the shift d minimises the windowed sum
    of ``(reference - image + g . d)**2``.
    """
    sums = _tile_sums(image, reference, points, bins, WINDOW_SIGMA, backend)
    return _solve(sums, _ridge(sums, backend.xp), bins, backend)


def polish_tiles(image: Any, reference: Any, points: Lattice, backend: Backend) -> tuple[Any, Any]:
    """
    Measure what `refine_tiles` has left, in windows a third narrower where the detail allows.

    Parameters
    ----------
    image, reference : array
        As for `refine_tiles`, not binned.
    points : Lattice
        The tiles.
    backend : Backend
        Where to compute.

    Returns
    -------
    shifts, measured : array
        As from `refine_tiles`.

    Notes
    -----
    A step in a window takes out the shift averaged over the window. What varies faster is left and
    another step finds it; but where the detail is coarser than the window there is nothing to find but
    noise. Each tile therefore leans on the shift D of its surroundings, from the mean of the normal
    equations over neighbouring tiles: ``(H + mu) d = b + mu D`` with ``mu = k^2 (k0^2 / k^2)^3``, where
    ``k^2``, the trace of that mean of H and so the power of the gradient of an image of unit contrast, is
    the mean square wave number, and ``k0`` is 5.6 radians over the kernel.
    """
    xp = backend.xp
    sums = _tile_sums(image, reference, points, 1, _NARROW_SIGMA, backend)
    ridge = _ridge(sums, xp)
    wide = xp.empty_like(sums)

    def smooth(start: int, stop: int) -> None:
        for k in range(start, stop):
            wide[k] = backend.ndimage.gaussian_filter(sums[k], _AROUND, mode="nearest")

    over_blocks(smooth, len(wide) - 1, backend, 1)
    wide[-1] = sums[-1]
    detail = wide[0] + wide[2]
    detail = xp.maximum(detail, _LEAST_DETAIL * detail.mean() + 1e-12)
    lean = (_COARSE**2 / (points.y.kernel * points.x.kernel)) ** 3 / detail**2
    around, _ = _solve(wide, ridge, 1, backend, everywhere=True)
    return _solve(sums, ridge, 1, backend, (lean, around))


def _tile_sums(image: Any, reference: Any, points: Lattice, bins: int, width: float, backend: Backend) -> Any:
    """Windowed sums of each tile: gradient products yy, yx, xx, times difference y, x, share of data."""
    binned = Lattice(image.shape, points.y.binned(bins), points.x.binned(bins))
    windows = _window(binned.y, width), _window(binned.x, width)
    if backend.is_gpu:
        firsts = windows[0][0], windows[1][0]
        weights = *kept(_weights, backend, binned.y, width), *kept(_weights, backend, binned.x, width)
        return _sums_device(image, reference, binned, firsts, weights, backend)
    return _sums_numba(image, reference, binned, windows, backend)


def _ridge(sums: Any, xp: Any) -> float:
    """What is added to the matrix: without structure the answer is "no shift", not a large one."""
    trace = sums[0] + sums[2]
    there = trace > 0
    total, count = to_host(xp.stack([xp.where(there, trace, 0).sum(), there.sum()]))
    return 1e-3 * float(total / count) if count else 1.0


def _solve(
    sums: Any,
    ridge: float,
    bins: int,
    backend: Backend,
    lean: tuple[Any, Any] | None = None,
    everywhere: bool = False,
) -> tuple[Any, Any]:
    """
    Shifts in pixels of the frame, and whether the tile has data, structure and a small shift.

    With `lean`, a weight and shifts, each tile leans on these by that weight. Shifts are 0 where the tile
    has not what it needs, unless they are wanted everywhere.
    """
    xp = backend.xp
    if backend.is_gpu:
        return _solve_device(sums, ridge, bins, lean, everywhere, backend)
    weight, towards = (0.0, (0.0, 0.0)) if lean is None else lean
    yy, yx, xx = sums[0] + (ridge + weight), sums[1], sums[2] + (ridge + weight)
    ey, ex = sums[3] - weight * towards[0], sums[4] - weight * towards[1]
    det = yy * xx - yx * yx
    shifts = xp.stack([(yx * ex - xx * ey) / det, (yx * ey - yy * ex) / det])
    measured = (sums[5] >= _LEAST_SHARE) & (sums[0] + sums[2] > ridge)
    measured &= shifts[0] ** 2 + shifts[1] ** 2 < LARGEST_SHIFT**2
    return (bins * shifts if everywhere else xp.where(measured, bins * shifts, 0)), measured


def _solve_device(
    sums: Any, ridge: float, bins: int, lean: tuple[Any, Any] | None, everywhere: bool, backend: Backend
) -> tuple[Any, Any]:
    shape = sums.shape[1:]
    shifts, measured = backend.xp.empty((2, *shape), np.float64), backend.xp.empty(shape, bool)
    # Without a lean the kernel looks at neither of the two.
    given = backend.contiguous(np.float64, sums, *((sums, sums) if lean is None else lean))
    limits = np.float64(ridge), np.float64(_LEAST_SHARE), np.float64(LARGEST_SHIFT)
    numbers = *limits, *shape, bins, int(lean is not None), int(everywhere)
    run_kernel("solve_tiles", shape, (*given, shifts, measured), numbers, backend)
    return shifts, measured


def refine_frame(image: Any, reference: Any, backend: Backend) -> np.ndarray:
    """
    Measure a shift of about a pixel of a whole frame.

    Parameters
    ----------
    image, reference : array
        As for `refine_tiles`, without binning.
    backend : Backend
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (2,) float64, order y, x, pixels; the same step with all pixels in one window, at most
        `LARGEST_SHIFT` long, 0 without structure.
    """
    if backend.is_gpu:
        stripes = (Axis(_STRIPE, _STRIPE, 0, -(-size // _STRIPE)) for size in image.shape)
        weights = 2 * kept(_ones, backend, _STRIPE)
        parts = _sums_device(image, reference, Lattice(image.shape, *stripes), (0, 0), weights, backend)
        sums = to_host(parts.sum(axis=(1, 2)))
    else:
        ones = ((0, *_ones(size)) for size in image.shape)
        sums = _sums_numba(image, reference, whole(image.shape), tuple(ones), backend)[:, 0, 0]
    yy, yx, xx, ey, ex, _ = (float(s) for s in sums)
    det = yy * xx - yx * yx
    if det <= 1e-6 * (yy + xx) ** 2:
        return np.zeros(2)
    step = np.array([yx * ex - xx * ey, yx * ey - yy * ex]) / det
    return step * min(1.0, LARGEST_SHIFT / max(np.hypot(*step), 1e-9))


def _window(axis: Axis, width: float) -> tuple[int, np.ndarray]:
    """First pixel of the first tile's window, and its weights (sum 1), the same for every tile."""
    sigma = width * axis.kernel
    centre = axis.centres[0]
    first = int(np.ceil(centre - _REACH * sigma))
    places = np.arange(first, int(np.floor(centre + _REACH * sigma)) + 1)
    weights = np.exp(-((places - centre) ** 2) / (2 * sigma**2))
    return first, (weights / weights.sum()).astype(np.float32)


def _weights(axis: Axis, width: float) -> tuple[np.ndarray]:
    return (_window(axis, width)[1],)


def _ones(size: int) -> tuple[np.ndarray]:
    return (np.ones(size, np.float32),)


def _sums_device(
    image: Any,
    reference: Any,
    points: Lattice,
    firsts: tuple[int, int],
    weights: tuple[Any, ...],
    backend: Backend,
) -> Any:
    rows, columns = points.shape
    tiles_y, tiles_x = points.count
    lines = backend.xp.empty((_SUMS, rows, tiles_x), np.float32)
    sums = backend.xp.empty((_SUMS, tiles_y, tiles_x), np.float64)
    both = backend.contiguous(np.float32, image, reference)
    along = rows, columns, tiles_x, firsts[1], points.x.step, len(weights[1])
    run_kernel("tile_lines", (rows, tiles_x), (*both, weights[1], lines), along, backend)
    across = rows, tiles_y, tiles_x, firsts[0], points.y.step, len(weights[0])
    run_kernel("tile_columns", sums.shape, (lines, weights[0], sums), across, backend)
    return sums


def _sums_numba(image: Any, reference: Any, points: Lattice, windows: Any, backend: Backend) -> Any:
    (first_y, weights_y), (first_x, weights_x) = windows
    sums = np.empty((_SUMS, *points.count))

    def work(start: int, stop: int) -> None:
        _sums(
            image,
            reference,
            first_y,
            points.y.step,
            weights_y,
            first_x,
            points.x.step,
            weights_x,
            sums,
            start,
            stop,
        )

    over_blocks(work, points.y.count, backend)
    return sums


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _sums(image, reference, first_y, step_y, weights_y, first_x, step_x, weights_x, sums, start, stop):  # type: ignore[no-untyped-def]
    # Products of a pixel row are made once and added to all rows of tiles that it belongs to; each row
    # of tiles is then summed along x. Both loops run over neighbouring memory.
    rows, columns = image.shape
    near, far = np.float32(8 / 24), np.float32(1 / 24)  # five-point derivative of twice the mean
    products = np.zeros((6, columns), np.float32)
    mean = np.empty(columns, np.float32)
    lines = np.zeros((stop - start, 6, columns), np.float32)
    size = len(weights_y)
    for y in range(max(first_y + start * step_y, 2), min(first_y + (stop - 1) * step_y + size, rows - 2)):
        for x in range(columns):
            mean[x] = image[y, x] + reference[y, x]
        for x in range(2, columns - 2):
            gy = near * (
                image[y + 1, x] + reference[y + 1, x] - image[y - 1, x] - reference[y - 1, x]
            ) - far * (image[y + 2, x] + reference[y + 2, x] - image[y - 2, x] - reference[y - 2, x])
            gx = near * (mean[x + 1] - mean[x - 1]) - far * (mean[x + 2] - mean[x - 2])
            e = reference[y, x] - image[y, x]
            there = gy + gx + e
            there = np.float32(1) if there == there else np.float32(0)
            gy = gy if there > 0 else np.float32(0)
            gx = gx if there > 0 else np.float32(0)
            e = e if there > 0 else np.float32(0)
            products[0, x] = gy * gy
            products[1, x] = gy * gx
            products[2, x] = gx * gx
            products[3, x] = gy * e
            products[4, x] = gx * e
            products[5, x] = there
        lowest = max(start, -((first_y + size - 1 - y) // step_y))
        for j in range(lowest, min(stop, (y - first_y) // step_y + 1)):
            weight = weights_y[y - first_y - j * step_y]
            for k in range(6):
                line, product = lines[j - start, k], products[k]
                for x in range(columns):
                    line[x] += weight * product[x]
    for j in range(start, stop):
        for k in range(6):
            line = lines[j - start, k]
            for t in range(sums.shape[2]):
                left = first_x + t * step_x
                total = np.float32(0)
                for x in range(max(left, 0), min(left + len(weights_x), columns)):
                    total += weights_x[x - left] * line[x]
                sums[k, j, t] = total
