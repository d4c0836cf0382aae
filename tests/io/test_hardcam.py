"""HARDcam spool files: order, overscan, missing and damaged files, times."""

from __future__ import annotations

import numpy as np
import pytest
from tests.io import _rawfiles

from stillsun.errors import InputError
from stillsun.io.hardcam import open_hardcam, spool_number

SHAPE = (24, 24)
INTERVAL = 0.0294


@pytest.fixture
def frames():
    return np.random.default_rng(2).integers(0, 65536, (23, *SHAPE), dtype=np.uint16)


def _open(paths, **changes):
    options = {"start": _rawfiles.START, "interval_s": INTERVAL, "exposure_s": INTERVAL} | changes
    return open_hardcam(paths, options.pop("shape", SHAPE), **options)


def _expected_times(numbers):
    return [_rawfiles.START + np.timedelta64(round(n * INTERVAL * 1e6), "us") for n in numbers]


def test_number_is_written_backwards(tmp_path):
    assert spool_number(tmp_path / "0000000000spool.dat") == 0
    assert spool_number(tmp_path / "0100000000spool.dat") == 10
    assert spool_number(tmp_path / "9875000000spool.dat") == 5789
    with pytest.raises(InputError, match="spool"):
        spool_number(tmp_path / "0100000000spool.dat.gz")


@pytest.mark.parametrize("junk", [0, 65535])
def test_order_and_overscan(tmp_path, frames, junk):
    paths = _rawfiles.write_hardcam(tmp_path, frames, junk=junk)
    assert sorted(paths) != paths
    source = _open(sorted(paths))
    assert source.shape == frames.shape
    np.testing.assert_array_equal(source.read(0, 23), frames)
    np.testing.assert_array_equal(source.read(9, 12), frames[9:12])
    np.testing.assert_array_equal(source.start_times, _expected_times(range(23)))
    assert source.findings == ()


def test_declared_file_shape(tmp_path, frames):
    paths = _rawfiles.write_hardcam(tmp_path, frames, overscan=(0, 3))
    source = _open(paths, file_shape=(24, 27))
    np.testing.assert_array_equal(source.read(0, 23), frames)


def test_frames_after_missing_and_truncated_files_keep_their_time(tmp_path, frames):
    paths = _rawfiles.write_hardcam(tmp_path, frames)
    for number in (3, 4, 11):
        paths[number].unlink()
    paths[7].write_bytes(paths[7].read_bytes()[:-2])
    numbers = [n for n in range(23) if n not in (3, 4, 7, 11)]
    source = _open([p for p in paths if p.exists()])
    np.testing.assert_array_equal(source.read(0, 19), frames[numbers])
    np.testing.assert_array_equal(source.start_times, _expected_times(numbers))
    text = "\n".join(source.findings)
    assert "frames 3-4, 11 (3 in all)" in text
    assert str(paths[7]) in text


def test_without_a_start_there_are_no_times(tmp_path, frames):
    source = _open(_rawfiles.write_hardcam(tmp_path, frames), start=None)
    assert np.isnat(source.start_times).all()


def test_groups_of_frames_with_pauses_between(tmp_path, frames):
    """Filament runs: some frames in one go, a pause, and again; missing files change no time."""
    paths = _rawfiles.write_hardcam(tmp_path, frames)
    for number in (5, 13, 14):
        paths[number].unlink()
    source = _open([p for p in paths if p.exists()], group_frames=8, group_interval_s=61.5)
    numbers = np.delete(np.arange(23), [5, 13, 14])
    seconds = numbers // 8 * 61.5 + numbers % 8 * INTERVAL
    expected = _rawfiles.START + np.rint(seconds * 1e6).astype("timedelta64[us]")
    np.testing.assert_array_equal(source.start_times, expected)
    assert any("5, 13-14 (3 in all)" in finding for finding in source.findings)


def test_windows_and_dead_pixels_that_look_like_overscan(tmp_path, frames):
    """A window is read as declared; the size of the file tells which it could be."""
    dark = frames.copy()
    dark[:, 20:] = 0
    dark[:, :, 21:] = 0
    source = _open(_rawfiles.write_hardcam(tmp_path, dark))
    np.testing.assert_array_equal(source.read(0, 23), dark)
    with pytest.raises(InputError, match=r"24 x 24 pixels with overscan.*camera\.shape"):
        _open(sorted(tmp_path.glob("*.dat")), shape=(2048, 2048))


def test_wrong_shape_and_doubled_numbers_are_refused(tmp_path, frames):
    paths = _rawfiles.write_hardcam(tmp_path, frames)
    with pytest.raises(InputError, match=r"2688 bytes.*camera\.shape"):
        _open(paths, shape=(30, 30))
    other = tmp_path / "other"
    other.mkdir()
    more = paths + _rawfiles.write_hardcam(other, frames[:3])
    with pytest.raises(InputError, match="several directories"):
        _open(more)
    # Darks and flats from before and after have no times that could be wrong.
    both = _open(more, start=None)
    np.testing.assert_array_equal(both.read(0, 26), np.concatenate([frames[:23], frames[:3]]))
    assert both.findings == ()
    with pytest.raises(InputError, match="two files with the number 0"):
        _open([*paths, tmp_path / "000spool.dat"])
    with pytest.raises(InputError, match="no spool files"):
        _open([])
