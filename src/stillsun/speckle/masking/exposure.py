"""What air that moves during an exposure takes from the transfer functions: a table by Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

TABLE = "exposure.npz"


@dataclass(frozen=True)
class ExposureTable:
    """
    Transfer functions of exposures over those of instants.

    Attributes
    ----------
    strength : numpy.ndarray
        Values of D/r0, ascending, (n,) float64.
    moved : numpy.ndarray
        Way of the lower layer during the exposure, in diameters, ascending from 0, (k,).
    q : numpy.ndarray
        Frequencies, of the diffraction limit, (m,).
    kept : numpy.ndarray
        ``<|S|^2> - |<S>|^2`` over that of instants, (n, k, m).
    coherent : numpy.ndarray
        ``|<S>|^2`` over that of instants, exposures being tracked, (n, k, m).

    Notes
    -----
    Two layers, 0.7 of the turbulence in the lower one, the upper one twice as fast and at an angle of 80
    degrees. A single layer that moves as a whole changes the speckles little; two that move against each
    other wash them out.
    """

    strength: np.ndarray
    moved: np.ndarray
    q: np.ndarray
    kept: np.ndarray
    coherent: np.ndarray

    def at(self, strength: float, moved: float, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Both ratios.

        Parameters
        ----------
        strength : float
            D/r0; without turbulence nothing is lost.
        moved : float
            Way of the lower layer during the exposure, in diameters; beyond the table exposures are taken as
            means of independent ones.
        q : array_like
            Frequencies, of the diffraction limit, clipped to the range of the table.

        Returns
        -------
        kept, coherent : numpy.ndarray
            In the shape of `q`, float64.
        """
        within = min(moved, float(self.moved[-1]))
        found = []
        for table in (self.kept, self.coherent):
            rows = np.log(np.concatenate([np.ones((1, *table.shape[1:])), table]))
            strengths = np.concatenate([[0.0], self.strength])
            curves = _interpolated(rows, strengths, min(strength, float(strengths[-1])))
            found.append(np.exp(np.interp(q, self.q, _interpolated(curves, self.moved, within))))
        return found[0] * within / max(moved, 1e-9) if moved > within else found[0], found[1]


@lru_cache(maxsize=1)
def exposure_table() -> ExposureTable:
    """
    The table that comes with the package.

    Returns
    -------
    ExposureTable
        Made by ``scripts/exposure_table``.
    """
    with (
        resources.files("stillsun.speckle.masking").joinpath(TABLE).open("rb") as file,
        np.load(file) as data,
    ):
        return ExposureTable(**{name: data[name].astype(np.float64) for name in data.files})


def _interpolated(rows: np.ndarray, places: np.ndarray, place: float) -> np.ndarray:
    """Linear interpolation along the first axis."""
    at = float(np.interp(place, places, np.arange(len(places))))
    low = min(int(at), len(places) - 2)
    return np.asarray((1 - (at - low)) * rows[low] + (at - low) * rows[low + 1])
