"""Mean powers of a burst's subfields: what the seeing is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillsun.speckle.masking.geometry import Lattice
from stillsun.speckle.masking.motion import motion_gradient
from stillsun.speckle.masking.subfield import SubfieldResult

LEAST_INNER = 4
"""With fewer subfields wholly inside the frame, others are laid for the fit."""


@dataclass(frozen=True)
class BurstPowers:
    """
    Mean powers of the subfields of a burst, by frequency.

    Attributes
    ----------
    power : numpy.ndarray
        Of the exposures, less noise, (subfields, m) float64: ``<|I|^2> - Pn``.
    noise : numpy.ndarray
        The noise, (subfields, m).
    coherent : numpy.ndarray
        Of the mean spectrum, without the bias of a finite burst, (subfields, m) float64.
    trusted : numpy.ndarray
        Subfields that decide on the frame's seeing, (subfields,) bool.
    gradient : float
        Mean square gradient of the image motion, see `stillsun.speckle.masking.motion.motion_gradient`.
    """

    power: np.ndarray
    noise: np.ndarray
    coherent: np.ndarray
    trusted: np.ndarray
    gradient: float

    def judged_by(self, others: BurstPowers) -> BurstPowers:
        """
        These subfields, followed by others that alone decide.

        Parameters
        ----------
        others : BurstPowers
            Subfields that lie better.

        Returns
        -------
        BurstPowers
            All of them.
        """
        return BurstPowers(
            np.concatenate([self.power, others.power]),
            np.concatenate([self.noise, others.noise]),
            np.concatenate([self.coherent, others.coherent]),
            np.concatenate([np.zeros_like(self.trusted), others.trusted]),
            others.gradient,
        )


def burst_powers(
    results: Sequence[SubfieldResult], noise: np.ndarray, lattice: Lattice, frames: int
) -> BurstPowers:
    """
    Mean powers of subfields.

    Parameters
    ----------
    results : sequence of SubfieldResult
        The subfields, row by row.
    noise : numpy.ndarray
        Noise in their power, (subfields, m).
    lattice : Lattice
        Where they lie.
    frames : int
        Frames in the burst.

    Returns
    -------
    BurstPowers
        Those that see the mirror image beyond the frame's edge are trusted only where there are few others:
        it does not follow the seeing and would look like more of it.
    """
    power = np.stack([r.power for r in results]).astype(np.float64)
    mean = np.stack([np.abs(r.mean) ** 2 for r in results]).astype(np.float64)
    inner = lattice.inner.ravel()
    return BurstPowers(
        power - noise,
        np.asarray(noise),
        # A finite burst's |<I>|^2 holds 1/N of the power, noise included.
        (frames * mean - power) / (frames - 1),
        inner if np.count_nonzero(inner) >= min(LEAST_INNER, len(inner)) else np.ones_like(inner),
        motion_gradient(results, lattice),
    )
