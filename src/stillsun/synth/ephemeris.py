"""The Sun seen from the Earth, to a hundredth of a degree: all that a simulated pointing needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

AU_M = 149597870700.0
RSUN_M = 696000000.0
_J2000_UNIX = 946728000.0 - 64.0  # terrestrial time, near enough
_LIGHT_M_S = 299792458.0
# Of the Sun: pole (right ascension, declination), prime meridian at J2000, rotation.
_POLE_DEG = (286.13, 63.87)
_MERIDIAN_DEG = 84.176
_CARRINGTON_DEG_PER_DAY = 14.1844
# Of the Earth: obliquity at J2000, precession in longitude per century.
_OBLIQUITY_DEG = 23.4392911
_PRECESSION_DEG = 1.396971
_DAY = 86400.0


@dataclass(frozen=True)
class SunView:
    """
    Where the Earth stands in the Sun's coordinates.

    Attributes
    ----------
    distance : float
        Distance of the centres, m.
    latitude : float
        Heliographic latitude of the centre of the disk (B0), degrees.
    carrington : float
        Carrington longitude of the centre of the disk (L0), degrees.
    """

    distance: float
    latitude: float
    carrington: float

    @property
    def radius(self) -> float:
        """Angular radius of the Sun, arcsec."""
        return float(np.degrees(np.arcsin(RSUN_M / self.distance)) * 3600)


def sun_view(time: datetime) -> SunView:
    """
    The Sun seen from the centre of the Earth.

    Parameters
    ----------
    time : datetime
        UTC.

    Returns
    -------
    SunView
        Good to 0.01 degrees.

    References
    ----------
    Earth's orbit: Meeus, Astronomical Algorithms (2nd ed.), chapter 25. Axis and rotation: Archinal et
    al. 2018, Celest. Mech. Dyn. Astron. 130, 22, with the time that light takes, as sunpy has it.
    """
    days = (time.replace(tzinfo=UTC).timestamp() - _J2000_UNIX) / _DAY
    century = days / 36525
    longitude = 280.46646 + 36000.76983 * century
    anomaly = np.radians(357.52911 + 35999.05029 * century)
    eccentricity = 0.016708634 - 0.000042037 * century
    centre = (
        (1.914602 - 0.004817 * century) * np.sin(anomaly)
        + 0.019993 * np.sin(2 * anomaly)
        + 0.000289 * np.sin(3 * anomaly)
    )
    true_anomaly = anomaly + np.radians(centre)
    distance = 1.000001018 * (1 - eccentricity**2) / (1 + eccentricity * np.cos(true_anomaly))
    # The Earth seen from the Sun in the fixed equatorial frame, then in that of the Sun's axis.
    there = np.radians(longitude + centre + 180.0 - _PRECESSION_DEG * century)
    tilt = np.radians(_OBLIQUITY_DEG)
    earth = np.array([np.cos(there), np.sin(there) * np.cos(tilt), np.sin(there) * np.sin(tilt)])
    ascension, declination = np.radians(_POLE_DEG)
    pole = np.array(
        [
            np.cos(ascension) * np.cos(declination),
            np.sin(ascension) * np.cos(declination),
            np.sin(declination),
        ]
    )
    node = np.array([-np.sin(ascension), np.cos(ascension), 0.0])
    from_node = np.degrees(np.arctan2(earth @ np.cross(pole, node), earth @ node))
    turned = _MERIDIAN_DEG + _CARRINGTON_DEG_PER_DAY * (days - distance * AU_M / _LIGHT_M_S / _DAY)
    return SunView(
        float(distance * AU_M),
        float(np.degrees(np.arcsin(earth @ pole))),
        float((from_node - turned) % 360),
    )


def to_helioprojective(latitude: float, longitude: float, time: datetime) -> tuple[float, float]:
    """
    Position on the sky of a point of the photosphere.

    Parameters
    ----------
    latitude, longitude : float
        Stonyhurst coordinates, degrees.
    time : datetime
        UTC.

    Returns
    -------
    x, y : float
        Helioprojective coordinates seen from the centre of the Earth, arcsec.

    References
    ----------
    Thompson 2006, A&A 449, 791.
    """
    view = sun_view(time)
    b0, lat, lon = np.radians([view.latitude, latitude, longitude])
    x = RSUN_M * np.cos(lat) * np.sin(lon)
    y = RSUN_M * (np.sin(lat) * np.cos(b0) - np.cos(lat) * np.cos(lon) * np.sin(b0))
    z = RSUN_M * (np.sin(lat) * np.sin(b0) + np.cos(lat) * np.cos(lon) * np.cos(b0))
    depth = view.distance - z
    arcsec = np.degrees(1) * 3600
    return float(np.arctan2(x, depth) * arcsec), float(np.arctan2(y, np.hypot(x, depth)) * arcsec)


def to_stonyhurst(x: float, y: float, time: datetime) -> tuple[float, float]:
    """
    Point of the photosphere seen at a position on the sky.

    Parameters
    ----------
    x, y : float
        Helioprojective coordinates, arcsec, on the disk.
    time : datetime
        UTC.

    Returns
    -------
    latitude, longitude : float
        Stonyhurst coordinates, degrees.
    """
    view = sun_view(time)
    tx, ty = np.radians([x / 3600, y / 3600])
    ray = np.array([np.cos(ty) * np.sin(tx), np.sin(ty), -np.cos(ty) * np.cos(tx)])
    along = -ray[2] * view.distance
    reach = along - np.sqrt(along**2 - view.distance**2 + RSUN_M**2)
    px, py, pz = np.array([0, 0, view.distance]) + reach * ray
    b0 = np.radians(view.latitude)
    north = py * np.cos(b0) + pz * np.sin(b0)
    toward = pz * np.cos(b0) - py * np.sin(b0)
    return float(np.degrees(np.arcsin(north / RSUN_M))), float(np.degrees(np.arctan2(px, toward)))


def carried(latitude: float, longitude: float, since: datetime, until: datetime) -> float:
    """
    Stonyhurst longitude after the Sun's rotation.

    Parameters
    ----------
    latitude, longitude : float
        Stonyhurst coordinates at the first time, degrees.
    since, until : datetime
        UTC.

    Returns
    -------
    float
        Longitude at the second time, degrees.

    References
    ----------
    Howard, Harvey & Forgach 1990, Solar Phys. 130, 295.
    """
    seconds = (until - since).total_seconds()
    s2 = np.sin(np.radians(latitude)) ** 2
    sidereal = np.degrees(2.894e-6 - 0.428e-6 * s2 - 0.370e-6 * s2**2)
    # The zero meridian follows the Earth: Carrington's rate less the decrease of L0.
    shift = (sun_view(until).carrington - sun_view(since).carrington + 180) % 360 - 180
    earth = _CARRINGTON_DEG_PER_DAY * seconds / _DAY + shift
    turns = round((earth - 0.9856 * seconds / _DAY) / 360)
    return float(longitude + sidereal * seconds - (earth - 360 * turns))
