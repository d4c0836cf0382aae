"""ROSA files that are damaged or strange: the right frames, or a sentence that names the file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from tests.io import _rawfiles

from stillsun.errors import InputError
from stillsun.io import _fitsscan
from stillsun.io.rosa import open_rosa

SHAPE = (12, 20)
CASES = Path(__file__).parent.parent / "data" / "damaged"


@pytest.fixture
def frames():
    return np.random.default_rng(3).integers(0, 65536, (5, *SHAPE), dtype=np.uint16)


def _write(directory, frames):
    paths, times = _rawfiles.write_rosa(directory, frames, per_file=len(frames))
    return paths[0], times


def _edit(path, *changes, count=1):
    content = path.read_bytes()
    for old, new in changes:
        assert len(old) == len(new)
        assert old in content
        content = content.replace(old, new, count)
    path.write_bytes(content)


def _date_card(path, number, text):
    """Overwrite the DATE card of an extension."""
    content = bytearray(path.read_bytes())
    at = 0
    for _ in range(number):
        at = content.index(b"DATE    =", at + 1)
    content[at : at + 80] = text.ljust(80).encode("latin-1")
    path.write_bytes(content)


@pytest.mark.parametrize(
    "card",
    [
        "COMMENT no date here",
        "DATE    = ''",
        "DATE    =",
        "DATE    = '0025-09-03T14:21:52.556'",
        "DATE    = '20250903'",
        "DATE    = 20250903",
        "DATE    = 'today'",
        "DATE    = '2025-09-03'",
        "DATE    = '2025-13-03T14:21:52.556'",
        "DATE    = '2025-09-03T14:21:\x07552.5'",
        "DATE    = '2025-09-03T14:21:52.556",
        "DATE    = 2025-09-03T14:21:52.556",
    ],
)
def test_an_exposure_without_a_plausible_time_is_refused_by_extension(tmp_path, frames, card):
    path, _ = _write(tmp_path, frames)
    _date_card(path, 3, card)
    with pytest.raises(InputError, match="extension 3") as error:
        open_rosa([path], SHAPE)
    assert error.value.file == str(path)


def test_dates_are_read_as_astropy_reads_them(tmp_path, frames):
    path, times = _write(tmp_path, frames)
    for number in (1, 2, 3, 4, 5):
        text = str(times[number - 1].astype("datetime64[ms]"))
        _date_card(path, number, f"DATE    =    '{text}' / free format")
    np.testing.assert_array_equal(open_rosa([path], SHAPE).start_times, times)
    with fits.open(path) as units:
        assert units[3].header["DATE"] == str(times[2].astype("datetime64[ms]"))


def test_times_without_fractions_are_named(tmp_path, frames):
    path, _ = _write(tmp_path, frames)
    for number in range(1, 6):
        _date_card(path, number, "DATE    = '2025-09-03T14:21:52'")
    assert any("without fractions" in text for text in open_rosa([path], SHAPE).findings)


@pytest.mark.parametrize("value", ["1E400", "-20", "1.5", "T", "99999999999999999999", "'20'", ""])
def test_impossible_sizes_are_refused(tmp_path, frames, value):
    path, _ = _write(tmp_path, frames)
    content = path.read_bytes()
    at = content.index(b"NAXIS2  =", 2880)
    path.write_bytes(content[:at] + f"NAXIS2  = {value:>20}".ljust(80).encode() + content[at + 80 :])
    with pytest.raises(InputError) as error:
        open_rosa([path], SHAPE)
    assert error.value.file == str(path)


def test_a_missing_size_is_refused(tmp_path, frames):
    path, _ = _write(tmp_path, frames)
    _edit(path, (b"NAXIS1  =", b"COMMENT  "))
    with pytest.raises(InputError, match="NAXIS1=None"):
        open_rosa([path], SHAPE)


def test_a_header_that_does_not_end_is_refused_soon(tmp_path, frames):
    path, _ = _write(tmp_path, frames)
    content = path.read_bytes()
    at = content.index(b"END".ljust(80), content.index(b"XTENSION", 5000))
    path.write_bytes(content[:at] + b"ENL" + content[at + 3 :] + bytes(30_000_000))
    with pytest.raises(InputError, match=r"extension 2 .*does not end|extension 2 "):
        open_rosa([path], SHAPE)


def test_zeros_behind_the_last_extension_are_ignored_and_said(tmp_path, frames):
    path, _ = _write(tmp_path, frames)
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 30_000_000)
    source = open_rosa([path], SHAPE)
    np.testing.assert_array_equal(source.read(0, 5), frames)
    assert any("30000000 bytes of zeros" in text for text in source.findings)


def test_what_is_no_raw_file_has_a_remedy_that_loses_nothing(tmp_path, frames):
    path, _ = _write(tmp_path, frames)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(b"\x1f\x8b" + bytes(4000))
    with pytest.raises(InputError, match="gunzip"):
        open_rosa([packed], SHAPE)
    image = tmp_path / "das1_rosa_2025-09-03_15.21.52_0000.fit"
    fits.PrimaryHDU(frames[0]).writeto(image)
    with pytest.raises(InputError, match="primary unit") as error:
        open_rosa([image], SHAPE)
    assert "elete" not in str(error.value)


def test_a_named_pipe_is_not_waited_for(tmp_path, frames):
    import os

    pipe = tmp_path / "das1_rosa_2025-09-03_14.21.52_0001.fit"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="not a regular file"):
        open_rosa([pipe], SHAPE)


def _summed(path, frames, times):
    """A file with CHECKSUM and DATASUM in each unit."""
    units = [fits.PrimaryHDU()]
    for number, (frame, time) in enumerate(zip(frames, times, strict=True), start=1):
        units.append(_rawfiles.rosa_hdu(frame, time, number))
    fits.HDUList(units).writeto(path, checksum=True, overwrite=True)


@pytest.mark.parametrize("packed", [False, True, "GZIP_1"])
def test_files_that_carry_sums_are_verified(tmp_path, frames, packed):
    """Every single flipped bit is found, wherever it is, and what is whole is read."""
    path = tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit"
    times = _rawfiles.START + np.arange(5) * np.timedelta64(33, "ms")
    if packed:
        units = [fits.PrimaryHDU()]
        for frame, time in zip(frames, times, strict=True):
            coding = packed if isinstance(packed, str) else "RICE_1"
            units.append(fits.CompImageHDU(frame, compression_type=coding))
            units[-1].header["DATE"] = str(np.datetime64(time, "ms"))
        path = path.with_name(path.name + ".fz")
        fits.HDUList(units).writeto(path, checksum=True)
    else:
        _summed(path, frames, times)
    np.testing.assert_array_equal(open_rosa([path], SHAPE).read(0, 5), frames)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for place in rng.integers(0, len(whole), 60 if packed != "GZIP_1" else 8):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        with pytest.raises(InputError) as error:
            open_rosa([path], SHAPE).read(0, 5)
        assert error.value.file == str(path)


def test_verifying_can_be_switched_off(tmp_path, frames):
    path = tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit"
    _summed(path, frames, _rawfiles.START + np.arange(5) * np.timedelta64(33, "ms"))
    content = bytearray(path.read_bytes())
    content[content.index(b"EXPOSURE=", 2880) + 12] ^= 1
    content[-2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="extension 1"):
        open_rosa([path], SHAPE)
    assert open_rosa([path], SHAPE, verify=False).read(0, 5).shape == (5, *SHAPE)


def test_regular_files_with_sums_are_not_parsed_header_by_header(tmp_path, frames, monkeypatch):
    path = tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit"
    _summed(path, frames, _rawfiles.START + np.arange(5) * np.timedelta64(33, "ms"))
    monkeypatch.setattr(_fitsscan, "_walk", lambda *_: pytest.fail("walked"))
    assert open_rosa([path], SHAPE).sums.min() >= 0


def _packed(path, frames, coding="RICE_1"):
    units = [fits.PrimaryHDU()]
    for frame in frames:
        units.append(fits.CompImageHDU(frame, compression_type=coding))
        units[-1].header["DATE"] = "2025-09-03T14:21:52.456"
    fits.HDUList(units).writeto(path)
    return path


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ZVAL1", -32),
        ("ZVAL1", 0),
        ("ZVAL1", 10**9),
        ("PCOUNT", -5760),
        ("PCOUNT", 10**15),
        ("NAXIS1", -8),
        ("NAXIS1", 2),
        ("NAXIS2", 10**9),
        ("ZNAXIS1", 10**9),
        ("ZNAXIS2", "1E400"),
        ("ZTILE2", -1),
    ],
)
def test_impossible_codings_are_refused(tmp_path, frames, keyword, value):
    path = _packed(tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit.fz", frames)
    content = path.read_bytes()
    at = content.index(keyword.ljust(8).encode() + b"=")
    path.write_bytes(content[:at] + f"{keyword:8}= {value:>20}".ljust(80).encode() + content[at + 80 :])
    with pytest.raises(InputError) as error:
        open_rosa([path], SHAPE).read(0, 5)
    assert error.value.file == str(path)


@pytest.mark.parametrize("case", sorted(CASES.glob("*.fz")), ids=lambda case: case.name)
def test_damaged_files_in_slow_codings_are_refused(case):
    """Found by changing bytes at random; some made the library abort."""
    with pytest.raises(InputError) as error:
        source = open_rosa([case], (64, 64))
        source.read(0, source.shape[0])
    assert error.value.file == str(case)


@pytest.mark.parametrize("kind", ["abort", "hang", "flood"])
def test_a_decoder_that_dies_hangs_or_floods_damages_its_image_only(tmp_path, frames, monkeypatch, kind):
    from stillsun.io import _slowdecoder
    from stillsun.io._apart import Apart

    body = {"abort": "os.abort()", "hang": "time.sleep(60)", "flood": "sys.stdout.buffer.write(b'x' * 999)"}
    script = f"import os, sys, time; sys.stdin.buffer.read(8); {body[kind]}"
    dying = Apart("none", 0.5, 999)
    dying.command = ["python3", "-c", script]
    monkeypatch.setattr(_slowdecoder, "_decoder", dying)
    path = _packed(tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit.fz", frames, "GZIP_1")
    with pytest.raises(InputError, match="damaged"):
        open_rosa([path], SHAPE).read(0, 5)
    monkeypatch.undo()
    np.testing.assert_array_equal(open_rosa([path], SHAPE).read(0, 5), frames)


def test_lengths_that_overflow_are_refused(tmp_path, frames):
    path = _packed(tmp_path / "das1_rosa_2025-09-03_14.21.52_0000.fit.fz", frames)
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as units:
        table = units[1].fileinfo()["datLoc"]
    content[table : table + 8] = struct.pack(">ii", 2**31 - 1, 2**31 - 1)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        open_rosa([path], SHAPE).read(0, 5)
