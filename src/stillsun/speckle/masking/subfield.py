"""What one subfield of a burst yields: its tracking, power, mean spectrum, and object phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.fft
from numba import njit

from stillsun.speckle.masking.bispectrum import gather
from stillsun.speckle.masking.geometry import blend, cut, tukey
from stillsun.speckle.masking.indices import Equations, Frequencies, Triples, equations, frequencies, triples
from stillsun.speckle.masking.phases import register
from stillsun.speckle.masking.tracking import coherent_mean, low_frequencies, track

# Frames transformed at a time: their spectra stay in the cache until they are gathered.
_CHUNK = 8
# Times that tracking forms the mean anew.
PASSES = 2
# Highest frequency that tracking uses, of the diffraction limit, and its reach in arcsec of seeing.
_TRACK_LIMIT = 0.3
# Noise is what lies beyond the diffraction limit and beyond this, cycles per pixel.
_NOISE_Q = 1.03
_NOISE_FREQUENCY = 0.3
_LEAST_NOISE = 24


@dataclass(frozen=True)
class Geometry:
    """
    Everything that subfields of one kind share: windows, frequencies, index sets.

    Attributes
    ----------
    size : int
        Side, pixels.
    limits : tuple of float
        Diffraction limit along y and x, cycles per pixel.
    reach : int
        Largest shift of a frame within the subfield, pixels.
    phase_limit, u_limit, v_limit : float
        Of the diffraction limit.
    apodised : float
        Share of the side on which the window falls.
    """

    size: int
    limits: tuple[float, float]
    reach: int
    phase_limit: float
    u_limit: float
    v_limit: float
    apodised: float

    @property
    def window(self) -> np.ndarray:
        """Window along an axis, (size,) float64."""
        return tukey(self.size, self.apodised)

    @property
    def frequencies(self) -> Frequencies:
        """Frequencies in use."""
        return frequencies(self.size, *self.limits, self.phase_limit)

    @property
    def triples(self) -> Triples:
        """Bispectrum elements in use."""
        return triples(self.size, *self.limits, self.phase_limit, self.u_limit, self.v_limit)

    @property
    def equations(self) -> Equations:
        """Phase equations."""
        return equations(self.size, *self.limits, self.phase_limit, self.u_limit, self.v_limit)

    def pixel_transfer(self) -> np.ndarray:
        """
        Transfer function of square pixels that integrate over their area.

        Returns
        -------
        numpy.ndarray
            At the frequencies in use, (m,) float64.
        """
        f = self.frequencies
        return np.asarray(np.sinc(f.y / self.size) * np.sinc(f.x / self.size))

    def noise_plane(self) -> np.ndarray:
        """
        Where a half-plane spectrum holds noise only.

        Returns
        -------
        numpy.ndarray
            (size, size / 2 + 1) float32: 0, or how many frequencies each stands for. All 0 where the
            detector does not sample beyond the diffraction limit.
        """
        y = scipy.fft.fftfreq(self.size)[:, None]
        x = scipy.fft.rfftfreq(self.size)
        q = np.hypot(y / self.limits[0], x / self.limits[1])
        outside = ((q > _NOISE_Q) & (np.hypot(y, x) > _NOISE_FREQUENCY)).astype(np.float32)
        outside[:, 1:-1] *= 2
        return outside if outside.sum() >= _LEAST_NOISE else np.zeros_like(outside)


@dataclass(frozen=True)
class TrackingPlan:
    """
    How the frames of a subfield are tracked.

    Attributes
    ----------
    binning : int
        Pixels summed along each axis.
    window : numpy.ndarray
        Window along an axis, (size,) float32.
    rows, columns : numpy.ndarray
        Frequencies that tracking uses, see `stillsun.speckle.masking.tracking.low_frequencies`.
    turns : tuple of numpy.ndarray
        ``exp(2 pi i f d / size)`` along y and x for each frequency and shift d, complex64.
    used : int
        So many frequencies of those in use, the first ones, align to a fraction of a pixel.
    """

    binning: int
    window: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    turns: tuple[np.ndarray, np.ndarray]
    used: int


def tracking_plan(geometry: Geometry) -> TrackingPlan:
    """
    How subfields of one kind are tracked.

    Parameters
    ----------
    geometry : Geometry
        What the subfields share.

    Returns
    -------
    TrackingPlan
        Binned by two where that loses nothing.
    """
    size = geometry.size
    binning = 2 if size % 4 == 0 and 2 * _TRACK_LIMIT * max(geometry.limits) < 0.4 else 1
    highest = max(2, int(_TRACK_LIMIT * max(geometry.limits) * size))
    rows, columns = low_frequencies(size // binning, highest)
    search = np.arange(-geometry.reach, geometry.reach + 1)
    turns_y, turns_x = (
        np.exp(2j * np.pi / size * np.outer(low, search)).astype(np.complex64) for low in (rows, columns)
    )
    used = int(np.searchsorted(geometry.frequencies.q, _TRACK_LIMIT))
    return TrackingPlan(binning, blend(size).astype(np.float32), rows, columns, (turns_y, turns_x), used)


@dataclass(frozen=True)
class SubfieldResult:
    """
    Statistics of one subfield.

    Attributes
    ----------
    power : numpy.ndarray
        ``<|I|^2>``, (m,) float32.
    mean : numpy.ndarray
        ``<I>``, (m,) complex64.
    noise : float
        Power beyond the diffraction limit, per frequency; NaN where there is none.
    phases : numpy.ndarray
        Object phasors, (m,) complex64.
    change : float
        Rms change in the last sweep, radians.
    shifts : numpy.ndarray
        (frames, 2) int64, order y, x, the frame's own shift included.
    offset : numpy.ndarray
        Mean shift that whole pixels leave over, (2,) float64: the content lies by this off its mean
        position.
    residual : numpy.ndarray
        What whole pixels leave over in each frame, (frames, 2) float64, mean zero.
    level : float
        Mean under the window, above the surface that was subtracted.
    """

    power: np.ndarray
    mean: np.ndarray
    noise: float
    phases: np.ndarray
    change: float
    shifts: np.ndarray
    offset: np.ndarray
    residual: np.ndarray
    level: float


class PhaseMethod(Protocol):
    """A way to the phases of the object, safe to use from several threads."""

    def __call__(
        self, real: np.ndarray, imag: np.ndarray, start: np.ndarray, shifts: np.ndarray, noise: float
    ) -> tuple[np.ndarray, float]:
        """
        Solve for the phases.

        Parameters
        ----------
        real, imag : numpy.ndarray
            Spectra of the frames of a subfield, (m, frames) float32; may be changed.
        start : numpy.ndarray
            Phases to start with, of which the lowest count, (m,) complex64.
        shifts : numpy.ndarray
            What whole-pixel tracking leaves over, (frames, 2) float64, order y, x: content moves by +shift.
        noise : float
            Power of the noise per frequency; NaN where it is not known.

        Returns
        -------
        phases : numpy.ndarray
            Unit phasors, (m,) complex64.
        change : float
            Their rms change in the last sweep, radians.
        """


class Worker:
    """
    Reduces the subfields of one burst; safe to use from several threads.

    Parameters
    ----------
    frames : numpy.ndarray
        (n, rows, columns) float32.
    scale : numpy.ndarray
        Factor of each, (n,) float32.
    surface : numpy.ndarray
        What is subtracted from the scaled frames, (rows, columns) float32.
    shifts : numpy.ndarray
        Shift of each, (n, 2) int64.
    geometry : Geometry
        What the subfields share.
    method : PhaseMethod
        Way to the phases.
    """

    def __init__(
        self,
        frames: np.ndarray,
        scale: np.ndarray,
        surface: np.ndarray,
        shifts: np.ndarray,
        geometry: Geometry,
        method: PhaseMethod,
    ) -> None:
        self._frames = frames
        self._scale = scale
        self._surface = surface
        # Tracking sees the frames whole: a surface that does not move would hold them where they are.
        self._nothing = np.zeros_like(surface)
        self._shifts = shifts
        self._geometry = geometry
        self._method = method
        self._window = geometry.window.astype(np.float32)
        self._noise_plane = geometry.noise_plane()
        self._noise_total = float(self._noise_plane.sum())
        self._tracking = tracking_plan(geometry)
        self._frequencies = geometry.frequencies

    def reduce(self, row: int, column: int, phases: bool = True) -> SubfieldResult:
        """
        All statistics of the subfield that starts there.

        Parameters
        ----------
        row, column : int
            Its first row and column, which may lie outside the frame.
        phases : bool, optional
            Solve for the phases; if not, those of the mean stand for them.

        Returns
        -------
        SubfieldResult
            Power, phases and tracking.
        """
        shifts, offset = self._track(row, column)
        frequency = self._frequencies
        count, size = len(self._frames), self._geometry.size
        real = np.empty((len(frequency), count), dtype=np.float32)
        imag = np.empty_like(real)
        noise_sum = 0.0
        means = np.empty(count)
        tile = np.empty((_CHUNK, size, size), dtype=np.float32)
        for first in range(0, count, _CHUNK):
            part = np.arange(first, min(first + _CHUNK, count))
            cut(
                self._frames,
                self._scale,
                self._surface,
                part,
                row,
                column,
                shifts,
                self._window,
                1,
                tile,
                means[part[0] : part[-1] + 1],
            )
            spectra = scipy.fft.rfft2(tile[: len(part)], norm="ortho")
            gather(spectra, frequency.y, frequency.x, first, real, imag)
            if self._noise_total:
                noise_sum += _masked_power(spectra, self._noise_plane)
        power, mean = np.empty(len(frequency), dtype=np.float32), np.empty(len(frequency), dtype=np.complex64)
        _mean_power(real, imag, power)
        residual = np.empty((count, 2))
        coherent_mean(real, imag, frequency.y, frequency.x, size, self._tracking.used, PASSES, residual, mean)
        noise = noise_sum / (count * self._noise_total) if self._noise_total else float("nan")
        found, change = _unit(mean), 0.0
        if phases:
            found, change = self._method(real, imag, found, residual, noise)
            found = register(found, mean, frequency.y, frequency.x, size)
        return SubfieldResult(
            power,
            mean,
            noise,
            found,
            change,
            shifts,
            offset,
            residual,
            float(means.mean()),
        )

    def _track(self, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Total shifts of the frames for this subfield, their mean over the burst removed."""
        plan = self._tracking
        count, binned = len(self._frames), self._geometry.size // plan.binning
        low = np.empty((count, len(plan.rows), len(plan.columns)), dtype=np.complex64)
        tile = np.empty((_CHUNK, binned, binned), dtype=np.float32)
        means = np.empty(_CHUNK)
        for first in range(0, count, _CHUNK):
            part = np.arange(first, min(first + _CHUNK, count))
            cut(
                self._frames,
                self._scale,
                self._nothing,
                part,
                row,
                column,
                self._shifts,
                plan.window,
                plan.binning,
                tile,
                means,
            )
            spectra = scipy.fft.rfft2(tile[: len(part)])
            low[part] = spectra[:, plan.rows[:, None], plan.columns]
        own = np.empty((count, 2), dtype=np.int64)
        track(low, *plan.turns, PASSES, own)
        total = self._shifts + own
        mean = total.mean(axis=0)
        whole = np.rint(mean)
        return total - whole.astype(np.int64), mean - whole


def _unit(values: np.ndarray) -> np.ndarray:
    size = np.abs(values)
    return np.where(size > 0, values / np.where(size > 0, size, 1), 1).astype(np.complex64)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _masked_power(spectra, weights):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(spectra.shape[0]):
        for y in range(spectra.shape[1]):
            part = np.float32(0.0)
            for x in range(spectra.shape[2]):
                value = spectra[k, y, x]
                part += weights[y, x] * (value.real * value.real + value.imag * value.imag)
            total += part
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _mean_power(real, imag, power):  # type: ignore[no-untyped-def]
    count, frames = real.shape
    for f in range(count):
        square = np.float32(0.0)
        for k in range(frames):
            square += real[f, k] * real[f, k] + imag[f, k] * imag[f, k]
        power[f] = square / frames
