"""Transfer functions of a partly corrected wavefront from the covariance of its residual phase."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numba import njit
from scipy.interpolate import PchipInterpolator

from stillsun.speckle.masking.adaptive_wavefront import ResidualWavefront
from stillsun.speckle.masking.transfer import GRANULATION_SLOPE

TABLE = "adaptive.npz"
# The tracker sees no further.
TRACK_LIMIT = 0.3
_TRACK_ROUNDS = 2
# Directions in the aperture plane: towards the lock point, across, diagonal (the other one is its mirror).
_WEIGHTS = (0.25, 0.25, 0.5)
_FAINT = 1e-9
# Where the corrections of the table end.
_STRONGEST = 6.0
_MOST_CORRECTION = (-0.5, 1.5)


@dataclass(frozen=True)
class ResidualTransfer:
    """
    Ensemble means over the instantaneous transfer function S, means over the direction of the frequency.

    Attributes
    ----------
    speckle : numpy.ndarray
        ``<|S|^2> / T^2``, (n,) float64; T is the telescope's own.
    coherent : numpy.ndarray
        ``|<S>|^2 / T^2`` of tracked exposures, (n,) float64.
    tracker : numpy.ndarray
        What the tracker takes for tilt, as weights of the phases over the pupil, (2, p) float64, order x, y:
        radians per diameter.
    """

    speckle: np.ndarray
    coherent: np.ndarray
    tracker: np.ndarray


@dataclass(frozen=True)
class TrackingTable:
    """
    What a tracker gains beyond what its linear response explains, from Monte Carlo.

    Attributes
    ----------
    q : numpy.ndarray
        Frequencies in units of the diffraction limit, (k,) float64.
    coefficients : numpy.ndarray
        (k, 12) float64; see `features`.
    reference : numpy.ndarray
        The two frequencies whose spectral ratio goes into all of them.
    """

    q: np.ndarray
    coefficients: np.ndarray
    reference: np.ndarray

    def correct(self, q: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """
        Spectral ratio with the gain.

        Parameters
        ----------
        q : numpy.ndarray
            Frequencies, ascending, (n,).
        ratio : numpy.ndarray
            ``|<S>|^2 / <|S|^2>`` of a linear tracker, (n,).

        Returns
        -------
        numpy.ndarray
            (n,) float64, at most 1.
        """
        terms = features(q, ratio, self.reference)
        parts = [np.interp(q, self.q, c) * t for c, t in zip(self.coefficients.T, terms, strict=True)]
        gain = np.exp(np.clip(np.sum(parts, axis=0), *_MOST_CORRECTION))
        return np.asarray(np.minimum(ratio * gain, 1.0))


def object_power(q: Any) -> Any:
    """
    Power of what the tracker sees, like granulation.

    Parameters
    ----------
    q : float or numpy.ndarray
        Frequency in units of the diffraction limit.

    Returns
    -------
    float or numpy.ndarray
        Relative power.
    """
    return 10.0 ** (-GRANULATION_SLOPE * q)


def features(q: np.ndarray, ratio: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """
    What the gain of the tracker is a linear function of.

    Parameters
    ----------
    q : numpy.ndarray
        Frequencies, ascending, (n,).
    ratio : numpy.ndarray
        ``|<S>|^2 / <|S|^2>`` of a linear tracker, (n,).
    reference : numpy.ndarray
        Two frequencies whose ratio goes in everywhere, (2,).

    Returns
    -------
    numpy.ndarray
        (12, n) float64: the negative logarithms -ln e = x of the ratio at the references and at each
        frequency, what they saturate to, x / (1 + x), and the products of these. All vanish where nothing
        is lost: there a tracker is linear.
    """
    own = np.minimum(-np.log(np.maximum(ratio, _FAINT)), _STRONGEST)
    low = np.interp(reference, q, own)
    parts = [np.full_like(own, low[0]), np.full_like(own, low[1]), own]
    bounded = [x / (1 + x) for x in parts]
    return np.stack(parts + bounded + [a * b for a, b in combinations_with_replacement(bounded, 2)])


@lru_cache(maxsize=1)
def tracking_table() -> TrackingTable:
    """
    The table that comes with the package.

    Returns
    -------
    TrackingTable
        Made by `stillsun.speckle.masking.adaptive_screens.simulate_tracking`.
    """
    with (
        resources.files("stillsun.speckle.masking").joinpath(TABLE).open("rb") as file,
        np.load(file) as data,
    ):
        return TrackingTable(data["q"], data["coefficients"], data["reference"])


def residual_transfer(
    wavefront: ResidualWavefront,
    number: int,
    q: np.ndarray,
    strength: float,
    share: float,
    efficiency: float,
) -> ResidualTransfer:
    """
    Speckle and coherent transfer function at one distance from the lock point, for a linear tracker.

    Parameters
    ----------
    wavefront : ResidualWavefront
        Knows the covariances.
    number : int
        Which of its distances.
    q : numpy.ndarray
        Frequencies in units of the diffraction limit, ascending, (n,).
    strength, share, efficiency : float
        As for `ResidualWavefront.covariance`.

    Returns
    -------
    ResidualTransfer
        Both transfer functions as ratios to the telescope's.

    Notes
    -----
    The phase is Gaussian, so that the mean over all wavefronts of ``S(s) = sum exp(i (phi(x + s) -
    phi(x)))`` and of its square are sums over the pupil of exponentials of the covariance C, without
    further approximation (Korff 1973 wrote them for uncorrected seeing)::

        <S>      ~ sum_x       exp(-d(x) / 2),            d(x) = var(phi(x + s) - phi(x))
        <|S|^2>  ~ sum_x sum_y exp(-(d(x) + d(y)) / 2 + cov(phi(x + s) - phi(x), phi(y + s) - phi(y)))

    The tracker's shift is linearised: the tilt that maximises the correlation with the mean, as seen
    through the object's power, is a weighted sum of phase differences, and is taken off the covariance.
    """
    free = wavefront.covariance(number, strength, share, efficiency)
    tracker = _tracker(wavefront, free)
    covariance = _without_tilt(wavefront, free, tracker).astype(np.float32)
    found: list[list[tuple[float, float, float]]] = [[], [], []]
    for direction, vector, first, second in wavefront.shifts:
        if direction < len(found):
            pair = transfer_sums(covariance, first, second)
            found[direction].append((float(np.hypot(*vector)), *pair))
    speckle, coherent = np.zeros((2, len(q)))
    for weight, rows in zip(_WEIGHTS, found, strict=True):
        at, power, mean = np.array(rows).T
        one = np.exp(_curve(at, np.log(power), q, 1.0))
        ratio = np.log(np.clip(mean**2 / power, _FAINT, 1.0))
        # The variance of the phase grows as the 5/3 power of the distance.
        speckle += weight * one
        coherent += weight * one * np.exp(_curve(at, ratio, q, 5 / 3))
    return ResidualTransfer(speckle, coherent, tracker)


def _curve(at: np.ndarray, values: np.ndarray, q: np.ndarray, power: float) -> np.ndarray:
    """Smooth curve through values that vanish at 0 like a power of q; constant beyond the last."""
    slope = values / at**power
    known = np.concatenate([[0.0], at])
    inside = np.minimum(q, at[-1])
    if power > 1:
        return np.asarray(
            PchipInterpolator(known, np.concatenate([slope[:1], slope]))(inside) * inside**power
        )
    return np.asarray(PchipInterpolator(known, np.concatenate([[0.0], values]))(inside))


def _tracker(wavefront: ResidualWavefront, free: np.ndarray) -> np.ndarray:
    """Weights of the phases in the tracker's tilt, (2, p), order x, y."""
    points = wavefront.points[:, ::-1]
    tracker = np.asarray(np.linalg.pinv(points), dtype=np.float64)
    count = len(points)
    for _ in range(_TRACK_ROUNDS):
        covariance = _without_tilt(wavefront, free, tracker)
        variance = np.diag(covariance)
        weights, normal = np.zeros((2, count)), np.zeros((2, 2))
        for _direction, vector, first, second in wavefront.shifts:
            q = float(np.hypot(*vector))
            if q > TRACK_LIMIT:
                continue
            damped = np.exp(-0.5 * (variance[first] + variance[second] - 2 * covariance[first, second]))
            transfer = damped.sum()
            seen = object_power(q) * q * transfer
            difference = np.bincount(second, damped, count) - np.bincount(first, damped, count)
            weights += seen * np.outer(vector, difference)
            normal += seen * transfer * np.outer(vector, vector)
        tracker = np.asarray(np.linalg.solve(normal, weights), dtype=np.float64)
    return tracker


