"""Tiles without a trustworthy shift get one from their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.backend import Backend

_OUTLIER = 4.0  # robust standard deviations
_SLACK = 0.1  # pixels that a tile may always differ from its neighbours


def repair(shifts: Any, measured: Any, limit: float, backend: Backend) -> tuple[Any, float]:
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
    of its size) and a tenth of a pixel. It is replaced by the Gaussian mean of its plausible
    neighbours (sigma one tile, else four, else the mean of all). The others are left as they are: a
    median filter over all would cost more accuracy than it brings.
    """
    xp, ndimage = backend.xp, backend.ndimage
    shifts = shifts.astype(np.float32)
    if not bool(measured.any()):
        return xp.zeros_like(shifts), 0.0
    differs = xp.stack([abs(s - ndimage.median_filter(s, size=3, mode="nearest")) for s in shifts])
    scatter = 1.4826 * float(xp.median(differs[:, measured]))
    good = measured & (differs < _OUTLIER * scatter + _SLACK).all(axis=0) & (abs(shifts) <= limit).all(axis=0)
    if not bool(good.any()):
        return xp.zeros_like(shifts), 1.0
    share = 1 - float(good.sum()) / float(measured.sum())
    missing = ~good
    weight = good.astype(np.float32)
    shifts = xp.where(good, shifts, 0)
    repaired = xp.where(good, shifts, (shifts.sum(axis=(1, 2)) / weight.sum())[:, None, None])
    for sigma in (4, 1):  # the closer neighbours, where there are any, have the last word
        if not bool(missing.any()):
            break
        near = ndimage.gaussian_filter(weight, sigma, mode="constant")
        use = missing & (near > 1e-2)
        for axis in range(2):
            mean = ndimage.gaussian_filter(shifts[axis], sigma, mode="constant") / xp.maximum(near, 1e-2)
            repaired[axis] = xp.where(use, mean, repaired[axis])
    return repaired.astype(np.float32), share
