"""Object phases from weighted bispectrum phasors: recursive start, then sweeps of phasor averaging."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numba import njit

# Sweeps end when the phases change by less, rms, radians.
TOLERANCE = 0.15
# Newton steps of the registration after the best whole pixel.
STEPS = 3
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def solve(weighted, start, known, a, b, triple, phases, fixed, sweeps, tolerance):  # type: ignore[no-untyped-def]
    """
    Solve for the phases in place.

    Parameters
    ----------
    weighted : numpy.ndarray
        Weights times unit phasors of the bispectrum, (t,) complex64.
    start, known, a, b, triple : numpy.ndarray
        The equations, see `stillsun.speckle.masking.indices.Equations`.
    phases : numpy.ndarray
        Unit phasors, (m,) complex64; on entry those of the first `fixed` frequencies are given, and a guess
        for those that no equation reaches.
    fixed : int
        Number of frequencies whose phase the start takes as it is; the sweeps improve it.
    sweeps : int
        Sweeps after the recursive start at most.
    tolerance : float
        End when the rms change in a sweep is smaller, radians.

    Returns
    -------
    float
        Rms change of the phases in the last sweep, radians; 0 without a sweep.

    Notes
    -----
    Every sweep replaces each phase by the weighted mean of all its equations' phasors with the newest
    values of the others: weighted least squares of the complex residuals (Matson 1991), in order of
    frequency. The start alone needs given phases: the bispectrum knows the object but for its position, which
    `register` gives back.
    """
    count = phases.size
    # Both signs of every frequency, and each equation's own phasor: sweeps then read memory in order.
    re = np.empty(2 * count, dtype=np.float32)
    im = np.empty(2 * count, dtype=np.float32)
    for t in range(count):
        re[t], im[t] = phases[t].real, phases[t].imag
        re[count + t], im[count + t] = phases[t].real, -phases[t].imag
    weight_re = np.empty(triple.size, dtype=np.float32)
    weight_im = np.empty(triple.size, dtype=np.float32)
    for e in range(triple.size):
        number = triple[e]
        value = weighted[number] if number >= 0 else np.conj(weighted[-1 - number])
        weight_re[e], weight_im[e] = value.real, value.imag
    change = 0.0
    for sweep in range(sweeps + 1):
        total = 0.0
        for t in range(fixed if sweep == 0 else 0, count):
            end = known[t] if sweep == 0 else start[t + 1]
            sum_re = np.float32(0.0)
            sum_im = np.float32(0.0)
            for e in range(start[t], end):
                ar, ai = re[a[e]], im[a[e]]
                br, bi = re[b[e]], im[b[e]]
                product_re = ar * br - ai * bi
                product_im = ar * bi + ai * br
                sum_re += product_re * weight_re[e] - product_im * weight_im[e]
                sum_im += product_re * weight_im[e] + product_im * weight_re[e]
            size = math.sqrt(sum_re * sum_re + sum_im * sum_im)
            if size > 0.0:
                new_re, new_im = sum_re / size, sum_im / size
                if sweep > 0:
                    cosine = new_re * re[t] + new_im * im[t]
                    total += math.acos(min(max(cosine, -1.0), 1.0)) ** 2
                re[t], im[t] = new_re, new_im
                re[count + t], im[count + t] = new_re, -new_im
        if sweep > 0:
            change = math.sqrt(total / max(count, 1))
            if change < tolerance:
                break
    for t in range(count):
        phases[t] = complex(re[t], im[t])
    return change


def register(
    phases: np.ndarray, mean: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: int
) -> np.ndarray:
    """
    Move an object, by its phases, to where the mean image has it.

    Parameters
    ----------
    phases : numpy.ndarray
        Unit phasors, (m,) complex64.
    mean : numpy.ndarray
        Mean spectrum at the same frequencies, (m,) complex64.
    rows, columns : numpy.ndarray
        The frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfield, pixels.

    Returns
    -------
    numpy.ndarray
        Unit phasors, (m,) complex64.

    Notes
    -----
    The bispectrum knows nothing of position: it enters by the few phases that are given at the start,
    and their errors would shift the subfield against its neighbours. All frequencies that the mean image
    holds, weighted by their power, fix it much better.
    """
    cross = (mean * np.conj(phases)).astype(np.complex128) * np.abs(mean)
    plane = np.zeros((size, size // 2 + 1), dtype=np.complex128)
    plane[rows, columns] = cross
    edge = columns == 0
    plane[-rows[edge], 0] = np.conj(cross[edge])
    peak = np.unravel_index(scipy.fft.irfft2(plane, s=(size, size)).argmax(), (size, size))
    shift = (np.array(peak, dtype=np.float64) + size / 2) % size - size / 2
    wave = 2 * np.pi / size * np.stack([rows, columns], axis=1)
    for _ in range(STEPS):
        turned = cross * np.exp(1j * (wave @ shift))
        curvature = (wave * turned.real[:, None]).T @ wave
        if np.linalg.det(curvature) <= 0 or curvature[0, 0] <= 0:
            break
        shift -= np.linalg.solve(curvature, wave.T @ turned.imag)
    return (phases * np.exp(-1j * (wave @ shift))).astype(np.complex64)
