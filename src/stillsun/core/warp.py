"""
Displacement fields: the sign convention, control points to dense fields, resampling.

The convention of the whole package::

        x = 0      1      2     columns (second axis)
    y=0  +------+------+------+
         |  .   |  .   |  .   |      pixel (y, x) is a sample at its centre: whole numbers are
    y=1  +------+------+------+      centres, counted from 0, the first pixel reaches from -0.5
         |  .   |  .   |  *   |      to +0.5; arrays and vectors are in the order (y, x).
         +------+------+------+
     rows (first axis)

    displacement d, (2, rows, columns), pixels, given at the place of the RESULT:

        out(y, x) = image(y - d[0, y, x], x - d[1, y, x])

        image:  . . o . . . .      d = (0, +2): the content moves by +2 columns
        out:    . . . . o . .

A shift measured between an image and a reference has the same sign: content of the image moves by
+shift to match the reference. A field is composed by plain addition where it is measured again after
each step, as the destretch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._device import kept, run_kernel
from stillsun.core._taps import INTERPOLATIONS, PHASES, row_kernel, weight_table
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend
from stillsun.core.tiles import Axis, Lattice
from stillsun.errors import ConfigError, InputError

_BLOCK_BYTES = 500_000
_CLOSE = np.float32(0.01)  # pixels from a sample that count as on it, for masks


def resample(
    image: Any,
    displacement: Any,
    interpolation: str = "lanczos4",
    backend: Backend | str | None = None,
) -> Any:
    """
    Move the content of an image by a displacement field.

    Parameters
    ----------
    image : array_like
        (rows, columns). NaN spreads to all results that touch it.
    displacement : array_like
        (2, rows, columns), pixels, order y, x: ``out(y, x) = image(y - d[0], x - d[1])``.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        ``"lanczos4"`` (8 x 8 samples, windowed sinc) keeps the power up to 0.9 of the Nyquist frequency
        of the sampling within a few per cent; ``"bicubic"`` (Catmull-Rom) is nearly twice as fast and
        loses a tenth of the power there; ``"bilinear"`` loses a third. All return the very samples
        where the displacement is a whole number.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    array
        (rows, columns) float32 on the backend. Beyond the frame's edge the edge value is held.

    Raises
    ------
    InputError
        If the shapes do not fit each other.
    ConfigError
        If there is no such interpolation.

    Notes
    -----
    Weights come from a table of 512 phases, interpolated linearly (error below 3e-6); they sum to 1.
    """
    backend = get_backend(backend)
    image = backend.asarray(image, dtype=np.float32)
    displacement = backend.asarray(displacement, dtype=np.float32)
    if image.ndim != 2 or displacement.shape != (2, *image.shape):
        raise InputError(
            "image and displacement do not fit each other",
            expected="(rows, columns) and (2, rows, columns)",
            found=f"{image.shape} and {displacement.shape}",
        )
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(
            "unknown interpolation", expected=" or ".join(INTERPOLATIONS), found=repr(interpolation)
        )
    taps = INTERPOLATIONS[interpolation]
    if backend.is_gpu:
        moved = backend.xp.empty(image.shape, np.float32)
        arrays = *backend.contiguous(np.float32, image, displacement), *kept(_table, backend, interpolation)
        run_kernel("resample", image.shape, (*arrays, moved), (*image.shape, taps, PHASES), backend)
        return moved
    out = np.empty(image.shape, np.float32)
    kernel, table = row_kernel(taps), weight_table(interpolation)
    image, displacement = np.ascontiguousarray(image), np.ascontiguousarray(displacement)
    over_blocks(
        lambda start, stop: kernel(image, displacement, table, out, start, stop), image.shape[0], backend
    )
    return out


def _table(interpolation: str) -> tuple[np.ndarray]:
    return (weight_table(interpolation),)


def resample_box(box: tuple[int, int, int, int], displacement: Any, backend: Backend) -> Any:
    """
    Move a rectangle by a displacement field: `resample_mask` of a mask that is all true inside it.

    Parameters
    ----------
    box : tuple of int
        First row, row behind the last, first column, column behind the last.
    displacement : array
        (2, rows, columns) float32 on the backend, as for `resample`.
    backend : Backend
        Where to compute.

    Returns
    -------
    array
        (rows, columns) bool: the place that a pixel comes from is in the rectangle.
    """
    rows, columns = displacement.shape[1:]
    if not backend.is_gpu:
        out = np.empty((rows, columns), np.bool_)
        over_blocks(lambda a, b: _resample_box(box, displacement, out, a, b), rows, backend)
        return out
    xp = backend.xp
    inside = xp.ones((rows, columns), bool)
    for axis, size in enumerate((rows, columns)):
        at = xp.arange(size, dtype=np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        inside &= at + xp.floor(_CLOSE - displacement[axis]) >= box[2 * axis]
        inside &= at + xp.ceil(-_CLOSE - displacement[axis]) < box[2 * axis + 1]
    return inside


@njit(cache=True, nogil=True)
def _resample_box(box, displacement, out, start, stop):  # type: ignore[no-untyped-def]
    y0, y1, x0, x1 = np.float32(box[0]), np.float32(box[1]), np.float32(box[2]), np.float32(box[3])
    for y in range(start, stop):
        row, line = np.float32(y), out[y]
        for x in range(out.shape[1]):
            at = -displacement[0, y, x]
            line[x] = (row + np.floor(at + _CLOSE) >= y0) & (row + np.ceil(at - _CLOSE) < y1)
        for x in range(out.shape[1]):
            at, column = -displacement[1, y, x], np.float32(x)
            line[x] &= (column + np.floor(at + _CLOSE) >= x0) & (column + np.ceil(at - _CLOSE) < x1)


def resample_mask(valid: Any, displacement: Any, backend: Backend) -> Any:
    """
    Move a mask by a displacement field, without inventing anything.

    Parameters
    ----------
    valid : array
        (rows, columns) bool on the backend.
    displacement : array
        (2, rows, columns) float32 on the backend, as for `resample`.
    backend : Backend
        Where to compute.

    Returns
    -------
    array
        (rows, columns) bool: the place that a pixel comes from is in the frame and between valid
        pixels only; a hundredth of a pixel from one it counts as on it.
    """
    if not backend.is_gpu:
        out = np.empty(valid.shape, np.bool_)
        over_blocks(lambda a, b: _resample_mask(valid, displacement, out, a, b), valid.shape[0], backend)
        return out
    xp = backend.xp
    rows, columns = valid.shape
    low, high = [], []
    inside = xp.ones(valid.shape, bool)
    for axis, size in enumerate((rows, columns)):
        at = xp.arange(size, dtype=np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        below = (at + xp.floor(_CLOSE - displacement[axis])).astype(np.int32)
        above = (at + xp.ceil(-_CLOSE - displacement[axis])).astype(np.int32)
        inside &= (below >= 0) & (above < size)
        low.append(xp.clip(below, 0, size - 1))
        high.append(xp.clip(above, 0, size - 1))
    for row in (low[0], high[0]):
        for column in (low[1], high[1]):
            inside &= valid[row, column]
    return inside


@njit(cache=True, nogil=True)
def _resample_mask(valid, displacement, out, start, stop):  # type: ignore[no-untyped-def]
    rows, columns = valid.shape
    places = np.empty((4, columns), np.int32)
    for y in range(start, stop):
        for axis in range(2):
            for x in range(columns):
                at = -displacement[axis, y, x]
                here = np.int32(x if axis else y)
                places[2 * axis, x] = here + np.int32(np.floor(at + _CLOSE))
                places[2 * axis + 1, x] = here + np.int32(np.ceil(at - _CLOSE))
        for x in range(columns):
            y0, y1, x0, x1 = places[0, x], places[1, x], places[2, x], places[3, x]
            inside = y0 >= 0 and x0 >= 0 and y1 < rows and x1 < columns
            out[y, x] = inside and valid[y0, x0] and valid[y0, x1] and valid[y1, x0] and valid[y1, x1]


def add_control_points(field: Any, parts: Sequence[tuple[Any, Lattice]], bins: int, backend: Backend) -> None:
    """
    Add control points to a dense field, in place.

    Parameters
    ----------
    field : array
        (2, rows, columns) float32, displacement in its own (binned) pixels.
    parts : sequence of tuple
        Shifts at control points, (2, tiles_y, tiles_x) in pixels of the frame, and where these are;
        added in this order.
    bins : int
        Binning of the field: its pixel i has its centre at ``bins * i + (bins - 1) / 2`` of the frame.
    backend : Backend
        Where to compute.

    Notes
    -----
    Catmull-Rom interpolation along both axes; beyond the outermost control points their value is held.
    """
    rows, columns = field.shape[1:]
    terms = []
    for grid, points in parts:
        shifts = backend.asarray(grid, dtype=np.float32) / np.float32(bins)
        (values,) = backend.contiguous(np.float32, shifts)
        if backend.is_gpu:
            at = (
                *kept(_places, backend, points.y, rows, bins),
                *kept(_places, backend, points.x, columns, bins),
            )
            sizes = rows, columns, *values.shape[1:]
            run_kernel("add_control_points", (rows, columns), (values, *at, field), sizes, backend)
        else:
            terms.append((values, *_places(points.y, rows, bins), *_places(points.x, columns, bins)))
    if backend.is_gpu:
        return

    def work(start: int, stop: int) -> None:
        for term in terms:
            _add_control_points(field, *term, start, stop)

    # Rows that stay in the cache while all parts are added.
    over_blocks(work, rows, backend, max(1, _BLOCK_BYTES // (8 * columns)))


@lru_cache(maxsize=64)
def _places(axis: Axis, size: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    return axis.at(bins * np.arange(size) + (bins - 1) / 2)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_control_points(field, grid, first_y, weight_y, first_x, weight_x, start, stop):  # type: ignore[no-untyped-def]
    # Along x first: there are far fewer rows of control points than of pixels, and what is left for
    # the pixels are sums of whole lines.
    last, count = grid.shape[1] - 1, grid.shape[2]
    columns = field.shape[2]
    top, bottom = max(first_y[start] - 1, 0), min(first_y[stop - 1] + 2, last)
    wide = np.empty((bottom - top + 1, columns), np.float32)
    line = np.empty(count + 3, np.float32)  # with the values held beyond both ends
    p, q, r, s = weight_x[0], weight_x[1], weight_x[2], weight_x[3]
    for axis in range(2):
        for j in range(top, bottom + 1):
            line[0], line[1 : count + 1], line[count + 1 :] = (
                grid[axis, j, 0],
                grid[axis, j],
                grid[axis, j, -1],
            )
            out = wide[j - top]
            for x in range(columns):
                i = first_x[x]
                out[x] = p[x] * line[i] + q[x] * line[i + 1] + r[x] * line[i + 2] + s[x] * line[i + 3]
        for y in range(start, stop):
            at = first_y[y] - top
            a, b = wide[max(at - 1, 0)], wide[at]
            c, d = wide[min(at + 1, last - top)], wide[min(at + 2, last - top)]
            e, f, g, h = weight_y[0, y], weight_y[1, y], weight_y[2, y], weight_y[3, y]
            out = field[axis, y]
            for x in range(columns):
                out[x] += e * a[x] + f * b[x] + g * c[x] + h * d[x]
