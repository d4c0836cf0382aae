"""Fitness of a burst: frames that cannot be used are left out, dead pixels filled, transparency removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy import ndimage

from stillsun.core.backend import Backend, to_host
from stillsun.errors import InputError, ReconstructionError

LEAST_FRAMES = 3
# A frame whose mean or contrast is off the burst's median by this factor is not like the others.
_ODD_MEAN = 2.0
_ODD_CONTRAST = 4.0
_MOST_BAD = 0.05
_MOST_DEAD = 0.2
_NO_CONTRAST = 1e-6


@dataclass(frozen=True)
class PreparedBurst:
    """
    Frames that can be reconstructed.

    Attributes
    ----------
    frames : array
        (n, rows, columns) float32, contiguous, finite; on the backend, all else on the host.
    used : numpy.ndarray
        Which frames of the burst they are, (n,) int64.
    scale : numpy.ndarray
        One over the mean of each, (n,) float32.
    level : float
        Mean of them all.
    notes : tuple of str
        What was left out or filled.
    """

    frames: Any
    used: np.ndarray
    scale: np.ndarray
    level: float
    notes: tuple[str, ...]


def prepare(burst: Any, backend: Backend) -> PreparedBurst:
    """
    Check a burst, leave out its odd frames, fill its dead pixels.

    Parameters
    ----------
    burst : array_like
        (frames, rows, columns), any real type.
    backend : Backend
        Where to compute.

    Returns
    -------
    PreparedBurst
        Shares memory with `burst` where nothing had to be changed.

    Raises
    ------
    InputError
        If this is not a burst.
    ReconstructionError
        If too little of it can be used.

    Notes
    -----
    A pixel is dead if it is not finite in a frame that is kept, or if it never changes while the others
    do. It is filled with the mean of the nearest good pixels along the four directions.
    """
    xp = backend.xp
    frames = xp.ascontiguousarray(backend.asarray(burst, dtype=np.float32))
    if frames.ndim != 3 or 0 in frames.shape:
        raise InputError("not a burst", expected="(frames, rows, columns)", found=f"shape {frames.shape}")
    if len(frames) < LEAST_FRAMES:
        raise InputError(
            "too few frames for a speckle reconstruction",
            expected=f"at least {LEAST_FRAMES}",
            found=len(frames),
        )
    notes = []
    used = _like_the_others(frames, backend)
    if len(used) < LEAST_FRAMES:
        raise ReconstructionError(
            "the burst has too few frames that can be used",
            expected=f"{LEAST_FRAMES} finite frames with structure, alike in brightness and contrast",
            found=f"{len(used)} of {len(frames)}",
            remedy="Look at the raw frames: clouds, a closed shutter, saturation",
        )
    if len(used) < len(frames):
        left_out = np.setdiff1d(np.arange(len(frames)), used)
        notes.append(f"{len(left_out)} frames left out: {', '.join(map(str, left_out))}")
        frames = frames[backend.asarray(used)]
    dead = _dead_pixels(frames, xp)
    count = int(np.count_nonzero(dead))
    if count:
        if count > _MOST_DEAD * dead.size:
            raise ReconstructionError(
                "too many pixels that are not finite or never change",
                expected=f"at most {_MOST_DEAD:.0%}",
                found=f"{count / dead.size:.0%}",
            )
        if isinstance(burst, xp.ndarray) and bool(xp.shares_memory(frames, burst)):
            frames = frames.copy()
        _fill(frames, dead, backend)
        notes.append(f"{count} dead pixels filled")
    means = to_host(frames.mean(axis=(1, 2), dtype=np.float64))
    return PreparedBurst(frames, used, (1.0 / means).astype(np.float32), float(means.mean()), tuple(notes))


def _like_the_others(frames: Any, backend: Backend) -> np.ndarray:
    """Numbers of the frames that are finite, have structure, and are like the burst's median."""
    means, contrasts, bad = np.empty((3, len(frames)))
    if backend.is_gpu:
        for k, frame in enumerate(frames):
            means[k], contrasts[k], bad[k] = _survey_arrays(frame, backend.xp)
    else:
        _survey(frames, means, contrasts, bad)
    with np.errstate(invalid="ignore"):
        usable = (bad <= _MOST_BAD) & (means > 0) & (contrasts > _NO_CONTRAST)
        if not usable.any():
            return np.empty(0, dtype=np.int64)
        mean, contrast = np.median(means[usable]), np.median(contrasts[usable])
        usable &= (means < _ODD_MEAN * mean) & (means * _ODD_MEAN > mean)
        usable &= (contrasts < _ODD_CONTRAST * contrast) & (contrasts * _ODD_CONTRAST > contrast)
    return np.flatnonzero(usable)


