"""One image laid on the pixels of another by a known similarity, and what offset remains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillsun.core.affine import pixels_at
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.registration.correlation import TemplateSearch, find_peak
from stillsun.core.robust import centre_and_deviation, robust_deviation
from stillsun.errors import InputError

# Structure between these, arcsec (standard deviation), is compared: seeing and noise below, light above.
_FINE_ARCSEC, _COARSE_ARCSEC = 0.12, 1.5
# The strongest contrasts count no more than this many robust deviations.
_CLIP = 5.0
# Correlations farther than this from the peak, arcsec, are of wrong places.
_AWAY_ARCSEC = 1.2
_MIN_SIGNIFICANCE = 5.0
_MIN_RATIO = 1.3
_LEAST_CHANCE = 0.1
# Share of a resampled pixel that must be known.
_WHOLE = 0.99


@dataclass(frozen=True)
class Offset:
    """
    What moves an image onto a reference.

    Attributes
    ----------
    shift : tuple of float
        (x, y) by which content of the image lies off that of the reference, arcsec.
    error : tuple of float
        Standard errors, arcsec.
    correlation : float
        Correlation at the peak.
    significance : float
        Height of the peak over correlations elsewhere, in their robust deviations.
    faults : tuple of str
        Why it must not be used; empty for one that can.
    """

    shift: tuple[float, float]
    error: tuple[float, float]
    correlation: float
    significance: float
    faults: tuple[str, ...] = field(default=())

    @property
    def accepted(self) -> bool:
        """The offset can be used."""
        return not self.faults


def lay_on(
    shape: Sequence[int],
    scale: Sequence[float],
    image: Any,
    image_scale: Sequence[float],
    translation: Sequence[float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    backend: Backend | str | None = None,
) -> np.ndarray:
    """
    Resample an image onto the pixels of a reference.

    Parameters
    ----------
    shape : sequence of int
        Shape (y, x) of the reference.
    scale : sequence of float
        Plate scales along (x, y) of the reference, arcsec per pixel.
    image : array_like, shape (v, u)
        The image; NaN where it has nothing.
    image_scale : sequence of float
        Plate scales along (x, y) of the image, arcsec per pixel.
    translation : sequence of float, optional
        Where the image's centre lies, (x, y) arcsec from the reference's centre.
    rotation_deg : float, optional
        The image's +y points so many degrees counter-clockwise of the reference's.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    numpy.ndarray, shape (y, x), float32
        The image; NaN where it has no pixels. Cubic splines; meant for looking and measuring, final
        images are never resampled.
    """
    backend = get_backend(backend)
    xp = backend.xp
    pixels = backend.asarray(image, dtype=np.float32)
    y, x = (
        s * (xp.arange(n, dtype=np.float64) - (n - 1) / 2) - t
        for n, s, t in zip(shape, tuple(scale)[::-1], tuple(translation)[::-1], strict=True)
    )
    x, y = x[None, :], y[:, None]
    rows, columns = pixels.shape
    where = xp.stack(pixels_at(x, y, image_scale, pixels.shape, np.radians(rotation_deg)))
    inside = (where[0] >= 0) & (where[1] >= 0) & (where[0] <= rows - 1) & (where[1] <= columns - 1)
    good = xp.isfinite(pixels)
    if not bool(good.all()):
        # One NaN would spread through the splines over the whole image.
        pixels = xp.where(good, pixels, pixels[good].mean() if bool(good.any()) else xp.float32(0.0))
        share = backend.ndimage.map_coordinates(good.astype(np.float32), where, order=1, mode="nearest")
        inside &= share > _WHOLE
    laid = backend.ndimage.map_coordinates(pixels, where, order=3, mode="mirror")
    return to_host(xp.where(inside, laid, xp.float32(np.nan))).astype(np.float32)


def remaining_offset(
    reference: Any,
    laid: Any,
    scale: Sequence[float],
    *,
    reach_arcsec: float = 3.0,
    backend: Backend | str | None = None,
) -> Offset:
    """
    Measure by how much an image laid on a reference is still off.

    Parameters
    ----------
    reference, laid : array_like, shape (y, x)
        On the same pixels; NaN where there is nothing.
    scale : sequence of float
        Plate scale along (x, y), arcsec per pixel.
    reach_arcsec : float, optional
        Largest offset that is looked for.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    Offset
        The offset, its error, and whether it can be used: images in different lines may have too
        little in common.

    Raises
    ------
    InputError
        If the images hardly overlap.

    Notes
    -----
    Band-passed, zero-normalised correlation of the masked image over all offsets, and a paraboloid
    through its peak. The slopes of the surface at wrong places tell what chance does to the peak:
    ``cov = (1 - C^2) H^-1 <g g^T> H^-1`` with the curvature H and the height C.
    """
    backend = get_backend(backend)
    step = np.array([float(scale[1]), float(scale[0])])
    fixed, covered = _band(reference, step, backend)
    moving, mask = _band(laid, step, backend)
    reach = [int(np.ceil(reach_arcsec / s)) for s in step]
    inner = tuple(slice(r, n - r) for r, n in zip(reach, mask.shape, strict=True))
    mask = (mask * covered)[inner]
    if mask.size == 0 or mask.mean() < 0.1:
        raise InputError("two images hardly overlap", expected="a tenth of the field or more")
    surface = TemplateSearch(fixed, backend).correlate(moving[inner], mask)
    peak = find_peak(surface)
    rows, columns = (
        (np.arange(n) - p) * s for n, p, s in zip(surface.shape, peak.position, step, strict=True)
    )
    far = np.hypot(rows[:, None], columns[None, :]) > _AWAY_ARCSEC
    centre, spread = centre_and_deviation(surface[far])
    slopes = np.stack(np.gradient(surface))[:, far]
    inverse = np.linalg.pinv(peak.curvature)
    chance = float(np.clip(1.0 - peak.height**2, _LEAST_CHANCE, 1.0)) / far.sum()
    error = np.sqrt(np.diag(inverse @ (chance * slopes @ slopes.T) @ inverse)) * step
    # The image's content lies where the reference has it once it is moved by the place of the peak.
    shift = -(np.array(peak.position) - reach) * step
    significance = (peak.height - centre) / max(spread, 1e-9)
    ratio = peak.height / max(float(surface[far].max()), 1e-9)
    checks = (
        (significance >= _MIN_SIGNIFICANCE, f"correlation peak of {significance:.1f} deviations"),
        (ratio >= _MIN_RATIO, f"peak only {ratio:.2f} times the next one"),
        (not peak.at_edge, f"offset beyond {reach_arcsec:g} arcsec"),
    )
    return Offset(
        (float(shift[1]), float(shift[0])),
        (float(error[1]), float(error[0])),
        peak.height,
        significance,
        tuple(text for good, text in checks if not good),
    )


def _band(image: Any, step: np.ndarray, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """Structure of the sizes that are compared, and where there is any."""
    xp, blur = backend.xp, backend.ndimage.gaussian_filter
    pixels = backend.asarray(image, dtype=np.float32)
    good = xp.isfinite(pixels)
    weight = good.astype(np.float32)
    level = float(pixels[good].mean()) if bool(good.any()) else 0.0
    filled = xp.where(good, pixels - level, xp.float32(0.0))

    def smooth(arcsec: float) -> Any:
        sigma = tuple(arcsec / step)
        return blur(filled, sigma, truncate=3.0) / xp.maximum(blur(weight, sigma, truncate=3.0), 1e-3)

    band = to_host((smooth(_FINE_ARCSEC) - smooth(_COARSE_ARCSEC)) * weight)
    inside = np.abs(band[to_host(good)])
    limit = _CLIP * robust_deviation(inside)
    return np.clip(band, -limit, limit).astype(np.float32), to_host(weight)
