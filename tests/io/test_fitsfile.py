"""One FITS file: checksums, refusal of what is not right, and telling whole files from damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from stillsun.errors import InputError
from stillsun.io.fitsfile import is_product, write_product

IMAGE = np.random.default_rng(0).normal(100, 5, (33, 47)).astype(np.float32)


def header(digest="abc"):
    return fits.Header([("DIGEST", digest), ("EXTNAME", "X")])


def test_file_is_whole_and_reproducible(tmp_path):
    path = write_product(tmp_path / "new" / "a.fits", IMAGE, header())
    with fits.open(path, checksum=True) as hdus:
        assert len(hdus) == 1
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, IMAGE)
    first = path.read_bytes()
    assert len(first) % 2880 == 0
    write_product(path, IMAGE, header())
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["a.fits"]


@pytest.mark.parametrize("shape", [(36, 20), (1, 1), (7, 103), (2048, 3)])
def test_any_shape_and_byte_order(tmp_path, shape):
    image = np.arange(np.prod(shape), dtype="<f8").reshape(shape)[::-1]
    path = write_product(tmp_path / "a.fits", image, header())
    with fits.open(path, checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[0].data, image)
        assert hdus[0].verify_checksum() == 1
    assert is_product(path, "abc")


@pytest.mark.parametrize(
    "image", [np.ones((2, 3, 4)), np.ones(4), np.array([[1.0, np.nan]]), np.array([[1.0, np.inf, -np.inf]])]
)
def test_other_arrays_are_refused(tmp_path, image):
    with pytest.raises(InputError, match=r"a\.fits"):
        write_product(tmp_path / "a.fits", image, header())
    assert list(tmp_path.iterdir()) == []


def test_a_bad_header_gets_no_name_and_keeps_the_old_file(tmp_path):
    path = write_product(tmp_path / "a.fits", IMAGE, header())
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"a\.fits.*CRVAL1: missing; DATE: missing"):
        write_product(path, IMAGE + 1, header(), check=lambda h: ["CRVAL1: missing", "DATE: missing"])
    assert path.read_bytes() == before


def test_check_sees_the_complete_header(tmp_path):
    seen = []
    write_product(tmp_path / "a.fits", IMAGE, header(), check=lambda h: seen.append(list(h)) or [])
    assert {"SIMPLE", "NAXIS1", "CHECKSUM", "DATASUM", "EXTNAME"} <= set(seen[0])


def test_whole_files_are_told_from_damaged_ones(tmp_path):
    path = write_product(tmp_path / "a.fits", IMAGE, header())
    whole = path.read_bytes()
    assert is_product(path, "abc")
    assert not is_product(path, "abd")
    assert not is_product(tmp_path / "missing.fits", "abc")
    flipped = bytearray(whole)
    flipped[2880 + 1000] ^= 1
    for damaged in (whole[:-2880], whole[:-7], whole + b"\0" * 2880, bytes(flipped), b"", b"no FITS file"):
        path.write_bytes(damaged)
        assert not is_product(path, "abc")
