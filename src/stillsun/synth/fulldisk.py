"""A full-disk continuum image like those of HMI, with the simulated field in its true place."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.ndimage
from astropy.io import fits

from stillsun.core.robust import robust_deviation
from stillsun.synth.channels import rotation
from stillsun.synth.ephemeris import AU_M, RSUN_M, SunView, sun_view
from stillsun.synth.scene import Appearance, Scene
from stillsun.synth.settings import SimulationSettings

HMI_PIXELS = 4096
HMI_SCALE = 0.504297
HMI_CADENCE = 45.0  # s
_CROTA2 = 179.93
_PSF_FWHM = 1.0
_FINE = 0.13  # arcsec, sampling of the field before it is blurred
_TAI_MINUS_UTC = 37
_DISK_CENTRE_DN = 58000.0
# Granulation is fainter at 617 nm than in the blue.
_RED_CONTRAST = 0.7


def write_fulldisk(
    directory: Path,
    settings: SimulationSettings,
    scene: Scene,
    pointing: tuple[float, float],
    reach: float,
    time: datetime,
) -> Path:
    """
    Write a full-disk image of the continuum near 617.3 nm.

    Around the field it shows the simulated scene, elsewhere random granulation of the same kind; limb
    darkening after Neckel & Labs (1994, Solar Phys. 153, 91).

    Parameters
    ----------
    directory : Path
        Where the file goes.
    settings : SimulationSettings
        What is simulated.
    scene : Scene
        The Sun around the field.
    pointing : (float, float)
        Helioprojective position of the centre of the field at that time, arcsec.
    reach : float
        Radius within which the scene is shown, arcsec.
    time : datetime
        UTC of the image.

    Returns
    -------
    Path
        The file.
    """
    n = settings.fulldisk_pixels
    scale = HMI_SCALE * HMI_PIXELS / n
    # The disk's centre is a few pixels off that of the chip, as in the real files.
    crpix = np.array([(n + 1) / 2 - 0.0031 * n, (n + 1) / 2 + 0.0017 * n])
    jacobian = rotation(_CROTA2) * scale
    origin = -jacobian @ (crpix - 1)
    columns = np.arange(n)
    x = origin[0] + jacobian[0, 0] * columns[None, :] + jacobian[0, 1] * columns[:, None]
    y = origin[1] + jacobian[1, 0] * columns[None, :] + jacobian[1, 1] * columns[:, None]
    view = sun_view(time)
    radius = np.hypot(x, y) / view.radius
    height = np.sqrt(np.clip(1 - radius**2, 0, None))
    disk = _limb_darkening(height) * (radius < 1)
    granulation = _random_granulation(n, scale, settings.seed)
    _insert_scene(granulation, scene, settings, pointing, reach, time, origin, jacobian)
    disk *= 1 + granulation
    header = _header(scale, crpix, view, time)
    name = f"hmi.Ic_45s.{header['T_REC'][:-4].replace('.', '').replace(':', '')}_TAI.2.continuum.fits"
    directory.mkdir(parents=True, exist_ok=True)
    data = np.where(radius < 1, disk * _DISK_CENTRE_DN, np.nan).astype(np.float32)
    fits.PrimaryHDU(data, header).writeto(directory / name, overwrite=True)
    return directory / name


def _insert_scene(
    granulation: np.ndarray,
    scene: Scene,
    settings: SimulationSettings,
    pointing: tuple[float, float],
    reach: float,
    time: datetime,
    origin: np.ndarray,
    jacobian: np.ndarray,
) -> None:
    """Put the scene into unit-variance noise that is scaled to the scene's contrast, with a soft edge."""
    scale = float(np.sqrt(abs(np.linalg.det(jacobian))))
    column, row = np.linalg.solve(jacobian, np.asarray(pointing) - origin)
    half = int(np.ceil(reach / scale)) + 1
    r0, r1 = max(0, int(row) - half), min(granulation.shape[0], int(row) + half + 1)
    c0, c1 = max(0, int(column) - half), min(granulation.shape[1], int(column) + half + 1)
    rows, columns = np.arange(r0, r1), np.arange(c0, c1)
    factor = 2 * int(np.ceil(scale / _FINE / 2)) + 1  # odd: the middle of a pixel is a sample
    fine_rows, fine_columns = (
        np.arange(len(axis) * factor) / factor + axis[0] - 0.5 + 0.5 / factor for axis in (rows, columns)
    )
    seconds = settings.scene_speed * (time - settings.start).total_seconds()
    image = scene.image(
        origin - np.asarray(pointing), jacobian, fine_rows, fine_columns, seconds, Appearance.continuum
    )
    image = scipy.ndimage.gaussian_filter(image, _PSF_FWHM / 2.355 / scale * factor, mode="nearest")
    image = image.reshape(len(rows), factor, len(columns), factor).mean(axis=(1, 3))
    middle = np.median(image)
    contrast = _RED_CONTRAST * (image / middle - 1)
    offset = np.hypot((rows - row)[:, None], (columns - column)[None, :]) * scale
    weight = np.clip((reach - offset) / (0.15 * reach), 0, 1)
    # A robust deviation: spots are no measure of the granulation elsewhere.
    granulation *= robust_deviation(np.abs(contrast))
    part = (slice(r0, r1), slice(c0, c1))
    granulation[part] = (1 - weight) * granulation[part] + weight * contrast


