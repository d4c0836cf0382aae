"""Frequencies and bispectrum triples of a subfield: what is used, each once, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Frequencies whose phases the recursive start takes from the mean image.
FIXED_RADIUS = 1.5
# A bispectrum with shorter vectors than this hangs together by too few equations.
LEAST_V = 2.3
_BLOCK = 4


@dataclass(frozen=True)
class Frequencies:
    """
    One of each pair f, -f inside the phase limit, from low to high.

    Attributes
    ----------
    size : int
        Side of the subfield, pixels.
    y, x : numpy.ndarray
        Frequencies in cycles per subfield, (m,) int32; x >= 0. Number m + i stands for minus frequency i.
    q : numpy.ndarray
        Their length in units of the diffraction limit, (m,) float64.
    fixed : int
        So many of them, the first ones, start with the phase of the mean image.
    """

    size: int
    y: np.ndarray
    x: np.ndarray
    q: np.ndarray
    fixed: int

    def __len__(self) -> int:
        return len(self.y)

    def numbered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Number all frequencies and their negatives.

        Returns
        -------
        number : numpy.ndarray
            (size, size) int32: number of each frequency of the Fourier plane; -1 outside the phase limit.
        full_y, full_x : numpy.ndarray
            (2 m,) int32: frequency of each number.
        """
        count = len(self)
        number = np.full((self.size, self.size), -1, dtype=np.int32)
        number[self.y, self.x] = np.arange(count)
        number[-self.y, -self.x] = np.arange(count) + count
        return number, np.concatenate([self.y, -self.y]), np.concatenate([self.x, -self.x])


@dataclass(frozen=True)
class Triples:
    """
    Bispectrum elements u, v, u + v: every sum-zero triple of frequencies once.

    Attributes
    ----------
    u, v, w : numpy.ndarray
        Numbers of the frequencies (see `Frequencies`) u, v and w = u + v, (t,) int32.
    """

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray

    def __len__(self) -> int:
        return len(self.u)


@dataclass(frozen=True)
class Equations:
    """
    Phase equations ``p(target) = p(a) p(b) B^(+-1)`` sorted by target.

    Attributes
    ----------
    start : numpy.ndarray
        First equation of each target, (m + 1,) int64.
    known : numpy.ndarray
        End of those equations of each target whose members have lower numbers than it, (m,) int64.
    a, b : numpy.ndarray
        Numbers of the two frequencies, (e,) int32.
    triple : numpy.ndarray
        Number of the triple; ``-1 - number`` where its conjugate is meant, (e,) int32.
    """

    start: np.ndarray
    known: np.ndarray
    a: np.ndarray
    b: np.ndarray
    triple: np.ndarray


@lru_cache(maxsize=8)
def frequencies(size: int, limit_y: float, limit_x: float, phase_limit: float) -> Frequencies:
    """
    Frequencies inside the phase limit.

    Parameters
    ----------
    size : int
        Side of the subfield, pixels, even.
    limit_y, limit_x : float
        Diffraction limit along the axes, cycles per pixel.
    phase_limit : float
        Highest frequency, of the diffraction limit.

    Returns
    -------
    Frequencies
        Inside the limit and inside the Nyquist frequency along both axes.
    """
    half = size // 2
    y, x = (a.ravel() for a in np.mgrid[-half + 1 : half, 0:half])
    q = np.hypot(y / (size * limit_y), x / (size * limit_x))
    keep = (q <= phase_limit) & ((x > 0) | (y > 0))
    y, x, q = y[keep], x[keep], q[keep]
    order = np.lexsort((x, y, q))
    y, x, q = y[order], x[order], q[order]
    low = np.flatnonzero(np.hypot(y, x) > FIXED_RADIUS)
    # All up to the first that is longer: the order by q may differ from that by length.
    fixed = int(low[0]) if len(low) else len(y)
    return Frequencies(size, y.astype(np.int32), x.astype(np.int32), q, fixed)


