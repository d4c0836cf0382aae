"""ROSA files: pixels, order, times, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from tests.io import _rawfiles

from stillsun.core.batch import decode
from stillsun.errors import InputError
from stillsun.io import _fitsscan
from stillsun.io.rosa import open_rosa

SHAPE = (30, 42)


@pytest.fixture
def frames():
    return np.random.default_rng(1).integers(0, 65536, (11, *SHAPE), dtype=np.uint16)


def test_pixels_times_and_exposure_are_those_written(tmp_path, frames):
    paths, times = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(list(reversed(paths)), SHAPE)
    assert source.shape == frames.shape
    assert source.files == tuple(paths)
    np.testing.assert_array_equal(source.file_index, [0] * 4 + [1] * 4 + [2] * 3)
    np.testing.assert_array_equal(source.start_times, times)
    assert source.exposure_s == pytest.approx(0.01)
    assert source.findings == ()
    np.testing.assert_array_equal(source.read(0, 11), frames)
    out = np.zeros((6, *SHAPE), dtype=np.uint16)
    assert source.read(3, 9, out=out) is out
    np.testing.assert_array_equal(out, frames[3:9])


def test_a_clock_that_is_ahead_is_put_right_and_said(tmp_path, frames):
    paths, times = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(paths, SHAPE, clock_offset_h=1.0)
    np.testing.assert_array_equal(source.start_times, times - np.timedelta64(1, "h"))
    assert any("less 1 h" in finding for finding in source.findings)


def test_astropy_agrees(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(paths, SHAPE)
    with fits.open(paths[1]) as hdus:
        for k in range(4):
            np.testing.assert_array_equal(source.read(4 + k, 5 + k)[0], hdus[k + 1].data)
            assert source.start_times[4 + k] == np.datetime64(hdus[k + 1].header["DATE"])


def test_regular_files_are_not_parsed_header_by_header(tmp_path, frames, monkeypatch):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    monkeypatch.setattr(_fitsscan, "_walk", lambda *_: pytest.fail("walked"))
    assert open_rosa(paths, SHAPE).shape[0] == len(frames)


def test_files_with_headers_of_different_length(tmp_path, frames):
    # 36 cards fill a block: more than 25 further ones push the header into a second block.
    paths, times = _rawfiles.write_rosa(tmp_path, frames, extra=lambda number: 40 if number % 3 == 1 else 0)
    source = open_rosa(paths, SHAPE)
    np.testing.assert_array_equal(source.read(0, 11), frames)
    np.testing.assert_array_equal(source.start_times, times)


def test_one_extension_with_another_header_of_the_same_length(tmp_path, frames):
    """A regular distance alone proves nothing: the date stands elsewhere in one header."""
    paths, times = _rawfiles.write_rosa(tmp_path, frames, extra=lambda number: 0)
    with fits.open(paths[0], mode="update") as hdus:
        hdus[2].header.insert("DATE", ("SHIFT", 1))
    source = open_rosa(paths, SHAPE)
    np.testing.assert_array_equal(source.start_times, times)
    np.testing.assert_array_equal(source.read(0, 11), frames)


def test_numbers_of_the_sequence_order_the_files_and_not_their_names(tmp_path, frames):
    name = "das1_rosa_2025-09-03_14.21.52_{:d}.fit"
    paths, times = _rawfiles.write_rosa(tmp_path, frames, per_file=1, name=name)
    assert sorted(paths) != paths
    source = open_rosa(sorted(paths), SHAPE)
    np.testing.assert_array_equal(source.read(0, 11), frames)
    np.testing.assert_array_equal(source.start_times, times)


def test_sequences_before_and_after_follow_each_other(tmp_path, frames):
    late = _rawfiles.START + np.timedelta64(2, "h")
    after, _ = _rawfiles.write_rosa(
        tmp_path, frames[4:], start=late, name="das1_rosa_flat_2025-09-03_16.21.52_{:04d}.fit"
    )
    before, _ = _rawfiles.write_rosa(
        tmp_path, frames[:4], name="das1_rosa_flat_2025-09-03_14.21.52_{:04d}.fit"
    )
    source = open_rosa(after + before, SHAPE)
    np.testing.assert_array_equal(source.read(0, 11), frames)


def test_overscan_is_cut(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(paths, (28, 40), file_shape=SHAPE)
    assert source.shape == (11, 28, 40)
    np.testing.assert_array_equal(source.read(2, 7), frames[2:7, :28, :40])


def test_blocks_follow_the_files(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    blocks = list(open_rosa(paths, SHAPE).blocks(2, 11))
    assert [block.shape[0] for block in blocks] == [2, 4, 3]


def test_missing_file_of_a_sequence_and_odd_exposures_are_said(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(
        tmp_path, frames, exposure=lambda number: "0.0100 Sec" if number < 8 else "12 mSec"
    )
    source = open_rosa([paths[0], paths[2]], SHAPE, exposure_s=0.02)
    assert any("numbers 1 (1 in all)" in text for text in source.findings)
    assert any("10 to 12 ms" in text for text in source.findings)
    assert any("the configuration 20 ms" in text for text in source.findings)


def test_clock_stepping_back_is_said(tmp_path, frames):
    first, _ = _rawfiles.write_rosa(tmp_path, frames[:4])
    second, _ = _rawfiles.write_rosa(
        tmp_path,
        frames[4:8],
        start=_rawfiles.START - np.timedelta64(1, "h"),
        name=first[0].name[:-8] + "0001.fit",
    )
    source = open_rosa(first + second, SHAPE)
    assert any("steps back before frames 4 " in text for text in source.findings)


def _damage(paths, kind):
    content = bytearray(paths[1].read_bytes())
    if kind == "truncated":
        del content[-1500:]
    elif kind == "empty":
        content.clear()
    elif kind == "no time":
        at = content.index(b"DATE    =", 2880)
        content[at + 11 : at + 34] = b"yesterday".ljust(23)
    elif kind == "signed":
        at = content.index(b"BZERO   =", 2880)
        content[at : at + 30] = b"BZERO   =                    0"
    elif kind == "text":
        content[2880:2890] = b"not a FITS"
    elif kind == "only primary":
        del content[2880:]
    paths[1].write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "truncated within extension 4"),
        ("empty", "primary header"),
        ("no time", "no time in extension 1"),
        ("signed", "BZERO=0"),
        ("text", "first extension"),
        ("only primary", "first extension"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, frames, kind, words):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    _damage(paths, kind)
    with pytest.raises(InputError, match=words) as error:
        open_rosa(paths, SHAPE)
    assert error.value.file == str(paths[1])
    assert error.value.remedy


def test_other_shape_mixed_cameras_and_missing_files_are_refused(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    with pytest.raises(InputError, match=r"30 rows x 42 columns.*camera\.shape"):
        open_rosa(paths, (42, 30))
    other, _ = _rawfiles.write_rosa(tmp_path, frames, name="das2_rosa_2025-09-03_14.21.52_{:04d}.fit")
    with pytest.raises(InputError, match="das1, das2"):
        open_rosa(paths + other, SHAPE)
    with pytest.raises(InputError, match="no ROSA files"):
        open_rosa([], SHAPE)


def _pack(path, **options):
    """Compress a file as fpack does; returns the new one."""
    with fits.open(path) as units:
        packed = [fits.PrimaryHDU()]
        for unit in units[1:]:
            packed.append(fits.CompImageHDU(unit.data, **({"compression_type": "RICE_1"} | options)))
            for name in ("DATE", "EXPOSURE"):
                packed[-1].header[name] = unit.header[name]
        fits.HDUList(packed).writeto(path.with_name(path.name + ".fz"))
    return path.with_name(path.name + ".fz")


@pytest.mark.parametrize("options", [{}, {"tile_shape": (7, SHAPE[1])}, {"tile_shape": SHAPE}])
def test_compressed_files_give_the_same_frames(tmp_path, frames, options):
    # Every way of coding: noise, smooth, constant, and leaps over the whole range.
    frames[1] = 7000
    frames[2] = np.linspace(0, 65535, frames[2].size).reshape(SHAPE)
    frames[3, ::2, ::3], frames[3, 1::2] = 0, 65535
    frames[4] = np.random.default_rng(0).integers(0, 65536, SHAPE)
    paths, times = _rawfiles.write_rosa(tmp_path, frames, interval_s=0.165)
    packed = [_pack(path, **options) for path in paths]
    source = open_rosa(packed, SHAPE)
    np.testing.assert_array_equal(source.start_times, times)
    assert source.exposure_s == pytest.approx(0.01)
    np.testing.assert_array_equal(source.read(0, len(frames)), frames)
    np.testing.assert_array_equal(source.read(3, 7), frames[3:7])
    source.read_ahead(0, 5)
    window = [decode(b.window(slice(3, 20), slice(5, 11))) for b in source.blocks(2, 6)]
    np.testing.assert_array_equal(np.concatenate(window), frames[2:6, 3:20, 5:11])
    # Some of a sequence compressed, some not, some both.
    mixed = open_rosa([paths[0], *packed], SHAPE)
    np.testing.assert_array_equal(mixed.read(0, len(frames)), frames)
    assert any("compressed too" in finding for finding in mixed.findings)


@pytest.mark.parametrize(
    "options",
    [
        {"compression_type": "GZIP_1"},
        {"compression_type": "GZIP_2"},
        {"compression_type": "HCOMPRESS_1", "tile_shape": SHAPE},
        {"tile_shape": (5, 8)},
    ],
)
def test_unusual_compression_is_read_and_said(tmp_path, frames, options):
    paths, times = _rawfiles.write_rosa(tmp_path, frames)
    packed = [_pack(path, **options) for path in paths]
    source = open_rosa(packed, SHAPE)
    np.testing.assert_array_equal(source.read(0, len(frames)), frames)
    np.testing.assert_array_equal(source.read(5, 6), frames[5:6])
    np.testing.assert_array_equal(source.start_times, times)
    assert any("read slowly" in finding for finding in source.findings)


def test_plio_holds_the_pixels_with_their_offset(tmp_path):
    """As cfitsio writes them: the header tells of an offset that the coded numbers have already."""
    units = [fits.PrimaryHDU()]
    frames = 500 + 1000 * np.repeat(np.indices(SHAPE)[0][None] // 8, 3, axis=0)
    for frame in frames:
        units.append(fits.CompImageHDU(frame.astype(np.int16), compression_type="PLIO_1"))
        units[-1].header["DATE"] = "2025-09-03T14:21:52.456"
    path = tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit.fz"
    fits.HDUList(units).writeto(path)
    with fits.open(path, disable_image_compression=True, mode="update") as tables:
        for table in tables[1:]:
            table.header["BZERO"], table.header["BSCALE"] = 32768, 1
    np.testing.assert_array_equal(open_rosa([path], SHAPE).read(0, 3), frames)


def test_damaged_and_otherwise_compressed_files_are_refused(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames[:8])
    with fits.open(paths[0]) as units:
        real = [fits.PrimaryHDU(), fits.CompImageHDU(units[1].data.astype(np.float32))]
        fits.HDUList(real).writeto(tmp_path / "das1_rosa_2025-09-03_15.00.00_0000.fit.fz")
    with pytest.raises(InputError, match=r"unsigned 16-bit.*ZBITPIX=-32"):
        open_rosa([tmp_path / "das1_rosa_2025-09-03_15.00.00_0000.fit.fz"], SHAPE)
    gzip = _pack(paths[0], compression_type="GZIP_1")
    content = gzip.read_bytes()
    gzip.write_bytes(content[:-4500] + b"\x7f" * 1000 + content[-3500:])
    with pytest.raises(InputError, match="compressed frame is damaged"):
        open_rosa([gzip], SHAPE).read(0, 4)
    packed = _pack(paths[1])
    content = packed.read_bytes()
    packed.write_bytes(content[:-2000])
    with pytest.raises(InputError, match="truncated within extension 4"):
        open_rosa([packed], SHAPE)
    # The tiles' table of the first frame overwritten: found when it is read.
    start = content.index(b"XTENSION")
    table = start + 2880 * next(k for k in (1, 2, 3) if b"END" in content[start + 2880 * (k - 1) :][:2880])
    packed.write_bytes(content[:table] + b"\x7f" * 64 + content[table + 64 :])
    source = open_rosa([packed], SHAPE)
    with pytest.raises(InputError, match="compressed frame is damaged"):
        source.read(0, 2)
    plain = packed.rename(packed.with_suffix(""))
    with pytest.raises(InputError, match=r"BINTABLE.*\.fz"):
        open_rosa([plain], SHAPE)


def test_file_that_shrinks_after_opening_is_an_error_and_not_a_crash(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(paths, SHAPE)
    paths[2].write_bytes(paths[2].read_bytes()[:8000])
    with pytest.raises(InputError, match="shorter"):
        source.read(0, 11)
