"""Frame sources: in memory, and what all of them share."""

from __future__ import annotations

import numpy as np
import pytest
from tests.io import _rawfiles

from stillsun.core.batch import decode
from stillsun.io import _filesource
from stillsun.io.rosa import open_rosa
from stillsun.io.source import ArraySource, ranges_text

SHAPE = (12, 15)


@pytest.fixture
def frames():
    return np.random.default_rng(7).integers(0, 65536, (9, *SHAPE), dtype=np.uint16)


def test_frames_in_memory(frames):
    times = _rawfiles.START + np.arange(9) * np.timedelta64(33, "ms")
    source = ArraySource(frames, times, 0.01)
    assert source.shape == frames.shape
    np.testing.assert_array_equal(source.file_index, np.zeros(9))
    np.testing.assert_array_equal(source.read(2, 6), frames[2:6])
    np.testing.assert_array_equal(np.concatenate([decode(b) for b in source.blocks(1)]), frames[1:])
    assert list(source.blocks(9)) == []


def test_result_array_must_fit(frames):
    source = ArraySource(frames, np.arange(9).astype("datetime64[us]"), 0.01)
    with pytest.raises(ValueError, match="uint16"):
        source.read(0, 2, out=np.empty((2, *SHAPE), dtype=np.int32))
    with pytest.raises(ValueError, match="uint16"):
        source.read(0, 2, out=np.empty((3, *SHAPE), dtype=np.uint16))


def test_blocks_of_files_are_bounded_and_may_start_anywhere(tmp_path, frames, monkeypatch):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames, per_file=9)
    monkeypatch.setattr(_filesource, "PASS_BYTES", 2 * 2 * SHAPE[0] * SHAPE[1])
    source = open_rosa(paths, SHAPE)
    for start, stop in ((0, 9), (1, 9), (3, 4), (8, 9), (4, 4)):
        blocks = list(source.blocks(start, stop))
        assert all(block.shape[0] <= 2 for block in blocks)
        assert sum(block.shape[0] for block in blocks) == stop - start
        found = [decode(block) for block in blocks]
        np.testing.assert_array_equal(np.concatenate([frames[:0], *found]), frames[start:stop])


def test_reading_ahead_asks_for_the_right_bytes(tmp_path, frames, monkeypatch):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames, per_file=4)
    asked = []
    monkeypatch.setattr(
        _filesource.os,
        "posix_fadvise",
        lambda fd, first, length, _: asked.append((first, length)),
        raising=False,
    )
    source = open_rosa(paths, SHAPE)
    source.read_ahead(2, 6)
    # Two extensions at the end of the first file, two at the beginning of the second: headers of
    # 2880 bytes and data of 360 bytes in one block each.
    size = 2 * SHAPE[0] * SHAPE[1]
    assert asked == [(2880 * 6, 2880 * 2 + size), (2880 * 2, 2880 * 2 + size)]


def test_unreadable_file_is_named(tmp_path, frames):
    paths, _ = _rawfiles.write_rosa(tmp_path, frames)
    source = open_rosa(paths, SHAPE)
    paths[1].unlink()
    with pytest.raises(_filesource.InputError, match="cannot be read") as error:
        source.read(0, 9)
    assert error.value.file == str(paths[1])


def test_numbers_in_words():
    assert ranges_text([3, 7, 8, 9]) == "3, 7-9 (4 in all)"
    assert ranges_text(np.arange(0, 40, 2), most=3) == "0, 2, 4, … (20 in all)"
