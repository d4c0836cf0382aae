"""A full-disk image of structured noise with its file, and frames cut out of it by astropy's own means."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stillsun.sky.fulldisk import FullDisk
from stillsun.sky.observer import RSUN_METRES, Site, observe, offline

TIME = 1756909313.6
SITE = Site()
SCALE, PIXELS = 1.0, 2000


def write_disk(path, seed=1, blobs=(), noise=0.08, later=20.0):
    """Write an HMI-like file; blobs are (x, y, radius, depth) in arcsec from the disk's centre."""
    from astropy.io import fits
    from astropy.time import Time
    from sunpy.coordinates import get_earth, sun

    with offline():
        when = Time(TIME + later, format="unix")
        earth = get_earth(when)
        carrington = sun.L0(when).to_value("deg")
    distance = earth.radius.to_value("m")
    radius = np.degrees(np.arcsin(RSUN_METRES / distance)) * 3600
    crpix = np.array([PIXELS / 2 + 3.3, PIXELS / 2 - 2.1])
    rows, columns = np.indices((PIXELS, PIXELS), dtype=np.float32)
    # Turned by 180 degrees, as HMI is.
    x, y = -(columns + 1 - crpix[0]) * SCALE, -(rows + 1 - crpix[1]) * SCALE
    pattern = np.random.default_rng(seed).standard_normal((PIXELS, PIXELS), dtype=np.float32)
    pattern = ndimage.gaussian_filter(pattern, 1.2)
    data = 1 + noise * pattern / pattern.std()
    for bx, by, r, depth in blobs:
        data -= depth * np.exp(-((((x - bx) ** 2 + (y - by) ** 2) / r**2) ** 2))
    inside = np.hypot(x, y) < radius
    data = np.where(inside, 50000 * data, np.nan).astype(np.float32)
    header = fits.Header()
    tai = Time(TIME + later, format="unix").tai.isot.replace("-", ".").replace("T", "_") + "_TAI"
    cards = {
        "TELESCOP": "SDO/HMI", "INSTRUME": "HMI_FRONT2", "WAVELNTH": 6173.0, "CONTENT": "CONTINUUM INTENSITY",
        "T_OBS": tai, "DATE-OBS": Time(TIME + later - 22, format="unix").isot, "CTYPE1": "HPLN-TAN",
        "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 0.0, "CRVAL2": 0.0,
        "CRPIX1": crpix[0], "CRPIX2": crpix[1], "CDELT1": SCALE, "CDELT2": SCALE, "CROTA2": 180.0,
        "DSUN_OBS": distance, "RSUN_OBS": radius, "RSUN_REF": RSUN_METRES, "CRLN_OBS": carrington,
        "CRLT_OBS": earth.lat.to_value("deg"), "BUNIT": "DN/s",
    }  # fmt: skip
    header.update(cards)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    return path


def cut(disk: FullDisk, point, crota2, shape, scale):
    """What a camera with such a header would see of the disk, by astropy's coordinates."""
    from astropy.io import fits
    from astropy.wcs import WCS
    from sunpy.coordinates import propagate_with_solar_surface

    observer = observe(TIME, SITE)
    header = fits.Header()
    header.update(
        {
            "NAXIS1": shape[1], "NAXIS2": shape[0], "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN",
            "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": point[0], "CRVAL2": point[1],
            "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CDELT1": scale[0],
            "CDELT2": scale[1], "CROTA2": crota2, "DATE-OBS": "2025-09-03T14:21:53.600",
            "MJD-OBS": 60921.59853703704, "RSUN_REF": RSUN_METRES, "DSUN_OBS": observer.distance_m[0],
            "HGLN_OBS": observer.hgln_deg[0], "HGLT_OBS": observer.hglt_deg[0],
        }
    )  # fmt: skip
    with offline(), propagate_with_solar_surface():
        columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
        x, y = disk.wcs.world_to_pixel(WCS(header).pixel_to_world(columns, rows))
    return ndimage.map_coordinates(disk.data, [y, x], order=3).astype(np.float32)
