"""A sequence as a scientist opens it: images of a scene whose intensity at every place and time is known."""

from __future__ import annotations

import pickle
import sys
import time
import warnings

import numpy as np
import pytest
import sunpy.map
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from tests.stages.test_export import FRAMES, Night

import stillsun
from stillsun.errors import InputError
from stillsun.products.sequence import sequence_table, table_text
from stillsun.sequence.images import LazyCube
from stillsun.sky.times import iso, mjd

START = 1_756_909_312.0
CADENCE = 2.0
# Solar rotation, some fifty times too fast: an error of it would be seen.
DRIFT = np.array([0.12, -0.05])
CENTRE = np.array([300.0, -120.0])


def scene(x, y):
    """Intensity at arcseconds from a point that goes along with the Sun; smooth at the scale of a pixel."""
    return 1000 + 100 * np.sin(x / 0.9) * np.cos(y / 1.1) + 60 * np.cos((x - 2 * y) / 1.7)


def write(
    directory, name, times, *, shape=(40, 56), scale=(0.1, 0.1), crpix=(28.5, 20.5), angle=0.0, level=None
):
    """Files of a channel; `level(k)` is the brightness of an image."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for number, moment in enumerate(times):
        value = CENTRE + DRIFT * (moment - START)
        row, column = np.mgrid[: shape[0], : shape[1]] + 1.0
        a, b = (column - crpix[0]) * scale[0], (row - crpix[1]) * scale[1]
        turn = np.radians(angle)
        x, y = np.cos(turn) * a - np.sin(turn) * b, np.sin(turn) * a + np.cos(turn) * b
        image = scene(x, y) * (1.0 if level is None else level(number))
        cards = {
            "DETECTOR": name, "DATE-AVG": str(iso(moment)), "MJD-AVG": float(mjd(moment)), "WAVELNTH": 430.5,
            "DATE-OBS": str(iso(moment)), "MJD-OBS": float(mjd(moment)), "WAVEUNIT": "nm",
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CRVAL1": value[0], "CRVAL2": value[1], "CRPIX1": crpix[0], "CRPIX2": crpix[1],
            "CDELT1": scale[0], "CDELT2": scale[1], "CROTA2": angle,
            "DSUN_OBS": 1.5e11, "HGLN_OBS": 0.0, "HGLT_OBS": 7.2, "RSUN_REF": 6.96e8, "QUALITY": number % 2,
        }  # fmt: skip
        hdu = fits.PrimaryHDU(image.astype(np.float32), fits.Header(list(cards.items())))
        files.append(directory / f"{name}_{number:05d}.fits")
        hdu.writeto(files[-1])
    return files


def even_times(count, start=START, cadence=CADENCE):
    return start + cadence * np.arange(count)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mailed")
    write(directory, "A", even_times(6))
    # A calibration image has no time.
    fits.PrimaryHDU(np.ones((3, 3), np.float32)).writeto(directory / "A_dark.fits")
    return directory


def test_a_directory_of_files_is_a_sequence(plain):
    seq = stillsun.open(plain)
    assert (seq.name, seq.shape, len(seq)) == ("A", (6, 40, 56), 6)
    np.testing.assert_allclose(seq.seconds, even_times(6), atol=1e-3)
    assert seq.times[1].isot == str(iso(START + CADENCE))
    assert seq.cadence == pytest.approx(CADENCE)
    assert list(seq.table["file"]) == [f.name for f in seq.files]
    assert np.isnan(seq.table["r0_cm"]).all()
    some = seq[np.asarray(seq.table["quality"]) == 0]
    assert list(some.table["index"]) == [0, 2, 4]
    np.testing.assert_array_equal(some.image(1), seq.image(2))
    np.testing.assert_array_equal(seq[1:3].image(-1), fits.getdata(seq.files[2]))
    again = pickle.loads(pickle.dumps(seq))
    np.testing.assert_array_equal(again.image(3), seq.image(3))


def test_two_channels_in_one_directory_come_apart(tmp_path):
    write(tmp_path, "B", even_times(2)[::-1])
    write(tmp_path, "C", even_times(3))
    found = stillsun.open(tmp_path)
    assert {name: len(seq) for name, seq in found.items()} == {"B": 2, "C": 3}
    # By time, not by name.
    assert [f.name for f in found["B"].files] == ["B_00001.fits", "B_00000.fits"]


@pytest.mark.parametrize("with_dask", [True, False])
def test_the_cube_is_what_the_files_hold(plain, monkeypatch, with_dask):
    if not with_dask:
        monkeypatch.setitem(sys.modules, "dask.array", None)
    seq = stillsun.open(plain)
    expected = np.stack([fits.getdata(f) for f in seq.files]).astype(np.float32)
    cube = seq.cube
    assert isinstance(cube, LazyCube) != with_dask
    assert (cube.shape, cube.dtype, cube.ndim) == (expected.shape, np.float32, 3)
    for key in (2, -1, slice(1, 5, 2), (slice(None), 3, 4), (0, slice(5, 9), slice(0, 50, 7)),
                (slice(2, 3), slice(None, None, -1), -2), ..., (..., 5), (slice(0, 0),)):  # fmt: skip
        np.testing.assert_array_equal(np.asarray(cube[key]), expected[key])
    np.testing.assert_array_equal(np.asarray(cube), expected)
    assert not np.asarray(seq.mask).any()


def test_only_what_is_looked_at_is_read():
    class Counted:
        shape = (4, 5)
        asked = []  # noqa: RUF012

        def image(self, number, window=None):
            self.asked.append(number)
            return np.full(self.shape, number, np.float32)[window]

    cube = LazyCube(Counted(), 1000)
    assert cube[7, 2, 3] == 7
    assert cube[10:12, 1:3].shape == (2, 2, 5)
    assert Counted.asked == [7, 10, 11]
    with pytest.raises(IndexError):
        cube[0, 0, 0, 0]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    made = Night(tmp_path_factory.mktemp("night"), disk=None)
    valid = np.ones(made.oriented.shape, np.uint8)
    valid[1, :5] = 0
    (made.path / "destretch.h5").unlink()
    made._store("destretch", FRAMES, made.stores["destretch"][1] | {"valid": valid}, "masking")
    made.valid = valid.astype(bool)
    made.files = made.export()
    return made


def test_a_work_directory_gives_its_channels(night):
    found = stillsun.open(night.path)
    assert list(found) == ["ROSA_GBAND"]
    seq = stillsun.open(night.path / "ROSA_GBAND")
    files = stillsun.open(night.path / "ROSA_GBAND" / "splineDestretch")
    one = stillsun.open(night.files[1])
    for other in (seq, files, stillsun.open(night.table)):
        np.testing.assert_allclose(other.seconds, night.time_avg, atol=1e-3)
        assert other.table.meta["channel"] == other.name == "ROSA_GBAND"
        np.testing.assert_array_equal(np.asarray(other.mask), ~night.valid)
        np.testing.assert_array_equal(other.table["crval1"], found["ROSA_GBAND"].table["crval1"])
    np.testing.assert_array_equal(one.image(0), seq.image(1))
    assert list(seq.table["index"]) == list(range(FRAMES))


def test_what_was_not_mailed_is_not_in_the_sequence(night, tmp_path):
    rows = Table.read(night.table)
    rows["file"] = [f"splineDestretch/{f.name}" for f in night.files[:FRAMES]]
    (tmp_path / "splineDestretch").mkdir()
    for file in (night.files[0], night.files[2]):
        (tmp_path / "splineDestretch" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "sequence.ecsv").write_text(table_text(rows))
    seq = stillsun.open(tmp_path)
    assert list(seq.table["index"]) == [0, 2]
    np.testing.assert_array_equal(seq.image(1), fits.getdata(night.files[2]))


def test_maps_and_coordinates_are_those_of_the_files(night):
    seq = stillsun.open(night.path / "ROSA_GBAND")
    cube = seq.cube_wcs()
    pixels = np.array([[0, 0], [51, 0], [0, 63], [51, 63], [20, 40]], float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            own = sunpy.map.Map(night.files[number])
            sky = own.pixel_to_world(*pixels.T * u.pix)
            expected = np.stack([sky.Tx.to_value(u.arcsec), sky.Ty.to_value(u.arcsec)], axis=1)
            again = seq.map(number).pixel_to_world(*pixels.T * u.pix)
            np.testing.assert_allclose(again.Tx.to_value(u.arcsec), expected[:, 0], atol=1e-9)
            single = np.stack(seq.wcs(number).pixel_to_world_values(*pixels.T), axis=1) * 3600
            single[:, 0] = (single[:, 0] + 648000) % 1296000 - 648000
            np.testing.assert_allclose(single, expected, atol=1e-8)
            x, y, seconds = cube.pixel_to_world_values(*pixels.T, np.full(5, number))
            scale = [u.Unit(unit).to(u.arcsec) for unit in cube.world_axis_units[:2]]
            np.testing.assert_allclose(np.stack([x * scale[0], y * scale[1]], axis=1), expected, atol=1e-3)
            np.testing.assert_allclose(seconds, night.time_avg[number] - night.time_avg[0], atol=2e-3)
    assert cube.array_shape == (FRAMES, 64, 52)


def test_without_ndcube_a_sentence(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "ndcube", None)
    with pytest.raises(InputError, match="ndcube is not installed"):
        stillsun.open(plain).ndcube()


def test_on_the_pixels_of_another_channel(tmp_path):
    write(
        tmp_path / "a", "A", even_times(5), shape=(60, 80), scale=(0.1, 0.09), crpix=(40.0, 31.0), angle=0.7
    )
    # Other times, scales, rotation and reference pixel.
    other = {"shape": (44, 50), "scale": (0.08, 0.085), "crpix": (20.0, 25.0), "angle": -0.4}
    write(tmp_path / "b", "B", even_times(4, START + 1.3, 2.7), **other)
    a, b = stillsun.open(tmp_path / "a"), stillsun.open(tmp_path / "b")
    moved = a.on(b)
    assert moved.shape == (5, 44, 50)
    truth = fits.getdata(b.files[0])
    for number in range(5):
        image = moved.image(number)
        assert np.isfinite(image).mean() > 0.95
        assert np.nanstd(image - truth) < 0.003 * truth.std()
        # The coordinates go along: the same point of the Sun at the image's own time.
        header = moved.header(number)
        assert header["CRVAL1"] == pytest.approx(a.header(number)["CRVAL1"], abs=0.01)
        assert header["DATE-AVG"] == a.header(number)["DATE-AVG"]
    np.testing.assert_allclose(
        np.asarray(moved.cube[2, 5:20:2, 7:30]), moved.image(2)[5:20:2, 7:30], rtol=1e-6
    )


def test_pixels_that_are_not_there_stay_so_on_another_grid(tmp_path):
    files = write(tmp_path / "a", "A", even_times(1))
    with fits.open(files[0], mode="update") as hdus:
        hdus[0].data[10:14, 20:25] = np.nan
    write(tmp_path / "b", "B", even_times(1))
    image = stillsun.open(tmp_path / "a").on(stillsun.open(tmp_path / "b")).image(0)
    gone = np.isnan(image)
    assert gone[10:14, 20:25].all()
    assert gone.sum() <= 6 * 7
    assert np.abs(image - fits.getdata(tmp_path / "b" / "B_00000.fits"))[~gone].max() < 20


def _pulsing(tmp_path, times):
    bright = {n: 1 + 0.01 * (t - START) for n, t in enumerate(times)}
    write(tmp_path, "A", times, level=lambda n: bright[n])
    return stillsun.open(tmp_path)


def test_even_spacing_is_linear_in_time_and_masks_gaps(tmp_path):
    times = START + np.array([0.0, 2.1, 3.9, 6.0, 12.0, 14.0])
    seq = _pulsing(tmp_path, times)
    even = seq.even(2.0)
    np.testing.assert_allclose(even.seconds, START + 2.0 * np.arange(8), atol=1e-3)
    still = scene(0, 0)
    lost = [bool(np.isnan(even.image(n)).all()) for n in range(8)]
    assert lost == [False] * 4 + [True] * 2 + [False] * 2
    assert list(np.asarray(even.table["valid_share"]) == 0) == lost
    values = [even.image(n) / (1 + 0.01 * 2.0 * n) for n in (0, 1, 2, 3, 6, 7)]
    for value in values:
        np.testing.assert_allclose(value, values[0], rtol=1e-5)
    assert abs(values[0][19:21, 27:29].mean() - still) < 5
    # Coordinates are interpolated too.
    np.testing.assert_allclose(even.header(1)["CRVAL1"], CENTRE[0] + DRIFT[0] * 2.0, atol=1e-3)
    assert even.header(1)["DATE-AVG"] == str(iso(START + 2.0))
    with pytest.raises(InputError, match="spaced evenly"):
        seq[:1].even()


def test_what_wave_analysis_takes(tmp_path):
    times = START + 2.0 * np.array([0, 1, 2, 3, 6, 7, 8])
    seq = _pulsing(tmp_path, times)
    found = seq.wave(box=(10, 5, 14, 8))
    assert found.signal.shape == found.measured.shape == (9, 3, 4)
    np.testing.assert_allclose(found.time, 2.0 * np.arange(9), atol=1e-3)
    assert list(found.measured[:, 0, 0]) == [True] * 4 + [False] * 2 + [True] * 3
    expected = found.signal[0] * (1 + 0.01 * found.time[:, None, None])
    np.testing.assert_allclose(found.signal, expected, rtol=1e-5)
    assert found.pixel_arcsec == (0.1, 0.1)
    assert found.pixel_km[0] == pytest.approx(0.1 / 206264.806 * (1.5e8 - 6.96e5), rel=1e-6)
    with pytest.raises(InputError, match="no such box"):
        seq.wave(box=(0, 0, 500, 3))


def test_what_is_no_reduction_is_refused(tmp_path):
    for path, said in ((tmp_path, "no images"), (tmp_path / "nowhere", "no such file")):
        with pytest.raises(InputError, match=said):
            stillsun.open(path)
    fits.PrimaryHDU(np.ones((3, 3), np.float32)).writeto(tmp_path / "dark.fits")
    with pytest.raises(InputError, match="no image with a time"):
        stillsun.open(tmp_path)


def test_the_mean_instead_of_nothing_is_no_mask(tmp_path):
    files = write(tmp_path, "A", even_times(2))
    for file in files:
        fits.setval(file, "NTOTPIX", value=40 * 56)
        fits.setval(file, "NMASKPIX", value=12)
    with pytest.raises(InputError, match="the mean stands there"):
        stillsun.open(tmp_path).mask  # noqa: B018


def test_a_long_night_opens_at_once(tmp_path):
    """2,500 files in 5 s; read by their headers here, and by the table."""
    directory = tmp_path / "splineDestretch"
    first = write(directory, "A", even_times(1))[0]
    whole, moment = first.read_bytes(), str(iso(START)).encode()
    assert whole.count(moment) == 2
    # As many cards as a header of a run.
    header = fits.getheader(first)
    for number in range(120 - len(header)):
        header[f"KEY{number}"] = 0.1 * number
    fits.PrimaryHDU(fits.getdata(first), header).writeto(first, overwrite=True)
    whole = first.read_bytes()
    for number, text in enumerate(iso(even_times(2500))):
        (directory / f"A_{number:05d}.fits").write_bytes(whole.replace(moment, str(text).encode()))
    start = time.process_time()
    seq = stillsun.open(directory)
    by_headers = time.process_time() - start
    assert len(seq) == 2500
    rows = sequence_table((dict(seq.header(0)) for _ in range(1)), [f"splineDestretch/{first.name}"])
    rows = Table(np.repeat(rows.as_array(), 2500), meta=rows.meta)
    rows["file"] = [f"splineDestretch/{f.name}" for f in seq.files]
    (tmp_path / "sequence.ecsv").write_text(table_text(rows))
    start = time.process_time()
    seq = stillsun.open(tmp_path)
    assert np.asarray(seq.cube[2499, 3, 4]) == np.asarray(seq.cube[0, 3, 4])
    by_table = time.process_time() - start
    print(f"{by_headers:.2f} s by headers, {by_table:.2f} s by the table")
    assert by_headers < 5
    assert by_table < 2
