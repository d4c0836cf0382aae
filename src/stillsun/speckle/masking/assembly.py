"""From the spectra of the subfields to images, theirs and the frame's."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from stillsun.core.backend import Backend
from stillsun.speckle.engine import Subfields
from stillsun.speckle.masking.geometry import Lattice, blend
from stillsun.speckle.masking.ratio import SeeingFit, SeeingModel
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult


def subfield_image(spectrum: np.ndarray, result: SubfieldResult, geometry: Geometry) -> np.ndarray:
    """
    Transform the spectrum of a subfield to its image.

    Parameters
    ----------
    spectrum : numpy.ndarray
        Fourier transform of the object, (m,).
    result : SubfieldResult
        What is left of the tracking.
    geometry : Geometry
        What the subfields share.

    Returns
    -------
    numpy.ndarray
        (size, size) float32, windowed, without its mean.
    """
    f, size = geometry.frequencies, geometry.size
    # Whole-pixel tracking leaves the content by a fraction off its mean place.
    turn = 2 * np.pi / size * (f.y * result.offset[0] + f.x * result.offset[1])
    values = spectrum * np.exp(1j * turn)
    plane = np.zeros((size, size // 2 + 1), dtype=np.complex64)
    plane[f.y, f.x] = values
    edge = f.x == 0
    plane[-f.y[edge], 0] = np.conj(values[edge])
    return np.asarray(scipy.fft.irfft2(plane, s=(size, size), norm="ortho"))


class SubfieldKeeper:
    """
    Collects the subfields of a burst.

    Parameters
    ----------
    lattice : Lattice
        Where they lie.
    geometry : Geometry
        What they share.
    surface : numpy.ndarray
        The background that was subtracted from them, (rows, columns) float32.
    """

    def __init__(self, lattice: Lattice, geometry: Geometry, surface: np.ndarray) -> None:
        self._lattice = lattice
        self._geometry = geometry
        self._window = np.outer(geometry.window, geometry.window)
        self._images = np.empty((*lattice.counts, geometry.size, geometry.size), dtype=np.float32)
        # The outer subfields overhang the frame, which is continued by reflection.
        self._surface = np.pad(surface, geometry.size, mode="symmetric")

    def add(self, i: int, j: int, image: np.ndarray, level: float) -> None:
        """
        Keep one subfield.

        Parameters
        ----------
        i, j : int
            Its place in the lattice.
        image : numpy.ndarray
            (size, size) float32, windowed, without its mean and background.
        level : float
            Its mean.
        """
        size = self._geometry.size
        row, column = self._lattice.rows[i] + size, self._lattice.columns[j] + size
        background = self._surface[row : row + size, column : column + size] + level
        self._images[i, j] = image + background * self._window

    def finish(
        self, results: list[SubfieldResult], fit: SeeingFit, model: SeeingModel, level: float
    ) -> Subfields:
        """
        Put all that is known of the subfields together.

        Parameters
        ----------
        results : list of SubfieldResult
            Their statistics.
        fit : SeeingFit
            Their spectral ratios.
        model : SeeingModel
            Knows the rings of frequency.
        level : float
            Mean of the burst.

        Returns
        -------
        Subfields
            In the units of the burst.
        """
        f, counts = self._geometry.frequencies, self._lattice.counts
        amplitude = level * np.sqrt(np.stack([r.power for r in results])).reshape(*counts, -1)
        planes = np.zeros_like(self._images)
        planes[..., f.y, f.x] = amplitude
        planes[..., -f.y, -f.x] = amplitude
        return Subfields(
            images=self._images * np.float32(level),
            amplitudes=planes,
            ratio=fit.ratio.reshape(*counts, -1).astype(np.float32),
            radii=model.ring_q,
            window=self._geometry.window,
        )


class Mosaic:
    """
    Puts subfields together into a frame.

    Parameters
    ----------
    lattice : Lattice
        Where the subfields lie.
    window : numpy.ndarray
        The window under which they were reconstructed, (size,) float64; it is divided out.
    backend : Backend
        Where the subfields are.
    """

    def __init__(self, lattice: Lattice, window: np.ndarray, backend: Backend) -> None:
        self.lattice = lattice
        weight = blend(lattice.size)
        self._weight = weight
        self._backend = backend
        # The raised cosine lies below the window at the edges, so the quotient stays below 1.
        factor = weight[:, None] * weight / (window[:, None] * window)
        self._factor = backend.asarray(factor.astype(np.float32))
        self._blend = backend.asarray(np.outer(weight, weight))
        self._sum = backend.xp.zeros(lattice.shape, dtype=np.float64)

    def add(self, i: int, j: int, subfield: Any, mean: float) -> None:
        """
        Add one subfield.

        Parameters
        ----------
        i, j : int
            Its place in the lattice.
        subfield : array
            (size, size) float32, windowed, without its mean.
        mean : float
            Its mean.
        """
        frame, tile = self._overlap(i, j)
        target = self._sum[frame]
        target += subfield[tile] * self._factor[tile]
        target += mean * self._blend[tile]

    def image(self) -> Any:
        """
        The frame.

        Returns
        -------
        array
            (rows, columns) float32.
        """
        sums = []
        for length, starts in zip(self.lattice.shape, (self.lattice.rows, self.lattice.columns), strict=True):
            total = np.zeros(length)
            for start in starts:
                inside = slice(max(start, 0), min(start + self.lattice.size, length))
                total[inside] += self._weight[inside.start - start : inside.stop - start]
            sums.append(total)
        return (self._sum / self._backend.asarray(np.outer(*sums))).astype(np.float32)

    def _overlap(self, i: int, j: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        frame, tile = [], []
        starts = (int(self.lattice.rows[i]), int(self.lattice.columns[j]))
        for start, length in zip(starts, self.lattice.shape, strict=True):
            low, high = max(start, 0), min(start + self.lattice.size, length)
            frame.append(slice(low, high))
            tile.append(slice(low - start, high - start))
        return (frame[0], frame[1]), (tile[0], tile[1])
