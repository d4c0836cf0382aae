"""Sudden steps in a slowly varying position, such as those of a lock that was lost and found again."""

from __future__ import annotations

from typing import Any

import numpy as np

# Positions on either side that are compared by their medians, and the fewest of them.
_SIDE = 6
_FEWEST = 2
_DEVIATIONS = 6.0


def find_jumps(positions: Any, smallest: float) -> list[int]:
    """
    Find steps that last.

    The median of the positions before a moment is compared with that after it; single outliers and
    slow drifts make no step. A step must also be six times the usual change from one to the next.

    Parameters
    ----------
    positions : array_like, shape (n, 2)
        Position at each time; NaN where unknown.
    smallest : float
        Least length of a step, in the unit of the positions.

    Returns
    -------
    list of int
        Index of the first position after each step, ascending.
    """
    found: list[int] = []
    values = np.asarray(positions, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    track = values[known]
    if len(track) < 2 * _FEWEST:
        return found
    changes = np.hypot(*np.diff(track, axis=0).T)
    least = max(smallest, _DEVIATIONS * float(np.median(changes)))
    steps = np.array([_step(track, k) for k in range(len(track) + 1)])
    while steps.max() >= least:
        best = int(np.argmax(steps))
        near = range(max(1, best - _SIDE), min(len(track), best + _SIDE + 1))
        split = min(near, key=lambda k: _misfit(track, k, best))
        found.append(int(known[split]))
        # One step is seen from all moments around it.
        steps[max(0, split - _SIDE) : split + _SIDE + 1] = 0.0
    return sorted(found)


def _step(track: np.ndarray, k: int) -> float:
    before, after = track[max(0, k - _SIDE) : k], track[k : k + _SIDE]
    if min(len(before), len(after)) < _FEWEST:
        return 0.0
    return float(np.hypot(*(np.median(after, axis=0) - np.median(before, axis=0))))


def _misfit(track: np.ndarray, k: int, middle: int) -> float:
    """Distance from one level before and one after, over the surroundings of a step."""
    low, high = max(0, middle - _SIDE), min(len(track), middle + _SIDE)
    if not low + 1 <= k <= high - 1:
        return np.inf
    return sum(float(np.abs(part - np.median(part, axis=0)).sum()) for part in (track[low:k], track[k:high]))
