"""The two ways to the object's phases: triple correlation and Knox-Thompson."""

from __future__ import annotations

import numpy as np

from stillsun.speckle.masking.bispectrum import mean_bispectrum, weigh
from stillsun.speckle.masking.indices import Equations
from stillsun.speckle.masking.knox_thompson import (
    align,
    cross_equations,
    cross_spectra,
    mean_cross_spectra,
)
from stillsun.speckle.masking.phases import TOLERANCE, solve
from stillsun.speckle.masking.subfield import Geometry, PhaseMethod

# Where nothing lies beyond the diffraction limit: this share of the highest frequency is nearest to noise.
HIGHEST = 0.97


class TripleCorrelation:
    """
    Phases from the bispectrum (Weigelt 1977; Lohmann, Weigelt & Wirnitzer 1983).

    Parameters
    ----------
    geometry : Geometry
        What the subfields share.
    snr_keep : float
        Share of the bispectrum that is used.
    weight_exponent : float
        Exponent of its weights.
    sweeps : int
        Sweeps over the phase equations at most.
    """

    def __init__(self, geometry: Geometry, snr_keep: float, weight_exponent: float, sweeps: int) -> None:
        self._triples = geometry.triples
        self._equations = geometry.equations
        self._fixed = geometry.frequencies.fixed
        self._choice = snr_keep, weight_exponent
        self._sweeps = sweeps

    def __call__(
        self, real: np.ndarray, imag: np.ndarray, start: np.ndarray, shifts: np.ndarray, noise: float
    ) -> tuple[np.ndarray, float]:
        """
        Solve for the phases; see `PhaseMethod`. Shifts cancel, and the noise's part is negligible.

        Parameters
        ----------
        real, imag, start, shifts, noise
            As for `PhaseMethod`.

        Returns
        -------
        phases : numpy.ndarray
            (m,) complex64.
        change : float
            Radians.
        """
        triple = self._triples
        phasor = np.empty(len(triple), dtype=np.complex64)
        snr = np.empty(len(triple), dtype=np.float32)
        mean_bispectrum(real, imag, triple.u, triple.v, triple.w, phasor, snr)
        phases = start.copy()
        change = _solve(weigh(phasor, snr, *self._choice), self._equations, phases, self._fixed, self._sweeps)
        return phases, change


class KnoxThompson:
    """
    Phases from the cross-spectra of neighbouring frequencies (Knox & Thompson 1974).

    Parameters
    ----------
    geometry : Geometry
        What the subfields share.
    snr_keep : float
        Share of the cross-spectra that is used.
    weight_exponent : float
        Exponent of their weights.
    sweeps : int
        Sweeps over the phase equations at most.

    Notes
    -----
    ``<I(u) I*(u+d)>`` has the phase difference of the object if d is shorter than the correlation length of
    the seeing, r0 / wavelength, and if the frames are aligned: a shift does not cancel here as it does in
    the triple correlation, so that what whole pixels leave over is taken off by phases. Differences are put
    together like the equations of triples whose third member is the origin.
    """

    def __init__(self, geometry: Geometry, snr_keep: float, weight_exponent: float, sweeps: int) -> None:
        limits = geometry.phase_limit, geometry.u_limit, geometry.v_limit, geometry.apodised
        self._pairs = cross_spectra(geometry.size, *geometry.limits, *limits)
        self._equations = cross_equations(geometry.size, *geometry.limits, *limits)
        self._frequencies = geometry.frequencies
        self._size = geometry.size
        self._choice = snr_keep, weight_exponent
        self._sweeps = sweeps
        q = self._frequencies.q
        self._highest = q >= HIGHEST * q[-1]

    def __call__(
        self, real: np.ndarray, imag: np.ndarray, start: np.ndarray, shifts: np.ndarray, noise: float
    ) -> tuple[np.ndarray, float]:
        """
        Solve for the phases; see `PhaseMethod`.

        Parameters
        ----------
        real, imag, start, shifts, noise
            As for `PhaseMethod`; the spectra are moved in place.

        Returns
        -------
        phases : numpy.ndarray
            (m,) complex64.
        change : float
            Radians.
        """
        pairs, f = self._pairs, self._frequencies
        if np.isnan(noise):
            noise = float(np.mean(real[self._highest] ** 2 + imag[self._highest] ** 2))
        align(real, imag, f.y, f.x, self._size, shifts)
        phasor = np.empty(len(pairs), dtype=np.complex64)
        snr = np.empty(len(pairs), dtype=np.float32)
        mean_cross_spectra(real, imag, pairs.u, pairs.w, pairs.leak, noise, phasor, snr)
        phases = np.append(start, np.complex64(1))
        weighted = weigh(phasor, snr, *self._choice)
        change = _solve(weighted, self._equations, phases, f.fixed, self._sweeps)
        return phases[:-1], change


METHODS: dict[str, type[TripleCorrelation] | type[KnoxThompson]] = {
    "triple_correlation": TripleCorrelation,
    "knox_thompson": KnoxThompson,
}
"""Methods by name."""


def phase_method(
    name: str, geometry: Geometry, *, snr_keep: float, weight_exponent: float, sweeps: int
) -> PhaseMethod:
    """
    Method of phase reconstruction.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    geometry : Geometry
        What the subfields share.
    snr_keep, weight_exponent, sweeps
        As for the methods.

    Returns
    -------
    PhaseMethod
        Ready to be called for any subfield.
    """
    return METHODS[name](geometry, snr_keep, weight_exponent, sweeps)


def _solve(weighted: np.ndarray, equation: Equations, phases: np.ndarray, fixed: int, sweeps: int) -> float:
    change: float = solve(
        weighted,
        equation.start,
        equation.known,
        equation.a,
        equation.b,
        equation.triple,
        phases,
        fixed,
        sweeps,
        TOLERANCE,
    )
    return change
