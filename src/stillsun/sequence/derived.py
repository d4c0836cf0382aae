"""Images made of others: on the pixels of another channel, and evenly spaced in time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from stillsun.sequence.images import WHOLE, ImageSource, Window
from stillsun.sky.times import iso, mjd

_ARCSEC = 3600.0
_PLACE = ("CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "CRVAL1", "CRVAL2", "CROTA2")
# A pixel is there if so much of it lies on pixels that are.
_COVERED = 0.999


class OntoImages:
    """
    Images on the pixels of another sequence, one interpolation with cubic splines.

    `place(number)` is the header of the other sequence's pixels at the time of an image.
    """

    def __init__(
        self, source: ImageSource, shape: tuple[int, int], place: Callable[[int], fits.Header]
    ) -> None:
        self._source, self._place, self.shape = source, place, shape

    def image(self, number: int, window: Window = WHOLE) -> np.ndarray:
        """See `ImageSource`."""
        own = self._source.image(number)
        matrix, offset = pixel_relation(self._place(number), self._source.header(number), self.shape)
        first = [part.indices(size) for part, size in zip(window, self.shape, strict=True)]
        shape = tuple(len(range(*part)) for part in first)
        step = np.diag([part[2] for part in first])
        offset = offset + matrix @ [part[0] for part in first]
        missing = np.isnan(own)
        filled = own if not missing.any() else np.where(missing, np.nanmean(own), own)
        moved = ndimage.affine_transform(filled, matrix @ step, offset, shape, order=3, mode="nearest")
        there = ndimage.affine_transform(
            (~missing).astype(np.float32), matrix @ step, offset, shape, order=1, mode="grid-constant"
        )
        return np.where(there > _COVERED, moved, np.nan).astype(np.float32)

    def header(self, number: int) -> fits.Header:
        """See `ImageSource`."""
        header, place = self._source.header(number), self._place(number)
        for name in _PLACE:
            if name in place:
                header[name] = place[name]
        header["NAXIS2"], header["NAXIS1"] = self.shape
        return header


def pixel_relation(
    target: fits.Header, source: fits.Header, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Where the pixels of one image lie in another: ``source = matrix @ target + offset``.

    Both are gnomonic about points less than a field apart, so that the relation is linear to well below
    a thousandth of a pixel.

    Parameters
    ----------
    target, source : astropy.io.fits.Header
        Coordinates of both.
    shape : tuple of int
        Rows and columns of the target.

    Returns
    -------
    matrix, offset : numpy.ndarray
        (2, 2) and (2,), order y, x; pixels are counted from 0.
    """
    rows, columns = shape[0] - 1, shape[1] - 1
    corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]], np.float64)
    world = WCS(target).all_pix2world(corners, 0)
    found = WCS(source).all_world2pix(world, 0)[:, ::-1]
    known = np.column_stack([corners[:, ::-1], np.ones(4)])
    solution = np.linalg.lstsq(known, found, rcond=None)[0]
    return solution[:2].T, solution[2]


class EvenImages:
    """
    Images at other times, between two that were taken: linear in time; NaN in gaps.

    Parameters
    ----------
    source : ImageSource
        The images as they were taken.
    taken : numpy.ndarray, shape (n,)
        When, Unix seconds.
    times : numpy.ndarray
        When they are wanted, ascending, none outside of `taken`.
    gap : float
        Seconds between two images between which nothing is known.
    """

    def __init__(self, source: ImageSource, taken: np.ndarray, times: np.ndarray, gap: float) -> None:
        self._source, self.shape, self.times = source, source.shape, times
        last = len(taken) - 1
        self.before = np.clip(np.searchsorted(taken, times, side="right") - 1, 0, last)
        self.after = np.minimum(self.before + 1, last)
        span = taken[self.after] - taken[self.before]
        part = np.divide(times - taken[self.before], span, out=np.zeros(len(times)), where=span > 0)
        # A time that is all but that of an image is that image's.
        near = 0.01 * gap
        self.part = np.where(times - taken[self.before] < near, 0.0, part)
        self.part = np.where(taken[self.after] - times < near, 1.0, self.part)
        self.lost = (span > gap) & (self.part > 0) & (self.part < 1)

    @property
    def nearest(self) -> np.ndarray:
        """Number of the image that was taken next to each time."""
        return np.where(self.part < 0.5, self.before, self.after)

    def image(self, number: int, window: Window = WHOLE) -> np.ndarray:
        """See `ImageSource`."""
        part = float(self.part[number])
        if self.lost[number]:
            return np.full(self.shape, np.nan, np.float32)[window]
        if part in (0.0, 1.0):
            return self._source.image(int(self.nearest[number]), window)
        first, second = (self._source.image(int(n[number]), window) for n in (self.before, self.after))
        return ((1 - part) * first + part * second).astype(np.float32)

    def header(self, number: int) -> fits.Header:
        """See `ImageSource`."""
        header = self._source.header(int(self.nearest[number]))
        first, second = (self._source.header(int(n[number])) for n in (self.before, self.after))
        for name in _PLACE:
            if name not in first or name not in second:
                continue
            header[name] = first[name] + self.part[number] * (second[name] - first[name])
        moment = float(self.times[number])
        header["DATE-AVG"], header["MJD-AVG"] = str(iso(moment)), float(mjd(moment))
        return header
