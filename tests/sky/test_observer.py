"""Observer, projection and solar rotation against sunpy's own frames, one time at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_sun
from astropy.time import Time
from sunpy.coordinates import (
    HeliographicStonyhurst,
    Helioprojective,
    RotatedSunFrame,
    get_earth,
    transform_with_sun_center,
)

from stillsun.errors import InputError
from stillsun.sky.observer import (
    RSUN_METRES,
    Site,
    earth_rotation_note,
    helioprojective,
    observe,
    offline,
    rotate_with_sun,
)

START = Time("2025-09-03T14:21:53.6").unix
TIMES = START + np.linspace(0.0, 5580.0, 40)
DST = EarthLocation.from_geodetic(-105.820417 * u.deg, 32.787361 * u.deg, 2804 * u.m)


def telescope(when: Time) -> SkyCoord:
    return SkyCoord(DST.get_itrs(when)).transform_to(HeliographicStonyhurst(obstime=when))


def frame(when: Time) -> Helioprojective:
    return Helioprojective(observer=telescope(when), obstime=when, rsun=RSUN_METRES * u.m)


@pytest.fixture
def installed_tables():
    """What is compared with goes by the installed tables too; some versions of astropy fetch newer ones."""
    with offline():
        yield


@pytest.fixture(scope="module")
def observer():
    return observe(TIMES, Site())


@pytest.mark.usefixtures("installed_tables")
@pytest.mark.parametrize("i", [0, 7, 39])
def test_observer_is_the_telescope(observer, i):
    when = Time(TIMES[i], format="unix")
    there = telescope(when)
    assert observer.hgln_deg[i] == pytest.approx(there.lon.to_value(u.deg), abs=1e-9)
    assert observer.hglt_deg[i] == pytest.approx(there.lat.to_value(u.deg), abs=1e-9)
    assert observer.distance_m[i] == pytest.approx(there.radius.to_value(u.m), abs=1.0)
    sun = get_sun(when).transform_to(AltAz(obstime=when, location=DST))
    assert observer.elevation_deg[i] == pytest.approx(sun.alt.deg, abs=1e-5)
    beside = [telescope(when + s * u.s).radius.to_value(u.m) for s in (-30, 30)]
    assert observer.velocity_m_s[i] == pytest.approx((beside[1] - beside[0]) / 60, abs=0.1)
    assert observer.solar_radius_arcsec[i] == pytest.approx(951.46, abs=0.05)


def test_known_values_of_one_pointing(observer):
    one = observe([START], Site())
    np.testing.assert_allclose(helioprojective(-23.16, 51.40, one), [[685.277, -440.956]], atol=1e-3)
    assert one.velocity_m_s[0] == pytest.approx(-793.1, abs=0.1)
    assert one.elevation_deg[0] == pytest.approx(20.599, abs=2e-3)


@pytest.mark.usefixtures("installed_tables")
@pytest.mark.parametrize(("lat", "lon"), [(-23.16, 51.4), (0.0, 0.0), (65.0, -20.0), (10.0, 80.0)])
def test_projection_is_that_of_sunpy(observer, lat, lon):
    mine = helioprojective(np.full(40, lat), np.full(40, lon), observer)
    for i in (0, 20, 39):
        when = Time(TIMES[i], format="unix")
        point = SkyCoord(
            HeliographicStonyhurst(lon * u.deg, lat * u.deg, RSUN_METRES * u.m, obstime=when)
        ).transform_to(frame(when))
        np.testing.assert_allclose(
            mine[i], [point.Tx.to_value(u.arcsec), point.Ty.to_value(u.arcsec)], atol=1e-4
        )


@pytest.mark.usefixtures("installed_tables")
def test_rotation_follows_the_surface():
    point = (685.277, -440.956)
    path = rotate_with_sun(point, TIMES[0], TIMES, Site())
    base = SkyCoord(*point * u.arcsec, frame=frame(Time(TIMES[0], format="unix")))
    np.testing.assert_allclose(path[0], point, atol=1e-6)
    for i in (13, 39):
        when = Time(TIMES[i], format="unix")
        with transform_with_sun_center():
            moved = SkyCoord(RotatedSunFrame(base=base, rotated_time=when)).transform_to(frame(when))
        expected = [moved.Tx.to_value(u.arcsec), moved.Ty.to_value(u.arcsec)]
        np.testing.assert_allclose(path[i], expected, atol=1e-4)
    # A feature at disk centre, 7 degrees north of the equator, drifts west by 13.3 degrees a day.
    centre = rotate_with_sun((0.0, 0.0), START, [START, START + 3600.0], Site())
    assert centre[1, 0] == pytest.approx(9.2, abs=0.1)


def test_rotation_works_backwards_and_off_the_disk():
    back = rotate_with_sun(
        rotate_with_sun((100.0, 50.0), START, [START + 1800.0], Site())[0], START + 1800.0, [START], Site()
    )
    np.testing.assert_allclose(back, [[100.0, 50.0]], atol=1e-6)
    off = rotate_with_sun((1200.0, 30.0), START, TIMES[:3], Site())
    np.testing.assert_array_equal(off, np.tile([1200.0, 30.0], (3, 1)))


def test_times_decades_apart_are_refused_before_anything_is_allocated():
    with pytest.raises(InputError, match=r"at most 30 days.*found 6\d+\.\d days"):
        observe(np.array([-3.9e9, 1.7e9]), Site())


@pytest.mark.parametrize("date", ["today", "2027-06-01", "2030-06-01"])
def test_a_recent_night_needs_no_network_and_says_what_is_extrapolated(date, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    noon = np.datetime64(date, "D") + np.timedelta64(19, "h")
    when = float(noon.astype("datetime64[s]").astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = observe([when], Site())
        moved = rotate_with_sun((100.0, 50.0), when, [when, when + 3600.0], Site())
    # At local noon the telescope is nearer to the Sun than the Earth's centre, by less than its radius.
    with offline():
        earth = get_earth(Time(when, format="unix"))
    nearer = earth.radius.to_value(u.m) - seen.distance_m[0]
    assert 0.5 * 6.378e6 < nearer < 6.378e6 + 3000
    assert nearer / 6.378e6 == pytest.approx(np.sin(np.radians(seen.elevation_deg[0])), abs=0.01)
    assert moved[1, 0] - moved[0, 0] == pytest.approx(9.5, abs=1.0)
    assert "known up to 20" in earth_rotation_note([when])


def test_a_measured_night_says_nothing_of_extrapolation():
    assert earth_rotation_note([START]) == ""
