"""Subfields: where they lie, and how they are cut out of a burst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit

from stillsun.errors import InputError

SMALLEST = 16
# Largest distance of neighbouring subfields, of their side: at a half, phases are noisier where they meet.
_SPACING = 0.4


@dataclass(frozen=True)
class Lattice:
    """
    Square subfields that overlap by more than half; the outer ones overhang the frame.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    size : int
        Side of a subfield, pixels.
    rows, columns : numpy.ndarray
        First row and column of the subfields, (subfields y,) and (subfields x,) int64; the first ones are
        negative, the frame being continued by reflection.
    """

    shape: tuple[int, int]
    size: int
    rows: np.ndarray
    columns: np.ndarray

    @property
    def counts(self) -> tuple[int, int]:
        """Subfields along y and x."""
        return len(self.rows), len(self.columns)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """First row and column of each subfield, row by row."""
        return [(int(row), int(column)) for row in self.rows for column in self.columns]

    @property
    def inner(self) -> np.ndarray:
        """Which subfields lie wholly inside the frame, (subfields y, subfields x) bool."""
        flags = [
            (starts >= 0) & (starts + self.size <= length)
            for starts, length in zip((self.rows, self.columns), self.shape, strict=True)
        ]
        return np.logical_and.outer(*flags)

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the subfields' centres, pixels, zero-based, float64."""
        half = (self.size - 1) / 2
        return self.rows + half, self.columns + half


def subfield_size(arcsec: float, plate_scale: tuple[float, float], shape: tuple[int, int]) -> int:
    """
    Side of a subfield in pixels: even, quick to transform, and not larger than the frame.

    Parameters
    ----------
    arcsec : float
        Side wanted.
    plate_scale : tuple of float
        Arcsec per pixel along y and x.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    int
        Side in pixels.

    Raises
    ------
    InputError
        If the subfield or the frame is too small for a reconstruction.
    """
    wanted = arcsec / float(np.sqrt(plate_scale[0] * plate_scale[1]))
    limit = min(wanted * 1.05, *shape)
    fitting = [n for n in range(SMALLEST, int(limit) + 1, 2) if scipy.fft.next_fast_len(n, real=True) == n]
    if not fitting:
        raise InputError(
            "subfield or frame too small for a speckle reconstruction",
            expected=f"at least {SMALLEST} pixels",
            found=f"subfield {wanted:.0f} px, frame {shape[0]} x {shape[1]}",
            remedy="Choose a larger subfield_arcsec, or check the plate scale",
        )
    return fitting[-1]


def subfield_lattice(shape: tuple[int, int], size: int, apodised: float) -> Lattice:
    """
    Lay subfields over a frame.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    size : int
        Side of a subfield, pixels.
    apodised : float
        Share of the side on which the window falls, both sides together.

    Returns
    -------
    Lattice
        Subfields at equal steps of at most 0.4 of a side. The outer ones overhang the frame by a third of
        the apodised share, so that its edge lies where the window is at three quarters: a compromise
        between noise and false structure, since the mirror image beyond does not move with the seeing.
    """
    overhang = apodised * size / 3

    def starts(length: int) -> np.ndarray:
        span = length - size + 2 * overhang
        count = max(2, int(np.ceil(span / (_SPACING * size))) + 1)
        return np.rint(np.linspace(-overhang, length - size + overhang, count)).astype(np.int64)

    return Lattice(shape, size, starts(shape[0]), starts(shape[1]))


