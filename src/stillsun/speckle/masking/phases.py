"""Object phases from weighted bispectrum phasors: recursive start, then sweeps of phasor averaging."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Sweeps end when the phases change by less, rms, radians.
TOLERANCE = 0.05


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def solve(weighted, start, known, a, b, triple, phases, fixed, sweeps, tolerance, consistency):  # type: ignore[no-untyped-def]
    """
    Solve for the phases in place.

    Parameters
    ----------
    weighted : numpy.ndarray
        Weights times unit phasors of the bispectrum, (t,) complex64.
    start, known, a, b, triple : numpy.ndarray
        The equations, see `stillsun.speckle.masking.indices.Equations`.
    phases : numpy.ndarray
        Unit phasors, (2 m,) complex64, the second half for minus the frequencies; on entry those of the
        first `fixed` frequencies (and of their negatives) are given, and a guess for those that no
        equation reaches.
    fixed : int
        Number of frequencies whose phase stays as it is.
    sweeps : int
        Sweeps after the recursive start at most.
    tolerance : float
        End when the rms change in a sweep is smaller, radians.
    consistency : numpy.ndarray
        Result: ``|sum w p| / sum w`` over the equations of each frequency, (m,) float32, 0 to 1.

    Returns
    -------
    float
        Rms change of the phases in the last sweep, radians; 0 without a sweep.

    Notes
    -----
    Every sweep replaces each phase by the weighted mean of all its equations' phasors with the newest
    values of the others: weighted least squares of the complex residuals (Matson 1991), in order of
    frequency.
    """
    count = consistency.size
    consistency[:fixed] = 1.0
    change = 0.0
    for sweep in range(sweeps + 1):
        total = 0.0
        for t in range(fixed, count):
            end = known[t] if sweep == 0 else start[t + 1]
            re = np.float32(0.0)
            im = np.float32(0.0)
            weight = np.float32(0.0)
            for e in range(start[t], end):
                pa = phases[a[e]]
                pb = phases[b[e]]
                number = triple[e]
                if number >= 0:
                    wr, wi = weighted[number].real, weighted[number].imag
                else:
                    wr, wi = weighted[-1 - number].real, -weighted[-1 - number].imag
                pr = pa.real * pb.real - pa.imag * pb.imag
                pi = pa.real * pb.imag + pa.imag * pb.real
                re += pr * wr - pi * wi
                im += pr * wi + pi * wr
                weight += math.sqrt(wr * wr + wi * wi)
            size = math.sqrt(re * re + im * im)
            if size > 0.0:
                new_re, new_im = re / size, im / size
                if sweep > 0:
                    cosine = new_re * phases[t].real + new_im * phases[t].imag
                    total += math.acos(min(max(cosine, -1.0), 1.0)) ** 2
                phases[t] = complex(new_re, new_im)
                phases[count + t] = complex(new_re, -new_im)
                consistency[t] = size / weight
            else:
                consistency[t] = 0.0
        if sweep > 0:
            change = math.sqrt(total / max(count - fixed, 1))
            if change < tolerance:
                break
    return change
