"""
Groups of frames in a HARDcam sequence, by the times at which its files were written.

On filaments the camera is triggered by a signal generator: a burst of 64 images, then nothing for the rest of
a minute, and again (SSOSoft manual, 2025-10-14, section 2.2.2). The files hold no time, but their
modification times show the pauses, unless a copy has lost them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A pause is longer than a second, and than so many usual steps between files: disks stall too.
_LEAST_PAUSE_S = 1.0
_PAUSE_STEPS = 8.0
# Groups whose starts scatter by less are regular.
_REGULAR_S = 0.5
_FEW_GROUPS = 3


@dataclass(frozen=True)
class Cadence:
    """
    Groups of frames and pauses between them.

    Attributes
    ----------
    frames : int
        Frames in a group.
    interval_s : float
        Seconds from the start of a group to the start of the next.
    scatter_s : float
        Largest deviation of a group's start from that, seconds.
    groups : int
        Groups seen, the last one perhaps not whole.
    """

    frames: int
    interval_s: float
    scatter_s: float
    groups: int

    @property
    def clear(self) -> bool:
        """Three groups at least, each where it is expected to half a second."""
        return self.groups >= _FEW_GROUPS and self.scatter_s < _REGULAR_S

    def __str__(self) -> str:
        sure = "clear" if self.clear else "doubtful"
        return (
            f"{self.groups} groups of {self.frames} frames every {self.interval_s:.1f} s by the files' times "
            f"(within {self.scatter_s:.1f} s: {sure})"
        )


def find_cadence(
    numbers: Sequence[int] | np.ndarray, written: Sequence[float] | np.ndarray
) -> Cadence | None:
    """
    Find the groups of a sequence.

    Parameters
    ----------
    numbers : sequence of int
        (n,) numbers of the frames, ascending; some may be missing.
    written : sequence of float
        (n,) when their files were written, seconds.

    Returns
    -------
    Cadence or None
        None where there are no pauses, or not after every so many frames.
    """
    frame = np.asarray(numbers, dtype=np.int64)
    time = np.asarray(written, dtype=np.float64)
    if frame.size < 2:
        return None
    steps = np.diff(time)
    limit = max(_LEAST_PAUSE_S, _PAUSE_STEPS * float(np.median(steps)))
    begins = np.flatnonzero(steps > limit) + 1
    if not begins.size:
        return None
    # Of a group whose first frame is missing the begin is not known.
    whole = begins[frame[begins] == frame[begins - 1] + 1]
    size = math.gcd(*frame[whole].tolist())
    # A disk that stalls pauses anywhere; groups, after every so many frames and nowhere else.
    if size < 2 or not np.array_equal(np.flatnonzero(np.diff(frame // size)) + 1, begins):
        return None
    group = frame[whole] // size
    starts = time[whole]
    if frame[0] == 0:
        group, starts = np.append(0, group), np.append(time[0], starts)
    if group.size < 2:
        return None
    interval, offset = np.polyfit(group, starts, 1)
    scatter = float(np.abs(starts - offset - interval * group).max())
    return Cadence(size, float(interval), scatter, int(frame[-1] // size) + 1)