def inner_lattice(shape: tuple[int, int], size: int, shifts: np.ndarray) -> Lattice:
    """
    Lay subfields over a frame so that they see no mirror image beyond its edge, as far as it has room.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    size : int
        Side of a subfield, pixels.
    shifts : numpy.ndarray
        By how much they are moved in each exposure, (frames, 2), order y, x.

    Returns
    -------
    Lattice
        One subfield at least.
    """
    starts = []
    for length, moved in zip(shape, np.abs(shifts).max(axis=0), strict=True):
        first = min(int(moved), (length - size) // 2)
        span = length - size - 2 * first
        count = int(np.ceil(span / (_SPACING * size))) + 1
        starts.append(np.rint(np.linspace(first, first + span, count)).astype(np.int64))
    return Lattice(shape, size, *starts)


def tukey(size: int, apodised: float) -> np.ndarray:
    """
    Window that is flat inside and falls to zero like a cosine.

    Parameters
    ----------
    size : int
        Length, pixels.
    apodised : float
        Share of the length on which it falls, both sides together, 0 to 1.

    Returns
    -------
    numpy.ndarray
        (size,) float64, positive everywhere, symmetric.
    """
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    width = apodised * size / 2
    if width <= 0:
        return np.ones(size)
    return np.where(edge < width, 0.5 - 0.5 * np.cos(np.pi * edge / width), 1.0)


def blend(size: int) -> np.ndarray:
    """
    Raised cosine over a whole subfield: copies at half a side sum to 1.

    Parameters
    ----------
    size : int
        Length, pixels.

    Returns
    -------
    numpy.ndarray
        (size,) float64.
    """
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


@njit(cache=True, nogil=True)
def _reflect(index: int, length: int) -> int:
    period = 2 * length
    index = index % period
    return index if index < length else period - 1 - index


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def cut(burst, scale, surface, frames, row, column, shifts, window, binning, out, means):  # type: ignore[no-untyped-def]
    """
    Cut one subfield out of some frames, less a surface and the mean, times the window, binned.

    Parameters
    ----------
    burst : numpy.ndarray
        (frames, rows, columns) float32.
    scale : numpy.ndarray
        Factor of each frame, (frames,) float32.
    surface : numpy.ndarray
        What to subtract from the scaled frames, (rows, columns) float32; it stays where it is when the
        window moves.
    frames : numpy.ndarray
        Numbers of the frames to cut, (n,) int64.
    row, column : int
        First row and column of the subfield; outside the frame its mirror image is used.
    shifts : numpy.ndarray
        (frames, 2) int64, order y, x: the window is moved by minus the shift, so that content moves by plus.
    window : numpy.ndarray
        (size,) float32, used along both axes.
    binning : int
        Pixels summed along each axis; must divide the size.
    out : numpy.ndarray
        Result, (n, size / binning, size / binning) float32.
    means : numpy.ndarray
        Mean of each subfield under the window, (n,) float64: what was subtracted.
    """
    size = window.size
    rows, columns = burst.shape[1], burst.shape[2]
    xs = np.empty(size, dtype=np.int64)
    still = np.empty(size, dtype=np.int64)
    tile = np.empty((size, size), dtype=np.float32)
    total = 0.0
    for i in range(size):
        total += window[i]
        still[i] = _reflect(column + i, columns)
    for n in range(frames.size):
        k = frames[n]
        first = column - shifts[k, 1]
        inside = first >= 0 and first + size <= columns
        for x in range(size):
            xs[x] = _reflect(first + x, columns)
        mean = 0.0
        factor = scale[k]
        for y in range(size):
            source = burst[k, _reflect(row - shifts[k, 0] + y, rows)]
            smooth = surface[_reflect(row + y, rows)]
            line = tile[y]
            part = np.float32(0.0)
            if inside and column >= 0 and column + size <= columns:
                for x in range(size):
                    line[x] = source[first + x] * factor - smooth[column + x]
            else:
                for x in range(size):
                    line[x] = source[xs[x]] * factor - smooth[still[x]]
            for x in range(size):
                part += window[x] * line[x]
            mean += window[y] * part
        mean = mean / (total * total)
        means[n] = mean
        offset = np.float32(mean)
        target = out[n]
        target[:] = 0.0
        for y in range(size):
            line = tile[y]
            weight = window[y]
            if binning == 1:
                for x in range(size):
                    target[y, x] = (line[x] - offset) * (window[x] * weight)
            else:
                binned = target[y // binning]
                for x in range(size):
                    line[x] = (line[x] - offset) * (window[x] * weight)
                for part_x in range(binning):
                    for x in range(size // binning):
                        binned[x] += line[x * binning + part_x]
