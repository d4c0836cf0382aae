"""A full-disk image of the Sun, and how any small part of it looks from the telescope."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from stillsun.errors import InputError
from stillsun.io.foreign import reading
from stillsun.sky.observer import offline

_ARCSEC = np.degrees(1.0) * 3600.0
# Pixels around a part of the image that its interpolation reaches.
_BORDER = 16
# Share of the pixels in the middle of the disk that an image has; lost packets leave gaps.
_LEAST_LIT = 0.5


@dataclass(frozen=True)
class SkyGrid:
    """
    A north-aligned grid on the plane that touches the sky at a point.

    Attributes
    ----------
    centre : tuple of float
        Helioprojective (x, y) of the middle of the grid, arcsec.
    spacing : float
        From point to point, arcsec.
    shape : tuple of int
        Points (y, x).
    frame : sunpy.coordinates.Helioprojective
        Observer and time.
    """

    centre: tuple[float, float]
    spacing: float
    shape: tuple[int, int]
    frame: Any

    def world(self, row: Any, column: Any) -> np.ndarray:
        """
        Helioprojective coordinates of points of the grid (gnomonic, as in FITS's ``TAN``).

        Parameters
        ----------
        row, column : array_like
            Position in points, from 0.

        Returns
        -------
        numpy.ndarray, shape (..., 2)
            (x, y), arcsec.
        """
        middle = [(n - 1) / 2 for n in self.shape]
        eta, xi = (
            (np.asarray(v, np.float64) - m) * (self.spacing / _ARCSEC)
            for v, m in zip((row, column), middle, strict=True)
        )
        x0, y0 = (v / _ARCSEC for v in self.centre)
        depth = np.cos(y0) - eta * np.sin(y0)
        x = x0 + np.arctan2(xi, depth)
        y = np.arctan2(np.sin(y0) + eta * np.cos(y0), np.hypot(xi, depth))
        return np.stack([x, y], axis=-1) * _ARCSEC


@dataclass(frozen=True)
class FullDisk:
    """
    A full-disk image with its coordinates.

    Attributes
    ----------
    data : numpy.ndarray, shape (y, x), float32
        Intensity; 0 off the disk.
    wcs : astropy.wcs.WCS
        Coordinates with observer and time.
    scale : float
        Arcsec per pixel.
    radius : float
        Apparent radius of the Sun, arcsec.
    time : float
        Unix seconds, UTC.
    name : str
        File name.
    """

    data: np.ndarray
    wcs: Any
    scale: float
    radius: float
    time: float
    name: str

    def view(self, grid: SkyGrid) -> np.ndarray:
        """
        The image as another observer sees it at another time.

        Each point of the grid is followed over the surface, with the differential rotation between the
        two times (Howard et al. 1990), and the image interpolated by cubic splines.

        Parameters
        ----------
        grid : SkyGrid
            Where and for whom.

        Returns
        -------
        numpy.ndarray, shape of the grid, float32
            Intensity; 0 where the grid or the image is off the disk.
        """
        from astropy import units as u
        from astropy.coordinates import SkyCoord
        from sunpy.coordinates import propagate_with_solar_surface

        rows, columns = np.indices(grid.shape)
        world = grid.world(rows, columns) * u.arcsec
        with offline(), propagate_with_solar_surface(), warnings.catch_warnings():
            # Points off the disk have no place on the surface: they come out as NaN.
            warnings.simplefilter("ignore")
            points = SkyCoord(world[..., 0], world[..., 1], frame=grid.frame)
            x, y = self.wcs.world_to_pixel(points)
        inside = np.isfinite(x) & np.isfinite(y)
        inside &= (x >= 0) & (y >= 0) & (x <= self.data.shape[1] - 1) & (y <= self.data.shape[0] - 1)
        view = np.zeros(grid.shape, np.float32)
        if not inside.any():
            return view
        corner = [max(0, int(v[inside].min()) - _BORDER) for v in (y, x)]
        end = [int(v[inside].max()) + _BORDER for v in (y, x)]
        part = self.data[corner[0] : end[0], corner[1] : end[1]]
        view[inside] = scipy.ndimage.map_coordinates(
            part, [y[inside] - corner[0], x[inside] - corner[1]], order=3, mode="nearest"
        )
        return view


def read_fulldisk(path: Path) -> FullDisk:
    """
    Read a full-disk image, such as HMI's 45-second continuum.

    Parameters
    ----------
    path : Path
        Any file that sunpy makes a map of, with helioprojective coordinates.

    Returns
    -------
    FullDisk
        The image.

    Raises
    ------
    InputError
        If the file cannot be read, or does not show the whole disk with its coordinates.
    """
    from astropy import units as u

    remedy = "Give a full-disk continuum image, such as hmi.Ic_45s, with its whole header"
    if not Path(path).is_file():
        raise InputError("no such full-disk image", file=path, remedy=remedy)
    try:
        with offline(), warnings.catch_warnings():
            # What other observatories' headers lack is no concern of the reader of ours.
            warnings.simplefilter("ignore")
            from sunpy.map import Map
            from sunpy.time import parse_time

            maps = Map(path)
            disk = maps[0] if isinstance(maps, list) else maps
            if "t_obs" in disk.meta:
                # The middle of HMI's exposure, of which sunpy 6.0 takes the beginning.
                disk.meta["date-obs"] = parse_time(disk.meta["t_obs"]).utc.isot
            wcs, scale = disk.wcs, float(abs(disk.scale[0].to_value(u.arcsec / u.pix)))
            radius = float(disk.rsun_obs.to_value(u.arcsec))
            observer = disk.observer_coordinate
            time = float(disk.reference_date.unix)
            data = np.asarray(disk.data, dtype=np.float32)
    except Exception as error:  # sunpy and astropy raise anything for a file that is no map
        raise InputError(f"the full-disk image cannot be used ({error})", file=path, remedy=remedy) from error
    if observer is None or wcs.naxis != 2 or not str(wcs.wcs.ctype[0]).startswith("HPLN"):
        raise InputError("the full-disk image has no helioprojective coordinates", file=path, remedy=remedy)
    if min(data.shape) * scale < 2 * radius:
        raise InputError(
            "the image does not show the whole disk",
            file=path,
            expected=f"{2 * radius:.0f} arcsec",
            found=f"{min(data.shape) * scale:.0f} arcsec",
            remedy=remedy,
        )
    middle, reach = [n // 2 for n in data.shape], max(1, int(radius / scale / 2))
    disk_part = data[tuple(slice(m - reach, m + reach) for m in middle)]
    lit = np.isfinite(disk_part) & (disk_part > 0)
    if lit.mean() < _LEAST_LIT or not np.ptp(disk_part[lit]) > 0:
        raise InputError(
            "the full-disk image has no light on the disk",
            file=path,
            expected="intensities in the middle of the disk",
            found=f"{lit.mean():.0%} of its pixels above zero",
            remedy=remedy,
        )
    return FullDisk(np.nan_to_num(data, nan=0.0), wcs, scale, radius, time, Path(path).name)


def fulldisk_time(path: Path) -> float:
    """
    Time of a full-disk image of HMI, from its header alone.

    Parameters
    ----------
    path : Path
        FITS file.

    Returns
    -------
    float
        Unix seconds, UTC (``T_OBS``, which is in TAI).

    Raises
    ------
    InputError
        If the file has no such time.
    """
    from astropy.io import fits

    with (
        reading(path, "no image of HMI", remedy="Move it out of align.cache"),
        offline(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        from sunpy.time import parse_time

        with fits.open(path) as hdus:
            text = next(h.header["T_OBS"] for h in hdus if "T_OBS" in h.header)
        return float(parse_time(text).unix)