@lru_cache(maxsize=8)
def triples(
    size: int, limit_y: float, limit_x: float, phase_limit: float, u_limit: float, v_limit: float
) -> Triples:
    """
    Bispectrum elements within the limits.

    Parameters
    ----------
    size, limit_y, limit_x, phase_limit
        As for `frequencies`.
    u_limit : float
        One member at least has an x component up to this, of the diffraction limit.
    v_limit : float
        One member at least has a length up to this, of the diffraction limit; never less than 2.3
        frequency pixels, below which the equations are too few.

    Returns
    -------
    Triples
        Members all inside the phase limit.

    Notes
    -----
    Exchange of members and f to -f give the same number up to conjugation. A triple is met once: v is the
    member with the lowest number, u is chosen from u and -(u + v) such that 2 u + v lies in the upper
    half plane.
    """
    f = frequencies(size, limit_y, limit_x, phase_limit)
    count = len(f)
    number, full_y, full_x = f.numbered()
    everything = np.arange(2 * count, dtype=np.int32)
    u_reach = u_limit * limit_x * size
    parts: list[tuple[np.ndarray, ...]] = []
    for short in np.flatnonzero((f.q <= v_limit) | (np.hypot(f.y, f.x) <= LEAST_V)):
        sum_y, sum_x = full_y + f.y[short], full_x + f.x[short]
        inside = (np.abs(sum_y) < size // 2) & (np.abs(sum_x) < size // 2)
        w = np.where(inside, number[sum_y % size, sum_x % size], -1)
        twice_y, twice_x = full_y + sum_y, full_x + sum_x
        upper = (twice_x > 0) | ((twice_x == 0) & (twice_y > 0))
        smallest_x = np.minimum(np.minimum(np.abs(full_x), np.abs(sum_x)), abs(f.x[short]))
        long_v = np.hypot(f.y[short], f.x[short]) > LEAST_V
        keep = (
            (w >= 0)
            & upper
            & (everything % count >= short)
            & (w % count >= short)
            & ((smallest_x <= u_reach) | ~long_v)
        )
        chosen = everything[keep]
        parts.append((chosen, np.full(len(chosen), short, dtype=np.int32), w[keep]))
    if not parts:
        empty = np.empty(0, dtype=np.int32)
        return Triples(empty, empty, empty)
    u, v, w = np.concatenate(parts, axis=1)
    # Blocks of neighbouring u meet the same u + v: their spectra stay in the cache.
    order = np.lexsort((v, full_x[u], full_y[u], full_x[u] // _BLOCK, full_y[u] // _BLOCK))
    return Triples(u[order], v[order], w[order])


@lru_cache(maxsize=8)
def equations(
    size: int, limit_y: float, limit_x: float, phase_limit: float, u_limit: float, v_limit: float
) -> Equations:
    """
    Phase equations of a set of triples: up to three each.

    Parameters
    ----------
    size, limit_y, limit_x, phase_limit, u_limit, v_limit
        As for `triples`.

    Returns
    -------
    Equations
        Where u = v only the equation for u + v: the other one leaves a sign open.
    """
    f = frequencies(size, limit_y, limit_x, phase_limit)
    t = triples(size, limit_y, limit_x, phase_limit, u_limit, v_limit)
    count = len(f)
    index = np.arange(len(t), dtype=np.int32)
    other = t.u % count != t.v % count

    def minus(k: np.ndarray) -> np.ndarray:
        return (k + count) % (2 * count)

    target = np.concatenate([t.w, t.u[other], t.v[other]])
    a = np.concatenate([t.u, t.w[other], t.w[other]])
    b = np.concatenate([t.v, minus(t.v[other]), minus(t.u[other])])
    triple = np.concatenate([-1 - index, index[other], index[other]])
    return sort_equations(count, target, a, b, triple)


def sort_equations(
    count: int, target: np.ndarray, a: np.ndarray, b: np.ndarray, triple: np.ndarray, given: int = -1
) -> Equations:
    """
    Bring phase equations into the order in which they are solved.

    Parameters
    ----------
    count : int
        Number of frequencies; from there on numbers stand for minus a frequency.
    target, a, b : numpy.ndarray
        Numbers of the frequencies, (e,).
    triple : numpy.ndarray
        Number of the triple, or -1 - number for its conjugate, (e,).
    given : int, optional
        A frequency whose phase is known before all others.

    Returns
    -------
    Equations
        Sorted by target, those first whose members come before it.
    """

    def minus(k: np.ndarray) -> np.ndarray:
        return (k + count) % (2 * count)

    # An equation for minus a frequency is the conjugate of one for the frequency.
    mirrored = target >= count
    target, a, b = (np.where(mirrored, minus(k), k) for k in (target, a, b))
    triple = np.where(mirrored, -1 - triple, triple)
    rank_a, rank_b = (np.where(k % count == given, -1, k % count) for k in (a, b))
    known = np.maximum(rank_a, rank_b) < target
    order = np.lexsort((triple, ~known, target))
    bounds = np.searchsorted(target[order], np.arange(count + 1))
    ends = bounds[:-1] + np.bincount(target[known], minlength=count)
    return Equations(
        bounds.astype(np.int64),
        ends.astype(np.int64),
        a[order].astype(np.int32),
        b[order].astype(np.int32),
        triple[order].astype(np.int32),
    )
