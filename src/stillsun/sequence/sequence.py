"""The images of one channel in time: cube, times, coordinates, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from stillsun.errors import InputError
from stillsun.sequence.derived import EvenImages, OntoImages
from stillsun.sequence.images import ImageSource, PartImages, cube_of
from stillsun.sky.times import iso

if TYPE_CHECKING:
    from astropy.table import Table
    from astropy.time import Time

# Steps that differ by so much of the median are not even; so many steps without an image are a gap.
_EVEN, _GAP = 0.01, 1.5
_KM_PER_M = 1e-3


@dataclass(frozen=True)
class WaveInput:
    """
    What tools for wave analysis take.

    Attributes
    ----------
    signal : numpy.ndarray, shape (n, rows, columns)
        float64; where nothing was measured, linear in time between what was. NaN in pixels that were never.
    time : numpy.ndarray, shape (n,)
        Seconds from the first image, even.
    cadence : float
        Seconds.
    pixel_arcsec : tuple of float
        Side of a pixel along (x, y), arcsec.
    pixel_km : tuple of float
        The same on the Sun at disk centre, km.
    measured : numpy.ndarray, shape (n, rows, columns)
        False where the signal was filled in.
    """

    signal: np.ndarray
    time: np.ndarray
    cadence: float
    pixel_arcsec: tuple[float, float]
    pixel_km: tuple[float, float]
    measured: np.ndarray


class Sequence:
    """
    The images of one channel, in the order of time; nothing is read before it is asked for.

    Parameters
    ----------
    source : ImageSource
        The images.
    table : astropy.table.Table
        A row for each, with the columns of ``sequence.ecsv``.
    name : str
        The channel.
    files : sequence of Path, optional
        Files of the images, where they are files.
    """

    def __init__(self, source: ImageSource, table: Table, name: str, files: Several[Path] = ()) -> None:
        self._source, self.table, self.name, self.files = source, table, name, list(files)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        span = f"{self.table['date_avg'][0]} to {self.table['date_avg'][-1]}" if len(self) else "no images"
        rows, columns = self._source.shape
        return f"<{self.name}: {len(self)} images of {rows} x {columns}, {span}>"

    def __getitem__(self, chosen: slice | np.ndarray | Several[int]) -> Sequence:
        """Some of the images: a slice, numbers, or truth values such as ``table["quality"] == 0``."""
        numbers = np.arange(len(self))[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        if np.ndim(numbers) == 0:
            raise TypeError("one image is .image(k) or .map(k); several are given by a slice")
        files = [self.files[n] for n in numbers] if self.files else []
        return Sequence(PartImages(self._source, numbers.tolist()), self.table[numbers], self.name, files)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows, columns."""
        return (len(self), *self._source.shape)

    @property
    def cube(self) -> Any:
        """(time, y, x) float32, read when it is looked at; NaN where pixels came from nowhere."""
        return cube_of(self._source, len(self))

    @property
    def mask(self) -> Any:
        """(time, y, x) bool, as lazy as the cube: true where there is no pixel, as NumPy masks."""
        share = np.asarray(self.table["valid_share"], np.float64)
        worst = int(np.nanargmin(share)) if (share < 1).any() else None
        if worst is not None and self.files and not np.isnan(self.image(worst)).any():
            raise InputError(
                "the files do not tell which pixels came from nowhere: the mean stands there",
                file=self.files[worst],
                remedy="Export with export.missing=nan, or take `valid` of destretch.h5",
            )
        return cube_of(self._source, len(self), np.isnan, bool)

    @cached_property
    def seconds(self) -> np.ndarray:
        """(n,) float64: mean times of the images, Unix seconds UTC."""
        moments = np.array([str(t) for t in self.table["date_avg"]], "datetime64[us]")
        return moments.astype(np.int64) / 1e6

    @property
    def times(self) -> Time:
        """Mean times of the images, UTC."""
        from astropy.time import Time

        return Time([str(t) for t in self.table["date_avg"]], format="isot", scale="utc")

    @property
    def cadence(self) -> float:
        """Median time between images, seconds."""
        return float(np.median(np.diff(self.seconds))) if len(self) > 1 else float("nan")

    def image(self, number: int) -> np.ndarray:
        """One image, (rows, columns) float32."""
        return self._source.image(range(len(self))[number])

    def header(self, number: int) -> fits.Header:
        """Header of an image."""
        return self._source.header(range(len(self))[number])

    def wcs(self, number: int) -> WCS:
        """World coordinates of an image, helioprojective, at its own time."""
        return WCS(self.header(number))

    def map(self, number: int) -> Any:
        """An image as a ``sunpy.map.Map``."""
        import sunpy.map

        return sunpy.map.Map(self.image(number), self.header(number))

    def ndcube(self) -> Any:
        """
        All images as an ``ndcube.NDCube`` (time, y, x) whose coordinates follow each image's own.

        Returns
        -------
        ndcube.NDCube
            As lazy as the cube.

        Raises
        ------
        InputError
            If the package ndcube is not installed, or there are fewer than two images.
        """
        try:
            from ndcube import NDCube
        except ImportError as error:
            raise InputError(
                "ndcube is not installed",
                remedy="Install it: pip install ndcube; .cube and .wcs(k) do without",
            ) from error
        return NDCube(self.cube, wcs=self.cube_wcs(), unit="ct", meta=dict(self.table.meta))

    def cube_wcs(self) -> WCS:
        """Coordinates of the cube: pixel (x, y, image) to longitude, latitude (deg) and seconds."""
        from stillsun.sequence.tabular import tabular_wcs

        if len(self) < 2:
            raise InputError("coordinates of a cube need two images", expected="2 or more", found=len(self))
        headers = [self.header(n) for n in range(len(self))]
        return tabular_wcs(headers, self.seconds - self.seconds[0], self._source.shape)

    def on(self, other: Sequence) -> Sequence:
        """
        The same images on the pixels of another channel, by the coordinates of both.

        The other channel's pixels are taken along with the Sun to the time of each image. One interpolation
        with cubic splines; NaN outside of the field.

        Parameters
        ----------
        other : Sequence
            Gives the pixels.

        Returns
        -------
        Sequence
            At this sequence's times.
        """
        nearest = np.abs(np.subtract.outer(self.seconds, other.seconds)).argmin(axis=1)
        tracks = {
            card: _track(other.seconds, np.asarray(other.table[column], np.float64), self.seconds)
            for card, column in (("CRVAL1", "crval1"), ("CRVAL2", "crval2"), ("CROTA2", "crota2"))
        }

        def place(number: int) -> fits.Header:
            header = other.header(int(nearest[number]))
            for card, values in tracks.items():
                header[card] = float(values[number])
            return header

        table = self.table.copy()
        for card, column in (("CRVAL1", "crval1"), ("CRVAL2", "crval2"), ("CROTA2", "crota2")):
            table[column] = tracks[card]
        table["valid_share"] = np.nan
        return Sequence(OntoImages(self._source, other.shape[1:], place), table, self.name)

    def even(self, cadence: float | None = None, gap: float | None = None) -> Sequence:
        """
        Evenly spaced images: linear in time between two that were taken, NaN in gaps.

        Parameters
        ----------
        cadence : float, optional
            Seconds; the median time between images by default.
        gap : float, optional
            Seconds between two images from which on nothing is known; 1.5 times the median by default.

        Returns
        -------
        Sequence
            From the first image to the last.
        """
        seconds = self.seconds
        step = self.cadence if cadence is None else float(cadence)
        if len(self) < 2 or not step > 0 or not (np.diff(seconds) > 0).all():
            raise InputError(
                "images cannot be spaced evenly",
                expected="two or more at different times, and a cadence above 0",
                found=f"{len(self)} images, {step} s",
            )
        times = seconds[0] + step * np.arange(int((seconds[-1] - seconds[0]) / step + _EVEN) + 1)
        times = np.minimum(times, seconds[-1])
        source = EvenImages(self._source, seconds, times, _GAP * self.cadence if gap is None else float(gap))
        table = self.table[source.nearest]
        first, second = self.table[source.before], self.table[source.after]
        for column in ("crval1", "crval2", "crota2"):
            table[column] = first[column] + source.part * (second[column] - first[column])
        mixed = (source.part > 0) & (source.part < 1)
        table["quality"] = np.where(mixed, first["quality"] | second["quality"], table["quality"])
        table["valid_share"] = np.where(source.lost, 0.0, np.where(mixed, np.nan, table["valid_share"]))
        table["index"] = np.where(mixed, -1, table["index"])
        table["date_avg"] = iso(times)
        return Sequence(source, table, self.name)

    def wave(self, box: tuple[int, int, int, int] | None = None) -> WaveInput:
        """
        Signal, time and pixel size as tools for wave analysis take them, in memory.

        Parameters
        ----------
        box : tuple of int, optional
            (left, bottom, right, top) in pixels from 0, without right and top; the whole field by default.

        Returns
        -------
        WaveInput
            Evenly spaced: as they are, if they are; otherwise those of `even`.
        """
        steps = np.diff(self.seconds)
        is_even = len(steps) > 0 and np.abs(steps - self.cadence).max() <= _EVEN * self.cadence
        taken = self if is_even else self.even()
        left, bottom, right, top = box or (0, 0, self.shape[2], self.shape[1])
        if not (0 <= left < right <= self.shape[2] and 0 <= bottom < top <= self.shape[1]):
            raise InputError(
                "no such box",
                expected=f"(left, bottom, right, top) within {self.shape[2]} x {self.shape[1]} pixels",
                found=box,
            )
        window = slice(bottom, top), slice(left, right)
        signal = np.stack([taken._source.image(n, window) for n in range(len(taken))]).astype(np.float64)
        measured = np.isfinite(signal)
        time = self.cadence * np.arange(len(taken))
        if not measured.all():
            _fill_in_time(signal, measured)
        header = self.header(len(self) // 2)
        scale = abs(float(header["CDELT1"])), abs(float(header["CDELT2"]))
        distance = float(header["DSUN_OBS"]) - float(header["RSUN_REF"]) if "DSUN_OBS" in header else np.nan
        km = tuple(float(np.radians(s / 3600) * distance * _KM_PER_M) for s in scale)
        return WaveInput(signal, time, self.cadence, scale, (km[0], km[1]), measured)


def _track(known: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values at other times: linear between those that are known, and on along the whole beyond them."""
    found = np.interp(wanted, known, values)
    beyond = (wanted < known[0]) | (wanted > known[-1])
    if beyond.any() and len(known) > 1:
        slope = np.polyfit(known - known[0], values, 1)[0]
        found += slope * (wanted - np.clip(wanted, known[0], known[-1]))
    return np.asarray(found)


def _fill_in_time(signal: np.ndarray, measured: np.ndarray) -> None:
    """Fill each pixel where it was not measured, linearly in time; in place."""
    count = len(signal)
    flat, known = signal.reshape(count, -1), measured.reshape(count, -1)
    numbers = np.arange(count)
    for pixel in np.flatnonzero(~known.all(axis=0) & known.any(axis=0)):
        good = known[:, pixel]
        flat[~good, pixel] = np.interp(numbers[~good], numbers[good], flat[good, pixel])
