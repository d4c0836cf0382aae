"""World coordinates of a frame: pointing, plate scale and channel registration in FITS's convention."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core.orient import rotation
from stillsun.sky.observer import Site
from stillsun.sky.pointing import Pointing

_LOG = logging.getLogger(__name__)
_ARCSEC_PER_DEG = 3600.0
# No solar image has larger pixels in degrees, or smaller ones in arcsec.
_SMALL_DEG = 0.004
_WCS_KEY = re.compile(r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|PC[12]_|CD[12]_|PV[12]_)[12]|LONPOLE|LATPOLE")
_UNITS = {"arcsecond": "arcsec", "asec": "arcsec", '"': "arcsec", "degree": "deg"}


@dataclass(frozen=True)
class ChannelGeometry:
    """
    How an oriented channel lies on the reference channel's field.

    Attributes
    ----------
    crpix : array_like, shape (2,) or (n, 2)
        Pixel (x, y) that sees the centre of the reference channel, FITS style: the centre of the
        first pixel is 1; of each frame, if it moves.
    cdelt : tuple of float
        Plate scale along (x, y), arcsec per pixel, positive.
    rotation_deg : float
        ``CROTA2`` of the channel less that of the reference channel.
    uncertainty : float
        Error of the offset between the channels, arcsec.
    """

    crpix: Any
    cdelt: tuple[float, float]
    rotation_deg: float = 0.0
    uncertainty: float = 0.0

    def reference(self, frame: int) -> tuple[float, float]:
        """
        Reference pixel of a frame.

        Parameters
        ----------
        frame : int
            Number of the frame.

        Returns
        -------
        tuple of float
            (x, y), FITS style.
        """
        pixels = np.asarray(self.crpix, np.float64)
        x, y = pixels if pixels.ndim == 1 else pixels[frame]
        return float(x), float(y)


def centre_pixel(shape: Sequence[int]) -> tuple[float, float]:
    """
    Centre of an image, FITS style.

    Parameters
    ----------
    shape : sequence of int
        Shape (..., rows, columns).

    Returns
    -------
    tuple of float
        Pixel (x, y), ``(NAXIS + 1) / 2``.
    """
    return (shape[-1] + 1) / 2, (shape[-2] + 1) / 2


def register_channel(
    shape: Sequence[int],
    plate_scale: Sequence[float],
    translation: Sequence[float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    uncertainty: float = 0.0,
) -> ChannelGeometry:
    """
    Geometry of a channel from its similarity to the reference channel.

    Parameters
    ----------
    shape : sequence of int
        Shape (rows, columns) of the oriented frame.
    plate_scale : sequence of float
        Plate scale along its (x, y), arcsec per pixel.
    translation : sequence of float, optional
        Where the centre of this channel lies in the reference channel, (x, y) in arcsec from the
        reference channel's centre; nothing for the reference channel itself.
    rotation_deg : float, optional
        This channel's +y points so many degrees counter-clockwise of the reference channel's.
    uncertainty : float, optional
        Error of the translation, arcsec.

    Returns
    -------
    ChannelGeometry
        Reference pixel, scale and angle.

    Notes
    -----
    Pixel p of the channel sees the point u = t + R(d) S (p - p0) of the reference channel's field, with
    p0 the channel's centre and S its scales. The reference pixel is where u = 0:
    CRPIX = p0 - S^-1 R(-d) t.
    """
    scale = np.asarray(plate_scale, dtype=np.float64)
    x, y = centre_pixel(shape) - rotation(-rotation_deg) @ np.asarray(translation, np.float64) / scale
    return ChannelGeometry(
        (float(x), float(y)), (float(scale[0]), float(scale[1])), float(rotation_deg), float(uncertainty)
    )


def frame_cards(geometry: ChannelGeometry, pointing: Pointing, frame: int) -> dict[str, Any]:
    """
    Values of the coordinate cards that belong to one frame.

    Parameters
    ----------
    geometry : ChannelGeometry
        The channel on the reference channel's field.
    pointing : Pointing
        Helioprojective coordinates of the reference channel's centre, for each frame.
    frame : int
        Row of `pointing`, and of `geometry` if its reference pixel moves.

    Returns
    -------
    dict
        ``CRPIXi``, ``CDELTi``, ``CRVALi``, ``CROTA2`` and ``CSYERi``.

    Notes
    -----
    World = CRVAL (+) R(CROTA2) S (p - CRPIX), gnomonic. The two channels share the reference point,
    so that only CRPIX, CDELT and CROTA2 differ.
    """
    error = float(np.hypot(pointing.uncertainty[frame], geometry.uncertainty))
    x, y = geometry.reference(frame)
    return {
        "CRPIX1": x,
        "CRPIX2": y,
        "CDELT1": geometry.cdelt[0],
        "CDELT2": geometry.cdelt[1],
        "CRVAL1": float(pointing.crval[frame, 0]),
        "CRVAL2": float(pointing.crval[frame, 1]),
        "CROTA2": float(pointing.crota2[frame]) + geometry.rotation_deg,
        "CSYER1": error,
        "CSYER2": error,
    }


@dataclass(frozen=True)
class HeaderPlace:
    """
    Where an image with a header of its own lies on the Sun.

    Attributes
    ----------
    centre : tuple of float
        Helioprojective (x, y) of the centre of the image, arcsec.
    rotation_deg : float
        Angle of its +y against solar north, counter-clockwise, as ``CROTA2``.
    """

    centre: tuple[float, float]
    rotation_deg: float


def read_place(header: Any, shape: Sequence[int]) -> HeaderPlace | None:
    """
    Place of an image by the coordinates of its header, whatever their units, reference pixel and matrix.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header of the image.
    shape : sequence of int
        Shape (rows, columns).

    Returns
    -------
    HeaderPlace or None
        None where the coordinates are not helioprojective, or not to be understood.
    """
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    cards = Header((key, value) for key, value in header.items() if _WCS_KEY.fullmatch(key))
    if not str(cards.get("CTYPE1", "")).startswith("HPLN") or not {"CRVAL1", "CRVAL2"} <= set(cards):
        return None
    cards.setdefault("CTYPE2", "HPLT" + str(cards["CTYPE1"])[4:])
    small = abs(float(cards.get("CDELT1", cards.get("CD1_1", 1.0)))) < _SMALL_DEG
    for n, middle in enumerate(centre_pixel(shape), start=1):
        # Without a unit the scale tells; without a reference pixel it is the middle.
        unit = str(cards.get(f"CUNIT{n}") or "").strip().lower()
        cards[f"CUNIT{n}"] = _UNITS.get(unit.rstrip("s"), unit) or ("deg" if small else "arcsec")
        cards.setdefault(f"CRPIX{n}", middle)
    try:
        with warnings.catch_warnings(action="ignore"):
            wcs = WCS(cards, naxis=2)
            x, y = (v - 1 for v in centre_pixel(shape))
            lon, lat = wcs.wcs_pix2world([x, x], [y, y + 1], 0)
    except (ValueError, TypeError, KeyError) as error:  # wcslib's own are ValueErrors
        _LOG.debug("coordinates of a header cannot be read: %s", error)
        return None
    lon = (lon + 180.0) % 360.0 - 180.0
    place = (float(lon[0]) * _ARCSEC_PER_DEG, float(lat[0]) * _ARCSEC_PER_DEG)
    across = (lon[1] - lon[0]) * np.cos(np.radians(lat[0]))
    rotation_deg = float(np.degrees(np.arctan2(-across, lat[1] - lat[0])))
    return HeaderPlace(place, rotation_deg) if np.isfinite([*place, rotation_deg]).all() else None


def site_cards(site: Site) -> dict[str, float]:
    """
    Values of the cards that tell where on Earth the telescope stands.

    Parameters
    ----------
    site : Site
        The telescope's site.

    Returns
    -------
    dict
        ``OBSGEO-X/Y/Z`` in metres (ITRS) and ``OBSGEO-L/B/H`` in degrees and metres.

    Notes
    -----
    wcslib compares both and takes L/B/H on the ellipsoid of IAU (1976), a = 6378140 m,
    1/f = 298.2577, whatever the datum of the site; so they are computed back from X/Y/Z there.
    """
    from astropy import units as u

    x, y, z = (float(v.to_value(u.m)) for v in site.location().geocentric)
    latitude, height = _geodetic(float(np.hypot(x, y)), z)
    return {
        "OBSGEO-X": x,
        "OBSGEO-Y": y,
        "OBSGEO-Z": z,
        "OBSGEO-L": float(np.degrees(np.arctan2(y, x))),
        "OBSGEO-B": float(np.degrees(latitude)),
        "OBSGEO-H": height,
    }


def _geodetic(axis_distance: float, z: float) -> tuple[float, float]:
    radius, flattening = 6378140.0, 1.0 / 298.2577
    e2 = flattening * (2.0 - flattening)
    latitude = np.arctan2(z, axis_distance * (1.0 - e2))
    for _ in range(8):
        normal = radius / np.sqrt(1.0 - e2 * np.sin(latitude) ** 2)
        latitude = np.arctan2(z + e2 * normal * np.sin(latitude), axis_distance)
    normal = radius / np.sqrt(1.0 - e2 * np.sin(latitude) ** 2)
    return float(latitude), float(axis_distance / np.cos(latitude) - normal)