def _survey_arrays(frame: Any, xp: Any) -> tuple[float, float, float]:
    """Mean and contrast of what is finite in a frame, and the share of what is not."""
    finite = xp.isfinite(frame)
    good = int(xp.count_nonzero(finite))
    if not good:
        return 0.0, 0.0, 1.0
    mean = float(xp.where(finite, frame, np.float32(0)).sum(dtype=np.float64)) / good
    variance = float((xp.where(finite, frame.astype(np.float64) - mean, 0.0) ** 2).sum()) / good
    return mean, variance**0.5 / mean if mean > 0 else 0.0, 1.0 - good / finite.size


@njit(cache=True, nogil=True)
def _survey(frames, means, contrasts, bad):  # type: ignore[no-untyped-def]
    count, rows, columns = frames.shape
    for k in range(count):
        # About the first finite value, so that the variance of a bright frame keeps its digits.
        pivot = 0.0
        good = 0
        total = 0.0
        square = 0.0
        for y in range(rows):
            for x in range(columns):
                value = frames[k, y, x]
                if np.isfinite(value):
                    if good == 0:
                        pivot = float(value)
                    good += 1
                    total += value - pivot
                    square += (value - pivot) ** 2
        bad[k] = 1.0 - good / (rows * columns)
        if good:
            mean = total / good
            means[k] = pivot + mean
            variance = max(square / good - mean * mean, 0.0)
            contrasts[k] = np.sqrt(variance) / means[k] if means[k] > 0 else 0.0
        else:
            means[k] = 0.0
            contrasts[k] = 0.0


def _dead_pixels(frames: Any, xp: Any) -> np.ndarray:
    span = frames.max(axis=0) - frames.min(axis=0)
    dead = ~xp.isfinite(span)
    still = span == 0
    # In a burst without noise or seeing nothing changes, and nothing is dead for that.
    if int(xp.count_nonzero(still)) < _MOST_DEAD * span.size:
        dead |= still
    return to_host(dead)


def _fill(frames: Any, dead: np.ndarray, backend: Backend) -> None:
    """Fill in place: mean over the directions of the nearest good pixel, weighted by nearness."""
    rows, columns = dead.shape
    y, x = np.nonzero(dead)
    reach = 8
    neighbours, weights = [], []
    for step_y, step_x in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        distance = np.zeros(len(y), dtype=np.int64)
        for d in range(reach, 0, -1):
            yy, xx = y + d * step_y, x + d * step_x
            inside = (yy >= 0) & (yy < rows) & (xx >= 0) & (xx < columns)
            good = inside & ~dead[np.clip(yy, 0, rows - 1), np.clip(xx, 0, columns - 1)]
            distance[good] = d
        found = distance > 0
        neighbours.append(
            (np.where(found, y + distance * step_y, 0), np.where(found, x + distance * step_x, 0))
        )
        weights.append(np.where(found, 1.0 / np.maximum(distance, 1), 0.0))
    total = np.sum(weights, axis=0)
    lonely = total == 0
    if lonely.any():
        nearest = ndimage.distance_transform_edt(dead, return_distances=False, return_indices=True)
        first_y, first_x = neighbours[0]
        first_y[lonely], first_x[lonely] = nearest[:, y[lonely], x[lonely]]
        weights[0][lonely] = 1.0
        total[lonely] = 1.0
    put = backend.asarray
    shares = [put((w / total).astype(np.float32)) for w in weights]
    places = [(put(down), put(across)) for down, across in neighbours]
    at = put(y), put(x)
    # A neighbour that was not found points at pixel 0, 0, which may itself not be finite.
    for frame in frames:
        filled = None
        for share, place in zip(shares, places, strict=True):
            part = backend.xp.where(share > 0, frame[place], np.float32(0)) * share
            filled = part if filled is None else filled + part
        frame[at] = filled
