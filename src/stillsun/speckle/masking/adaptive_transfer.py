"""Transfer functions of a partly corrected wavefront from the covariance of its residual phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numba import njit
from scipy.interpolate import PchipInterpolator

from stillsun.speckle.masking.adaptive_wavefront import CorrectedWavefront, ResidualWavefront
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
        ``<|S|^2> / T^2``, (distances, n) float64; T is the telescope's own.
    coherent : numpy.ndarray
        ``|<S>|^2 / T^2`` of tracked exposures, (distances, n) float64.
    tracker : numpy.ndarray
        What the tracker takes for tilt, as weights of the phases over the pupil, (distances, 2, p) float64,
        order x, y: radians per diameter.
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
    corrected: CorrectedWavefront, numbers: Sequence[int], q: np.ndarray, strength: float, share: float
) -> ResidualTransfer:
    """
    Speckle and coherent transfer function at distances from the lock point, for a linear tracker.

    Parameters
    ----------
    corrected : CorrectedWavefront
        Knows the covariances.
    numbers : sequence of int
        Which of the wavefront's distances.
    q : numpy.ndarray
        Frequencies in units of the diffraction limit, ascending, (n,).
    strength, share : float
        As for `CorrectedWavefront.covariance`.

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
    pairs = corrected.wavefront.pairs
    trackers = []
    sums = np.empty((len(numbers), len(pairs.length), 2))
    for row, number in zip(sums, numbers, strict=True):
        free = corrected.covariance(number, strength, share)
        trackers.append(_tracker(corrected.wavefront, free))
        covariance = _without_tilt(corrected.wavefront, free, trackers[-1]).astype(np.float32)
        row[:] = transfer_rows(covariance, pairs.first, pairs.second, pairs.start)
    speckle, coherent = np.zeros((2, len(numbers), len(q)))
    for direction, weight in enumerate(_WEIGHTS):
        inside = pairs.direction == direction
        at, power, mean = pairs.length[inside], sums[:, inside, 0], sums[:, inside, 1]
        one = np.exp(_curve(at, np.log(power), q, 1.0))
        ratio = np.log(np.clip(mean**2 / power, _FAINT, 1.0))
        # The variance of the phase grows as the 5/3 power of the distance.
        speckle += weight * one
        coherent += weight * one * np.exp(_curve(at, ratio, q, 5 / 3))
    return ResidualTransfer(speckle, coherent, np.stack(trackers))


def _curve(at: np.ndarray, values: np.ndarray, q: np.ndarray, power: float) -> np.ndarray:
    """Smooth curves through values (k, n) that vanish at 0 like a power of q; constant beyond the last."""
    known = np.concatenate([[0.0], at])
    inside = np.minimum(q, at[-1])
    if power > 1:
        slope = values / at**power
        curve = PchipInterpolator(known, np.concatenate([slope[:, :1], slope], axis=1), axis=1)
        return np.asarray(curve(inside) * inside**power)
    return np.asarray(PchipInterpolator(known, np.pad(values, ((0, 0), (1, 0))), axis=1)(inside))


def _tracker(wavefront: ResidualWavefront, free: np.ndarray) -> np.ndarray:
    """Weights of the phases in the tracker's tilt, (2, p), order x, y."""
    pairs = wavefront.pairs
    tracker = wavefront.tilt
    seen = np.where(pairs.length <= TRACK_LIMIT, object_power(pairs.length) * pairs.length, 0.0)
    for _ in range(_TRACK_ROUNDS):
        covariance = _without_tilt(wavefront, free, tracker)
        normal, weights = tracked_tilt(covariance, pairs.first, pairs.second, pairs.start, pairs.vector, seen)
        tracker = np.asarray(np.linalg.solve(normal, weights), dtype=np.float64)
    return tracker


def _without_tilt(wavefront: ResidualWavefront, free: np.ndarray, tracker: np.ndarray) -> np.ndarray:
    """Covariance of the phase less the tilt that the tracker sees."""
    points = wavefront.points[:, ::-1]
    cross = free @ tracker.T
    half = (cross - 0.5 * points @ (tracker @ cross)) @ points.T
    return np.asarray(free - half - half.T)


@njit(cache=True, nogil=True)
def tracked_tilt(covariance, first, second, start, vector, seen):  # type: ignore[no-untyped-def]
    """
    Normal equations of the tilt that a tracker finds.

    Parameters
    ----------
    covariance : numpy.ndarray
        Of the phase, (p, p) float64, radians squared.
    first, second, start, vector
        As of `stillsun.speckle.masking.adaptive_wavefront.Pairs`.
    seen : numpy.ndarray
        Say of each vector; 0: none.

    Returns
    -------
    normal, weights : numpy.ndarray
        (2, 2) and (2, p) float64.
    """
    points = covariance.shape[0]
    normal, weights = np.zeros((2, 2)), np.zeros((2, points))
    difference = np.empty(points)
    for k in range(len(seen)):
        if seen[k] == 0.0:
            continue
        difference[:] = 0.0
        transfer = 0.0
        for i in range(start[k], start[k + 1]):
            a, b = first[i], second[i]
            damped = np.exp(-0.5 * (covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]))
            transfer += damped
            difference[b] += damped
            difference[a] -= damped
        say = seen[k] * transfer
        for x in range(2):
            for p in range(points):
                weights[x, p] += say * vector[k, x] * difference[p]
            for y in range(2):
                normal[x, y] += say * transfer * vector[k, x] * vector[k, y]
    return normal, weights


@njit(cache=True, nogil=True)
def transfer_rows(covariance, first, second, start):  # type: ignore[no-untyped-def]
    """
    Mean square and mean of the transfer function at many vectors of the aperture plane.

    Parameters
    ----------
    covariance : numpy.ndarray
        Of the phase, (p, p) float32, radians squared.
    first, second, start
        As of `stillsun.speckle.masking.adaptive_wavefront.Pairs`.

    Returns
    -------
    numpy.ndarray
        As from `transfer_sums`, (vectors, 2) float64.
    """
    out = np.empty((len(start) - 1, 2))
    for k in range(len(start) - 1):
        here = slice(start[k], start[k + 1])
        out[k] = transfer_sums(covariance, first[here], second[here])
    return out


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