def _without_tilt(wavefront: ResidualWavefront, free: np.ndarray, tracker: np.ndarray) -> np.ndarray:
    """Covariance of the phase less the tilt that the tracker sees."""
    points = wavefront.points[:, ::-1]
    cross = free @ tracker.T
    part = cross @ points.T
    return np.asarray(free - part - part.T + points @ (tracker @ cross) @ points.T)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp", "afn"})
def transfer_sums(covariance, first, second):  # type: ignore[no-untyped-def]
    """
    Mean square and mean of the transfer function at one vector of the aperture plane.

    Parameters
    ----------
    covariance : numpy.ndarray
        Of the phase, (p, p) float32, radians squared.
    first, second : numpy.ndarray
        Numbers of the pairs of points that lie by the vector apart, (n,) int64.

    Returns
    -------
    square, mean : float
        ``<|S|^2>`` and ``<S>``, both 1 without turbulence.
    """
    count = first.size
    damped = np.empty(count, dtype=np.float32)
    total = 0.0
    for i in range(count):
        a, b = first[i], second[i]
        damped[i] = np.float32(0.5) * (covariance[a, a] + covariance[b, b]) - covariance[a, b]
        total += np.exp(-damped[i])
    square = 0.0
    for i in range(count):
        row_a, row_b = covariance[first[i]], covariance[second[i]]
        part = np.float32(0.0)
        for j in range(i):
            a, b = first[j], second[j]
            together = row_a[a] + row_b[b] - row_a[b] - row_b[a]
            part += np.exp(together - damped[i] - damped[j])
        square += 2.0 * part + 1.0
    return square / (count * count), total / count
