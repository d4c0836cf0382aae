"""Object amplitudes of a subfield from its power, the noise and the transfer function (Labeyrie 1970)."""

from __future__ import annotations

import numpy as np

from stillsun.speckle.masking.ratio import SeeingModel


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
    The filter is ``s^2 / (1 + s^2)`` with the signal-to-noise ratio of the mean power
    ``s = sqrt(frames) (P - Pn) / P``, means over rings: the filter of Brault & White (1971) for one frame,
    ``(P - Pn) / P``, would be too strong for a burst.
    """
    signal = np.maximum(power - noise, 0.0)
    amplitude = np.sqrt(signal / transfer)
    if noise_filter:
        total = model.ring_mean(power)
        above = np.maximum(model.ring_mean(power - noise), 0.0)
        ratio = np.sqrt(frames) * above / np.maximum(total, 1e-30)
        amplitude = amplitude * model.spread(ratio**2 / (1.0 + ratio**2))
    return np.asarray(amplitude)
