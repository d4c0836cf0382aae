"""Seeing behind adaptive optics: one fit to the whole field, a transfer function for each place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from stillsun.core.backend import Backend
from stillsun.speckle.masking.adaptive_field import Curves, Field, FieldCurves, Turbulence
from stillsun.speckle.masking.adaptive_wavefront import PUPIL, residual_wavefront
from stillsun.speckle.masking.powers import BurstPowers
from stillsun.speckle.masking.ratio import SeeingFit, SeeingModel
from stillsun.speckle.masking.subfield import SubfieldResult

# What is known before: share of the high layer (logit), its height in metres (log), what is left of tip and
# tilt (log); standard deviations of these, and of the radial order of half the efficiency less one (log).
# Nothing is known of D/r0.
_EXPECTED = (np.log(0.3 / 0.7), np.log(6000.0), np.log(0.1))
_SPREAD = (0.5, 0.5, 0.5, 0.35)
# Pixels over the pupil while values are sought; the rest of the model follows by its ratio to the fine one.
_ROUGH = 12
# Groups of subfields of like distance from the lock point.
_GROUPS = 12
# Subfields whose own D/r0 differs from the fit's by a larger share do not decide.
_LIKENESS = 0.3
_FIRST_STRENGTH = 7.0
_STRENGTHS = (0.5, 40.0)
# Range of the fit in q and in frequency pixels; error of the root of a ratio, for so many subfields that
# are independent.
_RANGE = (0.04, 0.4)
_FIRST_PIXEL = 1.5
_ERROR = 0.02
_INDEPENDENT = 6
# Signal to noise above which a ring counts in full.
_SOUND = 1 / 3
_STEP = 0.02
_EVALUATIONS = 8
# By how much the misfit must be less than without correction, for each value that is found beyond D/r0.
_MORE = 4.0
# The Fried parameter of one subfield: D/r0 of the frame times these.
_LOCAL = np.exp(np.linspace(-0.5, 0.5, 5))
_FINE = 101
# Range in which the object's power is fitted, and terms of the gain over a subfield.
_SCENE = (0.03, 0.6)
_RANK = 3
_LAST_Q = 0.95
_LEAST = 1e-12


class Pictures(Protocol):
    """What makes images from amplitudes and phases, on the host or on a device."""

    def images(
        self, amplitude: Callable[[int], np.ndarray], results: Sequence[SubfieldResult]
    ) -> Iterator[Any]:
        """
        Images of subfields.

        Parameters
        ----------
        amplitude : callable
            Object amplitudes, (m,), of the subfield of a number.
        results : sequence of SubfieldResult
            Their phases.

        Yields
        ------
        array
            (size, size) float32, windowed, without its mean.
        """


@dataclass(frozen=True)
class AdaptiveFit:
    """
    Outcome of the fit to the field.

    Attributes
    ----------
    seeing : SeeingFit
        Strength of the seeing, and the transfer functions; `speckle` is that of each subfield,
        (subfields, m).
    turbulence : Turbulence
        What was fitted.
    field : Field
        Where the subfields lie.
    q : numpy.ndarray
        Frequencies in use, of the diffraction limit, (m,) float64.
    gains : list of tuple of numpy.ndarray
        For each subfield some angles from the lock point, (steps,) radians, and there the terms of what
        restores the places that its mean does not stand for, (rank, steps); see `images`.
    profiles : numpy.ndarray
        The same terms over the knots of frequency, (subfields, rank, knots) float64.
    """

    seeing: SeeingFit
    turbulence: Turbulence
    field: Field
    q: np.ndarray
    gains: list[tuple[np.ndarray, np.ndarray]]
    profiles: np.ndarray

    def images(
        self,
        worker: Pictures,
        amplitude: Callable[[int], np.ndarray],
        results: Sequence[SubfieldResult],
        backend: Backend,
    ) -> Iterator[Any]:
        """
        Images of subfields whose transfer function changes within them.

        Parameters
        ----------
        worker : Pictures
            Makes images from amplitudes and phases.
        amplitude : callable
            Object amplitudes, (m,), of the subfield of a number, for its mean transfer function.
        results : sequence of SubfieldResult
            Their phases.
        backend : Backend
            Where the images are.

        Yields
        ------
        array
            (size, size) float32, windowed, without its mean.

        Notes
        -----
        The best corrected part of a subfield rules its mean power and its phases, and comes out with too
        much contrast by the root of its transfer function over the mean one. That ratio, a function of
        place and frequency, is split into a few products of both (singular values).
        """

        def part(term: int, index: int) -> np.ndarray:
            return amplitude(index) * np.interp(self.q, FieldCurves.q, self.profiles[index, term])

        terms = [worker.images(partial(part, k), results) for k in range(_RANK)]
        for number, tiles in enumerate(zip(*terms, strict=True)):
            ladder, gains = self.gains[number]
            angles = self.field.angles(number)
            places = [np.interp(angles, ladder, gain).astype(np.float32) for gain in gains]
            yield sum(backend.asarray(place) * tile for place, tile in zip(places, tiles, strict=True))


class AdaptiveModel(SeeingModel):
    """Model curves for one geometry behind adaptive optics; made like a `SeeingModel`."""

    def fit_field(self, powers: BurstPowers, field: Field, order: float) -> AdaptiveFit | None:
        """
        Fit seeing, height of the turbulence and efficiency to the spectral ratios of all subfields.

        Parameters
        ----------
        powers : BurstPowers
            Of the subfields.
        field : Field
            Where the subfields lie, and what is known of the mirror and its sensor.
        order : float
            Radial order of half the efficiency that is expected.

        Returns
        -------
        AdaptiveFit or None
            The turbulence and the transfer functions for it; None where the burst looks as if nothing were
            corrected.

        Notes
        -----
        In one subfield strength and efficiency cannot be told apart. But how the correction fades over the
        field is given by D/r0, the share and height of high turbulence, the modes and the efficiency at
        the lock point, and those few numbers explain all subfields together: near the lock point what is
        not corrected tells r0, off it the tilt and the low modes tell height and share. Subfields of like
        distance are compared together, so that the fit does not grow with the field; those whose own D/r0 is
        unlike the fit's, with a spot or an edge in them, do not decide the second time.
        """
        power, coherent, trusted = powers.power, powers.coherent, powers.trusted
        expected = np.array([*_EXPECTED, np.log(order - 1)])
        below, above = self.ring_mean(power), self.ring_mean(coherent)
        ratios = np.clip(above / np.maximum(below, _LEAST * max(float(below.max()), _LEAST)), 0.0, 1.0)
        rough, fine = (
            FieldCurves(residual_wavefront(field.modes, pupil), field) for pupil in (_ROUGH, PUPIL)
        )
        inside = (self.ring_q > max(_RANGE[0], _FIRST_PIXEL / self._pixels)) & (self.ring_q < _RANGE[1])
        sound = np.clip(below / (_SOUND * np.maximum(self.ring_mean(powers.noise), _LEAST)), 0.0, 1.0)
        roots = np.sqrt(ratios)
        distances = field.distances()

        def groups(deciding: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            # A subfield that stands for each group, roots of the groups' ratios, and their weights.
            parts = _groups(distances, deciding)
            middle = np.array([g[np.abs(distances[g] - distances[g].mean()).argmin()] for g in parts])
            seen = np.sqrt([_ratio_of(above[g], below[g], inside) for g in parts])
            count = np.array([len(g) for g in parts]) / max(1.0, np.count_nonzero(deciding) / _INDEPENDENT)
            weight = np.where(inside, [sound[g].mean(axis=0) for g in parts], 0.0)
            return middle, seen, weight * np.sqrt(count)[:, None] / _ERROR

        def search(values: np.ndarray, deciding: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            middle, seen, weight = groups(deciding)
            start = _turbulence(values)
            known, first = fine.at(start, middle), rough.at(start, middle)
            finer = Curves(known.speckle / first.speckle, known.coherent / first.coherent)
            kernel = self._kernel(self._field_scene(below[middle], known.speckle))

            def model(x: np.ndarray) -> np.ndarray:
                found = rough.at(_turbulence(x), middle)
                found = Curves(found.speckle * finer.speckle, found.coherent * finer.coherent)
                return np.sqrt(self._ratios(found, kernel))

            def residual(x: np.ndarray) -> np.ndarray:
                misfit = weight * (model(x) - seen)
                return np.concatenate([misfit.ravel(), (x[1:] - expected) / _SPREAD])

            found = least_squares(
                residual, values, diff_step=_STEP, xtol=1e-3, ftol=1e-4, max_nfev=_EVALUATIONS, loss="soft_l1"
            )
            return (
                found.cost,
                found.x,
                self._local(model, found.x, roots, sound, distances, distances[middle]),
            )

        def misfit(plain: np.ndarray, deciding: np.ndarray) -> float:
            # That of one curve for the whole field, as the search counts it.
            _, seen, weight = groups(deciding)
            return float((np.sqrt(1 + (weight * (plain - seen)) ** 2) - 1).sum())

        values = np.array([np.log(_FIRST_STRENGTH), *expected])
        cost, values, local = search(values, trusted)
        plain = self.fit(powers).curve
        assert plain is not None
        if misfit(np.sqrt(plain), trusted) < cost + _MORE:
            return None
        deciding = trusted & (np.abs(local / _turbulence(values).strength - 1) < _LIKENESS)
        if not deciding.any():
            deciding = trusted
        _, values, local = search(values, deciding)
        turbulence = _turbulence(values)
        speckle = fine.at(turbulence).speckle
        kernel = self._kernel(self._field_scene(below[deciding], speckle[deciding]))
        seeing = SeeingFit(
            turbulence.strength,
            local,
            ratios,
            not _STRENGTHS[0] < turbulence.strength < _STRENGTHS[1],
            speckle @ kernel.T,
            kernel.sum(axis=1),
        )
        return AdaptiveFit(
            seeing,
            turbulence,
            field,
            self.frequencies.q,
            *self._gains(fine, turbulence, speckle, field),
        )

    def _ratios(self, curves: Any, kernel: np.ndarray) -> np.ndarray:
        """Spectral ratios of subfields, (n, rings), windowed like the data."""
        rings = self.ring_mean(kernel.T)
        return np.clip((curves.coherent @ rings) / np.maximum(curves.speckle @ rings, 1e-30), 0.0, 1.0)

    def _kernel(self, scene: np.ndarray) -> np.ndarray:
        """What the window makes of a ratio to the telescope's power at each knot of q, (m, knots)."""
        smooth = self._pick(self._smear(scene))
        columns = np.empty((len(smooth), len(FieldCurves.q)))
        for knot in range(len(FieldCurves.q)):
            hat = np.interp(self._q, FieldCurves.q, np.eye(len(FieldCurves.q))[knot])
            columns[:, knot] = self._pick(self._smear(scene * self._telescope * hat)) / smooth
        return columns

    def _field_scene(self, below: np.ndarray, speckle: np.ndarray) -> np.ndarray:
        """Smooth power of the object on the half plane: quadratic in the logarithm against q."""
        telescope = self.ring_mean(self._pick(self._telescope))
        transfer = np.stack([np.interp(self.ring_q, FieldCurves.q, row) for row in speckle]) * telescope
        scenes = np.maximum(below, 0.0) / np.maximum(transfer, _LEAST)
        inside = (self.ring_q > _SCENE[0]) & (self.ring_q < _SCENE[1])
        level = scenes[:, inside].mean(axis=1)
        mean = (scenes[level > 0] / level[level > 0, None]).mean(axis=0) if (level > 0).any() else scenes[0]
        good = inside & (mean > 0)
        if np.count_nonzero(good) < 4:
            return np.ones_like(self._q)
        q = self.ring_q[good]
        fit = np.polynomial.Polynomial.fit(q, np.log(mean[good]), 2)
        return np.exp(np.clip(fit(np.clip(self._q, q[0], q[-1])) - fit(q[0]), -20.0, 3.0))

    def _local(
        self,
        model: Callable[[np.ndarray], np.ndarray],
        values: np.ndarray,
        roots: np.ndarray,
        sound: np.ndarray,
        distances: np.ndarray,
        known: np.ndarray,
    ) -> np.ndarray:
        """D/r0 of each subfield alone, all else as in the frame; NaN where it has no structure."""
        inside = (self.ring_q > _RANGE[0]) & (self.ring_q < _RANGE[1])
        steps = np.log(_LOCAL)
        models = np.stack([model(values + step * (np.arange(len(values)) == 0))[:, inside] for step in steps])
        at = np.interp(distances, known, np.arange(len(known)))
        low = np.minimum(at.astype(np.intp), max(len(known) - 2, 0))
        high = np.minimum(low + 1, len(known) - 1)
        share = (at - low)[:, None]
        fine = np.linspace(steps[0], steps[-1], _FINE)
        curves = PchipInterpolator(steps, (1 - share) * models[:, low] + share * models[:, high])(fine)
        misfit = sound[:, inside] * (curves - roots[:, inside]) ** 2
        best = np.exp(fine[misfit.sum(axis=2).argmin(axis=0)])
        return np.where(sound[:, inside].any(axis=1), _turbulence(values).strength * best, np.nan)

    def _gains(
        self, curves: FieldCurves, turbulence: Turbulence, speckle: np.ndarray, field: Field
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
        """Terms of the gain over each subfield and over frequency."""
        inside = FieldCurves.q <= _LAST_Q
        gains = []
        profiles = np.zeros((len(speckle), _RANK, len(FieldCurves.q)))
        for number, mean in enumerate(speckle):
            angles = field.angles(number)
            ladder = np.linspace(angles.min(), angles.max(), 4 * _RANK)
            local = curves.speckle(turbulence, ladder)
            u, s, v = np.linalg.svd(np.sqrt(mean / local)[:, inside], full_matrices=False)
            gains.append((ladder, (u * s).T[:_RANK]))
            profiles[number][:, inside] = v[:_RANK]
            profiles[number][:, ~inside] = v[:_RANK, -1:]
        return gains, profiles


@lru_cache(maxsize=4)
def adaptive_model(
    size: int, limit_y: float, limit_x: float, phase_limit: float, apodised: float
) -> AdaptiveModel:
    """
    The model of a geometry, kept for the next burst.

    Parameters
    ----------
    size, limit_y, limit_x, phase_limit, apodised
        As for `SeeingModel`.

    Returns
    -------
    AdaptiveModel
        The same object for the same arguments.
    """
    return AdaptiveModel(size, limit_y, limit_x, phase_limit, apodised)


def _turbulence(values: np.ndarray) -> Turbulence:
    """From the unbounded values of the fit."""
    strength = float(np.clip(np.exp(values[0]), *_STRENGTHS))
    return Turbulence(
        strength,
        float(1 / (1 + np.exp(-values[1]))),
        float(np.exp(values[2])),
        float(1 - np.exp(min(values[3], 0.0))),
        float(1 + np.exp(values[4])),
    )


def _groups(distances: np.ndarray, deciding: np.ndarray) -> list[np.ndarray]:
    """Numbers of the subfields that decide, in groups of like distance."""
    numbers = np.flatnonzero(deciding)
    numbers = numbers[np.argsort(distances[numbers], kind="stable")]
    return np.array_split(numbers, min(_GROUPS, len(numbers)))


def _ratio_of(above: np.ndarray, below: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Spectral ratio of subfields together, (rings,), with an equal say of each."""
    power = np.maximum(below[:, inside].sum(axis=1), 0.0)
    share = np.where(power > 0, 1.0 / np.where(power > 0, power, 1.0), 0.0)
    total = share @ below
    return np.clip((share @ above) / np.maximum(total, _LEAST * max(float(total.max()), _LEAST)), 0.0, 1.0)
