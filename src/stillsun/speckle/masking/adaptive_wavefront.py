"""What adaptive optics leave of the wavefront: its covariance over the pupil, off the lock point too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gamma, kv

from stillsun.core.zernike import noll_indices, zernike_basis

# Pixels over the pupil. Finer ones change transfer functions by 2 % (measured against 24 and 48).
PUPIL = 20
# Distances of the beams in the high layer, telescope diameters, dense where the correlation falls.
_FARTHEST = 1.2
_NODES = 9
# They are whole pixels of the screens on which the tracker's gain is simulated.
SCREEN_PIXELS = 32
# The same outer scale as in the tables for uncorrected seeing: 20 m for 0.76 m.
_OUTER_SCALE = 26.0
_FARTHEST_LAG = 1.04 + _FARTHEST
# Directions along each side of the sensor's field, of the side.
_SENSED = (np.arange(4) + 0.5) / 4 - 0.5
# Directions in which beams may be apart.
_ANGLES = np.arange(8) * np.pi / 4


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
    Wavefront of two layers behind a mirror that corrects what it sees around the lock point.

    One layer is on the ground, the same for all directions; the other one is at a height, where the beam
    of a direction passes at a distance from that of the lock point. The mirror takes a share, the
    efficiency, of each of the first Zernike modes of both off, as the sensor sees them: a mean over the
    directions of its field, a little late. What it takes off is the same for all directions. So the
    correction fades with the angle, each mode as fast as it decorrelates.

    Parameters
    ----------
    modes : int
        Corrected Zernike modes after piston, in Noll's order.
    pupil : int, optional
        Pixels over the pupil.

    Attributes
    ----------
    points : numpy.ndarray
        Points of the pupil, (p, 2) float64, order y, x, in telescope diameters.
    orders : numpy.ndarray
        Radial order of each mode, (modes,) int64.
    pairs : Pairs
        Pairs of points that lie apart by each vector of the aperture plane.
    tilt : numpy.ndarray
        Weights of the phases in the tilt by least squares, (2, p) float64, order x, y.
    distances : numpy.ndarray
        Distances of the beams for which covariances are known, (n,) float64, diameters, ascending from 0.
    likeness : numpy.ndarray
        Correlation of the free phase without piston and tilt in beams so far apart, (n,) float64.

    References
    ----------
    Noll 1976, JOSA 66, 207. Valley & Wandzura 1979, JOSA 69, 712. Woeger & von der Luehe 2007, Appl. Opt.
    46, 8015.
    """

    def __init__(self, modes: int, pupil: int = PUPIL) -> None:
        axis = (np.arange(pupil) - (pupil - 1) / 2) / pupil
        y, x = np.meshgrid(axis, axis, indexing="ij")
        inside = np.hypot(y, x) <= 0.5
        self.points = np.stack([y[inside], x[inside]], axis=1)
        self._pupil = pupil
        rows, columns = np.nonzero(inside)
        self._lags = tuple(n[:, None] - n + pupil - 1 for n in (rows, columns))
        self.orders = np.array([n for n, _ in noll_indices(modes + 1)[1:]])
        self.pairs = _pairs(inside)
        self.tilt = np.asarray(np.linalg.pinv(self.points[:, ::-1]), dtype=np.float64)
        nodes = _FARTHEST * np.linspace(0.0, 1.0, _NODES) ** 2
        self.distances = np.rint(nodes * SCREEN_PIXELS) / SCREEN_PIXELS
        # Linear in the values: what a mean over directions makes of the values at the distances. They are
        # even in the distance, of which the nodes are even in the root.
        self._weights = CubicSpline(
            np.sqrt(self.distances), np.eye(_NODES), bc_type=("clamped", "not-a-knot")
        )
        basis = zernike_basis(2 * self.points[:, 1], 2 * self.points[:, 0], modes + 1)
        self._modes = basis[1:]
        # Not quite orthogonal on a grid: their shares are found by least squares, piston with them.
        self._solver = np.linalg.pinv(basis.T)[1:]
        lags = np.linspace(0.0, np.sqrt(_FARTHEST_LAG), 2001)
        self._covariance = CubicSpline(lags, von_karman_covariance(lags**2))
        self.free = self._between(0.0, 0.0)
        self._free_modes = self.free @ self._solver.T
        # Of beams apart by each distance in each direction; of phases and modes, and of modes.
        moved = [[self._between(d * np.sin(a), d * np.cos(a)) for a in _ANGLES] for d in self.distances]
        # Whatever the direction of the angle: the mean of along and across.
        self.apart = np.stack([(row[0] + row[2]) / 2 for row in moved])
        self._moved = np.array([[part @ self._solver.T for part in row] for row in moved])
        self._moved_modes = self._solver @ self._moved
        self._sensed = lru_cache(maxsize=8)(self._sense)
        plane = np.column_stack([np.ones(len(self.points)), self.points])
        self._shape = np.eye(len(plane)) - plane @ np.linalg.pinv(plane)
        alike = self.variance(self.apart)
        self.likeness = alike / alike[0]

    def corrected(
        self, efficiency: float | np.ndarray, sensor: float = 0.0, late: float = 0.0
    ) -> CorrectedWavefront:
        """
        The wavefront behind a mirror.

        Parameters
        ----------
        efficiency : float or numpy.ndarray
            Share of each mode that is taken off where nothing changes, (modes,) or the same for all.
        sensor : float, optional
            Side of the square of the high layer that the sensor averages over, diameters.
        late : float, optional
            Way of the air while the mirror is behind, diameters.

        Returns
        -------
        CorrectedWavefront
            Its covariances.
        """
        both, ground, once = self._sensed(sensor, late)
        taken = np.broadcast_to(efficiency, len(self._modes))[:, None] * self._modes
        free = self._solver @ self._free_modes
        return CorrectedWavefront(
            self,
            taken.T @ free @ taken - _twice(ground @ taken),
            taken.T @ both @ taken - _twice(once @ taken),
        )

    def _sense(self, sensor: float, late: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Covariances of what the sensor sees.

        Of its modes in the high layer, (modes, modes); of the phase with them on the ground, (p, modes), and
        at each distance in the high layer, (n, p, modes).
        """
        looks = sensor * _SENSED
        y, x = (part.ravel() for part in np.meshgrid(looks, looks, indexing="ij"))
        late_y, late_x = late * np.sin(_ANGLES), late * np.cos(_ANGLES)
        away = [self._weight(late_y - y[:, None], d + late_x - x[:, None]) for d in self.distances]
        both = self._weight(y[:, None] - y, x[:, None] - x)
        return (
            np.tensordot(both, self._moved_modes, 2),
            np.tensordot(self._weight(late_y, late_x), self._moved, 2),
            np.tensordot(np.stack(away), self._moved, 2),
        )

    def _weight(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Weights of what is known for (distances, directions) in the mean over vectors between beams."""
        turn = np.arctan2(y, x)[..., None] - _ANGLES
        harmonics = np.arange(1, len(_ANGLES) // 2)
        angular = 1 + 2 * np.cos(turn[..., None] * harmonics).sum(axis=-1) + np.cos(len(_ANGLES) / 2 * turn)
        radial = self._weights(np.sqrt(np.minimum(np.hypot(y, x), self.distances[-1])))
        weight = radial[..., :, None] * angular[..., None, :] / len(_ANGLES)
        return np.asarray(weight.reshape(-1, *weight.shape[-2:]).mean(axis=0))

    def variance(self, covariance: np.ndarray) -> np.ndarray:
        """
        Mean variance over the pupil of a phase without piston and tilt.

        Parameters
        ----------
        covariance : numpy.ndarray
            (..., p, p), radians squared.

        Returns
        -------
        numpy.ndarray
            (...) float64, radians squared.
        """
        return np.asarray(np.einsum("...pq,pq->...", covariance, self._shape) / len(self.points))

    def _between(self, y: float, x: float) -> np.ndarray:
        """Covariance of the free phase at points moved by (y, x) with that at points, (p, p)."""
        lags = np.arange(1 - self._pupil, self._pupil) / self._pupil
        table = self._covariance(np.sqrt(np.hypot(lags[:, None] + y, lags + x)))
        return np.asarray(table[self._lags])


@dataclass(frozen=True)
class Pairs:
    """
    Pairs of points of the pupil that lie apart by vectors of the aperture plane.

    Attributes
    ----------
    direction : numpy.ndarray
        Of each vector, (vectors,): 0 towards the lock point, 1 across, 2 and 3 diagonal.
    vector : numpy.ndarray
        (vectors, 2) float64, order x, y, diameters.
    length : numpy.ndarray
        (vectors,) float64, diameters.
    first, second : numpy.ndarray
        Numbers of the points of all pairs, vector by vector, int64.
    start : numpy.ndarray
        Where the pairs of each vector begin, and the end, (vectors + 1,) int64.
    """

    direction: np.ndarray
    vector: np.ndarray
    length: np.ndarray
    first: np.ndarray
    second: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class CorrectedWavefront:
    """
    The residual phase of a `ResidualWavefront` behind a mirror.

    Attributes
    ----------
    wavefront : ResidualWavefront
        Without correction.
    ground : numpy.ndarray
        What the mirror changes in the covariance were all turbulence on the ground, (p, p) float64, for
        D/r0 = 1, radians squared.
    high : numpy.ndarray
        The same were all in the high layer, at each of the distances, (n, p, p).
    """

    wavefront: ResidualWavefront
    ground: np.ndarray
    high: np.ndarray

    def covariance(self, number: int, strength: float, share: float) -> np.ndarray:
        """
        Covariance of the residual phase.

        Parameters
        ----------
        number : int
            Which of the wavefront's `distances`.
        strength : float
            D/r0 of both layers together.
        share : float
            Share of the high layer in the turbulence.

        Returns
        -------
        numpy.ndarray
            (p, p) float64, radians squared. Piston is in it; transfer functions do not see it.
        """
        changed = (1 - share) * self.ground + share * self.high[number]
        return np.asarray(strength ** (5 / 3) * (self.wavefront.free + changed))

    def shape_variance(self) -> tuple[float, np.ndarray]:
        """
        Variance of the residual phase without piston and tilt, were all turbulence in one layer.

        Returns
        -------
        ground : float
            All on the ground, for D/r0 = 1, radians squared.
        high : numpy.ndarray
            All in the high layer, at each of the distances, (n,) float64.
        """
        free = self.wavefront.variance(self.wavefront.free)
        ground, high = (self.wavefront.variance(part) for part in (self.ground, self.high))
        return float(free + ground), free + high


def _twice(part: np.ndarray) -> np.ndarray:
    """What stands in a covariance with its transpose, (..., p, p)."""
    return np.asarray(part + np.swapaxes(part, -1, -2))


@lru_cache(maxsize=4)
def residual_wavefront(modes: int, pupil: int = PUPIL) -> ResidualWavefront:
    """
    The covariances for a number of modes, kept for the next burst.

    Parameters
    ----------
    modes, pupil : int
        As for `ResidualWavefront`.

    Returns
    -------
    ResidualWavefront
        The same object for the same number.
    """
    return ResidualWavefront(modes, pupil)


def _pairs(inside: np.ndarray) -> Pairs:
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    rows, columns = np.nonzero(inside)
    directions, vectors, first, second = [], [], [], []
    for direction, (step_x, step_y) in enumerate(((1, 0), (0, 1), (1, 1), (1, -1))):
        for length in range(1, len(inside)):
            y, x = rows + length * step_y, columns + length * step_x
            ok = (y >= 0) & (y < len(inside)) & (x >= 0) & (x < len(inside))
            ok[ok] &= inside[y[ok], x[ok]]
            if np.count_nonzero(ok) < 4:
                break
            directions.append(direction)
            vectors.append(np.array([step_x, step_y]) * length / len(inside))
            first.append(number[rows[ok], columns[ok]])
            second.append(number[y[ok], x[ok]])
    vector = np.array(vectors)
    start = np.concatenate([[0], np.cumsum([len(f) for f in first])])
    return Pairs(
        np.array(directions),
        vector,
        np.hypot(*vector.T),
        np.concatenate(first),
        np.concatenate(second),
        start,
    )
