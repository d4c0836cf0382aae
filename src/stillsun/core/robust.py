"""Scatter that a few wild values do not change."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Standard deviation of normally distributed values over the median of their absolute deviations.
DEVIATIONS = 1.4826


def robust_deviation(distances: Any, xp: Any = np) -> float:
    """
    Standard deviation from absolute deviations.

    Parameters
    ----------
    distances : array
        Absolute deviations from the centre.
    xp : module, optional
        Their namespace.

    Returns
    -------
    float
        1.4826 times their median: the standard deviation if they are normally distributed; 0 for none.
    """
    return DEVIATIONS * float(xp.median(distances)) if distances.size else 0.0


def centre_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """
    Centre and standard deviation of values.

    Parameters
    ----------
    values : numpy.ndarray
        Values, one at least.

    Returns
    -------
    centre, deviation : float
        Median, and 1.4826 times the median of the absolute deviations from it.
    """
    centre = float(np.median(values))
    return centre, robust_deviation(np.abs(values - centre))
