"""Fried parameter from the spectral ratio, and the speckle transfer function that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from scipy.interpolate import PchipInterpolator

from stillsun.speckle.masking.exposure import exposure_table
from stillsun.speckle.masking.geometry import tukey
from stillsun.speckle.masking.indices import Frequencies, frequencies
from stillsun.speckle.masking.powers import BurstPowers
from stillsun.speckle.masking.transfer import GRANULATION_SLOPE, seeing_table, telescope_transfer

# Range of the fit: in q, in frequency pixels, and down to this spectral ratio.
_FIRST_Q = 0.05
_FIRST_PIXEL = 1.5
_LEAST_RATIO = 0.05
_LEAST_RINGS = 3
_ROUNDS = 3
# A spectral ratio is not known better than this: the models' own error.
_LEAST_SCATTER = 0.003
# What the noise adds to the scatter, where it is as strong as the signal.
_NOISE_SCATTER = 1.0
# Range in which the object's power is fitted: in q, and as a share of the highest power.
_SCENE_Q = 0.6
_SCENE_POWER = 1e-6
# Up to here the object's power decides where the tracker puts an exposure.
_TRACKED_Q = 0.3
_STEP = 0.02
_FIRST_STRENGTH = 8.0
# Subfields whose D/r0 differs from the median by a larger share do not decide on the frame's.
_LIKENESS = 0.3


@dataclass(frozen=True)
class SeeingFit:
    """
    Outcome of a spectral-ratio fit.

    Attributes
    ----------
    strength : float
        D/r0 of the frame.
    local : numpy.ndarray
        D/r0 of each subfield, (subfields,) float64; NaN where it has no structure.
    ratio : numpy.ndarray
        Spectral ratio of each subfield, means over rings, (subfields, rings) float64.
    at_edge : bool
        The fit ended at the edge of the models: the value is a limit only.
    speckle : numpy.ndarray
        Effective speckle transfer function, windowed like the data, (m,) float64.
    telescope : numpy.ndarray
        The telescope's own transfer function squared, windowed likewise, (m,) float64.
    curve : numpy.ndarray or None
        Spectral ratio of the model, (rings,) float64; None where it changes over the field.
    """

    strength: float
    local: np.ndarray
    ratio: np.ndarray
    at_edge: bool
    speckle: np.ndarray
    telescope: np.ndarray
    curve: np.ndarray | None = None


class SeeingModel:
    """
    Model curves for one geometry: tracked and windowed like the data.

    Parameters
    ----------
    size : int
        Side of the subfield, pixels.
    limit_y, limit_x : float
        Diffraction limit along the axes, cycles per pixel.
    phase_limit : float
        Highest frequency, of the diffraction limit.
    apodised : float
        Share of the side on which the window falls.
    moved : float, optional
        Way of the lower layer of air during an exposure, in diameters, see
        `stillsun.speckle.masking.exposure.ExposureTable`.

    Notes
    -----
    The object's power falls steeply, so the width of the window's spectrum shifts the effective frequency:
    models are multiplied by a smooth fit of that power and convolved with the window's power before they
    are compared.
    """

    def __init__(
        self,
        size: int,
        limit_y: float,
        limit_x: float,
        phase_limit: float,
        apodised: float,
        moved: float = 0.0,
    ) -> None:
        self.frequencies: Frequencies = frequencies(size, limit_y, limit_x, phase_limit)
        self.size = size
        self._moved = moved
        y = scipy.fft.fftfreq(size)[:, None]
        x = scipy.fft.rfftfreq(size)
        self._q = np.hypot(y / limit_y, x / limit_x)
        table = seeing_table()
        self.strengths = table.strength
        self._telescope = telescope_transfer(self._q) ** 2
        self._shares = table.shares
        coherent = np.stack([exposure_table().at(s, moved, self._q)[1] for s in self.strengths])
        self._log_long = np.stack(
            [[np.log(table.at(s, self._q, slope)[1]) for s in self.strengths] for slope in table.slope]
        ) + 0.5 * np.log(coherent)
        self._speckle = np.stack([self._speckle_at(s) for s in self.strengths])
        window = tukey(size, apodised)
        # Circular: its transform is the window's power, nowhere negative, so that no ringing enters.
        lags = scipy.fft.ifft(np.abs(scipy.fft.fft(window)) ** 2).real / np.sum(window**2)
        self._window = np.outer(lags, lags)
        self._window_power = window**2 / np.sum(window**2)
        # Rings one frequency pixel wide; narrower ones would be empty.
        self._pixels = size * min(limit_y, limit_x)
        self._ring = np.rint(self.frequencies.q * self._pixels).astype(np.intp)
        self._ring -= self._ring.min()
        self.rings = int(self._ring.max()) + 1
        self._ring_size = np.maximum(np.bincount(self._ring, minlength=self.rings), 1)
        self.ring_q = np.bincount(self._ring, self.frequencies.q, self.rings) / self._ring_size

    def ring_mean(self, values: np.ndarray) -> np.ndarray:
        """
        Means over rings of frequency.

        Parameters
        ----------
        values : numpy.ndarray
            (..., m).

        Returns
        -------
        numpy.ndarray
            (..., rings) float64.
        """
        flat = np.reshape(values, (-1, len(self._ring)))
        sums = [np.bincount(self._ring, row, self.rings) / self._ring_size for row in flat]
        return np.reshape(sums, (*np.shape(values)[:-1], self.rings))

    def spread(self, ring_values: np.ndarray) -> np.ndarray:
        """
        The value of its ring for each frequency.

        Parameters
        ----------
        ring_values : numpy.ndarray
            (rings,).

        Returns
        -------
        numpy.ndarray
            (m,).
        """
        return np.interp(self.frequencies.q, self.ring_q, ring_values)

    def fit(self, powers: BurstPowers, count: int | None = None) -> SeeingFit:
        """
        Fit D/r0 to the spectral ratio of all subfields together, and of each.

        Parameters
        ----------
        powers : BurstPowers
            Of the subfields.
        count : int, optional
            Tell the values of so many subfields, the first ones; of all by default.

        Returns
        -------
        SeeingFit
            Strength of the seeing and the transfer functions for it.

        Notes
        -----
        von der Luehe (1984): ``|<I>|^2 / <|I|^2>`` = e is free of the object. Numerator and denominator are
        summed over rings and subfields before they are divided. Its root is fitted with the weights
        e / (1 - e): the mean of a burst of independent frames scatters the less the more of it is coherent,
        and where little is left its error depends on few frames. Where noise prevails the error of its level
        decides, and the weight falls as the square of signal over noise.
        """
        below, above, grain = (self.ring_mean(p) for p in (powers.power, powers.coherent, powers.noise))
        trusted = powers.trusted
        # Equal say for all: the power of one with a spot or the limb in it would outweigh the rest.
        share = np.maximum(below[:, self.ring_q > _FIRST_Q].sum(axis=1), 0.0)
        share = np.where(share > 0, 1.0 / np.where(share > 0, share, 1.0), 0.0)
        fine = np.arange(self.strengths[0], self.strengths[-1] + _STEP / 2, _STEP)
        strength = _FIRST_STRENGTH
        ratios = np.stack([_ratio(a, b) for a, b in zip(above, below, strict=True)])
        motion = self._motion(powers.gradient)
        total = share[trusted] @ below[trusted]
        scatter = _scatter(share[trusted] @ grain[trusted], total)
        weight = self._first_range(_ratio(share[trusted] @ above[trusted], total)) / (1 + scatter)
        for _ in range(_ROUNDS):
            total = share[trusted] @ below[trusted]
            scatter = _scatter(share[trusted] @ grain[trusted], total)
            ratio = _ratio(share[trusted] @ above[trusted], total)
            scene = self._scene(total, strength)
            roots = np.sqrt(self._model_ratios(scene, self._slope(total, strength)) * motion)
            models = PchipInterpolator(self.strengths, roots, axis=0)(fine)
            best = int(_nearest(ratio[None], models, weight)[0])
            strength = float(fine[best])
            local = np.where(share > 0, fine[_nearest(ratios, models, weight)], np.nan)
            weight = self._weight(models[best] ** 2, scatter)
            trusted = _alike(local, trusted)
        smooth = self._smear(scene)
        return SeeingFit(
            strength,
            local[:count],
            ratios[:count],
            best in (0, len(fine) - 1),
            self._pick(self._smear(scene * self._speckle_at(strength)) / smooth),
            self._pick(self._smear(scene * self._telescope) / smooth),
            models[best] ** 2,
        )

    def _start(self) -> np.ndarray:
        return self.ring_q > max(_FIRST_Q, _FIRST_PIXEL / self._pixels)

    def _first_range(self, ratio: np.ndarray) -> np.ndarray:
        """Equal weights from the first ring in use to the one where a ratio has fallen, (rings,)."""
        start = self._start()
        low = np.flatnonzero(start & (ratio < _LEAST_RATIO))
        end = int(low[0]) if len(low) else self.rings
        return self._at_least(start & (np.arange(self.rings) < end)).astype(np.float64)

    def _weight(self, model: np.ndarray, scatter: np.ndarray) -> np.ndarray:
        """Weights in the fit, (rings,), where the ratio is about that of a model."""
        inside = self._at_least(self._start() & (model >= _LEAST_RATIO))
        model = np.maximum(model, _LEAST_RATIO)
        return np.where(inside, 1.0 / (np.maximum(1 - model, _LEAST_SCATTER) / model + scatter), 0.0)

    def _at_least(self, inside: np.ndarray) -> np.ndarray:
        if np.count_nonzero(inside) < _LEAST_RINGS:
            first = int(np.argmax(self._start()))
            inside[first : first + _LEAST_RINGS] = True
        return inside

    def _motion(self, gradient: float) -> np.ndarray:
        """
        What motion within the subfield leaves of the coherent power, (rings,).

        The subfield is tracked as a whole; at a distance d from its middle content moves by a variance of
        gradient d^2, so that the mean loses a factor exp(-(2 pi f d)^2 gradient) there.
        """
        place = np.arange(self.size) - (self.size - 1) / 2
        wave = 2 * np.pi * self.ring_q * self._pixels / self.size
        loss = np.exp(-gradient * np.multiply.outer(wave, place) ** 2)
        return (loss @ self._window_power) ** 2

    def _scene(self, power: np.ndarray, strength: float) -> np.ndarray:
        """Smooth object power on the half plane: quadratic in the logarithm against q."""
        transfer = self.ring_mean(self._pick(self._speckle_at(strength)))
        good = (self.ring_q > _FIRST_Q) & (self.ring_q < _SCENE_Q) & (power > _SCENE_POWER * power.max())
        if np.count_nonzero(good) < 4:
            return np.ones_like(self._q)
        q = self.ring_q[good]
        fit = np.polynomial.Polynomial.fit(q, np.log(power[good] / transfer[good]), 2)
        # Outside the range of the fit the scene is taken as flat: a parabola means nothing there.
        return np.exp(np.clip(fit(np.clip(self._q, q[0], q[-1])) - fit(q[0]), -20.0, 3.0))

    def _slope(self, power: np.ndarray, strength: float) -> float:
        """How steeply the power of the object falls where it is tracked: ``10 ** (-slope * q)``."""
        transfer = self.ring_mean(self._pick(self._speckle_at(strength)))
        good = (self.ring_q > _FIRST_Q) & (self.ring_q < _TRACKED_Q) & (power > _SCENE_POWER * power.max())
        if np.count_nonzero(good) < 3:
            return GRANULATION_SLOPE
        return -float(np.polyfit(self.ring_q[good], np.log10(power[good] / transfer[good]), 1)[0])

    def _model_ratios(self, scene: np.ndarray, slope: float) -> np.ndarray:
        long_exposure = np.exp(np.tensordot(self._shares(slope), self._log_long, 1))
        above = self.ring_mean(self._pick(self._smear(scene * (self._telescope * long_exposure**2))))
        below = self.ring_mean(self._pick(self._smear(scene * self._speckle)))
        return np.clip(above / np.maximum(below, 1e-30), 0.0, 1.0)

    def _smear(self, power: np.ndarray) -> np.ndarray:
        """Convolution with the window's power, as a product in the space of lags."""
        lags = scipy.fft.irfft2(power, s=(self.size, self.size))
        return np.maximum(scipy.fft.rfft2(lags * self._window).real, 1e-30)

    def _speckle_at(self, strength: float) -> np.ndarray:
        """Speckle transfer function on the half plane, not smeared."""
        speckle, long_exposure = seeing_table().at(strength, self._q)
        if self._moved > 0:
            kept, coherent = exposure_table().at(strength, self._moved, self._q)
            steady = np.minimum(long_exposure**2, speckle)
            speckle = steady * coherent + (speckle - steady) * kept
        return self._telescope * speckle

    def _pick(self, plane: np.ndarray) -> np.ndarray:
        """Values at the frequencies in use, (..., m), of half planes."""
        return plane[..., self.frequencies.y, self.frequencies.x]


