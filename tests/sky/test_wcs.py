"""Coordinate cards: reference pixel, angle and sign, through astropy's own WCS."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from astropy.io import fits
from astropy.wcs import WCS

from stillsun.core.orient import rotation
from stillsun.sky.observer import Site
from stillsun.sky.pointing import Pointing
from stillsun.sky.wcs import centre_pixel, frame_cards, read_place, register_channel, site_cards

POINTING = Pointing(np.array([[725.949, -395.851]]), np.array([0.35]), np.array([20.0]), "telescope log")


def astropy_wcs(cards):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["HPLN-TAN", "HPLT-TAN"]
    wcs.wcs.cunit = ["arcsec", "arcsec"]
    wcs.wcs.crpix = cards["CRPIX1"], cards["CRPIX2"]
    wcs.wcs.cdelt = cards["CDELT1"], cards["CDELT2"]
    wcs.wcs.crval = cards["CRVAL1"], cards["CRVAL2"]
    wcs.wcs.crota = 0.0, cards["CROTA2"]
    return wcs


def test_centre_of_an_unequal_sensor():
    # 1002 rows and 1004 columns: x first, and half a pixel above NAXIS/2.
    assert centre_pixel((1002, 1004)) == (502.5, 501.5)
    geometry = register_channel((1002, 1004), (0.06, 0.0602))
    assert geometry.crpix == (502.5, 501.5)
    assert geometry.cdelt == (0.06, 0.0602)


def test_reference_value_lies_at_the_reference_pixel():
    cards = frame_cards(register_channel((1002, 1004), (0.0601234, 0.0598765)), POINTING, 0)
    world = astropy_wcs(cards).all_pix2world([[502.5, 501.5]], 1)[0] * 3600
    np.testing.assert_allclose(world, POINTING.crval[0], atol=1e-9)


def test_registered_channels_share_the_sky():
    """A point of the target has one world coordinate, whichever channel sees it."""
    shape_r, scale_r = (1400, 1400), np.array([0.084, 0.0843])
    shape_s, scale_s = (1002, 1004), np.array([0.096, 0.094])
    t, d = np.array([6.31, -3.87]), 0.734
    reference = astropy_wcs(frame_cards(register_channel(shape_r, scale_r), POINTING, 0))
    channel = astropy_wcs(frame_cards(register_channel(shape_s, scale_s, t, d), POINTING, 0))
    pixels = np.random.default_rng(1).uniform(1, 1002, (50, 2))
    u = t + (rotation(d) @ (scale_s * (pixels - centre_pixel(shape_s))).T).T
    seen_by_reference = u / scale_r + centre_pixel(shape_r)
    world = channel.all_pix2world(pixels, 1)
    np.testing.assert_allclose(reference.all_world2pix(world, 1), seen_by_reference, atol=2e-4)


@pytest.mark.parametrize("angle", [-30.0, 0.7, 90.0])
def test_solar_north_is_clockwise_of_image_up(angle):
    pointing = Pointing(np.zeros((1, 2)), np.array([angle]), np.zeros(1), "")
    wcs = astropy_wcs(frame_cards(register_channel((101, 101), (1.0, 1.0)), pointing, 0))
    north = wcs.all_world2pix([[0.0, 10.0 / 3600]], 1)[0] - 51.0
    np.testing.assert_allclose(np.degrees(np.arctan2(north[0], north[1])), angle, atol=1e-4)
    west = wcs.all_world2pix([[10.0 / 3600, 0.0]], 1)[0] - 51.0
    # West is right of north: clockwise by 90 degrees on the image.
    assert north[0] * west[1] - north[1] * west[0] < 0


def test_errors_of_pointing_and_registration_add_up():
    cards = frame_cards(register_channel((10, 10), (1.0, 1.0), uncertainty=15.0), POINTING, 0)
    assert cards["CSYER1"] == cards["CSYER2"] == pytest.approx(25.0)


def test_site_on_both_ellipsoids():
    cards = site_cards(Site())
    expected = {
        "OBSGEO-X": -1463887.7216,
        "OBSGEO-Y": -5166242.0742,
        "OBSGEO-Z": 3435675.577,
        "OBSGEO-L": -105.820417,
        "OBSGEO-B": 32.787360803,
        "OBSGEO-H": 2800.993,
    }
    assert cards == pytest.approx(expected, abs=6e-4)
    back = EarthLocation.from_geocentric(*(cards[f"OBSGEO-{a}"] for a in "XYZ"), unit="m")
    assert back.height.to_value("m") == pytest.approx(2804.0, abs=1e-3)


def _written(unit="arcsec", crpix=(80.0, 64.0), form="CROTA2", angle=7.0, scale=(0.06, 0.07)):
    """Header of an image of 128 x 160 pixels whose pixel (80, 64) sees (291.76, -303.59)."""
    header = fits.Header()
    size = {"arcsec": 1.0, "deg": 3600.0, "rad": 3600.0 * np.degrees(1.0)}[unit]
    turn = np.array([[np.cos(a := np.radians(angle)), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix = turn @ np.diag(scale)
    away = matrix @ (np.array(crpix) - (80.0, 64.0))
    for k in (1, 2):
        header[f"CTYPE{k}"] = ("HPLN-TAN", "HPLT-TAN")[k - 1]
        header[f"CUNIT{k}"] = unit
        header[f"CRPIX{k}"] = crpix[k - 1]
        header[f"CRVAL{k}"] = ((291.76, -303.59)[k - 1] + away[k - 1]) / size
        if form != "CD":
            header[f"CDELT{k}"] = scale[k - 1] / size
        for m in (1, 2):
            if form == "PC":
                header[f"PC{k}_{m}"] = turn[k - 1, m - 1] * scale[m - 1] / scale[k - 1]
            elif form == "CD":
                header[f"CD{k}_{m}"] = matrix[k - 1, m - 1] / size
    if form == "CROTA2":
        header["CROTA2"] = angle
    return header


@pytest.mark.parametrize("unit", ["arcsec", "deg", "rad"])
@pytest.mark.parametrize("crpix", [(80.0, 64.0), (1.0, 1.0), (-2000.0, 3000.0)])
@pytest.mark.parametrize("form", ["CROTA2", "PC", "CD"])
def test_a_header_of_any_form_gives_the_centre_of_its_image(unit, crpix, form):
    place = read_place(_written(unit, crpix, form), (127, 159))
    # Over 3,700 pixels the plane of the sky is a plane to some hundredths of an arcsecond.
    assert place.centre == pytest.approx((291.76, -303.59), abs=1e-6 if crpix[0] == 80 else 0.02)
    assert place.rotation_deg == pytest.approx(7.0, abs=0.05 if crpix[0] < 0 else 1e-3)


def test_a_header_that_lacks_units_or_the_reference_pixel():
    whole = _written()
    for keys in (("CUNIT1", "CUNIT2"), ("CRPIX1", "CRPIX2")):
        header = whole.copy()
        for key in keys:
            del header[key]
        assert read_place(header, (127, 159)).centre == pytest.approx((291.76, -303.59), abs=1e-6)
    degrees = _written("deg")
    del degrees["CUNIT1"], degrees["CUNIT2"]
    assert read_place(degrees, (127, 159)).centre == pytest.approx((291.76, -303.59), abs=1e-6)
    assert read_place(fits.Header({"CTYPE1": "LINEAR", "CRVAL1": 1.0, "CRVAL2": 2.0}), (4, 4)) is None
    assert read_place(fits.Header(), (4, 4)) is None
    whole["CUNIT1"] = "parsec"
    assert read_place(whole, (127, 159)) is None
