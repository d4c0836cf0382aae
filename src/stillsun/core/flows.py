"""
Solar flows kept, seeing removed: the displacement of a sequence split in time.

A shift measured against a mean of corrected frames is the absolute displacement from that reference,
not an increment: what changes slowly in it is the motion of the Sun, what changes from frame to frame
is seeing. The slow part of each control point's displacement is its most probable course through the
neighbouring frames: a steady velocity, and a motion that changes within a minute or so. The rest is
taken out, at the place to which the slow part has carried the point by then. The mean over the field,
pointing, is taken out in full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, to_host
from stillsun.core.tiles import Axis, Lattice
from stillsun.core.warp import add_control_points, resample

#: Cadence that is assumed where no times are given, seconds: that of ROSA's bursts.
CADENCE = 2.0

# Of the slow motion: what is nearer than this in time counts, in correlation times of the motion.
_REACH = 2.25
_CORRELATION = 40.0  # seconds in which the Sun's motion changes; at least
_CORRELATION_FRAMES = 6.0  # so many steps of the cadence, or too few frames tell seeing from motion
_MOST_FRAMES = 150  # to each side, whatever the cadence
# Its prior: variance of the changing part in that of the seeing, and the seconds after which a usual
# velocity has carried the Sun by as much as the seeing does.
_CHANGING = 4.0
_STEADY = 7.0
_ANYWHERE = 1e4  # the variance of the place itself

# Seconds in which the reference follows the Sun, and over which it is averaged at the most.
_FOLLOW = 14.0
_FOLLOW_HELD = 40.0  # where the Sun is to be held still; with more, the pattern is torn
_REFERENCE = 60.0

_SPACING = 8  # pixels between control points of the slow motion
_STEPS = 3  # of the search for the place from which the slow motion came


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


def usual_cadence(times: Sequence[float] | np.ndarray) -> float:
    """
    Usual step of a sequence.

    Parameters
    ----------
    times : sequence of float
        Times of the frames, seconds.

    Returns
    -------
    float
        Median of the positive steps, seconds; 2 s where there is none.
    """
    steps = np.diff(np.asarray(times, np.float64))
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else CADENCE


def reference_window(window: int, cadence: float) -> int:
    """
    Frames in the running reference: not more than a minute, in which the Sun changes little.

    Parameters
    ----------
    window : int
        Largest number of frames.
    cadence : float
        Usual step of the sequence, seconds.

    Returns
    -------
    int
        Number of frames, at least 2 unless `window` is 1.
    """
    return min(window, max(2, round(_REFERENCE / cadence)))


class SlowMotion:
    """
    The slow part of motions that were measured at some times.

    Parameters
    ----------
    times : sequence of float
        Times of all frames, seconds, in ascending order.

    Attributes
    ----------
    reach : float
        Frames further away than this do not count, seconds.

    Notes
    -----
    Gaussian-process regression: a place that may be anywhere, a velocity, a part that changes (covariance
    ``exp(-t^2 / 2 T^2)``), and seeing that is new in each frame. Unlike a local polynomial it is as sure at
    the ends of a sequence as the frames allow, and takes gaps and uneven times as they are.
    """

    def __init__(self, times: Sequence[float] | np.ndarray) -> None:
        self._times = np.asarray(times, np.float64)
        cadence = usual_cadence(self._times)
        self._correlation = max(_CORRELATION, _CORRELATION_FRAMES * cadence)
        self.reach = min(_REACH * self._correlation, _MOST_FRAMES * cadence)

    def near(self, number: int) -> range:
        """
        Frames that count at the time of a frame.

        Parameters
        ----------
        number : int
            The frame.

        Returns
        -------
        range
            Numbers of frames, the one itself among them.
        """
        away = self._times - self._times[number]
        first, end = np.searchsorted(away, [-self.reach, self.reach], side="left")
        return range(int(first), max(int(end), number + 1))

    def weights(self, number: int, near: Sequence[int]) -> np.ndarray:
        """
        Shares of measured motions in the slow motion of a frame.

        Parameters
        ----------
        number : int
            The frame.
        near : sequence of int
            Frames whose motion was measured; at least one.

        Returns
        -------
        numpy.ndarray
            (n,) float64.
        """
        away = self._times[list(near)] - self._times[number]
        apart = (away[:, None] - away) / self._correlation
        prior = _ANYWHERE + np.outer(away, away) / _STEADY**2 + _CHANGING * np.exp(-(apart**2) / 2)
        here = _ANYWHERE + _CHANGING * np.exp(-((away / self._correlation) ** 2) / 2)
        return np.linalg.solve(prior + np.eye(away.size), here)


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
    Lets the reference of a long sequence follow the Sun, and keeps account of where it is.

    A reference that is held still for ever keeps the pattern of its first frame while the Sun's moves
    on; with it the frames put into the reference are those corrected for all but a part of the recent
    motion.

    Parameters
    ----------
    frames : float
        Time constant of the running mean of the motion, at least 1.
    window : int
        Frames in the running reference.

    Attributes
    ----------
    offset : numpy.ndarray or None
        (2, points_y, points_x): what the motion against the present reference lacks of that against the
        first one; None before the first frame.
    held : float
        The most by which the pattern was held against the Sun, pixels rms over the field.

    Notes
    -----
    In each frame the reference moves by ``1 / frames`` of the running mean m of the motion c. In a flow
    that carries the Sun by v in a frame, ``c' = v - m / frames`` and ``m' = (c - m) / frames``: c goes to
    ``frames * v`` in a damped oscillation (damping 1/2). Seeing moves the reference too; as the account
    holds that, it does not show in the motion.
    """

    def __init__(self, frames: float, window: int) -> None:
        self._frames = frames
        self._count = 0
        self._mean: np.ndarray | None = None
        self._stored: deque[np.ndarray] = deque(maxlen=window)
        self.offset: np.ndarray | None = None
        self.held = 0.0

    @classmethod
    def at(cls, cadence: float, window: int, hold: bool = False) -> Follower:
        """
        The one for a cadence.

        Parameters
        ----------
        cadence : float
            Usual step of the sequence, seconds.
        window : int
            Frames in the running reference.
        hold : bool, optional
            Hold the Sun still as long as its pattern lasts.

        Returns
        -------
        Follower
            With a time constant of 14 s, or of 40 s.
        """
        return cls(max(1.0, (_FOLLOW_HELD if hold else _FOLLOW) / cadence), window)

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
        if self._mean is None or self.offset is None:
            self._mean = self.offset = np.zeros_like(motion)
        # The first frames are averaged equally, so that one of them does not count for many.
        share = np.float32(1 / min(self._count, self._frames))
        self._mean = self._mean + share * (motion - self._mean)
        if self._count >= 2 * self._frames:  # by then the seeing of the first frame is forgotten
            self.held = max(self.held, float(np.sqrt(np.mean(np.sum(self._mean**2, axis=0)))))
        grown = min(1.0, self._count / self._frames)
        behind = np.float32(grown / self._frames) * self._mean
        self._stored.append(self.offset + behind)
        self.offset = np.asarray(np.mean(self._stored, axis=0, dtype=np.float32))
        return behind
