"""Mean bispectrum of a subfield's spectra: unit phasors with weights from their signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Ratios beyond this come only from bursts without noise or seeing, where any weight will do.
HIGHEST_SNR = 1.0e3
# So many ratios tell their quantile to a fraction of a percent.
SAMPLE = 20_000
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def gather(spectra, rows, columns, first, real, imag):  # type: ignore[no-untyped-def]
    """
    Move spectra to frequency-major order, in which frames are neighbours in memory.

    Parameters
    ----------
    spectra : numpy.ndarray
        Half-plane spectra of some frames, (n, size, size / 2 + 1) complex64.
    rows, columns : numpy.ndarray
        Frequencies to take, (m,) int32; negative rows count from the end.
    first : int
        Number of the first of these frames.
    real, imag : numpy.ndarray
        Result, (m, frames) float32.
    """
    size = spectra.shape[1]
    for f in range(rows.size):
        y = rows[f] % size
        x = columns[f]
        for k in range(spectra.shape[0]):
            value = spectra[k, y, x]
            real[f, first + k] = value.real
            imag[f, first + k] = value.imag


@njit(cache=True, nogil=True, fastmath=_FAST)
def mean_bispectrum(real, imag, u, v, w, phasor, snr):  # type: ignore[no-untyped-def]
    """
    Phase and signal-to-noise ratio of the mean bispectrum ``<I(u) I(v) I*(u+v)>``.

    Parameters
    ----------
    real, imag : numpy.ndarray
        Spectra, (m, frames) float32, of order 1.
    u, v, w : numpy.ndarray
        Triples, (t,) int32; numbers from m on stand for minus a frequency.
    phasor : numpy.ndarray
        Result: ``B / |B|``, (t,) complex64.
    snr : numpy.ndarray
        Result: ``|<B>|`` over its standard error, (t,) float32.

    Notes
    -----
    The photon bias of B (Wirnitzer 1985) is below 1 % at solar light levels and left in.
    """
    count, frames = real.shape
    for t in range(u.size):
        sign_u = np.float32(1.0 if u[t] < count else -1.0)
        sign_w = np.float32(1.0 if w[t] < count else -1.0)
        ur, ui = real[u[t] % count], imag[u[t] % count]
        vr, vi = real[v[t]], imag[v[t]]
        wr, wi = real[w[t] % count], imag[w[t] % count]
        sum_re = np.float32(0.0)
        sum_im = np.float32(0.0)
        power = np.float32(0.0)
        for k in range(frames):
            a = ur[k] * vr[k] - sign_u * ui[k] * vi[k]
            b = ur[k] * vi[k] + sign_u * ui[k] * vr[k]
            re = a * wr[k] + b * (sign_w * wi[k])
            im = b * wr[k] - a * (sign_w * wi[k])
            sum_re += re
            sum_im += im
            power += re * re + im * im
        size = math.sqrt(sum_re * sum_re + sum_im * sum_im)
        if size > 0.0:
            phasor[t] = complex(sum_re / size, sum_im / size)
            mean = size / frames
            # Single precision may make the variance of a constant burst negative.
            scatter = max(power / frames - mean * mean, mean * mean * frames / HIGHEST_SNR**2)
            snr[t] = mean / math.sqrt(scatter / (frames - 1))
        else:
            phasor[t] = 0.0
            snr[t] = 0.0


def weigh(phasor: np.ndarray, snr: np.ndarray, keep: float, exponent: float) -> np.ndarray:
    """
    Weighted phasors: ``snr ** exponent`` times the phasor for the best part, 0 for the rest.

    Parameters
    ----------
    phasor : numpy.ndarray
        Unit phasors, (t,) complex64.
    snr : numpy.ndarray
        Their signal-to-noise ratios, (t,) float32.
    keep : float
        Share that is kept, 0 to 1.
    exponent : float
        Exponent of the weights.

    Returns
    -------
    numpy.ndarray
        (t,) complex64.
    """
    sample = snr[:: max(1, len(snr) // SAMPLE)]
    least = np.quantile(sample, 1.0 - keep) if keep < 1.0 else 0.0
    return _weigh(phasor, snr, np.float32(least), np.float32(exponent))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _weigh(phasor, snr, least, exponent):  # type: ignore[no-untyped-def]
    out = np.empty_like(phasor)
    for t in range(snr.size):
        if snr[t] >= least and snr[t] > 0.0:
            weight = np.float32(math.exp(exponent * math.log(snr[t])))
        else:
            weight = np.float32(0.0)
        out[t] = weight * phasor[t]
    return out
