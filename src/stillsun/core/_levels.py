"""A frame made ready to be measured: valid part, background removed, at several binnings."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.apodize import fill, high_pass, valid_box
from stillsun.core.backend import Backend
from stillsun.core.warp import resample, resample_box, resample_mask

#: Width of the background that is removed, in (binned) pixels. Fine detail carries the information on
#: shifts; the change of the Sun and of the seeing from frame to frame has most power at large scales.
BACKGROUND_SIGMA = 4.0


class Levels:
    """
    A frame, and what is measured of it.

    Parameters
    ----------
    image : array_like
        (rows, columns); NaN, infinite and the pixels of a constant border do not count.
    backend : Backend
        Where to compute.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    box : tuple of int
        Inside of the constant border, see `stillsun.core.apodize.valid_box`.
    valid : array
        (rows, columns) bool.
    filled : array
        (rows, columns) float32 without NaN, the edge of the valid part held beyond it.
    empty : bool
        There is nothing to measure: all pixels have one value, or none is finite.
    """

    def __init__(self, image: Any, backend: Backend) -> None:
        xp = backend.xp
        self._backend = backend
        image = xp.ascontiguousarray(image)
        self.shape: tuple[int, int] = image.shape
        self.box = valid_box(image, backend)
        y0, y1, x0, x1 = self.box
        self.empty = y1 == 0
        self.valid = self._inside()
        self.valid[y0:y1, x0:x1] = xp.isfinite(image[y0:y1, x0:x1])
        self._holes = not bool(self.valid[y0:y1, x0:x1].all())
        if self.empty:
            self.filled = xp.where(xp.isfinite(image), image, np.float32(0))
        else:
            self.filled = fill(image, self.valid, self.box, backend)
        self._binned: dict[int, Any] = {1: self.filled}
        self._levels: dict[int, Any] = {}
        self._details: dict[int, float] = {}

    def move(self, field: Any, interpolation: str) -> tuple[Any, Any]:
        """
        Move the frame by a displacement field.

        Parameters
        ----------
        field : array
            (2, rows, columns) float32 on the backend.
        interpolation : str
            As for `stillsun.core.warp.resample`.

        Returns
        -------
        image : array
            (rows, columns) float32 without NaN. What comes from outside the valid part has the mean of
            the valid part: no streaks that could be taken for data.
        valid : array
            (rows, columns) bool: comes from valid pixels only.
        """
        backend = self._backend
        image = resample(self.filled, field, interpolation, backend)
        inside = resample_box(self.box, field, backend)
        valid = resample_mask(self.valid, field, backend) if self._holes else inside
        if not self.empty:
            y0, y1, x0, x1 = self.box
            image[~inside] = self.filled[y0:y1, x0:x1].mean(dtype=np.float64)
        return image, valid

    def _inside(self) -> Any:
        y0, y1, x0, x1 = self.box
        inside = self._backend.xp.zeros(self.shape, bool)
        inside[y0:y1, x0:x1] = True
        return inside

    def level(self, bins: int) -> Any:
        """
        The frame without background, in units of its own contrast.

        Parameters
        ----------
        bins : int
            Pixels binned into one along each axis, a power of two.

        Returns
        -------
        array
            (ceil(rows / bins), ceil(columns / bins)) float32, rms 1, NaN where invalid.
        """
        if bins not in self._levels:
            self._levels[bins] = self._make(bins)
        return self._levels[bins]

    def detail(self, bins: int) -> float:
        """Contrast of the frame without background, as rms over the mean."""
        self.level(bins)
        return self._details[bins]

    def _make(self, bins: int) -> Any:
        xp = self._backend.xp
        image = high_pass(self._bin(bins), BACKGROUND_SIGMA, self._backend)
        y0, y1, x0, x1 = (
            -(-self.box[0] // bins),
            self.box[1] // bins,
            -(-self.box[2] // bins),
            self.box[3] // bins,
        )
        inner = image[y0:y1, x0:x1]
        power = float(xp.einsum("ij,ij->i", inner, inner).sum(dtype=np.float64))
        rms = np.sqrt(power / max(inner.size, 1))
        image *= np.float32(1 / rms if rms > 0 else 0)
        mean = abs(float(self._bin(bins)[y0:y1, x0:x1].mean(dtype=np.float64)))
        self._details[bins] = rms / mean if mean > 0 else 0.0
        # At least one row and column at each side, so that what comes from outside the frame is NaN.
        image[: max(y0, 1)], image[min(y1, image.shape[0] - 1) :] = np.nan, np.nan
        image[:, : max(x0, 1)], image[:, min(x1, image.shape[1] - 1) :] = np.nan, np.nan
        if self._holes:
            image[~self._whole(bins)] = np.nan
        return image

    def _bin(self, bins: int) -> Any:
        if bins not in self._binned:
            xp = self._backend.xp
            self._binned[bins] = _join_blocks(self._bin(bins // 2), xp.add, xp) * np.float32(0.25)
        return self._binned[bins]

    def _whole(self, bins: int) -> Any:
        """Binned pixels of which each part is valid."""
        if bins == 1:
            return self.valid
        return _join_blocks(self._whole(bins // 2), self._backend.xp.logical_and, self._backend.xp)


def _join_blocks(image: Any, join: Any, xp: Any) -> Any:
    """Join the pixels of blocks of 2 x 2; the last row and column are repeated where the size is odd."""
    rows, columns = image.shape
    if rows % 2 or columns % 2:
        image = xp.pad(image, ((0, rows % 2), (0, columns % 2)), mode="edge")
    pairs = join(image[::2], image[1::2])
    return join(pairs[:, ::2], pairs[:, 1::2])
