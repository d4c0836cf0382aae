"""A frame as a template: blurred to a coarser resolution, turned, on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from stillsun.core.affine import pixels_at
from stillsun.core.backend import Backend, to_host
from stillsun.core.robust import robust_deviation
from stillsun.errors import InputError

_FWHM = 2.3548
# Spots have contrasts that are tens of times that of granulation: more than this counts no more.
_CLIP = 6.0


class SkyTemplate:
    """
    A frame, ready to be looked for in a full-disk image.

    Parameters
    ----------
    image, valid : array_like, shape (y, x)
        Frame, and non-zero where it can be used.
    plate_scale : sequence of float
        Along (x, y), arcsec per pixel.
    resolution : float
        Full width at half maximum that it is blurred to, arcsec.
    backend : Backend
        Where to compute.

    Raises
    ------
    InputError
        If less than a tenth of the frame can be used, or it is the same everywhere.
    """

    # Structure larger than this is illumination.
    HIGH_PASS_ARCSEC: ClassVar[float] = 12.0

    def __init__(
        self, image: Any, valid: Any, plate_scale: Sequence[float], resolution: float, backend: Backend
    ) -> None:
        self._backend = backend
        xp, ndimage = backend.xp, backend.ndimage
        pixels = backend.asarray(image, dtype=np.float32)
        good = (backend.asarray(valid) != 0) & xp.isfinite(pixels)
        if float(good.mean()) < 0.1:
            raise InputError("too little of the frame can be matched to the Sun", found=float(good.mean()))
        mean = pixels[good].mean()
        if float(pixels[good].std()) <= 1e-6 * abs(float(mean)):
            raise InputError("the frame to be matched to the Sun is the same everywhere")
        self._scale = (float(plate_scale[0]), float(plate_scale[1]))
        sigma = [resolution / _FWHM / s for s in self._scale[::-1]]
        weight = good.astype(np.float32)
        around = ndimage.gaussian_filter(weight, sigma, mode="nearest", truncate=3.0)
        blurred = ndimage.gaussian_filter(
            xp.where(good, pixels - mean, 0.0), sigma, mode="nearest", truncate=3.0
        )
        self._pixels = ndimage.spline_filter(
            blurred / xp.maximum(around, 0.05) + mean, order=3, output=np.float32, mode="mirror"
        )
        self._weight = weight
        self.extent = float(np.hypot(*(n * s for n, s in zip(good.shape[::-1], self._scale, strict=True))))

    def shape(self, spacing: float, angle_deg: float) -> tuple[int, int]:
        """
        Points that the frame takes when turned by up to an angle.

        Parameters
        ----------
        spacing : float
            From point to point, arcsec.
        angle_deg : float
            Largest angle, degrees; not above 90.

        Returns
        -------
        tuple of int
            Points (y, x), odd numbers.
        """
        width, height = (n * s for n, s in zip(self._weight.shape[::-1], self._scale, strict=True))
        angle = np.radians(min(abs((angle_deg + 90.0) % 180.0 - 90.0), 90.0))
        cos, sin = np.cos(angle), np.sin(angle)
        full = (max(height, width * sin + height * cos), max(width, width * cos + height * sin))
        rows, columns = (2 * int(np.ceil(f / spacing / 2)) + 1 for f in full)
        return rows, columns

    def at(self, angle_deg: float, spacing: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """
        The frame on a north-aligned grid around its centre.

        Parameters
        ----------
        angle_deg : float
            ``CROTA2`` of the frame, degrees.
        spacing : float
            From point to point, arcsec.
        shape : tuple of int
            Points (y, x).

        Returns
        -------
        contrast, mask : numpy.ndarray, shape (y, x)
            High-passed contrast, and 1 where the frame has pixels, else 0; float32.
        """
        xp = self._backend.xp
        y, x = (spacing * (xp.arange(n, dtype=np.float64) - (n - 1) / 2) for n in shape)
        x, y = x[None, :], y[:, None]
        # world = R(CROTA2) S (p - centre)
        where = xp.stack(pixels_at(x, y, self._scale, self._weight.shape, np.radians(angle_deg)))
        sample = self._backend.ndimage.map_coordinates
        pixels = sample(self._pixels, where, order=3, mode="mirror", prefilter=False)
        mask = sample(self._weight, where, order=1, mode="constant", cval=0.0) > 0.99
        mask = to_host(mask).astype(np.float32)
        return contrast(to_host(pixels), mask, self.HIGH_PASS_ARCSEC / spacing), mask


def contrast(image: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """
    Contrast against the surroundings, with strong contrasts limited.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Intensity.
    mask : numpy.ndarray, shape (y, x)
        1 where the image counts, else 0.
    width : float
        Standard deviation of the surroundings, points.

    Returns
    -------
    numpy.ndarray, shape (y, x), float32
        Contrast; 0 outside the mask.
    """
    import scipy.ndimage

    def blur(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(values, width, mode="nearest", truncate=2.5)

    weight = blur(mask.astype(np.float32))
    around = blur((image * mask).astype(np.float32)) / np.maximum(weight, 1e-3)
    positive = around[mask > 0]
    floor = max(0.2 * float(np.median(positive)), 1e-6) if positive.size else 1.0
    value = mask * (image - around) / np.maximum(around, floor)
    inside = np.abs(value[mask > 0])
    limit = _CLIP * robust_deviation(inside)
    return np.clip(value, -limit, limit).astype(np.float32) if limit > 0 else value.astype(np.float32)
