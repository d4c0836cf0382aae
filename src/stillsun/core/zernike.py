"""Zernike polynomials over a circular pupil."""

from __future__ import annotations

from math import factorial

import numpy as np


def noll_indices(count: int) -> list[tuple[int, int]]:
    """
    Radial and azimuthal orders in Noll's sequence.

    Parameters
    ----------
    count : int
        Number of modes, piston included.

    Returns
    -------
    list of (int, int)
        (n, m); m > 0 for cosine, m < 0 for sine modes.

    References
    ----------
    Noll 1976, JOSA 66, 207.
    """
    indices: list[tuple[int, int]] = []
    n = 0
    while len(indices) < count:
        for m in range(n % 2, n + 1, 2):
            for _ in range(1 if m == 0 else 2):
                # Even sequence numbers are cosines.
                indices.append((n, m if (len(indices) + 1) % 2 == 0 else -m))
        n += 1
    return indices[:count]


def zernike_basis(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """
    The first Zernike polynomials at points of the unit disk.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (points,)
        Coordinates in units of the pupil's radius.
    count : int
        Number of modes in Noll's order, piston included.

    Returns
    -------
    numpy.ndarray, shape (count, points), float64
        The modes, each of unit variance over the disk.
    """
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    modes = np.empty((count, radius.size))
    for mode, (n, m) in zip(modes, noll_indices(count), strict=True):
        order = abs(m)
        radial = np.zeros_like(radius)
        for k in range((n - order) // 2 + 1):
            divisor = factorial(k) * factorial((n + order) // 2 - k) * factorial((n - order) // 2 - k)
            radial += (-1) ** k * factorial(n - k) / divisor * radius ** (n - 2 * k)
        azimuthal = np.ones_like(angle) if m == 0 else np.sqrt(2) * _trig(m, angle)
        mode[:] = np.sqrt(n + 1) * radial * azimuthal
    return modes


def _trig(m: int, angle: np.ndarray) -> np.ndarray:
    return np.cos(m * angle) if m > 0 else np.sin(-m * angle)
