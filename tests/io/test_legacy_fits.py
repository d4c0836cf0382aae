"""Frames of earlier systems: three kinds of headers, and what is left over in them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from stillsun.errors import InputError
from stillsun.io.legacy_fits import read_facts, read_image

IMAGE = np.arange(48, dtype=np.float32).reshape(6, 8) + 1000
NIGHT = np.datetime64("2025-09-03T14:21:52.456", "us").astype(np.int64) / 1e6


def write(path, cards=(), image=IMAGE):
    hdu = fits.PrimaryHDU(image)
    for card in cards:
        hdu.header.set(*card)
    hdu.writeto(path)
    return path


def raw_cards(date="2021-10-22T15:18:48.112"):
    return [
        ("HIERARCH FRAME NUMBER", "64"),
        ("DATE", date),
        ("HIERARCH FRAME DELTA", "0.032972 Secs"),
        ("HIERARCH FRAME RATE", "33 mSec"),
    ]


def with_left_over(path):
    """As the speckle program's frames were written: floating point, and the raw file's BZERO."""
    write(path, raw_cards())
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BZERO"], hdus[0].header["BSCALE"] = 32768, 1
    return path


def test_what_is_left_over_of_the_raw_file_is_not_added(tmp_path):
    path = with_left_over(tmp_path / "a.fits")
    assert fits.getdata(path).mean() > 30000
    image = read_image(path)
    assert image.dtype == np.float32
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, IMAGE)


def test_a_scale_that_belongs_to_the_numbers_is_used(tmp_path):
    path = tmp_path / "a.fits"
    hdu = fits.PrimaryHDU(np.array([[1, 2], [3, 40000]], np.uint16))
    hdu.writeto(path)
    assert fits.getheader(path)["BZERO"] == 32768
    np.testing.assert_array_equal(read_image(path), [[1, 2], [3, 40000]])


def test_cards_of_a_raw_extension_tell_the_time_of_the_last_frame(tmp_path):
    facts = read_facts(with_left_over(tmp_path / "a.fits"))
    assert facts.last_frame
    assert np.isnan(facts.begin)
    assert facts.end == np.datetime64("2021-10-22T15:18:48.112", "us").astype(np.int64) / 1e6
    assert facts.interval_s == pytest.approx(0.033)
    assert facts.shape == (6, 8)
    assert facts.steps == ()


def test_header_of_the_superseded_system(tmp_path):
    path = write(
        tmp_path / "a.fits",
        [
            ("DATE", "2025-10-07T09:37:15"),
            ("STARTOBS", "2025-09-03T14:21:52.456"),
            ("DATE-BEG", "2025-09-03T14:21:52.456"),
            ("ENDOBS", "2025-09-03T14:21:54.696"),
            ("DATE-AVG", "2025-09-03T14:21:53.576"),
            ("NSUMEXP", 64),
            ("CTYPE1", "HPLN-TAN"),
            ("CRVAL1", 725.949),
            ("CRVAL2", -395.851),
            ("CROTA2", 0.023),
            ("SCINT", 0.483),
            ("LLVL", "3.97"),
            ("SPKLALPH", 0.1607),
            ("PRSTEP1", "DARK-SUBTRACTION,FLATFIELDING", "SS0soft"),
            ("PRSTEP2", "SPECKLE-DECONVOLUTION", "KISIP v0.6"),
        ],
    )
    facts = read_facts(path)
    assert (facts.begin, facts.mean, facts.end) == pytest.approx((NIGHT, NIGHT + 1.12, NIGHT + 2.24))
    assert not facts.last_frame
    assert facts.frames == 64
    assert facts.point == (725.949, -395.851)
    assert facts.crota2 == 0.023
    assert facts.alpha == 0.1607
    assert np.isnan(facts.r0_m)
    assert facts.log["scintillation"] == 0.483
    assert facts.log["light_level"] == 3.97
    assert np.isnan(facts.log["solar_radius"])
    assert [(s.kind, s.program) for s in facts.steps] == [
        ("DARK-SUBTRACTION,FLATFIELDING", "SS0soft"),
        ("SPECKLE-DECONVOLUTION", "KISIP v0.6"),
    ]


def test_the_date_of_writing_is_no_time_of_observation(tmp_path):
    facts = read_facts(write(tmp_path / "a.fits", [("DATE", "2025-10-07T09:37:15")]))
    assert np.isnan([facts.begin, facts.mean, facts.end]).all()


def test_zero_is_no_measured_fried_parameter(tmp_path):
    facts = read_facts(write(tmp_path / "a.fits", [("ATMOS_R0", 0.0), ("SPKLALPH", 0)]))
    assert np.isnan([facts.r0_m, facts.alpha]).all()


def test_pointing_in_other_coordinates_is_none(tmp_path):
    cards = [("CTYPE1", "LINEAR"), ("CRVAL1", 1.0), ("CRVAL2", 2.0)]
    assert np.isnan(read_facts(write(tmp_path / "a.fits", cards)).point).all()


@pytest.mark.parametrize("kind", ["text", "cube", "short", "gone", "nan"])
def test_files_that_cannot_be_used_are_named(tmp_path, kind):
    path = tmp_path / "bad.fits"
    if kind == "text":
        path.write_text("no FITS")
    elif kind == "cube":
        write(path, image=np.zeros((3, 4, 5), np.float32))
    elif kind == "short":
        write(path, image=np.ones((60, 60), np.float32))
        path.write_bytes(path.read_bytes()[:5760])
    elif kind == "nan":
        write(path, image=np.full((4, 4), np.nan, np.float32))
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert "bad.fits" in str(caught.value)


@pytest.mark.real
def test_real_frames_have_the_contrast_of_the_sun(real_frame_path):
    gband, cak = (read_image(real_frame_path(band)) for band in ("gband", "cak"))
    assert gband.std() / gband.mean() == pytest.approx(0.124, abs=0.002)
    assert cak.std() / cak.mean() == pytest.approx(0.159, abs=0.002)


@pytest.mark.parametrize("kind", ["no end", "zeros", "huge", "negative", "infinite"])
def test_strange_files_take_neither_time_nor_memory(tmp_path, kind):
    path = write(tmp_path / "a.fits")
    content = path.read_bytes()
    if kind == "no end":
        content = content.replace(b"END" + b" " * 77, b"ENL" + b" " * 77) + bytes(20_000_000)
    elif kind == "zeros":
        content += bytes(30_000_000)
    else:
        at = content.index(b"NAXIS2  =")
        value = {"huge": 10**12, "negative": -4, "infinite": "1E400"}[kind]
        content = content[:at] + f"NAXIS2  = {value:>20}".ljust(80).encode() + content[at + 80 :]
    path.write_bytes(content)
    if kind == "zeros":
        assert read_image(path).shape == read_facts(path).shape
        return
    for reader in (read_facts, read_image):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert caught.value.file == str(path)


def test_a_compressed_image_is_read(tmp_path):
    image = np.linspace(900, 1100, 64 * 64, dtype=np.float32).reshape(64, 64)
    packed = fits.CompImageHDU(image, compression_type="GZIP_2", quantize_level=0.0)
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits.fz"), image)
    assert read_facts(tmp_path / "a.fits.fz").shape == (64, 64)
