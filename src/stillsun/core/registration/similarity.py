"""Offset and rotation between two images of the same target, with residual, error and a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.registration.overlap import FlatImage, coarse_search, sample

# Blurs of the refinement in pixels of the coarser image, from the coarse search's to none.
_FINE_BLURS = (4.0, 2.0, 1.0)
_ITERATIONS = 15
# Points along a side that the refinement uses at most: more cost time and gain nothing.
_FINE_POINTS = 600
_BLOCKS = 4
# What a match must reach to be believed.
_MIN_SIGNIFICANCE = 6.0
_MIN_PEAK_RATIO = 1.1
_MIN_CORRELATION = 0.3
_MAX_ERROR_PX = 0.5


@dataclass(frozen=True)
class Similarity:
    """
    How an image lies on a reference image; plate scales are known, not fitted.

    Pixel p of the image shows the point u = translation + R(rotation) S (p - p0) of the reference's field,
    in arcsec from the reference's centre; p0 is the image's centre and S its plate scales.

    Attributes
    ----------
    translation : tuple of float
        Where the image's centre lies on the reference, (x, y) arcsec from the reference's centre.
    rotation_deg : float
        The image's +y points so many degrees counter-clockwise of the reference's.
    error : tuple of float
        Standard errors of (x, y), arcsec, from leaving out parts of the field in turn.
    rotation_error_deg : float
        Standard error of the rotation, degrees.
    residual : float
        Rms difference of the matched images over the rms structure of the reference.
    correlation : float
        Correlation coefficient of the matched images.
    significance : float
        Height of the coarse peak over the correlations elsewhere, in their robust deviations.
    peak_ratio : float
        Coarse peak over the highest one elsewhere.
    faults : tuple of str
        Why the match must not be used; empty for one that passes the gate.
    """

    translation: tuple[float, float]
    rotation_deg: float
    error: tuple[float, float]
    rotation_error_deg: float
    residual: float
    correlation: float
    significance: float
    peak_ratio: float
    faults: tuple[str, ...] = field(default=())

    @property
    def accepted(self) -> bool:
        """The match passes the gate."""
        return not self.faults


def match_images(
    reference: Any,
    image: Any,
    reference_scale: Sequence[float],
    image_scale: Sequence[float],
    *,
    max_rotation_deg: float = 2.0,
    backend: Backend | str | None = None,
) -> Similarity:
    """
    Find offset and rotation of an image relative to a reference.

    A masked normalised correlation on a coarse grid, over all offsets and a range of angles, starts a
    Gauss-Newton fit of offset, rotation, gain and level, from blurred to full resolution.

    Parameters
    ----------
    reference, image : array_like, shape (y, x)
        Oriented images; sizes may differ.
    reference_scale, image_scale : sequence of float
        Plate scales along (x, y), arcsec per pixel.
    max_rotation_deg : float, optional
        Largest rotation looked for.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    Similarity
        The match, its errors and whether it can be used.

    Raises
    ------
    InputError
        If an image is not two-dimensional, finite and structured.

    Notes
    -----
    Masked correlation: Padfield (2012, IEEE Trans. Image Process. 21, 2706). Errors: delete-one-block
    jackknife over 4 x 4 blocks of the field, so that model errors count and not only pixel noise.
    """
    backend = get_backend(backend)
    one = FlatImage(reference, reference_scale, "reference", backend)
    two = FlatImage(image, image_scale, "image", backend)
    coarse = coarse_search(one, two, max_rotation_deg, backend)
    parameters = np.array([*coarse.translation, np.radians(coarse.rotation_deg)])
    pixel = max(*one.scale, *two.scale)
    for blur in _FINE_BLURS:
        fit = _refine(one, two, parameters, blur * pixel, backend)
        parameters = fit.parameters
    rotation = float(np.degrees(parameters[2]))
    moved = float(np.hypot(*(parameters[:2] - coarse.translation)))
    checks = (
        (coarse.significance >= _MIN_SIGNIFICANCE, f"correlation peak of {coarse.significance:.1f} sigma"),
        (coarse.ratio >= _MIN_PEAK_RATIO, f"peak only {coarse.ratio:.2f} times the next one"),
        (fit.converged, "the fit does not converge"),
        (abs(rotation) <= max_rotation_deg, f"rotation {rotation:.2f} deg at the edge of the search"),
        (moved <= 3.0 * coarse.spacing, f"fit and search differ by {moved:.2f} arcsec"),
        (fit.correlation >= _MIN_CORRELATION, f"correlation of {fit.correlation:.2f}"),
        (
            max(fit.errors[:2]) <= _MAX_ERROR_PX * pixel,
            f"offset uncertain by {max(fit.errors[:2]):.2f} arcsec",
        ),
    )
    return Similarity(
        (float(parameters[0]), float(parameters[1])),
        rotation,
        (float(fit.errors[0]), float(fit.errors[1])),
        float(np.degrees(fit.errors[2])),
        fit.residual,
        fit.correlation,
        coarse.significance,
        coarse.ratio,
        tuple(text for good, text in checks if not good),
    )


@dataclass(frozen=True)
class _Fit:
    parameters: np.ndarray
    errors: np.ndarray
    residual: float
    correlation: float
    converged: bool


def _refine(one: FlatImage, two: FlatImage, start: np.ndarray, blur: float, backend: Backend) -> _Fit:
    """Gauss-Newton on (tx, ty, angle) with gain and level, on a grid as fine as the blur allows."""
    xp = backend.xp
    smooth = two.blurred(0.5 * blur, backend)
    fixed = one.blurred(0.5 * blur, backend)
    slope_y, slope_x = xp.gradient(fixed, *one.scale[::-1])
    points = [round(e / (0.5 * blur)) for e in one.extent]
    step = [max(1, n // min(p, _FINE_POINTS)) for n, p in zip(fixed.shape[::-1], points, strict=True)]
    fixed, slope_x, slope_y = (a[:: step[1], :: step[0]] for a in (fixed, slope_x, slope_y))
    x = one.scale[0] * (step[0] * xp.arange(fixed.shape[1], dtype=np.float32) - one.centre[0])[None, :]
    y = one.scale[1] * (step[1] * xp.arange(fixed.shape[0], dtype=np.float32) - one.centre[1])[:, None]
    coefficients = backend.ndimage.spline_filter(smooth, order=3, output=np.float32, mode="mirror")
    blocks = _blocks(fixed.shape, xp)
    parameters, gain, level = start.copy(), 1.0, 0.0
    converged = False
    for _ in range(_ITERATIONS):
        t = parameters[:2]
        value, inside = sample(two, coefficients, x, y, t, parameters[2], 3, backend)
        # The image matches the reference but for a small motion: the slopes of the reference serve both.
        turning = slope_x * (y - float(t[1])) - slope_y * (x - float(t[0]))
        design = [-slope_x, -slope_y, turning, value, xp.ones_like(value)]
        difference = fixed - (gain * value + level)
        spread = float(xp.sqrt(xp.sum(inside * difference**2) / xp.maximum(inside.sum(), 1.0)))
        # Dust or a hot pixel in one image only must not pull the fit.
        weight = inside / (1.0 + (difference / max(3.0 * spread, 1e-12)) ** 2)
        normal, right = _normal_equations(design, difference, weight, blocks, xp)
        change = _solve(normal.sum(0), right.sum(0))
        parameters = parameters + change[:3]
        gain, level = gain + float(change[3]), level + float(change[4])
        small = np.array([1.0, 1.0, 2.0 / min(one.extent)]) * 1e-3 * blur
        if bool((np.abs(change[:3]) < small).all()):
            converged = True
            break
    total, pull = normal.sum(0), right.sum(0)
    ways = np.array([_solve(total - n, pull - r) for n, r in zip(normal, right, strict=True)])[:, :3]
    k = len(ways)
    errors = np.sqrt((k - 1) / k * np.sum((ways - ways.mean(0)) ** 2, axis=0))
    # Gain and level may have changed in the last step, though the motion stands.
    difference = fixed - (gain * value + level)
    structure = float(xp.sqrt(xp.sum(weight * fixed**2) / xp.maximum(weight.sum(), 1e-12)))
    residual = float(xp.sqrt(xp.sum(weight * difference**2) / xp.maximum(weight.sum(), 1e-12)))
    return _Fit(
        parameters,
        errors,
        residual / max(structure, 1e-12),
        _correlation(fixed, value, weight, xp),
        converged and bool(np.isfinite(parameters).all()),
    )


def _blocks(shape: tuple[int, ...], xp: Any) -> Any:
    """Number of the block of each point, blocks side by side."""
    rows, columns = (xp.arange(n) * _BLOCKS // n for n in shape)
    return (rows[:, None] * _BLOCKS + columns[None, :]).ravel()


def _normal_equations(
    design: list[Any], difference: Any, weight: Any, blocks: Any, xp: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Normal matrices (blocks, k, k) and right-hand sides (blocks, k), block by block."""
    k = len(design)
    normal, right = np.empty((_BLOCKS**2, k, k)), np.empty((_BLOCKS**2, k))

    def per_block(product: Any) -> np.ndarray:
        return to_host(xp.bincount(blocks, weights=product.ravel().astype(np.float64), minlength=_BLOCKS**2))

    weighted = [d * weight for d in design]
    for i in range(k):
        right[:, i] = per_block(weighted[i] * difference)
        for j in range(i, k):
            normal[:, i, j] = normal[:, j, i] = per_block(weighted[i] * design[j])
    return normal, right


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(normal, right, rcond=None)[0]


def _correlation(one: Any, two: Any, weight: Any, xp: Any) -> float:
    total = xp.maximum(weight.sum(), 1e-12)
    a, b = one - xp.sum(weight * one) / total, two - xp.sum(weight * two) / total
    norm = xp.sqrt(xp.sum(weight * a * a) * xp.sum(weight * b * b))
    return float(xp.sum(weight * a * b) / xp.maximum(norm, 1e-12))
