"""Frames found on a full-disk image, or refused."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stillsun.core.backend import get_backend
from stillsun.errors import InputError
from stillsun.sky._frame import SkyTemplate
from stillsun.sky.fulldisk import SkyGrid, fulldisk_time, read_fulldisk
from stillsun.sky.match import match_to_sun
from stillsun.sky.observer import telescope_frame

_SPEC = importlib.util.spec_from_file_location("_sun", Path(__file__).with_name("_sun.py"))
sun = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sun)

POINT, CROTA2 = np.array([283.0, -298.0]), 0.7
SHAPE, SCALES = (150, 170), (0.52, 0.55)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return sun.write_disk(tmp_path_factory.mktemp("sun") / "hmi.fits")


@pytest.fixture(scope="module")
def disk(path):
    return read_fulldisk(path)


def match(image, disk, start=(20.0, -14.0), angles=(CROTA2 - 0.8,), **options):
    options = {"search_arcsec": 40.0, "max_rotation_deg": 1.5, "backend": "numpy", **options}
    supposed = POINT + np.array(start)
    return match_to_sun(
        image, np.ones(image.shape), SCALES, supposed, angles, sun.TIME, sun.SITE, disk, **options
    )


def test_place_and_angle_are_recovered(disk):
    image = sun.cut(disk, POINT, CROTA2, SHAPE, SCALES)
    image += np.random.default_rng(3).normal(0, 2000, SHAPE)
    steps = []
    found = match(image, disk, progress=lambda done, total: steps.append((done, total)))
    assert found.accepted, found.faults
    assert found.rotation_known
    assert np.hypot(*(found.point - POINT)) < 0.03
    assert found.crota2 == pytest.approx(CROTA2, abs=0.03)
    assert found.uncertainty < 0.3
    assert found.rotation_error_deg < 0.1
    assert found.significance > 20
    assert steps[-1][0] == steps[-1][1]


def test_stated_error_is_that_of_the_position(disk):
    truth = sun.cut(disk, POINT, CROTA2, SHAPE, SCALES)
    rng = np.random.default_rng(5)
    off, turned = [], []
    for _ in range(4):
        # Other granulation on top of the one in common.
        other = gaussian_filter(rng.standard_normal(SHAPE), 2.4)
        image = truth + 0.5 * truth.std() * other / other.std()
        found = match(image, disk, (6.0, 3.0), (CROTA2 - 0.2,), search_arcsec=20.0)
        assert found.accepted, found.faults
        off.append((np.array(found.point) - POINT) / found.error)
        turned.append((found.crota2 - CROTA2) / found.rotation_error_deg)
    # One deviation in each axis and in angle, give or take what so few values allow.
    assert 0.3 < np.sqrt(np.mean(np.square(off))) < 1.3
    assert 0.5 < np.sqrt(np.mean(np.square(turned))) < 1.8


def test_another_sun_is_refused(disk, tmp_path):
    other = read_fulldisk(sun.write_disk(tmp_path / "other.fits", seed=9))
    found = match(sun.cut(other, POINT, CROTA2, SHAPE, SCALES), disk)
    assert not found.accepted
    assert any("deviations" in fault for fault in found.faults)
    assert any("wrong places" in fault for fault in found.faults)


def test_a_place_outside_the_search_is_refused(disk):
    image = sun.cut(disk, POINT, CROTA2, SHAPE, SCALES)
    assert not match(image, disk, (70.0, 0.0)).accepted


def test_a_single_round_spot_does_not_fix_the_angle(tmp_path):
    spot = (*POINT, 10.0, 0.7)
    disk = read_fulldisk(sun.write_disk(tmp_path / "spot.fits", blobs=[spot], noise=0.0005))
    # The frame has its own granulation: nothing but the spot is in common.
    bare = read_fulldisk(sun.write_disk(tmp_path / "bare.fits", seed=4, blobs=[spot], noise=0.03))
    found = match(sun.cut(bare, POINT, CROTA2, SHAPE, SCALES), disk)
    assert not found.rotation_known
    assert np.isnan(found.rotation_error_deg)
    assert found.crota2 == pytest.approx(CROTA2 - 0.8)
    assert np.hypot(*(found.point - POINT)) < 3 * found.uncertainty
    # A spot in the middle stays there whatever the angle.
    assert found.uncertainty < 1


def test_sense_of_the_guider_is_found(disk):
    image = sun.cut(disk, POINT, -6.2, SHAPE, SCALES)
    found = match(image, disk, angles=(6.0, -6.0))
    assert found.accepted, found.faults
    assert found.start == 1
    assert found.crota2 == pytest.approx(-6.2, abs=0.03)


def test_missing_rows_leave_the_contrast_of_the_others():
    # A scene of columns is the same in every row: what rows are missing makes no difference to the rest.
    columns = gaussian_filter(np.random.default_rng(8).standard_normal(170), 3.0)
    image = 1000 * np.ones((150, 1)) * (1 + 0.3 * columns + np.linspace(-0.3, 0.3, 170))
    valid = np.ones(image.shape)
    valid[60:75] = valid[:8] = 0
    seen = [
        SkyTemplate(np.where(v > 0, image, np.nan), v, SCALES, 1.2, get_backend("numpy")).at(
            0.0, 0.6, (127, 155)
        )
        for v in (np.ones(image.shape), valid)
    ]
    both = (seen[0][1] * seen[1][1]) > 0
    assert 0.8 < both.mean() < 0.95
    assert seen[0][0].std() > 0.02
    np.testing.assert_allclose(seen[1][0][both], seen[0][0][both], atol=5e-3)


def test_view_agrees_with_reproject(path, disk):
    reproject = pytest.importorskip("reproject")
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time
    from sunpy.coordinates import propagate_with_solar_surface
    from sunpy.map import Map
    from sunpy.map.header_helper import make_fitswcs_header

    from stillsun.sky.observer import offline

    frame = telescope_frame(sun.TIME, sun.SITE)
    grid = SkyGrid((float(POINT[0]), float(POINT[1])), 0.7, (60, 50), frame)
    with offline():
        centre = SkyCoord(*(POINT * u.arcsec), frame=frame)
        header = make_fitswcs_header(
            np.zeros(grid.shape), centre, scale=[0.7, 0.7] * u.arcsec / u.pix, unit="DN"
        )
        target = Map(np.zeros(grid.shape, np.float32), header)
        source = Map(path)
        # sunpy 6.0 would take the beginning of the exposure.
        source.meta["date-obs"] = Time(disk.time, format="unix").utc.isot
        with propagate_with_solar_surface():
            expected, _ = reproject.reproject_interp(
                (np.nan_to_num(source.data), source.wcs), target.wcs, shape_out=grid.shape, order="bicubic"
            )
    np.testing.assert_allclose(disk.view(grid), expected, rtol=1e-5)
    rows, columns = np.indices(grid.shape)
    world = target.wcs.pixel_to_world(columns, rows)
    np.testing.assert_allclose(grid.world(rows, columns)[..., 0], world.Tx.to_value(u.arcsec), atol=1e-6)
    np.testing.assert_allclose(grid.world(rows, columns)[..., 1], world.Ty.to_value(u.arcsec), atol=1e-6)


def test_off_the_disk_there_is_nothing(disk):
    grid = SkyGrid((1500.0, 0.0), 1.0, (20, 20), telescope_frame(sun.TIME, sun.SITE))
    np.testing.assert_array_equal(disk.view(grid), 0.0)
    edge = replace(grid, centre=(disk.radius, 0.0))
    seen = disk.view(edge)
    assert (seen[:, 14:] == 0).all()
    assert (seen[:, :6] > 0).all()


def test_file_is_read_with_its_time(path, disk):
    assert disk.time == pytest.approx(sun.TIME + 20.0, abs=0.01)
    assert fulldisk_time(path) == pytest.approx(disk.time, abs=0.01)
    assert disk.scale == pytest.approx(sun.SCALE)


def test_files_that_are_no_full_disk_are_refused(path, tmp_path):
    from astropy.io import fits

    with pytest.raises(InputError, match="no such full-disk image"):
        read_fulldisk(tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(InputError, match="cannot be used"):
        read_fulldisk(tmp_path / "text.fits")
    data, header = fits.getdata(path), fits.getheader(path)
    fits.PrimaryHDU(data[:500, :500], header).writeto(tmp_path / "part.fits")
    with pytest.raises(InputError, match="whole disk"):
        read_fulldisk(tmp_path / "part.fits")


@pytest.mark.parametrize("level", [np.nan, 0.0, 500.0])
def test_an_image_without_light_is_refused_by_name(path, tmp_path, level):
    from astropy.io import fits

    data, header = fits.getdata(path), fits.getheader(path)
    fits.PrimaryHDU(np.full_like(data, level), header).writeto(tmp_path / "blank.fits")
    with pytest.raises(InputError, match=r"blank\.fits: .*no light on the disk"):
        read_fulldisk(tmp_path / "blank.fits")
