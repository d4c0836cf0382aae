"""Transfer functions of subfields at their places in a field that adaptive optics correct at one point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from stillsun.speckle.masking.adaptive_transfer import (
    TRACK_LIMIT,
    object_power,
    residual_transfer,
    tracking_table,
)
from stillsun.speckle.masking.adaptive_wavefront import ResidualWavefront
from stillsun.speckle.masking.geometry import Lattice, tukey
from stillsun.speckle.masking.transfer import telescope_transfer

# Points across a subfield at which transfer functions are taken.
_SAMPLES = 10
# Subfields at a time, so that temporary arrays stay in the cache.
_CHUNK = 16
# Steps of the ladder of distances between which values are interpolated.
_LADDER = 160
_KNOTS = 49
_LAST = 0.98
# Which distance of the wavefront tells what the tracker takes for tilt: well off the lock point.
_TYPICAL = 3
#: How steeply the efficiency falls with the radial order.
ROLL_OFF = 2


@dataclass(frozen=True)
class Turbulence:
    """
    What is fitted to a burst.

    Attributes
    ----------
    strength : float
        D/r0 of all turbulence.
    share : float
        Share of the high layer in it.
    height : float
        Height of that layer, metres.
    efficiency : float
        Share of tip and tilt that is taken off at the lock point.
    order : float
        Radial order of the modes of which half as much is taken off.
    """

    strength: float
    share: float
    height: float
    efficiency: float
    order: float = np.inf

    def shares(self, orders: np.ndarray) -> np.ndarray:
        """
        Share of each mode that is taken off at the lock point.

        Parameters
        ----------
        orders : numpy.ndarray
            Radial orders of modes, 1 or more, (modes,).

        Returns
        -------
        numpy.ndarray
            (modes,) float64.
        """
        return np.asarray(self.efficiency / (1 + ((orders - 1) / (self.order - 1)) ** ROLL_OFF))

    def scaled(self, factor: float) -> Turbulence:
        """
        The same with another strength.

        Parameters
        ----------
        factor : float
            Factor on D/r0.

        Returns
        -------
        Turbulence
            A copy.
        """
        return replace(self, strength=self.strength * factor)


@dataclass(frozen=True)
class Field:
    """
    Where subfields lie about the lock point.

    Attributes
    ----------
    lattice : Lattice
        The subfields.
    scale : tuple of float
        Arcsec per pixel along y and x.
    lock : tuple of float
        Row and column of the lock point, pixels.
    modes : int
        Zernike modes after piston that are corrected, at most.
    diameter : float
        Of the telescope, metres.
    apodised : float
        Share of the subfield's side on which its window falls.
    sensor : float
        Side of the wavefront sensor's field, arcsec.
    late : float
        Way of the air while the mirror is behind the sensor, metres.
    """

    lattice: Lattice
    scale: tuple[float, float]
    lock: tuple[float, float]
    modes: int
    diameter: float
    apodised: float
    sensor: float = 0.0
    late: float = 0.0

    def angles(self, number: int) -> np.ndarray:
        """
        Distance of each pixel of a subfield from the lock point.

        Parameters
        ----------
        number : int
            Number of the subfield, row by row.

        Returns
        -------
        numpy.ndarray
            (size, size) float64, radians.
        """
        i, j = divmod(number, self.lattice.counts[1])
        place = np.arange(self.lattice.size)
        starts = self.lattice.rows[i], self.lattice.columns[j]
        y, x = (
            np.radians((start + place - lock) * scale / 3600)
            for start, lock, scale in zip(starts, self.lock, self.scale, strict=True)
        )
        return np.hypot(y[:, None], x)

    def distances(self) -> np.ndarray:
        """
        Distance of the middle of each subfield from the lock point.

        Returns
        -------
        numpy.ndarray
            (subfields,) float64, radians.
        """
        y, x = (
            np.radians((starts + (self.lattice.size - 1) / 2 - lock) * scale / 3600)
            for starts, lock, scale in zip(
                (self.lattice.rows, self.lattice.columns), self.lock, self.scale, strict=True
            )
        )
        return np.hypot(y[:, None], x).ravel()

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Points in the subfields that stand for all.

        Returns
        -------
        angles : numpy.ndarray
            From the lock point, (subfields, points) float64, radians.
        apart : numpy.ndarray
            Of each pair of points in a subfield, (points, points) float64, radians.
        weight : numpy.ndarray
            Power of the window there, sum 1, (points,) float64.
        """
        size = self.lattice.size
        at = (np.arange(_SAMPLES) + 0.5) * size / _SAMPLES
        window = np.interp(at, np.arange(size) + 0.5, tukey(size, self.apodised)) ** 2
        weight = np.outer(window, window).ravel()
        steps = [np.radians(s * at / 3600) for s in self.scale]
        y, x = (part.ravel() for part in np.meshgrid(*steps, indexing="ij"))
        starts = np.meshgrid(self.lattice.rows, self.lattice.columns, indexing="ij")
        row, column = (
            np.radians((s.ravel() - lock - 0.5) * scale / 3600)
            for s, lock, scale in zip(starts, self.lock, self.scale, strict=True)
        )
        angles = np.hypot(row[:, None] + y, column[:, None] + x)
        apart = np.hypot(y[:, None] - y, x[:, None] - x)
        return angles, apart, weight / weight.sum()


