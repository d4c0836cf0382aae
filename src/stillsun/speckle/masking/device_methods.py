"""The two ways to the phases of many subfields at once, on a device; see `masking.methods`."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.backend import Backend
from stillsun.speckle.masking.bispectrum import SAMPLE
from stillsun.speckle.masking.device_tracking import turn_spectra
from stillsun.speckle.masking.indices import Equations
from stillsun.speckle.masking.knox_thompson import cross_equations, cross_spectra
from stillsun.speckle.masking.launch import mean_bispectra, mean_cross_spectra, solve_phases
from stillsun.speckle.masking.methods import HIGHEST
from stillsun.speckle.masking.phases import TOLERANCE
from stillsun.speckle.masking.subfield import Geometry


class DevicePhases:
    """
    Phases from weighted phasors of elements (triples or pairs) by the equations that these stand for.

    Parameters
    ----------
    equations : Equations
        The equations.
    fixed : int
        So many frequencies, the first ones, start as they are given.
    elements : int
        Number of elements.
    snr_keep : float
        Share of the elements that is used.
    weight_exponent : float
        Exponent of their weights.
    sweeps : int
        Sweeps over the equations at most.
    backend : Backend
        The device.
    """

    def __init__(
        self,
        equations: Equations,
        fixed: int,
        elements: int,
        snr_keep: float,
        weight_exponent: float,
        sweeps: int,
        backend: Backend,
    ) -> None:
        self.backend = backend
        self._fixed, self._sweeps = fixed, sweeps
        self._keep, self._exponent = snr_keep, weight_exponent
        self._step = max(1, elements // SAMPLE)
        put = backend.asarray
        self._start, self._known = (put(a, dtype=np.int32) for a in (equations.start, equations.known))
        self._members = put(np.stack([equations.a, equations.b], axis=1))
        conjugate = equations.triple < 0
        self._element = put(np.where(conjugate, -1 - equations.triple, equations.triple))
        self._conjugate = put(conjugate)
        # Phasor, ratio and weight of each element; each equation's own, twice while it is made.
        self.bytes_per_subfield = 36 * elements + 24 * len(conjugate)

    def solve(self, phasor: Any, snr: Any, phases: Any) -> Any:
        """
        Solve in place.

        Parameters
        ----------
        phasor : array
            Unit phasors of the elements, (subfields, t) complex64.
        snr : array
            Their signal-to-noise ratios, (subfields, t) float32.
        phases : array
            Phases to start with, (subfields, frequencies) complex64.

        Returns
        -------
        array
            Rms change in the last sweep, (subfields,) float32, radians.
        """
        xp = self.backend.xp
        least: Any = np.float32(0)
        if self._keep < 1 and snr.shape[1]:
            least = xp.quantile(snr[:, :: self._step], 1.0 - self._keep, axis=1)[:, None].astype(np.float32)
        used = (snr >= least) & (snr > 0)
        size = xp.exp(np.float32(self._exponent) * xp.log(xp.where(used, snr, np.float32(1))))
        weighted = phasor * xp.where(used, size, np.float32(0))
        weights = weighted[:, self._element]
        weights = xp.where(self._conjugate, weights.conj(), weights)
        return solve_phases(
            weights,
            self._start,
            self._known,
            self._members,
            phases,
            self._fixed,
            self._sweeps,
            TOLERANCE,
            self.backend,
        )


class DeviceTripleCorrelation(DevicePhases):
    """
    Phases from the bispectrum.

    Parameters
    ----------
    geometry : Geometry
        What the subfields share.
    snr_keep, weight_exponent, sweeps
        As for `stillsun.speckle.masking.methods.TripleCorrelation`.
    backend : Backend
        The device.
    """

    def __init__(
        self, geometry: Geometry, snr_keep: float, weight_exponent: float, sweeps: int, backend: Backend
    ) -> None:
        triples = geometry.triples
        fixed = geometry.frequencies.fixed
        super().__init__(geometry.equations, fixed, len(triples), snr_keep, weight_exponent, sweeps, backend)
        self._u, self._v, self._w = (backend.asarray(a) for a in (triples.u, triples.v, triples.w))

    def __call__(self, spectra: Any, start: Any, shifts: Any, noise: Any) -> tuple[Any, Any]:
        """
        Solve for the phases. Shifts cancel, and the noise's part is negligible.

        Parameters
        ----------
        spectra : array
            (subfields, m, frames) complex64.
        start : array
            Phases to start with, of which the lowest count, (subfields, m) complex64.
        shifts : array
            What whole-pixel tracking leaves over, (subfields, frames, 2) float64.
        noise : array
            Power of the noise per frequency, (subfields,) float64; NaN where it is not known.

        Returns
        -------
        phases : array
            Unit phasors, (subfields, m) complex64.
        change : array
            Their rms change in the last sweep, (subfields,) float32, radians.
        """
        phases = start.copy()
        found = mean_bispectra(spectra, self._u, self._v, self._w, self.backend)
        return phases, self.solve(*found, phases)


class DeviceKnoxThompson(DevicePhases):
    """
    Phases from the cross-spectra of neighbouring frequencies.

    Parameters
    ----------
    geometry : Geometry
        What the subfields share.
    snr_keep, weight_exponent, sweeps
        As for `stillsun.speckle.masking.methods.KnoxThompson`.
    backend : Backend
        The device.
    """

    def __init__(
        self, geometry: Geometry, snr_keep: float, weight_exponent: float, sweeps: int, backend: Backend
    ) -> None:
        limits = geometry.phase_limit, geometry.u_limit, geometry.v_limit, geometry.apodised
        pairs = cross_spectra(geometry.size, *geometry.limits, *limits)
        equations = cross_equations(geometry.size, *geometry.limits, *limits)
        f = geometry.frequencies
        super().__init__(equations, f.fixed, len(pairs), snr_keep, weight_exponent, sweeps, backend)
        self._u, self._w, self._leak = (backend.asarray(a) for a in (pairs.u, pairs.w, pairs.leak))
        self._rows, self._columns = backend.asarray(f.y), backend.asarray(f.x)
        self._size = f.size
        self._highest = int(np.searchsorted(f.q, HIGHEST * f.q[-1]))

    def __call__(self, spectra: Any, start: Any, shifts: Any, noise: Any) -> tuple[Any, Any]:
        """
        Solve for the phases.

        Parameters
        ----------
        spectra, start, shifts, noise
            As for `DeviceTripleCorrelation`.

        Returns
        -------
        phases : array
            Unit phasors, (subfields, m) complex64.
        change : array
            Their rms change in the last sweep, (subfields,) float32, radians.
        """
        xp = self.backend.xp
        high = spectra[:, self._highest :]
        highest = (high.real**2 + high.imag**2).mean(axis=(1, 2), dtype=np.float64)
        noise = xp.where(xp.isnan(noise), highest, noise)
        aligned = turn_spectra(spectra, self._rows, self._columns, self._size, shifts, xp)
        found = mean_cross_spectra(aligned, self._u, self._w, self._leak, noise, self.backend)
        origin = xp.ones((len(start), 1), dtype=np.complex64)
        phases = xp.concatenate([start, origin], axis=1)
        change = self.solve(*found, phases)
        return xp.ascontiguousarray(phases[:, :-1]), change


METHODS: dict[str, type[DeviceTripleCorrelation] | type[DeviceKnoxThompson]] = {
    "triple_correlation": DeviceTripleCorrelation,
    "knox_thompson": DeviceKnoxThompson,
}
"""Methods by name."""
