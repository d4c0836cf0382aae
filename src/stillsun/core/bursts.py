"""Frame times to bursts: index ranges of frames that follow each other without a gap; no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stillsun.errors import InputError

# Interruptions and remainders that are described one by one.
_DESCRIBED = 8


@dataclass(frozen=True)
class BurstIndex:
    """
    Which frames make which burst.

    Attributes
    ----------
    first : numpy.ndarray
        (bursts,) int64: first frame of each burst; its frames follow each other.
    frames : int
        Frames in a burst.
    cadence_s : float
        Median step between frames, seconds; NaN for fewer than two frames.
    gaps : tuple of int
        Frames before which the sequence is interrupted.
    dropped : int
        Frames that are in no burst, for they do not fill one.
    findings : tuple of str
        Gaps and remainders in words.
    """

    first: np.ndarray
    frames: int
    cadence_s: float
    gaps: tuple[int, ...]
    dropped: int
    findings: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.first.size)


def find_bursts(times: np.ndarray, frames: int, *, max_gap: float = 1.5) -> BurstIndex:
    """
    Group frames into bursts that never reach across a gap.

    A step longer than `max_gap` median steps, or one backwards, interrupts the sequence; a new burst
    starts after it. Frames at the end of a run that do not fill a burst are dropped, and said.

    Parameters
    ----------
    times : numpy.ndarray
        (n,) datetime64: start of each frame, in the order of the frames.
    frames : int
        Frames in a burst.
    max_gap : float, optional
        Longest step within a burst, in median steps.

    Returns
    -------
    BurstIndex
        Bursts in order.

    Raises
    ------
    InputError
        If no burst can be filled.
    """
    if frames < 1:
        raise ValueError("a burst has at least one frame")
    if np.isnat(times).any():
        raise InputError("exposures without a time", found=f"{np.isnat(times).sum()} of {times.size}")
    seconds = (times - times[:1]) / np.timedelta64(1, "s")
    steps = np.diff(seconds)
    forward = steps[steps > 0]
    cadence = float(np.median(forward)) if forward.size else float("nan")
    broken = np.flatnonzero((steps <= 0) | (steps > max_gap * cadence)) + 1
    edges = np.concatenate([[0], broken, [times.size]]).astype(np.int64)
    first: list[int] = []
    gaps: list[str] = []
    rests: list[str] = []
    dropped = 0
    for start, stop in pairwise(edges):
        count, rest = divmod(int(stop - start), frames)
        first.extend(int(start) + frames * k for k in range(count))
        dropped += rest
        if start > 0:
            gaps.append(
                f"the sequence is interrupted before frame {start}: {steps[start - 1]:.3f} s after the frame "
                f"before, where the cadence is {cadence:.3f} s"
            )
        if rest:
            rests.append(
                f"{rest} frames from frame {stop - rest} ({_iso(times[stop - rest])}) do not fill a burst of "
                f"{frames} and are left out"
            )
    if not first:
        raise InputError(
            "no burst can be filled",
            expected=f"{frames} frames without a gap",
            found=f"{int(np.diff(edges).max(initial=0))} of {times.size} frames"
            + (
                ", as most have the time of the one before" if 2 * (steps == 0).sum() > steps.size > 0 else ""
            ),
            remedy="Lower assemble.frames_per_burst, or check the data's file pattern; exposures must differ "
            "in time, so that their times need fractions of a second",
        )
    return BurstIndex(
        np.asarray(first, dtype=np.int64),
        frames,
        cadence,
        tuple(int(b) for b in broken),
        dropped,
        (*_described(gaps, "interruptions"), *_described(rests, "remainders")),
    )


def _described(findings: list[str], what: str) -> list[str]:
    """The first ones, and how many more there are."""
    if len(findings) <= _DESCRIBED:
        return findings
    return [*findings[:_DESCRIBED], f"{len(findings) - _DESCRIBED} more {what} like these"]


def burst_times(
    times: np.ndarray, exposure_s: float, index: BurstIndex
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    When each burst was observed.

    Parameters
    ----------
    times : numpy.ndarray
        (n,) datetime64 UTC: start of each frame.
    exposure_s : float
        Exposure of a frame, seconds.
    index : BurstIndex
        The bursts.

    Returns
    -------
    begin, end, average : numpy.ndarray
        (bursts,) float64, Unix seconds UTC: start of the first exposure, end of the last, mean of
        the middles of all.
    """
    unix = unix_seconds(times)
    members = unix[index.first[:, None] + np.arange(index.frames)]
    return members[:, 0], members[:, -1] + exposure_s, members.mean(axis=1) + exposure_s / 2


def unix_seconds(times: np.ndarray) -> np.ndarray:
    """
    Express times as numbers.

    Parameters
    ----------
    times : numpy.ndarray
        datetime64, UTC.

    Returns
    -------
    numpy.ndarray
        float64 seconds since 1970-01-01T00:00:00 UTC, good to a microsecond.
    """
    return np.asarray(times).astype("datetime64[us]").astype(np.int64) / 1e6


def _iso(time: np.datetime64) -> str:
    return str(time.astype("datetime64[ms]"))


def nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """
    Find what is nearest in time.

    Parameters
    ----------
    times : numpy.ndarray, shape (n,)
        Ascending times, at least one.
    wanted : numpy.ndarray, shape (m,)
        Times to look for.

    Returns
    -------
    numpy.ndarray
        (m,) int64: for each wanted time the index of the nearest in `times`, the earlier of two alike.
    """
    after = np.clip(np.searchsorted(times, wanted), min(1, len(times) - 1), len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(times[before] - wanted) <= np.abs(times[after] - wanted), before, after)