@dataclass(frozen=True)
class Curves:
    """
    Transfer functions of subfields as ratios to the telescope's power.

    Attributes
    ----------
    speckle : numpy.ndarray
        ``<|S|^2> / T^2``, (subfields, knots) float64.
    coherent : numpy.ndarray
        ``|<S>|^2 / T^2``, (subfields, knots) float64.
    """

    speckle: np.ndarray
    coherent: np.ndarray


class FieldCurves:
    """
    Transfer functions over a field.

    Parameters
    ----------
    wavefront : ResidualWavefront
        What the correction leaves.
    field : Field
        Where the subfields lie.

    Attributes
    ----------
    q : numpy.ndarray
        Knots in frequency, of the diffraction limit, (knots,) float64.
    """

    q = np.linspace(0.0, _LAST, _KNOTS)

    def __init__(self, wavefront: ResidualWavefront, field: Field) -> None:
        self._wavefront = wavefront
        self._diameter = field.diameter
        self._sensor, self._late = np.radians(field.sensor / 3600), field.late
        self._angles, self._apart, self._weight = field.samples()
        # What the tracker goes by: power of the object's image gradient, as it falls over frequency.
        telescope = telescope_transfer(self.q) ** 2
        self._tracked = np.where(self.q < TRACK_LIMIT, object_power(self.q) * telescope * self.q**3, 0.0)
        self._tables = lru_cache(maxsize=16)(self._make_tables)

    def at(self, turbulence: Turbulence, chosen: np.ndarray | None = None) -> Curves:
        """
        Transfer functions of subfields: means over their window.

        Parameters
        ----------
        turbulence : Turbulence
            The seeing and its correction.
        chosen : numpy.ndarray, optional
            Which subfields, (subfields,) bool or numbers; all by default.

        Returns
        -------
        Curves
            Of the chosen ones.

        Notes
        -----
        The subfield is tracked as a whole. What its parts move against each other, no common mirror takes
        away: high turbulence alone, whatever the correction. At a point whose motion differs from that of
        the subfield, a mean that the sharpest parts rule, by a variance v, radians squared per diameter
        squared, the coherent power falls by ``exp(-q^2 v)``.
        """
        angles = self._angles if chosen is None else self._angles[chosen]
        speckle, coherent, tracker = self._ladder(turbulence)
        place = self._place(turbulence, angles)
        low = np.minimum(place.astype(np.intp), _LADDER - 1)
        part = place - low
        sharp = coherent @ self._tracked
        weight = self._weight * ((1 - part) * sharp[low] + part * sharp[low + 1])
        variance = self._motion(turbulence, tracker, weight / weight.sum(axis=1, keepdims=True))
        power, mean = np.empty((2, len(angles), len(self.q)))
        for start in range(0, len(angles), _CHUNK):
            some = slice(start, start + _CHUNK)
            steps = np.diff(speckle, axis=0), np.diff(coherent, axis=0)
            a, b = low[some], part[some, :, None]
            moved = np.exp(-variance[some, :, None] * self.q**2)
            power[some] = self._weight @ (speckle[a] + b * steps[0][a])
            mean[some] = self._weight @ ((coherent[a] + b * steps[1][a]) * moved)
        return Curves(power, mean)

    def speckle(self, turbulence: Turbulence, angles: np.ndarray) -> np.ndarray:
        """
        Speckle transfer function in some directions.

        Parameters
        ----------
        turbulence : Turbulence
            The seeing and its correction.
        angles : numpy.ndarray
            From the lock point, (n,) radians.

        Returns
        -------
        numpy.ndarray
            ``<|S|^2> / T^2``, (n, knots) float64.
        """
        speckle = self._ladder(turbulence)[0]
        place = self._place(turbulence, angles)
        low = np.minimum(place.astype(np.intp), _LADDER - 1)
        part = (place - low)[:, None]
        return np.asarray((1 - part) * speckle[low] + part * speckle[low + 1])

    def _place(self, turbulence: Turbulence, angles: np.ndarray) -> np.ndarray:
        """Place on the ladder, which is even in the root of the distance."""
        farthest = self._wavefront.distances[-1]
        distance = np.minimum(angles * turbulence.height / self._diameter, farthest)
        return np.asarray(_LADDER * np.sqrt(distance / farthest))

    def _ladder(self, turbulence: Turbulence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Speckle and coherent transfer function on the ladder, (ladder + 1, knots), and the tracker."""
        speckle, linear, gain, high, tracker = self._tables(turbulence)
        # Odd and orthogonal to what is linear, it is of third order: its correlation is the phase's cubed.
        first, second, third = self._unlikeness(turbulence.height)
        common = 1 - 3 * high * first + 3 * high**2 * second - high**3 * third
        return speckle, linear * gain ** common[:, None], tracker

    def _unlikeness(self, height: float) -> tuple[float, ...]:
        """
        How little the wavefronts of two places in a subfield have in common.

        Means over all pairs of places of 1 - c, its square and its cube, where c is the correlation, without
        tilt, in the high layer.
        """
        nodes = np.sqrt(self._wavefront.distances)
        distance = np.minimum(self._apart * height / self._diameter, self._wavefront.distances[-1])
        alike = PchipInterpolator(nodes, self._wavefront.likeness)(np.sqrt(distance))
        return tuple(float(self._weight @ (1 - alike) ** k @ self._weight) for k in (1, 2, 3))

    def _make_tables(
        self, turbulence: Turbulence
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """
        Values on the ladder.

        Speckle transfer function, coherent one of a linear tracker, what the true one gains, (ladder + 1,
        knots); share of the high layer in what is left without tilt, (ladder + 1,); the tracker.
        """
        strength, share = turbulence.strength, turbulence.share
        count = len(self._wavefront.distances)
        corrected = self._wavefront.corrected(
            turbulence.shares(self._wavefront.orders),
            self._sensor * turbulence.height / self._diameter,
            self._late / self._diameter,
        )
        nodes = residual_transfer(corrected, range(count), self.q, strength, share)
        known = np.sqrt(self._wavefront.distances / self._wavefront.distances[-1])
        ladder = np.linspace(0.0, 1.0, _LADDER + 1)
        speckle, linear = np.maximum(nodes.speckle, 1e-9), np.maximum(nodes.coherent, 1e-9)
        gain = [tracking_table().correct(self.q, r) / r for r in linear / speckle]
        curves = (np.exp(CubicSpline(known, np.log(v))(ladder)) for v in (speckle, linear, gain))
        ground, high = corrected.shape_variance()
        part = share * high / (share * high + (1 - share) * ground)
        return (*curves, PchipInterpolator(known, part)(ladder), nodes.tracker[_TYPICAL])

    def _motion(self, turbulence: Turbulence, tracker: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Variance of each point's motion against its subfield's, (n, points); weight: (n, points), sum 1."""
        tilt = np.einsum("ap,npq,aq->n", tracker, self._wavefront.apart, tracker) / len(tracker)
        distance = self._apart * turbulence.height / self._diameter
        distance = np.minimum(distance, self._wavefront.distances[-1])
        # It grows as the square of a small distance.
        nodes = self._wavefront.distances
        slope = (tilt[0] - tilt[1:]) / nodes[1:] ** 2
        slope = np.concatenate([slope[:1], slope])
        lost = PchipInterpolator(np.sqrt(nodes), slope)(np.sqrt(distance)) * distance**2
        mean = weight @ lost
        variance = 2 * mean - (mean * weight).sum(axis=1, keepdims=True)
        return np.asarray(turbulence.share * turbulence.strength ** (5 / 3) * variance)
