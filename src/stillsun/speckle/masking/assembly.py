"""From amplitudes and phases of the subfields to their images, and the subfields for those who want them."""

from __future__ import annotations

import numpy as np
import scipy.fft

from stillsun.speckle.engine import Subfields
from stillsun.speckle.masking.geometry import Lattice
from stillsun.speckle.masking.ratio import SeeingFit, SeeingModel
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult


def subfield_image(amplitude: np.ndarray, result: SubfieldResult, geometry: Geometry) -> np.ndarray:
    """
    Transform amplitudes and phases of a subfield to its image.

    Parameters
    ----------
    amplitude : numpy.ndarray
        Object amplitudes, (m,).
    result : SubfieldResult
        Phases, and what is left of the tracking.
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
    values = amplitude * result.phases * np.exp(1j * turn)
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
