"""
Solar flows kept, seeing removed: the displacement of a sequence split in time.

A shift measured against a mean of corrected frames is the absolute displacement from that reference,
not an increment: what changes slowly in it is the motion of the Sun, what changes from frame to frame
is seeing. The slow part of each control point's displacement is its local linear regression over
neighbouring frames (unbiased at the ends of a sequence too); the rest is taken out, at the place to
which the slow part has carried the point by then. The mean over the field, pointing, is taken out in
full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, to_host
from stillsun.core.tiles import Axis, Lattice
from stillsun.core.warp import add_control_points, resample

#: Frames to each side over which motion is taken as linear: more than four correlation times of the
#: seeing, less than the time in which a flow bends.
SLOW_WINDOW = 30

#: Frames in which the reference follows the Sun. It stays behind by the flow in that time, which must be
#: little: a convergent flow squeezes what lies between the pattern of the reference and that of the frame.
FOLLOW_TIME = 7

_SPACING = 8  # pixels between control points of the slow motion
_STEPS = 3  # of the search for the place from which the slow motion came
_FEWEST = 4  # frames that a line is laid through


def motion_lattice(shape: tuple[int, int]) -> Lattice:
    """
    Control points of the slow motion: one for every block of 8 x 8 pixels.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    Lattice
        The control points.
    """
    rows, columns = shape
    axes = (Axis(_SPACING, _SPACING, 0, -(-size // _SPACING)) for size in (rows, columns))
    return Lattice((rows, columns), *axes)


def sample_motion(field: Any, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """
    Bring a displacement field to the control points, without its mean.

    Parameters
    ----------
    field : array
        (2, rows, columns) float32 on the backend.
    backend : Backend
        Where the field is.

    Returns
    -------
    motion : numpy.ndarray
        (2, points_y, points_x) float32: means over blocks, without the mean over the frame.
    pointing : numpy.ndarray
        (2,) float32, the mean over the frame.
    """
    xp = backend.xp
    rows, columns = field.shape[1:]
    more = ((0, 0), (0, -rows % _SPACING), (0, -columns % _SPACING))
    padded = xp.pad(field, more, mode="edge")
    height, width = padded.shape[1] // _SPACING, padded.shape[2] // _SPACING
    means = to_host(padded.reshape(2, height, _SPACING, width, _SPACING).mean(axis=(2, 4), dtype=np.float32))
    pointing = means.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return means - pointing[:, None, None], pointing


def slow_motion(
    motions: Sequence[np.ndarray], times: Sequence[float] | np.ndarray, time: float, reach: float
) -> np.ndarray:
    """
    Slow part of the motion at a time.

    Parameters
    ----------
    motions : sequence of numpy.ndarray
        (2, points_y, points_x) each, of the frames around that time; frames without a measurement are
        left out.
    times : sequence of float
        Their times, in any unit.
    time : float
        When the slow part is wanted; the frames may lie to one side of it.
    reach : float
        Frames further away than this do not count.

    Returns
    -------
    numpy.ndarray
        (2, points_y, points_x) float32: the value at `time` of the straight line through each control
        point's motion, with tricube weights (Cleveland 1979, J. Am. Stat. Assoc. 74, 829). With fewer
        than four frames, their mean.
    """
    away = np.asarray(times, np.float64) - time
    weights = np.clip(1 - (np.abs(away) / reach) ** 3, 0, None) ** 3
    zeroth, first, second = (float((weights * away**k).sum()) for k in range(3))
    spread = zeroth * second - first**2
    if np.count_nonzero(weights) >= _FEWEST and spread > 0:
        share = weights * (second - first * away) / spread
    else:
        share = weights / zeroth
    total = np.zeros(motions[0].shape)
    for value, motion in zip(share, motions, strict=True):
        if value != 0:
            total += value * motion
    return total.astype(np.float32)


def seeing_field(field: Any, slow: np.ndarray, backend: Backend) -> Any:
    """
    Displacement that takes out the seeing only.

    Parameters
    ----------
    field : array
        (2, rows, columns) float32 on the backend: the whole displacement, at places u of the reference.
    slow : numpy.ndarray
        (2, points_y, points_x): its slow part L at the control points.
    backend : Backend
        Where to compute.

    Returns
    -------
    array
        (2, rows, columns) float32 on the backend, at places x of the result: ``field(u) - L(u)`` where
        the slow motion brings u to x. (In the sign of `stillsun.core.warp`, content at u of the
        reference is at ``x = u - L(u)`` of the Sun.)
    """
    xp = backend.xp
    shape = (field.shape[1], field.shape[2])
    points = motion_lattice(shape)
    # u = x + L(u), found on the control points, where a displacement of -v / 8 looks up L at x + v.
    coarse = backend.asarray(slow, dtype=np.float32)
    back = coarse
    for _ in range(_STEPS):
        back = xp.stack([resample(part, -back / _SPACING, "bicubic", backend) for part in coarse])
    seeing, look = field.copy(), xp.zeros_like(field)
    add_control_points(seeing, [(-coarse, points)], 1, backend)
    add_control_points(look, [(-back, points)], 1, backend)
    return xp.stack([resample(part, look, "bicubic", backend) for part in seeing])


class Follower:
    """
    Lets the reference of a long sequence follow the Sun.

    A reference that is held still for ever keeps the pattern of its first frame while the Sun's moves
    on; with it the frames put into the reference are those corrected for all but a part of the recent
    motion.

    Parameters
    ----------
    frames : int, optional
        Time constant of the running mean of the motion.

    Notes
    -----
    In each frame the reference moves by ``1 / frames`` of the running mean m of the motion c. In a flow
    that carries the Sun by v in a frame, ``c' = v - m / frames`` and ``m' = (c - m) / frames``: c goes to
    ``frames * v`` in a damped oscillation (damping 1/2), and white seeing s moves the reference by about
    ``s / 2 / frames`` from frame to frame.
    """

    def __init__(self, frames: int = FOLLOW_TIME) -> None:
        self._frames = frames
        self._count = 0
        self._mean: np.ndarray | None = None

    def update(self, motion: np.ndarray) -> np.ndarray:
        """
        Take the motion of a frame into account.

        Parameters
        ----------
        motion : numpy.ndarray
            (2, points_y, points_x) float32, as from `sample_motion`.

        Returns
        -------
        numpy.ndarray
            The same shape: displacement by which the frame in the reference stays behind its full
            correction.
        """
        self._count += 1
        if self._mean is None:
            self._mean = np.zeros_like(motion)
        # The first frames are averaged equally, so that one of them does not count for many.
        share = np.float32(1 / min(self._count, self._frames))
        self._mean = self._mean + share * (motion - self._mean)
        grown = min(1.0, self._count / self._frames)
        return np.float32(grown / self._frames) * self._mean
