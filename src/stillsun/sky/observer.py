"""The telescope and the Sun: where the observer is, how the surface projects, how it rotates."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.sky.times import mjd

# The radius that HMI and AIA use, so that maps of all of them reproject onto each other.
RSUN_METRES = 696_000_000.0

_ARCSEC = np.degrees(1.0) * 3600.0
_KNOTS = 17
_KNOT_SPACING = 600.0
_LONGEST = 30 * 86400.0
_MARGIN = 60.0


@dataclass(frozen=True)
class Site:
    """
    Where the telescope stands (WGS84).

    Attributes
    ----------
    latitude_deg, longitude_deg : float
        Geodetic latitude, and longitude positive to the east, degrees.
    height_m : float
        Height above the ellipsoid, metres.
    """

    latitude_deg: float = 32.787361
    longitude_deg: float = -105.820417
    height_m: float = 2804.0

    def location(self) -> Any:
        """
        The site for astropy.

        Returns
        -------
        astropy.coordinates.EarthLocation
            The site.
        """
        from astropy import units as u
        from astropy.coordinates import EarthLocation

        return EarthLocation.from_geodetic(
            self.longitude_deg * u.deg, self.latitude_deg * u.deg, self.height_m * u.m
        )


@dataclass(frozen=True)
class Observer:
    """
    The telescope seen from the Sun at a number of times.

    Attributes
    ----------
    time : numpy.ndarray, shape (n,)
        Unix seconds, UTC.
    hgln_deg, hglt_deg : numpy.ndarray, shape (n,)
        Stonyhurst longitude and latitude of the telescope, degrees.
    distance_m : numpy.ndarray, shape (n,)
        Distance to the Sun's centre, metres.
    velocity_m_s : numpy.ndarray, shape (n,)
        Its change, positive when receding, metres per second.
    elevation_deg : numpy.ndarray, shape (n,)
        Height of the Sun over the horizon without refraction, degrees.
    """

    time: np.ndarray
    hgln_deg: np.ndarray
    hglt_deg: np.ndarray
    distance_m: np.ndarray
    velocity_m_s: np.ndarray
    elevation_deg: np.ndarray

    @property
    def solar_radius_arcsec(self) -> np.ndarray:
        """Apparent radius of the Sun, arcsec."""
        return np.arcsin(RSUN_METRES / self.distance_m) * _ARCSEC


def observe(times: Any, site: Site) -> Observer:
    """
    Position of the telescope relative to the Sun.

    Computed by astropy and sunpy at knots (17, or one in ten minutes) and interpolated by cubic
    splines: the error is below a metre and 1e-9 degrees, at a hundredth of the time.

    Parameters
    ----------
    times : array_like, shape (n,)
        Unix seconds, UTC.
    site : Site
        Where the telescope stands.

    Returns
    -------
    Observer
        State at each time.
    """
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    knots = _knots(times, _MARGIN)
    with offline():
        from astropy import units as u
        from astropy.coordinates import AltAz, get_sun
        from scipy.interpolate import CubicSpline

        when = _astropy_time(knots)
        location = site.location()
        telescope = _telescope(when, location)
        altitude = get_sun(when).transform_to(AltAz(obstime=when, location=location)).alt.to_value(u.deg)
        splines = [
            CubicSpline(knots - knots[0], values)
            for values in (
                telescope.lon.to_value(u.deg),
                telescope.lat.to_value(u.deg),
                telescope.radius.to_value(u.m),
                altitude,
            )
        ]
    at = times - knots[0]
    lon, lat, distance, altitude = (s(at) for s in splines)
    return Observer(times, lon, lat, distance, splines[2](at, 1), altitude)


def helioprojective(latitude: Any, longitude: Any, observer: Observer) -> np.ndarray:
    """
    Helioprojective coordinates of points on the surface.

    Thompson (2006, A&A 449, 791), equations 4 and 11 to 15.

    Parameters
    ----------
    latitude, longitude : array_like, shape (n,)
        Stonyhurst coordinates, degrees.
    observer : Observer
        The telescope at the same n times.

    Returns
    -------
    numpy.ndarray, shape (n, 2)
        Helioprojective (x, y), arcsec.
    """
    lat, b0 = np.radians(latitude), np.radians(observer.hglt_deg)
    lon = np.radians(np.asarray(longitude) - observer.hgln_deg)
    x = RSUN_METRES * np.cos(lat) * np.sin(lon)
    y = RSUN_METRES * (np.sin(lat) * np.cos(b0) - np.cos(lat) * np.cos(lon) * np.sin(b0))
    z = RSUN_METRES * (np.sin(lat) * np.sin(b0) + np.cos(lat) * np.cos(lon) * np.cos(b0))
    depth = observer.distance_m - z
    distance = np.sqrt(x**2 + y**2 + depth**2)
    return np.stack([np.arctan2(x, depth), np.arcsin(y / distance)], axis=-1) * _ARCSEC


def heliographic(points: Any, observer: Observer) -> tuple[np.ndarray, np.ndarray]:
    """
    Places on the surface that the telescope sees at some points: the inverse of `helioprojective`.

    Parameters
    ----------
    points : array_like, shape (n, 2)
        Helioprojective (x, y), arcsec.
    observer : Observer
        The telescope at the same n times.

    Returns
    -------
    latitude, longitude : numpy.ndarray, shape (n,)
        Stonyhurst coordinates, degrees; NaN off the disk.
    """
    tx, ty = np.asarray(points, np.float64).reshape(-1, 2).T / _ARCSEC
    towards = np.cos(tx) * np.cos(ty)
    with np.errstate(invalid="ignore"):
        half_chord = np.sqrt(RSUN_METRES**2 - observer.distance_m**2 * (1.0 - towards**2))
    distance = observer.distance_m * towards - half_chord
    x, y = distance * np.cos(ty) * np.sin(tx), distance * np.sin(ty)
    z = observer.distance_m - distance * towards
    b0 = np.radians(observer.hglt_deg)
    latitude = np.degrees(np.arcsin((y * np.cos(b0) + z * np.sin(b0)) / RSUN_METRES))
    longitude = np.degrees(np.arctan2(x, z * np.cos(b0) - y * np.sin(b0))) + observer.hgln_deg
    return latitude, longitude


def rotate_with_sun(point: Any, time: float, times: Any, site: Site) -> np.ndarray:
    """
    Follow a point of the solar surface through a sequence.

    Differential rotation after Howard et al. (1990), as sunpy has it, for a moving observer; done at
    knots and interpolated by cubic splines (3e-9 arcsec).

    Parameters
    ----------
    point : array_like, shape (2,)
        Helioprojective (x, y) as the telescope sees it at `time`, arcsec.
    time : float
        Unix seconds, UTC.
    times : array_like, shape (n,)
        Times wanted, unix seconds, UTC.
    site : Site
        Where the telescope stands.

    Returns
    -------
    numpy.ndarray, shape (n, 2)
        Helioprojective (x, y) at each time, arcsec. A point off the disk, which no surface carries,
        stays where it is.
    """
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    knots = _knots(np.append(times, time), 0.0)
    x, y = (float(v) for v in point)
    with offline():
        from astropy import units as u
        from astropy.coordinates import SkyCoord
        from sunpy.coordinates import Helioprojective, propagate_with_solar_surface

        start = telescope_frame(time, site)
        from_centre = np.arccos(np.cos(x / _ARCSEC) * np.cos(y / _ARCSEC))
        if from_centre >= np.arcsin(RSUN_METRES / start.observer.radius.to_value(u.m)):
            return np.tile([x, y], (times.size, 1))
        base = SkyCoord(x * u.arcsec, y * u.arcsec, frame=start)
        when = _astropy_time(knots)
        later = Helioprojective(
            observer=_telescope(when, site.location()), obstime=when, rsun=RSUN_METRES * u.m
        )
        with propagate_with_solar_surface():
            moved = base.transform_to(later)
        path = np.stack([moved.Tx.to_value(u.arcsec), moved.Ty.to_value(u.arcsec)], axis=-1)
    from scipy.interpolate import CubicSpline

    return CubicSpline(knots - knots[0], path)(times - knots[0])


def telescope_frame(time: float, site: Site) -> Any:
    """
    The plane of the sky as the telescope sees it.

    Parameters
    ----------
    time : float
        Unix seconds, UTC.
    site : Site
        Where the telescope stands.

    Returns
    -------
    sunpy.coordinates.Helioprojective
        Frame with observer, time and radius.
    """
    with offline():
        from astropy import units as u
        from sunpy.coordinates import Helioprojective

        when = _astropy_time(time)
        return Helioprojective(
            observer=_telescope(when, site.location()), obstime=when, rsun=RSUN_METRES * u.m
        )


def _knots(times: np.ndarray, margin: float) -> np.ndarray:
    first, last = float(times.min()) - margin, float(times.max()) + margin
    if not last - first < _LONGEST:
        raise InputError(
            "the times are not those of one observation",
            expected=f"at most {_LONGEST / 86400:.0f} days from the first to the last",
            found=f"{(last - first) / 86400:.1f} days",
            remedy="Check the times of the first and the last file, and start of the channel",
        )
    count = max(_KNOTS, int(np.ceil((last - first) / _KNOT_SPACING)) + 1)
    # A spline needs knots apart from each other, also for a single time.
    return np.linspace(first, max(last, first + 1.0), count)


def _astropy_time(times: Any) -> Any:
    from astropy.time import Time

    return Time(times, format="unix", scale="utc")


def _telescope(when: Any, location: Any) -> Any:
    from astropy.coordinates import SkyCoord
    from sunpy.coordinates import HeliographicStonyhurst

    return SkyCoord(location.get_itrs(when)).transform_to(HeliographicStonyhurst(obstime=when))


def earth_rotation_note(times: Any) -> str:
    """
    Words on times after the last measurement of the Earth's rotation that is installed.

    Parameters
    ----------
    times : array_like
        Unix seconds, UTC.

    Returns
    -------
    str
        Empty where the rotation was measured at all times.
    """
    with offline():
        from astropy.utils import iers

        table = iers.earth_orientation_table.get()
        measured = float(table.meta.get("predictive_mjd", table["MJD"].value[-1]))
    if mjd(np.max(times)) <= measured:
        return ""
    last = np.datetime64("1858-11-17") + np.timedelta64(int(measured), "D")
    return (
        f"the Earth's rotation is known up to {last} here and extrapolated: coordinates are good to about a "
        "milliarcsecond (newer tables: pip install -U astropy-iers-data)"
    )


@contextmanager
def offline() -> Iterator[None]:
    """
    Keep astropy from downloading Earth-rotation tables, and from asking for newer ones.

    Without them universal time is off by less than a second, the telescope's place by less than 400 m, and
    the Sun's by less than a milliarcsecond.

    Yields
    ------
    None
        While the block runs.
    """
    from astropy.utils import iers

    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        iers.conf.set_temp("auto_max_age", None),
        warnings.catch_warnings(),
    ):
        # Leap seconds and the pole of years to come are unknown.
        warnings.filterwarnings("ignore", "ERFA function .*dubious year|Tried to get polar motions")
        yield
