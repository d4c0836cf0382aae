"""Phases from cross-spectra of neighbouring frequencies (Knox & Thompson 1974)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numba import njit

from stillsun.speckle.masking.bispectrum import HIGHEST_SNR
from stillsun.speckle.masking.geometry import tukey
from stillsun.speckle.masking.indices import LEAST_V, Equations, frequencies, sort_equations

_FAST = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True)
class CrossSpectra:
    """
    Pairs of frequencies u, u + d with a short d: every pair once.

    Attributes
    ----------
    u, w : numpy.ndarray
        Numbers of the frequencies u and w = u + d (see `stillsun.speckle.masking.indices.Frequencies`),
        (t,) int32.
    leak : numpy.ndarray
        Share of white noise's power that the window brings into the mean of ``I(u) I*(w)``, (t,) complex64.
    """

    u: np.ndarray
    w: np.ndarray
    leak: np.ndarray

    def __len__(self) -> int:
        return len(self.u)


@lru_cache(maxsize=8)
def cross_spectra(
    size: int,
    limit_y: float,
    limit_x: float,
    phase_limit: float,
    u_limit: float,
    v_limit: float,
    apodised: float,
) -> CrossSpectra:
    """
    Pairs of frequencies within the limits.

    Parameters
    ----------
    size : int
        Side of the subfield, pixels.
    limit_y, limit_x : float
        Diffraction limit along the axes, cycles per pixel.
    phase_limit : float
        Highest frequency, of the diffraction limit.
    u_limit, v_limit : float
        Largest x component and length of d, of the diffraction limit; never less than for triples.
    apodised : float
        Share of the side on which the window falls.

    Returns
    -------
    CrossSpectra
        Members both inside the phase limit. A pair and its conjugate -(u + d), -u are met once: 2 u + d
        lies in the upper half plane.
    """
    f = frequencies(size, limit_y, limit_x, phase_limit)
    number, full_y, full_x = f.numbered()
    window = scipy.fft.fft(tukey(size, apodised) ** 2)
    length = np.hypot(f.y, f.x)
    short = (length <= LEAST_V) | ((f.q <= v_limit) & (f.x <= u_limit * limit_x * size))
    parts: list[tuple[np.ndarray, ...]] = []
    for d in np.flatnonzero(short):
        sum_y, sum_x = full_y + f.y[d], full_x + f.x[d]
        inside = (np.abs(sum_y) < size // 2) & (np.abs(sum_x) < size // 2)
        w = np.where(inside, number[sum_y % size, sum_x % size], -1)
        twice_y, twice_x = full_y + sum_y, full_x + sum_x
        keep = (w >= 0) & ((twice_x > 0) | ((twice_x == 0) & (twice_y > 0)))
        # <N(u) N*(u + d)> is the transform of the squared window at -d.
        leak = np.conj(window[f.y[d]] * window[f.x[d]]) / window[0].real ** 2
        u = np.flatnonzero(keep)
        parts.append((u, w[keep], np.full(len(u), leak)))
    u, w, leak = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((w, u))
    return CrossSpectra(
        u[order].astype(np.int32), w[order].astype(np.int32), leak[order].astype(np.complex64)
    )


@lru_cache(maxsize=8)
def cross_equations(
    size: int,
    limit_y: float,
    limit_x: float,
    phase_limit: float,
    u_limit: float,
    v_limit: float,
    apodised: float,
) -> Equations:
    """
    Phase equations of a set of cross-spectra: two each.

    Parameters
    ----------
    size, limit_y, limit_x, phase_limit, u_limit, v_limit, apodised
        As for `cross_spectra`.

    Returns
    -------
    Equations
        In the form of those of triples, with a frequency of phase 0 as the third member: it has the
        number m behind the m frequencies, and no equation.
    """
    count = len(frequencies(size, limit_y, limit_x, phase_limit))
    pairs = cross_spectra(size, limit_y, limit_x, phase_limit, u_limit, v_limit, apodised)
    # One frequency more: numbers of negative ones move up.
    u, w = (k + (k >= count) for k in (pairs.u, pairs.w))
    index = np.arange(len(pairs), dtype=np.int32)
    return sort_equations(
        count + 1,
        np.concatenate([w, u]),
        np.concatenate([u, w]),
        np.full(2 * len(pairs), count, dtype=np.int32),
        np.concatenate([-1 - index, index]),
        given=count,
    )


@njit(cache=True, nogil=True, fastmath=_FAST)
def mean_cross_spectra(real, imag, u, w, leak, noise, phasor, snr):  # type: ignore[no-untyped-def]
    """
    Phase and signal-to-noise ratio of the mean cross-spectra ``<I(u) I*(u+d)>``.

    Parameters
    ----------
    real, imag : numpy.ndarray
        Spectra of aligned frames, (m, frames) float32.
    u, w : numpy.ndarray
        Pairs, (t,) int32; numbers from m on stand for minus a frequency.
    leak : numpy.ndarray
        Share of the noise in each, (t,) complex64.
    noise : float
        Power of the noise per frequency.
    phasor : numpy.ndarray
        Result: unit phasors, (t,) complex64.
    snr : numpy.ndarray
        Result: the mean's size over its standard error, (t,) float32.
    """
    count, frames = real.shape
    for t in range(u.size):
        sign_u = np.float32(1.0 if u[t] < count else -1.0)
        sign_w = np.float32(1.0 if w[t] < count else -1.0)
        ur, ui = real[u[t] % count], imag[u[t] % count]
        wr, wi = real[w[t] % count], imag[w[t] % count]
        sum_re = np.float32(0.0)
        sum_im = np.float32(0.0)
        power = np.float32(0.0)
        for k in range(frames):
            re = ur[k] * wr[k] + (sign_u * sign_w) * ui[k] * wi[k]
            im = sign_u * ui[k] * wr[k] - sign_w * ur[k] * wi[k]
            sum_re += re
            sum_im += im
            power += re * re + im * im
        scatter = power / frames - (sum_re * sum_re + sum_im * sum_im) / (float(frames) * frames)
        mean_re = sum_re / frames - noise * leak[t].real
        mean_im = sum_im / frames - noise * leak[t].imag
        mean = math.sqrt(mean_re * mean_re + mean_im * mean_im)
        if mean > 0.0:
            phasor[t] = complex(mean_re / mean, mean_im / mean)
            # Single precision may make the variance of a constant burst negative.
            scatter = max(scatter, mean * mean * frames / HIGHEST_SNR**2)
            snr[t] = mean / math.sqrt(scatter / (frames - 1))
        else:
            phasor[t] = 0.0
            snr[t] = 0.0


@njit(cache=True, nogil=True, fastmath=_FAST)
def align(real, imag, rows, columns, size, shifts):  # type: ignore[no-untyped-def]
    """
    Move the frames, by their phases, in place.

    Parameters
    ----------
    real, imag : numpy.ndarray
        Spectra, (m, frames) float32.
    rows, columns : numpy.ndarray
        Their frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfield, pixels.
    shifts : numpy.ndarray
        (frames, 2) float64, order y, x: content moves by +shift.
    """
    turn = 2.0 * np.pi / size
    for f in range(rows.size):
        ky, kx = turn * rows[f], turn * columns[f]
        for k in range(shifts.shape[0]):
            angle = np.float32(ky * shifts[k, 0] + kx * shifts[k, 1])
            cosine, sine = np.cos(angle), np.sin(angle)
            re, im = real[f, k], imag[f, k]
            real[f, k] = re * cosine + im * sine
            imag[f, k] = im * cosine - re * sine