def _limb_darkening(height: np.ndarray) -> np.ndarray:
    coefficients = (0.34685, 1.37539, -2.04425, 2.70493, -1.94290, 0.55999)
    return np.polynomial.polynomial.polyval(height, coefficients)


def _random_granulation(n: int, scale: float, seed: int) -> np.ndarray:
    """Gaussian noise with the power of granulation at this resolution, of unit variance."""
    rng = np.random.default_rng([seed, 5])
    frequency = np.hypot(scipy.fft.fftfreq(n, scale)[:, None], scipy.fft.rfftfreq(n, scale)[None, :])
    # Cells of about 2 arcsec, less the high frequencies that the telescope removes.
    amplitude = np.exp(-(((frequency - 0.40) / 0.30) ** 2) / 2) * np.exp(
        -2 * (0.425 * np.pi * frequency) ** 2
    )
    spectrum = scipy.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)) * amplitude.astype(np.float32)
    field = scipy.fft.irfft2(spectrum, s=(n, n))
    return field / field.std()


def _header(scale: float, crpix: np.ndarray, view: SunView, time: datetime) -> fits.Header:
    tai = time + timedelta(seconds=_TAI_MINUS_UTC)
    record = tai.replace(microsecond=0)
    cards = [
        ("DATE", (time + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S"), "time of writing"),
        ("DATE-OBS", (time - timedelta(seconds=22.5)).isoformat(timespec="milliseconds"), "start (UTC)"),
        ("TELESCOP", "SDO/HMI", "telescope"),
        ("INSTRUME", "HMI_FRONT2", "instrument"),
        ("WAVELNTH", 6173.0, "wavelength (angstrom)"),
        ("CAMERA", 2, "camera"),
        ("T_OBS", tai.strftime("%Y.%m.%d_%H:%M:%S") + f".{tai.microsecond // 1000:03d}_TAI", "nominal time"),
        ("T_REC", record.strftime("%Y.%m.%d_%H:%M:%S_TAI"), "slot time"),
        ("CADENCE", HMI_CADENCE, "cadence (s)"),
        ("CONTENT", "CONTINUUM INTENSITY", "what is shown"),
        ("BUNIT", "DN/s", "unit"),
        ("QUALITY", 0, "0: nothing amiss"),
        ("CTYPE1", "HPLN-TAN", ""),
        ("CTYPE2", "HPLT-TAN", ""),
        ("CUNIT1", "arcsec", ""),
        ("CUNIT2", "arcsec", ""),
        ("CRPIX1", round(float(crpix[0]), 5), "[pixel] centre of the disk"),
        ("CRPIX2", round(float(crpix[1]), 5), "[pixel] centre of the disk"),
        ("CRVAL1", 0.0, "[arcsec]"),
        ("CRVAL2", 0.0, "[arcsec]"),
        ("CDELT1", scale, "[arcsec/pixel]"),
        ("CDELT2", scale, "[arcsec/pixel]"),
        ("CROTA2", _CROTA2, "[deg]"),
        ("CRDER1", 0.0, ""),
        ("CRDER2", 0.0, ""),
        ("DSUN_OBS", view.distance, "[m] distance to the Sun's centre"),
        ("DSUN_REF", AU_M, "[m] astronomical unit"),
        ("RSUN_OBS", view.radius, "[arcsec] angular radius"),
        ("RSUN_REF", RSUN_M, "[m] radius"),
        ("CRLN_OBS", view.carrington, "[deg] Carrington longitude of the observer"),
        ("CRLT_OBS", view.latitude, "[deg] Carrington latitude of the observer"),
    ]
    header = fits.Header()
    for card in cards:
        header.append(card)
    return header
