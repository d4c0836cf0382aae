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
