"""Offset and rotation between two images of the same target, with residual, error and a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.errors import InputError

# Points along the longer side of the coarse search, and its step in angle.
_COARSE_POINTS = 192
_COARSE_STEP_DEG = 0.5
# Blurs of the refinement in pixels of the coarser image, from the coarse search's to none.
_FINE_BLURS = (4.0, 2.0, 1.0)
_ITERATIONS = 15
# Points along a side that the refinement uses at most: more cost time and gain nothing.
_FINE_POINTS = 600
_BLOCKS = 4
# What a match must reach to be believed.
_MIN_OVERLAP = 0.3
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
    one = _Image(reference, reference_scale, "reference", backend)
    two = _Image(image, image_scale, "image", backend)
    coarse = _coarse_search(one, two, max_rotation_deg, backend)
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


class _Image:
    """An image with its scale, freed of slow brightness changes."""

    def __init__(self, pixels: Any, scale: Sequence[float], name: str, backend: Backend) -> None:
        array = backend.asarray(pixels, dtype=np.float32)
        if array.ndim != 2 or min(array.shape) < 16:
            raise InputError(f"{name} is no image", expected="(y, x), 16 px or more", found=array.shape)
        if not bool(backend.xp.isfinite(array).all()):
            raise InputError(f"{name} holds values that are not finite")
        self.scale = tuple(float(s) for s in scale)
        self.extent = tuple(n * s for n, s in zip(array.shape[::-1], self.scale, strict=True))
        self.centre = tuple((n - 1) / 2 for n in array.shape[::-1])
        mean = float(array.mean())
        if mean <= 0.0:
            raise InputError(f"{name} is no intensity image", expected="a positive mean", found=mean)
        # Illumination multiplies; it must not be taken for structure.
        light = backend.xp.maximum(_quadratic(array, backend.xp), 0.2 * mean)
        array = array / light - 1.0
        spread = float(array.std())
        if spread < 1e-6:
            raise InputError(f"{name} is the same everywhere")
        self.pixels = array / spread

    def blurred(self, arcsec: float, backend: Backend) -> Any:
        """The pixels with a Gaussian blur of that standard deviation."""
        sigma = [arcsec / s for s in self.scale[::-1]]
        return backend.ndimage.gaussian_filter(self.pixels, sigma, mode="nearest", truncate=3.0)


@dataclass(frozen=True)
class _Coarse:
    translation: tuple[float, float]
    rotation_deg: float
    significance: float
    ratio: float
    spacing: float


@dataclass(frozen=True)
class _Fit:
    parameters: np.ndarray
    errors: np.ndarray
    residual: float
    correlation: float
    converged: bool


def _coarse_search(one: _Image, two: _Image, max_rotation_deg: float, backend: Backend) -> _Coarse:
    xp, fft = backend.xp, backend.fft
    spacing = max(*one.extent, *two.extent) / _COARSE_POINTS
    half = [int(np.ceil(max(a, b) / spacing / 2)) + 1 for a, b in zip(one.extent, two.extent, strict=True)]
    x = spacing * xp.arange(-half[0], half[0] + 1, dtype=np.float32)[None, :]
    y = spacing * xp.arange(-half[1], half[1] + 1, dtype=np.float32)[:, None]
    # Every offset with some overlap, without wrapping round.
    size = [backend.fft.next_fast_len(int(2 * n), real=True) for n in (y.size, x.size)]
    smooth_one, smooth_two = (i.blurred(0.6 * spacing, backend) for i in (one, two))

    def transforms(image: _Image, smooth: Any, angle: float) -> tuple[Any, Any, Any]:
        value, inside = _sample(image, smooth, x, y, (0.0, 0.0), angle, 1, backend)
        return tuple(fft.rfft2(a, s=size) for a in (inside, value * inside, value * value * inside))

    fixed = [xp.conj(f) for f in transforms(one, smooth_one, 0.0)]
    steps = max(1, int(np.ceil(max_rotation_deg / _COARSE_STEP_DEG)))
    best: tuple[float, float, Any] | None = None
    for angle in np.linspace(-steps, steps, 2 * steps + 1) * _COARSE_STEP_DEG:
        moving = transforms(two, smooth_two, np.radians(angle))
        corr = _masked_correlation(fixed, moving, size, min(one.extent[0], two.extent[0]) / spacing, backend)
        peak = float(corr.max())
        if best is None or peak > best[0]:
            best = (peak, float(angle), corr)
    assert best is not None
    peak, angle, corr = best
    row, column = (int(v) for v in np.unravel_index(int(corr.argmax()), corr.shape))
    offset = np.array([_signed(column, size[1]), _signed(row, size[0])])
    host = to_host(corr)
    # Correlations elsewhere: away from the peak by more than a twelfth of the field.
    rows = (np.arange(size[0]) - row + size[0] // 2) % size[0] - size[0] // 2
    columns = (np.arange(size[1]) - column + size[1] // 2) % size[1] - size[1] // 2
    away = np.hypot(rows[:, None], columns[None, :]) > _COARSE_POINTS / 12
    others = host[away & (host > -1.0)]
    centre = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - centre)))
    # The image's content lies at u - offset: moving it by +offset lays it on the reference.
    translation = -offset * spacing
    return _Coarse(
        (float(translation[0]), float(translation[1])),
        angle,
        (peak - centre) / max(spread, 1e-6),
        peak / max(float(others.max()), 1e-6),
        spacing,
    )


def _masked_correlation(fixed: Any, moving: Any, size: Any, side: float, backend: Backend) -> Any:
    """Normalised correlation at every offset; -1 where too little overlaps."""
    xp = backend.xp
    (m1, f1, s1), (m2, f2, s2) = fixed, moving

    def sums(a: Any, b: Any) -> Any:
        return backend.fft.irfft2(a * b, s=size)

    count = xp.maximum(sums(m1, m2), 1.0)
    sum1, sum2 = sums(f1, m2), sums(m1, f2)
    covariance = sums(f1, f2) - sum1 * sum2 / count
    variance = (sums(s1, m2) - sum1**2 / count) * (sums(m1, s2) - sum2**2 / count)
    enough = (count >= _MIN_OVERLAP * float(count.max())) & (variance > 1e-6 * float(variance.max()))
    return xp.where(enough, covariance / xp.sqrt(xp.where(enough, variance, 1.0)), -1.0)


def _refine(one: _Image, two: _Image, start: np.ndarray, blur: float, backend: Backend) -> _Fit:
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
        value, inside = _sample(two, coefficients, x, y, t, parameters[2], 3, backend)
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
    structure = float(xp.sqrt(xp.sum(weight * fixed**2) / xp.maximum(weight.sum(), 1e-12)))
    residual = float(xp.sqrt(xp.sum(weight * difference**2) / xp.maximum(weight.sum(), 1e-12)))
    return _Fit(
        parameters,
        errors,
        residual / max(structure, 1e-12),
        _correlation(fixed, value, weight, xp),
        converged and bool(np.isfinite(parameters).all()),
    )


def _quadratic(array: Any, xp: Any) -> Any:
    """Quadratic surface through an image, by least squares."""
    y, x = (xp.linspace(-1.0, 1.0, n, dtype=np.float32) for n in array.shape)
    terms = [(y**i)[:, None] * (x**j)[None, :] for i in range(3) for j in range(3 - i)]
    normal = np.array([[float(xp.sum(a * b, dtype=np.float64)) for b in terms] for a in terms])
    right = np.array([float(xp.sum(a * array, dtype=np.float64)) for a in terms])
    return sum(float(c) * t for c, t in zip(_solve(normal, right), terms, strict=True))


def _sample(
    image: _Image, pixels: Any, x: Any, y: Any, t: Any, d: float, order: int, backend: Backend
) -> tuple[Any, Any]:
    """Image at the points u = (x, y) of the reference's field, and where it has pixels."""
    xp = backend.xp
    cos, sin = float(np.cos(d)), float(np.sin(d))
    column = (cos * (x - float(t[0])) + sin * (y - float(t[1]))) / image.scale[0] + image.centre[0]
    row = (-sin * (x - float(t[0])) + cos * (y - float(t[1]))) / image.scale[1] + image.centre[1]
    inside = (column >= 0) & (row >= 0) & (column <= 2 * image.centre[0]) & (row <= 2 * image.centre[1])
    value = backend.ndimage.map_coordinates(
        pixels, xp.stack([row, column]), order=order, mode="mirror", prefilter=False
    )
    return value * inside, inside.astype(np.float32)


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


def _signed(index: int, size: int) -> int:
    return index - size if index > size // 2 else index
