"""Spectrum of the object in a subfield: from power and phases, or from the mean where seeing leaves that."""

from __future__ import annotations

import numpy as np

from stillsun.speckle.masking.ratio import SeeingModel
from stillsun.speckle.masking.subfield import SubfieldResult

# The mean spectrum serves where the spectral ratio lies above the second, the speckles below the first.
_COHERENT = (0.7, 0.9)


def object_amplitude(
    power: np.ndarray,
    noise: np.ndarray,
    transfer: np.ndarray,
    frames: int,
    model: SeeingModel,
    *,
    noise_filter: bool,
) -> np.ndarray:
    """
    Fourier amplitudes of the object.

    Parameters
    ----------
    power : numpy.ndarray
        ``<|I|^2>``, (m,).
    noise : numpy.ndarray
        Its part that is noise, (m,) or a scalar.
    transfer : numpy.ndarray
        What the object's power was multiplied by, (m,).
    frames : int
        Frames in the burst.
    model : SeeingModel
        Knows the rings of frequency.
    noise_filter : bool
        Damp what noise prevails in.

    Returns
    -------
    numpy.ndarray
        (m,) float64; 0 where the noise is larger than the power.

    Notes
    -----
    The filter is ``s^2 / (1 + s^2)`` with ``s = sqrt(frames) (P - Pn) / Pn``, means over rings: the excess of
    the mean power over the noise against the scatter of the noise. With ``s^2 = (P - Pn) / Pn`` it would be
    ``(P - Pn) / P``, the filter of Brault & White (1971) for one spectrum, by which a burst would lose what
    its frames have in common; and with P instead of Pn below, a short burst would lose contrast where there
    is no noise.
    """
    signal = np.maximum(power - noise, 0.0)
    amplitude = np.sqrt(signal / transfer)
    if noise_filter:
        scatter = model.ring_mean(np.broadcast_to(noise, power.shape)) ** 2
        excess = frames * np.maximum(model.ring_mean(power - noise), 0.0) ** 2
        amplitude = amplitude * model.spread(excess / np.maximum(excess + scatter, 1e-60))
    return np.asarray(amplitude)


def object_spectrum(
    result: SubfieldResult,
    noise: np.ndarray,
    transfer: np.ndarray,
    ratio: np.ndarray,
    frames: int,
    model: SeeingModel,
    *,
    noise_filter: bool,
) -> np.ndarray:
    """
    Fourier transform of the object.

    Parameters
    ----------
    result : SubfieldResult
        Power, mean and phases.
    noise : numpy.ndarray
        Part of the power that is noise, (m,).
    transfer : numpy.ndarray
        What the object's power was multiplied by, (m,).
    ratio : numpy.ndarray
        Spectral ratio ``|<I>|^2 / <|I|^2>``, means over rings, (rings,).
    frames : int
        Frames in the burst.
    model : SeeingModel
        Knows the rings of frequency.
    noise_filter : bool
        Damp what noise prevails in.

    Returns
    -------
    numpy.ndarray
        (m,) complex128.

    Notes
    -----
    Where nearly all of the power is coherent, amplitudes and phases of the speckles know no more than the
    mean spectrum does, which has less noise and is right at edges that the window cuts. Divided by
    ``<S>^2 = ratio transfer`` it has the same power.
    """
    amplitude = object_amplitude(result.power, noise, transfer, frames, model, noise_filter=noise_filter)
    low, high = _COHERENT
    share = np.clip((model.spread(ratio) - low) / (high - low), 0.0, 1.0)
    if not share.any():
        return amplitude * result.phases
    coherent = np.maximum(model.spread(ratio), low)
    mean = result.mean / np.sqrt(coherent * transfer)
    if noise_filter:
        signal = frames * np.maximum(model.ring_mean(result.power - noise) * ratio, 0.0)
        grain = model.ring_mean(np.broadcast_to(noise, result.power.shape))
        mean = mean * model.spread(signal / np.maximum(signal + grain, 1e-60))
    return share * mean + (1 - share) * amplitude * result.phases
