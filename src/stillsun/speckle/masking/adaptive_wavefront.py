"""What adaptive optics leave of the wavefront: its covariance over the pupil, off the lock point too."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gamma, kv

from stillsun.core.zernike import zernike_basis

# Pixels over the pupil. Finer ones change transfer functions by 2 % (measured against 24 and 48).
_PUPIL = 20
# Distances of the beams in the high layer, telescope diameters, dense where the correlation falls.
_FARTHEST = 1.2
_NODES = 9
# They are whole pixels of the screens on which the tracker's gain is simulated.
SCREEN_PIXELS = 32
# The same outer scale as in the tables for uncorrected seeing: 20 m for 0.76 m.
_OUTER_SCALE = 26.0
_FARTHEST_LAG = 1.04 + _FARTHEST


def von_karman_covariance(distance: np.ndarray, outer_scale: float = _OUTER_SCALE) -> np.ndarray:
    """
    Covariance of the phase in von Karman turbulence of Fried parameter 1.

    Parameters
    ----------
    distance : array_like
        Distance of two points, in the units of the Fried parameter.
    outer_scale : float, optional
        Outer scale in the same units.

    Returns
    -------
    numpy.ndarray
        Radians squared, float64, in the shape of `distance`.
    """
    x = 2 * np.pi * np.maximum(np.asarray(distance, dtype=np.float64), 1e-9) / outer_scale
    factor = gamma(11 / 6) / (2 ** (5 / 6) * np.pi ** (8 / 3)) * (24 / 5 * gamma(6 / 5)) ** (5 / 6)
    return np.asarray(factor * outer_scale ** (5 / 3) * x ** (5 / 6) * kv(5 / 6, x))


class ResidualWavefront:
    """
    Wavefront of two layers behind a mirror that corrects what it sees at the lock point.

    One layer is on the ground, the same for all directions; the other one is at a height, where the beam
    of a direction passes at a distance from that of the lock point. The mirror takes a share, the
    efficiency, of the first Zernike modes of both off, and what it takes off is the same for all
    directions. So the correction fades with the angle, each mode as fast as it decorrelates.

    Parameters
    ----------
    modes : int
        Corrected Zernike modes after piston, in Noll's order.

    Attributes
    ----------
    points : numpy.ndarray
        Points of the pupil, (p, 2) float64, order y, x, in telescope diameters.
    shifts : tuple
        ``(direction, vector, first, second)`` for each vector of the aperture plane: number of its direction
        (0: towards the lock point, 1: across, 2 and 3: diagonal), the vector (x, y) in diameters, and the
        numbers of the pairs of points that lie by it apart.
    distances : numpy.ndarray
        Distances of the beams for which covariances are known, (n,) float64, diameters, ascending from 0.
    likeness : numpy.ndarray
        Correlation of the free phase without piston and tilt in beams so far apart, (n,) float64.

    References
    ----------
    Noll 1976, JOSA 66, 207. Valley & Wandzura 1979, JOSA 69, 712. Woeger & von der Luehe 2007, Appl. Opt.
    46, 8015.
    """

    def __init__(self, modes: int) -> None:
        axis = (np.arange(_PUPIL) - (_PUPIL - 1) / 2) / _PUPIL
        y, x = np.meshgrid(axis, axis, indexing="ij")
        inside = np.hypot(y, x) <= 0.5
        self.points = np.stack([y[inside], x[inside]], axis=1)
        self.shifts = _shifts(inside)
        nodes = _FARTHEST * np.linspace(0.0, 1.0, _NODES) ** 2
        self.distances = np.rint(nodes * SCREEN_PIXELS) / SCREEN_PIXELS
        basis = zernike_basis(2 * self.points[:, 1], 2 * self.points[:, 0], modes + 1)
        # Not quite orthogonal on a grid: their shares are found by least squares, piston with them.
        seen = basis[1:].T @ np.linalg.pinv(basis.T)[1:]
        lags = np.linspace(0.0, np.sqrt(_FARTHEST_LAG), 2001)
        self._covariance = CubicSpline(lags, von_karman_covariance(lags**2))
        self._free = self._between(0.0, 0.0)
        self._both = seen @ self._free @ seen.T
        once = [self._between(0.0, d) @ seen.T for d in self.distances]
        self._once = [part + part.T for part in once]
        # Whatever the direction of the angle: the mean of along and across.
        self.apart = np.stack([(self._between(0.0, d) + self._between(d, 0.0)) / 2 for d in self.distances])
        plane = np.column_stack([np.ones(len(self.points)), self.points])
        self._shape = np.eye(len(plane)) - plane @ np.linalg.pinv(plane)
        alike = self._variance(self.apart)
        self.likeness = alike / alike[0]

    def covariance(self, number: int, strength: float, share: float, efficiency: float) -> np.ndarray:
        """
        Covariance of the residual phase.

        Parameters
        ----------
        number : int
            Which of `distances`.
        strength : float
            D/r0 of both layers together.
        share : float
            Share of the high layer in the turbulence.
        efficiency : float
            Share of each mode that is taken off at the lock point.

        Returns
        -------
        numpy.ndarray
            (p, p) float64, radians squared. Piston is in it; transfer functions do not see it.
        """
        fixed = self._free + efficiency**2 * self._both
        once = (1 - share) * self._once[0] + share * self._once[number]
        return np.asarray(strength ** (5 / 3) * (fixed - efficiency * once))

    def shape_variance(self, efficiency: float) -> tuple[float, np.ndarray]:
        """
        Variance of the residual phase without piston and tilt, were all turbulence in one layer.

        Parameters
        ----------
        efficiency : float
            Share of each mode that is taken off at the lock point.

        Returns
        -------
        ground : float
            All on the ground, for D/r0 = 1, radians squared.
        high : numpy.ndarray
            All in the high layer, at each of `distances`, (n,) float64.
        """
        fixed = self._variance(self._free + efficiency**2 * self._both)
        high = fixed - efficiency * self._variance(np.stack(self._once))
        return float(high[0]), high

    def _variance(self, covariance: np.ndarray) -> np.ndarray:
        """Mean variance over the pupil of a phase without piston and tilt, (...)."""
        return np.asarray(np.einsum("...pq,pq->...", covariance, self._shape) / len(self.points))

    def _between(self, y: float, x: float) -> np.ndarray:
        """Covariance of the free phase at points moved by (y, x) with that at points, (p, p)."""
        lag = self.points[:, None] + (y, x) - self.points[None]
        return np.asarray(self._covariance(np.sqrt(np.hypot(lag[..., 0], lag[..., 1]))))


@lru_cache(maxsize=4)
def residual_wavefront(modes: int) -> ResidualWavefront:
    """
    The covariances for a number of modes, kept for the next burst.

    Parameters
    ----------
    modes : int
        As for `ResidualWavefront`.

    Returns
    -------
    ResidualWavefront
        The same object for the same number.
    """
    return ResidualWavefront(modes)


def _shifts(inside: np.ndarray) -> tuple[tuple[int, np.ndarray, np.ndarray, np.ndarray], ...]:
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    rows, columns = np.nonzero(inside)
    found = []
    for direction, (step_x, step_y) in enumerate(((1, 0), (0, 1), (1, 1), (1, -1))):
        for length in range(1, len(inside)):
            y, x = rows + length * step_y, columns + length * step_x
            ok = (y >= 0) & (y < len(inside)) & (x >= 0) & (x < len(inside))
            ok[ok] &= inside[y[ok], x[ok]]
            if np.count_nonzero(ok) < 4:
                break
            vector = np.array([step_x, step_y]) * length / len(inside)
            found.append((direction, vector, number[rows[ok], columns[ok]], number[y[ok], x[ok]]))
    return tuple(found)
