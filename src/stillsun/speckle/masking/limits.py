"""Limits of the options of a reconstruction."""

from __future__ import annotations

import numpy as np

from stillsun.errors import ConfigError


def plate_scale_of(value: float | tuple[float, float]) -> tuple[float, float]:
    """
    Arcsec per pixel along y and x.

    Parameters
    ----------
    value : float or pair of float
        One value for both axes, or those of (x, y).

    Returns
    -------
    tuple of float
        Of (y, x).
    """
    try:
        x, y = (float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), 2))
    except ValueError as error:
        raise ConfigError("plate_scale is neither a number nor a pair", found=repr(value)) from error
    check_ranges(plate_scale=(min(x, y), 0, np.inf))
    return y, x


def check_ranges(**ranges: tuple[float, float, float]) -> None:
    """
    Refuse values that do not lie within their limits.

    Parameters
    ----------
    **ranges : tuple of float
        For each name its value, the limit that it must exceed and the one that it may reach.
    """
    findings = [
        f"{name}: {value:g} is not within {low:g} (exclusive) and {high:g}"
        for name, (value, low, high) in ranges.items()
        if not low < value <= high
    ]
    if findings:
        raise ConfigError(findings=findings)
