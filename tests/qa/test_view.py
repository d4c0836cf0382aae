"""Frames on pictures with coordinates: against FITS's own convention, and against known places."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from stillsun.products.placement import Placement, System
from stillsun.qa.view import View, common_raster, frame_raster

SHAPE = (90, 120)


def _place(angle=0.0, scale=(0.06, 0.05), reference=(50.0, 40.0), origin=(300.0, -200.0)):
    return Placement(reference, scale, origin, angle, System.sun)


def _pixel(place, x, y):
    """Pixel (row, column, from 0) that sees a point, by astropy."""
    header = fits.Header(
        {
            "CTYPE1": "HPLN-TAN",
            "CTYPE2": "HPLT-TAN",
            "CUNIT1": "arcsec",
            "CUNIT2": "arcsec",
            "CRPIX1": place.reference[0],
            "CRPIX2": place.reference[1],
            "CDELT1": place.scale[0],
            "CDELT2": place.scale[1],
            "CRVAL1": place.origin[0],
            "CRVAL2": place.origin[1],
            "CROTA2": place.angle_deg,
        }
    )
    column, row = WCS(header).world_to_pixel_values(x / 3600, y / 3600)
    return float(row), float(column)


def _spot(row, column):
    rows, columns = np.indices(SHAPE)
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8).astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 1.07, -30.0, 90.0, 170.0])
@pytest.mark.parametrize("size", [50, 128, 500])
def test_a_spot_is_seen_at_its_coordinates(angle, size):
    place = _place(angle)
    where = (300.7, -199.4)
    frame = _spot(*_pixel(place, *where))
    raster = frame_raster(place, SHAPE, size)
    # Beside the frame all is white.
    picture = View(place, raster, (0.0, 1.5)).picture(frame).astype(float)
    picture[picture == 255] = 0
    rows, columns = np.indices(picture.shape)
    x = raster.left + raster.step[0] * ((columns * picture).sum() / picture.sum() + 0.5)
    y = raster.bottom + raster.step[1] * ((rows * picture).sum() / picture.sum() + 0.5)
    assert (x, y) == pytest.approx(where, abs=0.012)
    assert max(picture.shape) <= size
    assert max(picture.shape) > size / 2


def test_a_straight_frame_is_shown_pixel_by_pixel():
    place = _place()
    frame = np.random.default_rng(1).uniform(0, 1, SHAPE).astype(np.float32)
    raster = frame_raster(place, SHAPE, 120)
    assert raster.shape == SHAPE
    picture = View(place, raster, (0.0, 1.0)).picture(frame)
    assert np.abs(picture - 255 * frame).max() <= 1.01
    halved = View(place, frame_raster(place, SHAPE, 60), (0.0, 1.0)).picture(frame)
    assert np.abs(halved - 255 * frame.reshape(45, 2, 60, 2).mean(axis=(1, 3))).max() <= 1.01


def test_beside_the_frame_is_white_and_what_is_not_finite_is_black():
    place = _place(30.0)
    frame = np.full(SHAPE, 0.5, np.float32)
    frame[:, :60] = np.nan
    picture = View(place, frame_raster(place, SHAPE, 300), (0.0, 1.0)).picture(frame)
    assert picture[0, 0] == 255
    assert set(np.unique(picture)) == {0, 127, 255}
    assert np.mean(picture == 0) == pytest.approx(np.mean(picture == 127), rel=0.05)


def test_two_channels_show_the_same_place_at_the_same_pixel():
    first = _place(1.0)
    second = _place(-4.0, (0.09, 0.085), (70.0, 50.0))
    where = (300.5, -199.6)
    raster = common_raster([(first, SHAPE), (second, SHAPE)], 300)
    assert max(raster.shape) == 300
    centres = []
    for place in (first, second):
        picture = View(place, raster, (0.0, 1.0)).picture(_spot(*_pixel(place, *where)))
        picture = np.where(picture == 255, 0, picture).astype(float)
        rows, columns = np.indices(picture.shape)
        centres.append([(rows * picture).sum() / picture.sum(), (columns * picture).sum() / picture.sum()])
    assert centres[0] == pytest.approx(centres[1], abs=0.3)


def test_fields_that_do_not_overlap_have_nothing_in_common():
    apart = _place(origin=(400.0, -200.0))
    assert common_raster([(_place(), SHAPE), (apart, SHAPE)], 300) is None
