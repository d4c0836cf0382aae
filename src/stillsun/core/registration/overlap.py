"""Two images laid on each other at every offset and rotation: where they are most alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core.affine import pixels_at
from stillsun.core.backend import Backend, to_host
from stillsun.core.robust import centre_and_deviation
from stillsun.errors import InputError

# Points along the longer side of the search, and its step in angle.
_COARSE_POINTS = 192
_COARSE_STEP_DEG = 0.5
_MIN_OVERLAP = 0.3


class FlatImage:
    """
    An image with its scale, freed of slow brightness changes.

    Parameters
    ----------
    pixels : array_like, shape (y, x)
        Image.
    scale : sequence of float
        Along (x, y), arcsec per pixel.
    name : str
        What it is called in messages.
    backend : Backend
        Where to compute.

    Attributes
    ----------
    pixels : array, shape (y, x)
        Contrast of unit variance, on the backend.
    scale, extent, centre : tuple of float
        Arcsec per pixel, arcsec, and pixels, along (x, y).

    Raises
    ------
    InputError
        If it is not two-dimensional, finite and structured.
    """

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
        """
        The pixels with a Gaussian blur.

        Parameters
        ----------
        arcsec : float
            Standard deviation.
        backend : Backend
            Where to compute.

        Returns
        -------
        array
            (rows, columns).
        """
        sigma = [arcsec / s for s in self.scale[::-1]]
        return backend.ndimage.gaussian_filter(self.pixels, sigma, mode="nearest", truncate=3.0)


@dataclass(frozen=True)
class CoarseMatch:
    """Best offset (x, y) in arcsec and rotation, how it stands out, and the spacing of the search."""

    translation: tuple[float, float]
    rotation_deg: float
    significance: float
    ratio: float
    spacing: float


def coarse_search(one: FlatImage, two: FlatImage, max_rotation_deg: float, backend: Backend) -> CoarseMatch:
    """
    Search all offsets, and rotations to both sides, on a coarse grid.

    Parameters
    ----------
    one, two : FlatImage
        Reference and image.
    max_rotation_deg : float
        Largest rotation, degrees.
    backend : Backend
        Where to compute.

    Returns
    -------
    CoarseMatch
        The best place.
    """
    xp, fft = backend.xp, backend.fft
    spacing = max(*one.extent, *two.extent) / _COARSE_POINTS
    half = [int(np.ceil(max(a, b) / spacing / 2)) + 1 for a, b in zip(one.extent, two.extent, strict=True)]
    x = spacing * xp.arange(-half[0], half[0] + 1, dtype=np.float32)[None, :]
    y = spacing * xp.arange(-half[1], half[1] + 1, dtype=np.float32)[:, None]
    # Every offset with some overlap, without wrapping round.
    size = [backend.fft.next_fast_len(int(2 * n), real=True) for n in (y.size, x.size)]
    smooth_one, smooth_two = (i.blurred(0.6 * spacing, backend) for i in (one, two))

    def transforms(image: FlatImage, smooth: Any, angle: float) -> tuple[Any, Any, Any]:
        value, inside = sample(image, smooth, x, y, (0.0, 0.0), angle, 1, backend)
        return tuple(fft.rfft2(a, s=size) for a in (inside, value * inside, value * value * inside))

    fixed = [xp.conj(f) for f in transforms(one, smooth_one, 0.0)]
    steps = max(1, int(np.ceil(max_rotation_deg / _COARSE_STEP_DEG)))
    best: tuple[float, float, Any] | None = None
    for angle in np.linspace(-steps, steps, 2 * steps + 1) * _COARSE_STEP_DEG:
        moving = transforms(two, smooth_two, np.radians(angle))
        corr = _masked_correlation(fixed, moving, size, backend)
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
    centre, spread = centre_and_deviation(others)
    # The image's content lies at u - offset: moving it by +offset lays it on the reference.
    translation = -offset * spacing
    return CoarseMatch(
        (float(translation[0]), float(translation[1])),
        angle,
        (peak - centre) / max(spread, 1e-6),
        peak / max(float(others.max()), 1e-6),
        spacing,
    )


def _masked_correlation(fixed: Any, moving: Any, size: Any, backend: Backend) -> Any:
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


def sample(
    image: FlatImage, pixels: Any, x: Any, y: Any, t: Any, d: float, order: int, backend: Backend
) -> tuple[Any, Any]:
    """
    Image at points of the reference's field, and where it has pixels.

    Parameters
    ----------
    image : FlatImage
        The image that is sampled.
    pixels : array
        Its pixels, or a form of them such as spline coefficients.
    x, y : array
        The points, arcsec in the reference's field.
    t : array
        Shift of the image, arcsec along x and y.
    d : float
        Turn of the image, radians.
    order : int
        Order of the spline.
    backend : Backend
        Where to compute.

    Returns
    -------
    tuple of array
        Values, and a mask of the points within the image.
    """
    xp = backend.xp
    row, column = pixels_at(x - float(t[0]), y - float(t[1]), image.scale, image.pixels.shape, d)
    inside = (column >= 0) & (row >= 0) & (column <= 2 * image.centre[0]) & (row <= 2 * image.centre[1])
    value = backend.ndimage.map_coordinates(
        pixels, xp.stack([row, column]), order=order, mode="mirror", prefilter=False
    )
    return value * inside, inside.astype(np.float32)


def _quadratic(array: Any, xp: Any) -> Any:
    """Quadratic surface through an image, by least squares."""
    y, x = (xp.linspace(-1.0, 1.0, n, dtype=np.float32) for n in array.shape)
    terms = [(y**i)[:, None] * (x**j)[None, :] for i in range(3) for j in range(3 - i)]
    normal = np.array([[float(xp.sum(a * b, dtype=np.float64)) for b in terms] for a in terms])
    right = np.array([float(xp.sum(a * array, dtype=np.float64)) for a in terms])
    return sum(
        float(c) * t for c, t in zip(np.linalg.lstsq(normal, right, rcond=None)[0], terms, strict=True)
    )


def _signed(index: int, size: int) -> int:
    return index - size if index > size // 2 else index
