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
        (rows, columns) float32 without NaN: holes inside the box get the local mean, and outside
        the box the value at its edge is held.
    """
    xp = backend.xp
    y0, y1, x0, x1 = box
    inner, good = image[y0:y1, x0:x1], valid[y0:y1, x0:x1]
    if not bool(good.all()):
        inner = xp.where(good, inner, 0)
        share = good.astype(np.float32)
        mean = xp.float32(float(inner.sum(dtype=np.float64)) / max(1, int(good.sum())))
        filled = xp.where(good, inner, mean)
        for sigma in (32, 8, 2):  # the narrowest neighbourhood that has data decides
            weight = backend.ndimage.gaussian_filter(share, sigma, mode="constant")
            total = backend.ndimage.gaussian_filter(inner, sigma, mode="constant")
            near = ~good & (weight > 1e-2)
            filled = xp.where(near, total / xp.maximum(weight, np.float32(1e-2)), filled)
        inner = filled
    if (y0, x0) == (0, 0) and (y1, x1) == image.shape:
        return inner
    rows, columns = image.shape
    return xp.pad(inner, ((y0, rows - y1), (x0, columns - x1)), mode="edge")


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
    weights = (weights / weights.sum()).astype(np.float32)[reach:]
    out = np.empty_like(image)
    over_blocks(lambda a, b: _high_pass(image, weights, out, a, b), image.shape[0], backend)
    return out


@njit(cache=True, nogil=True)
def _high_pass(image, weights, out, start, stop):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    reach = len(weights) - 1
    line = np.empty(columns + 2 * reach, np.float32)
    middle = line[reach : reach + columns]
    for y in range(start, stop):
        for x in range(columns):
            middle[x] = weights[0] * image[y, x]
        for k in range(1, reach + 1):
            above, below = image[max(y - k, 0)], image[min(y + k, rows - 1)]
            for x in range(columns):
                middle[x] += weights[k] * (above[x] + below[x])
        line[:reach] = line[reach]
        line[reach + columns :] = line[reach + columns - 1]
        target = out[y]
        for x in range(columns):
            target[x] = image[y, x] - weights[0] * middle[x]
        for k in range(1, reach + 1):
            before, behind = line[reach - k : reach - k + columns], line[reach + k : reach + k + columns]
            for x in range(columns):
                target[x] -= weights[k] * (before[x] + behind[x])
