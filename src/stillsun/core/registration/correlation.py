"""Zero-normalised correlation of a masked template at every place of a larger image, and its peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.errors import InputError

# A place of the image with less than this share of its variance is the same everywhere.
_FLAT = 1e-6


class TemplateSearch:
    """
    An image in which templates are looked for.

    Parameters
    ----------
    image : array_like, shape (y, x)
        The image; finite.
    backend : Backend or str, optional
        Where to compute.

    Notes
    -----
    ``C(s) = sum m (t - <t>) i(s) / sqrt(sum m (t - <t>)^2 * sum m (i(s) - <i(s)>)^2)`` with the mask m
    of the template t, and means over the mask; three correlations by FFT a template. See Padfield
    (2012, IEEE Trans. Image Process. 21, 2706).
    """

    def __init__(self, image: Any, backend: Backend | str | None = None) -> None:
        self._backend = get_backend(backend)
        pixels = self._backend.asarray(image, dtype=np.float32)
        if not bool(self._backend.xp.isfinite(pixels).all()):
            raise InputError("the image to be searched holds values that are not finite")
        # The level does not count, and small numbers lose no digits in the sums.
        pixels = pixels - pixels.mean()
        self.shape = pixels.shape
        self._size = [self._backend.fft.next_fast_len(n, real=True) for n in self.shape]
        self._image = self._transform(pixels)
        self._square = self._transform(pixels * pixels)
        self._variance = float(self._backend.xp.mean(pixels * pixels))

    def correlate(self, template: Any, mask: Any) -> np.ndarray:
        """
        Correlation at every place where the template lies inside the image.

        Parameters
        ----------
        template : array_like, shape (rows, columns)
            Not larger than the image.
        mask : array_like, shape (rows, columns)
            1 where the template counts, else 0.

        Returns
        -------
        numpy.ndarray, shape (y - rows + 1, x - columns + 1), float32
            Correlation coefficients; entry (r, c) has the template's first pixel on pixel (r, c).

        Raises
        ------
        InputError
            If the template is larger than the image, or the same everywhere.
        """
        xp = self._backend.xp
        weight = self._backend.asarray(mask, dtype=np.float32)
        pixels = self._backend.asarray(template, dtype=np.float32)
        rows, columns = (n - m + 1 for n, m in zip(self.shape, pixels.shape, strict=True))
        if rows < 1 or columns < 1:
            raise InputError(
                "a template larger than the image", expected=f"at most {self.shape}", found=pixels.shape
            )
        count = float(weight.sum())
        if count < 2:
            raise InputError("the mask of a template is empty")
        pixels = weight * (pixels - (weight * pixels).sum() / count)
        power = float((pixels * pixels).sum())
        if power <= 0.0:
            raise InputError("a template is the same everywhere")
        over = self._transform(weight)

        def sums(image: Any, small: Any) -> Any:
            return self._backend.fft.irfft2(image * xp.conj(small), s=self._size)[:rows, :columns]

        spread = sums(self._square, over) - sums(self._image, over) ** 2 / count
        flat = spread < _FLAT * count * self._variance
        spread = xp.sqrt(xp.where(flat, 1.0, spread) * power)
        return to_host(xp.where(flat, 0.0, sums(self._image, self._transform(pixels)) / spread))

    def _transform(self, pixels: Any) -> Any:
        return self._backend.fft.rfft2(pixels, s=self._size)


@dataclass(frozen=True)
class Peak:
    """
    Highest point of a surface.

    Attributes
    ----------
    position : tuple of float
        Pixel (y, x), between the samples.
    height : float
        Height there.
    curvature : numpy.ndarray, shape (2, 2)
        Second derivatives in (y, x), per pixel squared.
    at_edge : bool
        The highest sample lies on the edge: there may be something higher outside.
    """

    position: tuple[float, float]
    height: float
    curvature: np.ndarray
    at_edge: bool


def find_peak(surface: np.ndarray) -> Peak:
    """
    Find the highest point by a paraboloid through the 3 x 3 samples around the highest one.

    Parameters
    ----------
    surface : numpy.ndarray, shape (y, x)
        The surface, 3 x 3 samples at least.

    Returns
    -------
    Peak
        Where it is and how sharp.
    """
    row, column = (int(v) for v in np.unravel_index(int(np.argmax(surface)), surface.shape))
    edge = not (0 < row < surface.shape[0] - 1 and 0 < column < surface.shape[1] - 1)
    r, c = (int(np.clip(v, 1, n - 2)) for v, n in zip((row, column), surface.shape, strict=True))
    z = surface[r - 1 : r + 2, c - 1 : c + 2].astype(np.float64)
    # Least squares of 1, y, x, y^2, xy, x^2 on the nine samples.
    y, x = (v.ravel() for v in np.mgrid[-1.0:2.0, -1.0:2.0])
    design = np.stack([np.ones(9), y, x, y * y, x * y, x * x], axis=1)
    level, gy, gx, yy, xy, xx = np.linalg.lstsq(design, z.ravel(), rcond=None)[0]
    curvature = np.array([[2 * yy, xy], [xy, 2 * xx]])
    offset = np.zeros(2)
    if not edge and np.all(np.linalg.eigvalsh(curvature) < 0):
        offset = np.clip(-np.linalg.solve(curvature, [gy, gx]), -1.0, 1.0)
    height = level + offset @ [gy, gx] + 0.5 * offset @ curvature @ offset
    return Peak((r + float(offset[0]), c + float(offset[1])), float(height), curvature, edge)
