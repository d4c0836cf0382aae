"""Power of the noise in the subfields: level from the data, shape from flat frames where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from stillsun.core.backend import to_host
from stillsun.errors import InputError
from stillsun.speckle.masking.geometry import cut, subfield_lattice
from stillsun.speckle.masking.prepare import LEAST_FRAMES
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult

# Subfields of the flat frames that are enough for the mean power.
_SAMPLES = 16
# Where nothing lies beyond the diffraction limit: this share of the highest frequency is nearest to noise.
_HIGHEST = 0.97
# Flat frames hold remains of the moving Sun; what exceeds their lowest power by this factor is no noise.
_MOST_COLOUR = 3.0
_LOW = 0.1


@dataclass(frozen=True)
class FlatNoise:
    """
    Noise of flat frames, windowed like the data.

    Attributes
    ----------
    power : numpy.ndarray
        Per frequency, relative to the square of their mean, (m,) float64.
    beyond : float
        Mean beyond the diffraction limit, in the same units; NaN where that is not sampled.
    level : float
        Mean of the flat frames.
    """

    power: np.ndarray
    beyond: float
    level: float


class FlatFrames:
    """
    Flat frames whose noise is measured once for all bursts of a sequence.

    Parameters
    ----------
    frames : array_like
        (frames, rows, columns), calibrated.
    """

    def __init__(self, frames: Any) -> None:
        self._frames = frames
        self._measured: dict[Geometry, FlatNoise | None] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, rows, columns)."""
        return np.shape(self._frames)

    def noise(self, shape: tuple[int, ...], geometry: Geometry) -> FlatNoise | None:
        """
        Their noise; see `flat_noise`.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of the data.
        geometry : Geometry
            What the subfields share.

        Returns
        -------
        FlatNoise or None
            Kept for the next burst.
        """
        if geometry not in self._measured:
            self._measured[geometry] = flat_noise(to_host(self._frames), shape, geometry)
        return self._measured[geometry]


def flat_noise(frames: np.ndarray, shape: tuple[int, ...], geometry: Geometry) -> FlatNoise | None:
    """
    Measure the noise of calibrated flat frames.

    Parameters
    ----------
    frames : numpy.ndarray
        (frames, rows, columns), rows and columns as in the data.
    shape : tuple of int
        Rows and columns of the data.
    geometry : Geometry
        What the subfields share.

    Returns
    -------
    FlatNoise or None
        Power of what changes from frame to frame, as far as it can be noise; None if nothing does or
        fewer than three frames are finite.

    Raises
    ------
    InputError
        If the frames are not like the data.
    """
    if frames.ndim != 3 or frames.shape[1:] != shape:
        raise InputError("noise frames do not match the burst", expected=f"(n, {shape})", found=frames.shape)
    size = geometry.size
    means = np.asarray(frames.mean(axis=(1, 2), dtype=np.float64))
    good = np.isfinite(means) & (means > 0)
    count = int(np.count_nonzero(good))
    if count < LEAST_FRAMES:
        return None
    level = float(means[good].mean())
    fluctuation = frames[good].astype(np.float32) / means[good, None, None].astype(np.float32)
    fluctuation -= fluctuation.mean(axis=0)
    if not fluctuation.any():
        return None
    lattice = subfield_lattice((shape[0], shape[1]), size, 0.0)
    places = [(int(r), int(c)) for r in lattice.rows for c in lattice.columns]
    places = places[:: max(1, len(places) // _SAMPLES)]
    window = geometry.window.astype(np.float32)
    still = np.zeros((count, 2), dtype=np.int64)
    same = np.ones(count, dtype=np.float32)
    tile = np.empty((count, size, size), dtype=np.float32)
    nothing = np.zeros(shape, dtype=np.float32)
    total = np.zeros((size, size // 2 + 1))
    for row, column in places:
        cut(
            fluctuation,
            same,
            nothing,
            np.arange(count),
            row,
            column,
            still,
            window,
            1,
            tile,
            np.empty(count),
        )
        total += (np.abs(scipy.fft.rfft2(tile, norm="ortho")) ** 2).sum(axis=0)
    # The mean that was subtracted took its share of the variance.
    total /= (count - 1) * len(places)
    plane = geometry.noise_plane()
    beyond = float((total * plane).sum() / plane.sum()) if plane.any() else float("nan")
    f = geometry.frequencies
    power = total[f.y, f.x]
    least = beyond if np.isfinite(beyond) else float(np.quantile(power, _LOW))
    return FlatNoise(np.minimum(power, _MOST_COLOUR * least), beyond, level)


def subfield_noise(
    results: list[SubfieldResult], geometry: Geometry, flats: FlatNoise | None, level: float
) -> np.ndarray:
    """
    Noise in the power of each subfield.

    Parameters
    ----------
    results : list of SubfieldResult
        The subfields.
    geometry : Geometry
        What they share.
    flats : FlatNoise or None
        Noise of flat frames; white noise is taken without.
    level : float
        Mean of the data.

    Returns
    -------
    numpy.ndarray
        (subfields, m) float64.

    Notes
    -----
    The level is that of the power beyond the diffraction limit, where the detector samples any; else that
    of the flat frames, scaled as photon noise, or of the highest frequencies, which is an upper limit.
    """
    levels = np.array([r.noise for r in results])
    count = len(geometry.frequencies)
    if flats is None:
        if np.isnan(levels).any():
            highest = geometry.frequencies.q >= _HIGHEST * geometry.frequencies.q[-1]
            levels = np.array([r.power[highest].mean() for r in results])
        return np.broadcast_to(levels[:, None], (len(results), count))
    if np.isnan(levels).any():
        return np.broadcast_to(flats.power * flats.level / level, (len(results), count))
    return levels[:, None] * (flats.power / flats.beyond)
