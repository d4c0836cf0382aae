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

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend
from stillsun.core.tiles import Lattice
from stillsun.errors import ConfigError, InputError

#: Interpolations by name, and how many samples each takes along an axis.
INTERPOLATIONS = {"bilinear": 2, "bicubic": 4, "lanczos4": 8}

_PHASES = 512


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
        of the sampling within a few per cent; ``"bicubic"`` (Catmull-Rom) is six times as fast and
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
    if backend.is_gpu:
        return _resample_generic(image, displacement, interpolation, backend)
    out = np.empty(image.shape, np.float32)
    kernel, table = _KERNELS[INTERPOLATIONS[interpolation]], _weights(interpolation)
    image = np.ascontiguousarray(image)
    over_blocks(
        lambda start, stop: kernel(image, displacement, table, out, start, stop), image.shape[0], backend
    )
    return out


@lru_cache(maxsize=8)
def _weights(interpolation: str) -> np.ndarray:
    """Weights (phases + 1, taps) float32 for a position a fraction of a pixel behind the middle tap."""
    taps = INTERPOLATIONS[interpolation]
    fraction = np.arange(_PHASES + 1) / _PHASES
    distance = np.abs(fraction[:, None] - (np.arange(taps) - (taps // 2 - 1)))
    if interpolation == "bilinear":
        weights = 1 - distance
    elif interpolation == "bicubic":
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, far)
    else:
        weights = np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)
    weights[np.abs(weights) < 1e-15] = 0  # sinc at whole numbers is 0 but for rounding
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _make_kernel(taps: int) -> Any:
    # The number of taps is a constant of the compiled loop, which is unrolled and vectorised.
    @njit(cache=True, nogil=True, error_model="numpy")
    def kernel(image, displacement, table, out, start, stop):  # type: ignore[no-untyped-def]
        rows, columns = image.shape
        before = taps // 2 - 1
        phases = np.float32(table.shape[0] - 1)
        top = np.float32(table.shape[0] - 1.001)
        for y in range(start, stop):
            for x in range(columns):
                at_y, at_x = -displacement[0, y, x], -displacement[1, y, x]
                whole_y, whole_x = np.floor(at_y), np.floor(at_x)
                iy, ix = y + np.int64(whole_y) - before, x + np.int64(whole_x) - before
                phase_y = min((at_y - whole_y) * phases, top)
                phase_x = min((at_x - whole_x) * phases, top)
                ky, kx = np.int64(phase_y), np.int64(phase_x)
                part_y, part_x = phase_y - np.float32(ky), phase_x - np.float32(kx)
                total = np.float32(0)
                if iy >= 0 and ix >= 0 and iy + taps <= rows and ix + taps <= columns:
                    for j in range(taps):
                        line = np.float32(0)
                        for i in range(taps):
                            line += (table[kx, i] + part_x * (table[kx + 1, i] - table[kx, i])) * image[
                                iy + j, ix + i
                            ]
                        total += (table[ky, j] + part_y * (table[ky + 1, j] - table[ky, j])) * line
                else:
                    for j in range(taps):
                        line = np.float32(0)
                        row = min(max(iy + j, 0), rows - 1)
                        for i in range(taps):
                            line += (table[kx, i] + part_x * (table[kx + 1, i] - table[kx, i])) * image[
                                row, min(max(ix + i, 0), columns - 1)
                            ]
                        total += (table[ky, j] + part_y * (table[ky + 1, j] - table[ky, j])) * line
                out[y, x] = total

    return kernel


_KERNELS = {taps: _make_kernel(taps) for taps in INTERPOLATIONS.values()}


def _resample_generic(image: Any, displacement: Any, interpolation: str, backend: Backend) -> Any:
    xp = backend.xp
    rows, columns = image.shape
    table = backend.asarray(_weights(interpolation))
    taps = INTERPOLATIONS[interpolation]
    first, weights = [], []
    for axis, size in enumerate((rows, columns)):
        at = xp.arange(size, dtype=np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        whole = xp.floor(-displacement[axis])
        phase = (-displacement[axis] - whole) * np.float32(_PHASES)
        index = xp.minimum(phase.astype(np.int32), _PHASES - 1)
        part = (phase - index)[..., None]
        weights.append(table[index] + part * (table[index + 1] - table[index]))
        first.append((at + whole).astype(np.int32) - (taps // 2 - 1))
    out = xp.zeros((rows, columns), np.float32)
    for j in range(taps):
        row = xp.clip(first[0] + j, 0, rows - 1)
        line = xp.zeros_like(out)
        for i in range(taps):
            line += weights[1][..., i] * image[row, xp.clip(first[1] + i, 0, columns - 1)]
        out += weights[0][..., j] * line
    return out


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
        pixels only.
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
        below = (at + xp.floor(-displacement[axis])).astype(np.int32)
        above = (at + xp.ceil(-displacement[axis])).astype(np.int32)
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
    for y in range(start, stop):
        for x in range(columns):
            y0, y1 = y + int(np.floor(-displacement[0, y, x])), y + int(np.ceil(-displacement[0, y, x]))
            x0, x1 = x + int(np.floor(-displacement[1, y, x])), x + int(np.ceil(-displacement[1, y, x]))
            out[y, x] = (
                y0 >= 0
                and x0 >= 0
                and y1 < rows
                and x1 < columns
                and valid[y0, x0]
                and valid[y0, x1]
                and valid[y1, x0]
                and valid[y1, x1]
            )


def add_control_points(field: Any, grid: Any, points: Lattice, bins: int, backend: Backend) -> None:
    """
    Add control points to a dense field, in place.

    Parameters
    ----------
    field : array
        (2, rows, columns) float32, displacement in its own (binned) pixels.
    grid : array
        (2, tiles_y, tiles_x), shifts at the control points, in pixels of the frame.
    points : Lattice
        Where the control points are.
    bins : int
        Binning of the field: its pixel i has its centre at ``bins * i + (bins - 1) / 2`` of the frame.
    backend : Backend
        Where to compute.

    Notes
    -----
    Catmull-Rom interpolation along both axes; beyond the outermost control points their value is held.
    """
    rows, columns = field.shape[1:]
    at_y = points.y.at(bins * np.arange(rows) + (bins - 1) / 2)
    at_x = points.x.at(bins * np.arange(columns) + (bins - 1) / 2)
    grid = backend.asarray(grid, dtype=np.float32) / np.float32(bins)
    if backend.is_gpu:
        along_y = backend.asarray(_matrix(*at_y, points.y.count))
        along_x = backend.asarray(_matrix(*at_x, points.x.count))
        field += along_y @ grid @ along_x.T
        return
    over_blocks(
        lambda start, stop: _add_control_points(field, grid, *at_y, *at_x, start, stop), rows, backend
    )


def _matrix(indices: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    matrix = np.zeros((len(indices), count), np.float32)
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices), weights)
    return matrix


@njit(cache=True, nogil=True)
def _add_control_points(field, grid, index_y, weight_y, index_x, weight_x, start, stop):  # type: ignore[no-untyped-def]
    count = grid.shape[2]
    columns = field.shape[2]
    line = np.empty(count, np.float32)
    for axis in range(2):
        for y in range(start, stop):
            a, b, c, d = index_y[y, 0], index_y[y, 1], index_y[y, 2], index_y[y, 3]
            p, q, r, s = weight_y[y, 0], weight_y[y, 1], weight_y[y, 2], weight_y[y, 3]
            for i in range(count):
                line[i] = (
                    p * grid[axis, a, i] + q * grid[axis, b, i] + r * grid[axis, c, i] + s * grid[axis, d, i]
                )
            for x in range(columns):
                field[axis, y, x] += (
                    weight_x[x, 0] * line[index_x[x, 0]]
                    + weight_x[x, 1] * line[index_x[x, 1]]
                    + weight_x[x, 2] * line[index_x[x, 2]]
                    + weight_x[x, 3] * line[index_x[x, 3]]
                )
