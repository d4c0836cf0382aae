"""Fitness of a burst: frames that cannot be used are left out, dead pixels filled, transparency removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from stillsun.core.backend import Backend, to_host
from stillsun.core.exposures import judge_exposures
from stillsun.errors import InputError, ReconstructionError

LEAST_FRAMES = 3
_MOST_DEAD = 0.2
# Width (sigma) of the smoothing that separates the background, of a subfield's side.
_SMOOTH = 0.25


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
    judgement = judge_exposures(frames, backend)
    used, notes = judgement.used, [*judgement.notes]
    if len(used) < LEAST_FRAMES:
        raise ReconstructionError(
            "the burst has too few frames that can be used",
            expected=f"{LEAST_FRAMES} finite frames with structure, alike in brightness and contrast",
            found="; ".join([f"{len(used)} of {len(frames)}", *notes]),
            remedy="Look at the raw frames: clouds, a closed shutter, saturation",
        )
    if len(used) < len(frames):
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


def smooth_background(prepared: PreparedBurst, size: int, backend: Backend) -> Any:
    """
    Burst mean, smoothed until no seeing is left in it.

    Parameters
    ----------
    prepared : PreparedBurst
        The burst.
    size : int
        Side of a subfield, pixels.
    backend : Backend
        Where it is.

    Returns
    -------
    array
        (rows, columns) float32, mean 1.

    Notes
    -----
    Seeing does not blur what is this smooth, so that it may be taken off each frame and put back on the
    image: gradients of a limb or a spot do not leak through the window, and the scale of the subfield
    itself, where amplitudes are poorest, comes from the mean image.
    """
    mean = backend.xp.zeros(prepared.frames.shape[1:], dtype=np.float64)
    for frame, factor in zip(prepared.frames, prepared.scale, strict=True):
        mean += frame * factor
    mean /= len(prepared.frames)
    smooth = backend.ndimage.gaussian_filter(mean, _SMOOTH * size, mode="reflect")
    return smooth.astype(np.float32)


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