@lru_cache(maxsize=8)
def seeing_model(
    size: int, limit_y: float, limit_x: float, phase_limit: float, apodised: float, moved: float = 0.0
) -> SeeingModel:
    """
    The model curves of a geometry, kept for the next burst.

    Parameters
    ----------
    size, limit_y, limit_x, phase_limit, apodised, moved
        As for `SeeingModel`.

    Returns
    -------
    SeeingModel
        The same object for the same arguments.
    """
    return SeeingModel(size, limit_y, limit_x, phase_limit, apodised, moved)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.clip(above / np.maximum(below, 1e-12 * max(float(below.max()), 1e-30)), 0.0, 1.0)


def _scatter(noise: np.ndarray, signal: np.ndarray) -> np.ndarray:
    return _NOISE_SCATTER * (noise / np.maximum(signal, 1e-12 * max(float(signal.max()), 1e-30))) ** 2


def _nearest(ratios: np.ndarray, models: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Number of the model (k, rings) that is nearest to the root of each ratio (n, rings): (n,)."""
    inside = weight > 0
    known, wanted = models[:, inside], np.sqrt(ratios[:, inside]) * weight[inside]
    # The square of the ratio's own root is the same for all models.
    return np.asarray(((known**2) @ weight[inside] - 2 * wanted @ known.T).argmin(axis=1))


def _alike(local: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Of the trusted subfields those whose value is near the median: an edge in a subfield misleads."""
    known = trusted & np.isfinite(local)
    if not known.any():
        return trusted
    middle = np.median(local[known])
    alike = known & (np.abs(local - middle) <= _LIKENESS * middle)
    return alike if alike.any() else trusted
