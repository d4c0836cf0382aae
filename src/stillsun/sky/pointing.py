"""Where the telescope looks: helioprojective pointing and angle of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.sky.observer import Observer, Site, helioprojective, rotate_with_sun

# Solution.method of a match to a full-disk image begins with this; the image's name follows.
MATCHED = "matched to "
# Pointing error of the telescope's own read-out, and of a position nobody knows.
CSYER_LOG = 20.0
CSYER_UNKNOWN = 1000.0


@dataclass(frozen=True)
class Pointing:
    """
    Helioprojective coordinates of one point of the field at every frame.

    Attributes
    ----------
    crval : numpy.ndarray, shape (n, 2)
        Helioprojective (x, y), arcsec.
    crota2 : numpy.ndarray, shape (n,)
        Angle of the frames, degrees: solar north lies so far clockwise of image +y.
    uncertainty : numpy.ndarray, shape (n,)
        Systematic error of `crval`, arcsec.
    method : str
        Where it comes from, in a few words.
    """

    crval: np.ndarray
    crota2: np.ndarray
    uncertainty: np.ndarray
    method: str


@dataclass(frozen=True)
class Solution:
    """
    Where the reference channel's centre is known to be, at one time in each segment of a sequence.

    A sequence has one segment, or more where the field jumped.

    Attributes
    ----------
    start : numpy.ndarray, shape (segments,)
        When each segment begins, unix seconds; the first one holds for earlier times too.
    time : numpy.ndarray, shape (segments,)
        When the position is known, unix seconds.
    point : numpy.ndarray, shape (segments, 2)
        Helioprojective (x, y) at that time, arcsec.
    turn_deg : numpy.ndarray, shape (segments,)
        ``CROTA2`` less what the guider says, degrees.
    uncertainty : numpy.ndarray, shape (segments,)
        Systematic error of the position, arcsec.
    guider_sign : int
        Sense of the guider angle.
    method : str
        Where it comes from, in a few words.
    """

    start: np.ndarray
    time: np.ndarray
    point: np.ndarray
    turn_deg: np.ndarray
    uncertainty: np.ndarray
    guider_sign: int
    method: str

    @classmethod
    def by_hand(cls, point: Any, time: float, guider_sign: int = 1) -> Solution:
        """
        A position given by a person.

        Parameters
        ----------
        point : array_like, shape (2,)
            Helioprojective (x, y) at `time`, arcsec.
        time : float
            Unix seconds, UTC.
        guider_sign : {1, -1}, optional
            Sense of the guider angle.

        Returns
        -------
        Solution
            One segment, with the error of the telescope's own read-out.
        """
        at = np.array([float(time)])
        position = np.asarray(point, np.float64).reshape(1, 2)
        return cls(at, at, position, np.zeros(1), np.array([CSYER_LOG]), guider_sign, "given by hand")


def pointing_from_log(
    latitude: Any,
    longitude: Any,
    guider_deg: Any,
    observer: Observer,
    site: Site,
    *,
    guider_zero_deg: float = 13.3,
    guider_sign: int = 1,
) -> Pointing:
    """
    Pointing as the telescope's log has it.

    Frames without an entry take that of the nearest frame with one, carried on by solar rotation.

    Parameters
    ----------
    latitude, longitude : array_like, shape (n,)
        Stonyhurst coordinates of the pointing, degrees; NaN where unknown.
    guider_deg : array_like, shape (n,)
        Guider angle, degrees; NaN where unknown.
    observer : Observer
        The telescope at the n frames.
    site : Site
        Where it stands.
    guider_zero_deg : float, optional
        Guider angle at which solar north is up.
    guider_sign : {1, -1}, optional
        Sense of the guider angle.

    Returns
    -------
    Pointing
        ``unknown`` where the log has nothing at all.
    """
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    known = np.isfinite(latitude) & np.isfinite(longitude)
    angle = guider_angle(guider_deg, guider_zero_deg, guider_sign)
    if not known.any():
        return pointing_unknown(observer.time.size, angle)
    crval = helioprojective(latitude, longitude, observer)
    source = nearest_known(observer.time, known)
    for base in np.unique(source[~known]):
        rows = np.flatnonzero(~known & (source == base))
        crval[rows] = rotate_with_sun(crval[base], observer.time[base], observer.time[rows], site)
    return Pointing(crval, angle, np.full(known.size, CSYER_LOG), "telescope log")


def pointing_from_solution(
    solution: Solution,
    guider_deg: Any,
    observer: Observer,
    site: Site,
    *,
    guider_zero_deg: float = 13.3,
) -> Pointing:
    """
    Pointing of every frame from points that are known at some times, carried on by solar rotation.

    Parameters
    ----------
    solution : Solution
        What is known of each segment of the sequence.
    guider_deg : array_like, shape (n,)
        Guider angle, degrees; NaN where unknown.
    observer : Observer
        The telescope at the n frames.
    site : Site
        Where it stands.
    guider_zero_deg : float, optional
        Guider angle at which solar north is up.

    Returns
    -------
    Pointing
        Pointing of each frame.
    """
    segment = np.maximum(np.searchsorted(solution.start, observer.time, side="right") - 1, 0)
    angle = guider_angle(guider_deg, guider_zero_deg, solution.guider_sign) + solution.turn_deg[segment]
    crval = np.empty((observer.time.size, 2))
    for k in np.unique(segment):
        rows = np.flatnonzero(segment == k)
        crval[rows] = rotate_with_sun(solution.point[k], solution.time[k], observer.time[rows], site)
    return Pointing(
        crval, 180.0 - (180.0 - angle) % 360.0, solution.uncertainty[segment].copy(), solution.method
    )


def pointing_unknown(frames: int, guider_angle_deg: Any = 0.0) -> Pointing:
    """
    Pointing where nothing tells it: disk centre, with an uncertainty larger than the Sun.

    Scale, angles and distances within the field stay right, and the files load everywhere.

    Parameters
    ----------
    frames : int
        Number of frames.
    guider_angle_deg : array_like, optional
        ``CROTA2``, degrees, where at least that is known.

    Returns
    -------
    Pointing
        The same for each frame.
    """
    angle = np.array(np.broadcast_to(np.asarray(guider_angle_deg, np.float64), (frames,)))
    return Pointing(np.zeros((frames, 2)), angle, np.full(frames, CSYER_UNKNOWN), "unknown")


def guider_angle(guider_deg: Any, zero_deg: float = 13.3, sign: int = 1) -> np.ndarray:
    """
    Angle of the frames from the guider's angle.

    Parameters
    ----------
    guider_deg : array_like, shape (n,)
        Guider angle, degrees; NaN where unknown.
    zero_deg : float, optional
        Guider angle at which solar north is up.
    sign : {1, -1}, optional
        Sense of the guider angle: no document fixes it.

    Returns
    -------
    numpy.ndarray, shape (n,)
        ``CROTA2`` in (-180, 180], degrees; the nearest known one for frames without, 0 where there
        is none.
    """
    guider = np.atleast_1d(np.asarray(guider_deg, dtype=np.float64))
    known = np.isfinite(guider)
    if not known.any():
        return np.zeros(guider.size)
    guider = guider[nearest_known(np.arange(guider.size), known)]
    return 180.0 - (180.0 - sign * (guider - zero_deg)) % 360.0


def nearest_known(times: Any, known: Any) -> np.ndarray:
    """
    For each entry the nearest one that is known.

    Parameters
    ----------
    times : array_like, shape (n,)
        Times in ascending order.
    known : array_like of bool, shape (n,)
        Which entries are known; at least one.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        Index of the nearest known entry, the earlier of two.
    """
    times = np.asarray(times, dtype=np.float64)
    where = np.flatnonzero(known)
    after = np.clip(np.searchsorted(times[where], times), 0, where.size - 1)
    before = np.maximum(after - 1, 0)
    later = np.abs(times[where[after]] - times) < np.abs(times[where[before]] - times)
    return np.where(later, where[after], where[before])
