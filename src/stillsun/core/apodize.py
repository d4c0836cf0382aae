"""What is taken from an image before it is measured: bad borders, background, unequal contrast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend

_REACH = 3  # sigmas at which a Gaussian is cut off


def valid_box(image: Any, backend: Backend) -> tuple[int, int, int, int]:
    """
    Find the part of a frame inside its constant or empty border.

    Parameters
    ----------
    image : array
        (rows, columns) on the backend; speckle programs leave a border of one value around it.
    backend : Backend
        Where the image is.

    Returns
    -------
    tuple of int
        First row, row behind the last, first column, column behind the last. All 0 where the whole
        image is constant or empty.
    """
    if not backend.is_gpu:
        return _box(image)
    xp = backend.xp
    finite = xp.isfinite(image)
    low, high = xp.where(finite, image, np.inf), xp.where(finite, image, -np.inf)
    edges = []
    for axis in (1, 0):
        alive = xp.nonzero(high.max(axis=axis) > low.min(axis=axis))[0]
        if alive.size == 0:
            return 0, 0, 0, 0
        edges += [int(alive[0]), int(alive[-1]) + 1]
    return edges[0], edges[1], edges[2], edges[3]


@njit(cache=True, nogil=True)
def _box(image):  # type: ignore[no-untyped-def]
    # From the edges inwards, so that little more than the border is looked at.
    rows, columns = image.shape
    y0, y1, x0, x1 = 0, rows, 0, columns
    while y0 < rows and not _varies(image[y0]):
        y0 += 1
    while y1 > y0 and not _varies(image[y1 - 1]):
        y1 -= 1
    while x0 < columns and not _varies(image[:, x0]):
        x0 += 1
    while x1 > x0 and not _varies(image[:, x1 - 1]):
        x1 -= 1
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else (0, 0, 0, 0)


@njit(cache=True, nogil=True)
def _varies(line):  # type: ignore[no-untyped-def]
    first = np.nan
    for value in line:
        if np.isfinite(value):
            if first != first:
                first = value
            elif value != first:
                return True
    return False


def fill(image: Any, valid: Any, box: tuple[int, int, int, int], backend: Backend) -> Any:
    """
    Replace invalid pixels so that filters and interpolation find no jump.

    Parameters
    ----------
    image : array
        (rows, columns) float32 on the backend.
    valid : array
        (rows, columns) bool: where the image can be trusted.
    box : tuple of int
        As from `valid_box`; not empty.
    backend : Backend
        Where the image is.

    Returns
    -------
    array
        (rows, columns) float32 without NaN: holes inside the box get the mean around them, and
        outside the box the value at its edge is held.
    """
    xp = backend.xp
    y0, y1, x0, x1 = box
    inner = _without_holes(image[y0:y1, x0:x1], valid[y0:y1, x0:x1], backend)
    if (y0, x0) == (0, 0) and (y1, x1) == image.shape:
        return inner
    rows, columns = image.shape
    return xp.pad(inner, ((y0, rows - y1), (x0, columns - x1)), mode="edge")


def _without_holes(image: Any, good: Any, backend: Backend) -> Any:
    """Fill holes with the mean of what is valid in the smallest block around them that has something."""
    xp = backend.xp
    if bool(good.all()):
        return image
    values, some = (_coarser_generic if backend.is_gpu else _coarser_numba)(image, good, backend)
    values = _without_holes(values, some, backend)
    if backend.is_gpu:
        rows, columns = image.shape
        around = xp.repeat(xp.repeat(values, 2, axis=0), 2, axis=1)[:rows, :columns]
        return xp.where(good, image, around)
    out = np.empty_like(image)
    over_blocks(lambda a, b: _fill_from(image, good, values, out, a, b), len(image), backend)
    return out


def _coarser_generic(image: Any, good: Any, backend: Backend) -> tuple[Any, Any]:
    """Mean of what is valid in each block of 2 x 2, and where there is something."""
    xp = backend.xp
    rows, columns = image.shape
    more = ((0, rows % 2), (0, columns % 2))
    weight = xp.pad(good.astype(np.float32), more)
    values = xp.pad(xp.where(good, image, 0), more)
    weight, values = (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2] for a in (weight, values))
    return values / xp.maximum(weight, 1), weight > 0


def _coarser_numba(image: Any, good: Any, backend: Backend) -> tuple[Any, Any]:
    shape = tuple(-(-size // 2) for size in image.shape)
    values, some = np.empty(shape, np.float32), np.empty(shape, np.bool_)
    over_blocks(lambda a, b: _coarser(image, good, values, some, a, b), shape[0], backend)
    return values, some


@njit(cache=True, nogil=True)
def _coarser(image, good, values, some, start, stop):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    for y in range(start, stop):
        for x in range(values.shape[1]):
            total, count = np.float32(0), 0
            for v in range(2 * y, min(2 * y + 2, rows)):
                for u in range(2 * x, min(2 * x + 2, columns)):
                    if good[v, u]:
                        total += image[v, u]
                        count += 1
            values[y, x] = total / np.float32(max(count, 1))
            some[y, x] = count > 0


@njit(cache=True, nogil=True)
def _fill_from(image, good, coarser, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(image.shape[1]):
            out[y, x] = image[y, x] if good[y, x] else coarser[y // 2, x // 2]


def high_pass(image: Any, sigma: float, backend: Backend) -> Any:
    """
    Take the background, a Gaussian mean, from an image.

    Parameters
    ----------
    image : array
        (rows, columns) float32 on the backend, without NaN.
    sigma : float
        Width of the Gaussian in pixels.
    backend : Backend
        Where to compute.

    Returns
    -------
    array
        (rows, columns) float32. The edge value is held beyond the frame.
    """
    if backend.is_gpu:
        return image - backend.ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=_REACH)
    reach = int(_REACH * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights = np.pad(weights / weights.sum(), (0, -reach % 3)).astype(np.float32)[reach:]
    out = np.empty_like(image)
    over_blocks(lambda a, b: _high_pass(image, weights, out, a, b), image.shape[0], backend)
    return out


@njit(cache=True, nogil=True, fastmath={"contract"})
def _high_pass(image, weights, out, start, stop):  # type: ignore[no-untyped-def]
    # Three pairs of neighbours at a time: a line that is summed up is less often read and written.
    rows, columns = image.shape
    reach = len(weights) - 1
    line = np.empty(columns + 2 * reach, np.float32)
    middle = line[reach : reach + columns]
    for y in range(start, stop):
        for x in range(columns):
            middle[x] = weights[0] * image[y, x]
        for k in range(1, reach, 3):
            u, v, w = weights[k], weights[k + 1], weights[k + 2]
            a, b = image[max(y - k, 0)], image[min(y + k, rows - 1)]
            c, d = image[max(y - k - 1, 0)], image[min(y + k + 1, rows - 1)]
            e, f = image[max(y - k - 2, 0)], image[min(y + k + 2, rows - 1)]
            for x in range(columns):
                middle[x] += u * (a[x] + b[x]) + v * (c[x] + d[x]) + w * (e[x] + f[x])
        line[:reach] = line[reach]
        line[reach + columns :] = line[reach + columns - 1]
        target = out[y]
        for x in range(columns):
            target[x] = image[y, x] - weights[0] * middle[x]
        for k in range(1, reach, 3):
            u, v, w = weights[k], weights[k + 1], weights[k + 2]
            a, b = line[reach - k :], line[reach + k :]
            c, d = line[reach - k - 1 :], line[reach + k + 1 :]
            e, f = line[reach - k - 2 :], line[reach + k + 2 :]
            for x in range(columns):
                target[x] -= u * (a[x] + b[x]) + v * (c[x] + d[x]) + w * (e[x] + f[x])
