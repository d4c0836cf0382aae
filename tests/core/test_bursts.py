"""Frame times to bursts."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.core.bursts import burst_times, find_bursts, unix_seconds
from stillsun.errors import InputError

START = np.datetime64("2025-09-03T14:21:52.456", "us")


def _times(seconds):
    return START + np.rint(np.asarray(seconds) * 1e6).astype("timedelta64[us]")


def test_regular_sequence():
    index = find_bursts(_times(np.arange(64) * 0.0333), 16)
    np.testing.assert_array_equal(index.first, [0, 16, 32, 48])
    assert len(index) == 4
    assert index.frames == 16
    assert index.cadence_s == pytest.approx(0.0333)
    assert (index.gaps, index.dropped, index.findings) == ((), 0, ())


def test_remainder_is_left_out_and_said():
    index = find_bursts(_times(np.arange(37) * 0.0333), 16)
    assert len(index) == 2
    assert index.dropped == 5
    assert len(index.findings) == 1
    assert "5 frames from frame 32" in index.findings[0]
    assert "2025-09-03T14:21:53.521" in index.findings[0]


def test_no_burst_reaches_across_a_gap():
    seconds = np.arange(40) * 0.1
    seconds[10:] += 5.0
    seconds[30:] -= 60.0
    index = find_bursts(_times(seconds), 8)
    np.testing.assert_array_equal(index.first, [0, 10, 18, 30])
    assert index.gaps == (10, 30)
    assert index.dropped == 2 + 4 + 2
    text = " ".join(index.findings)
    assert "before frame 10: 5.100 s" in text
    assert "before frame 30" in text


def test_bursts_with_a_minute_between_them():
    seconds = (np.arange(3)[:, None] * 60 + np.arange(64) * 0.0294).ravel()
    index = find_bursts(_times(seconds), 64)
    np.testing.assert_array_equal(index.first, [0, 64, 128])
    assert index.dropped == 0


def test_many_pauses_are_counted_and_not_all_described():
    seconds = (np.arange(45)[:, None] * 60 + np.arange(10) * 0.0294).ravel()
    index = find_bursts(_times(seconds), 8)
    assert len(index) == 45
    assert index.dropped == 90
    assert len(index.gaps) == 44
    assert len(index.findings) == 18
    assert "36 more interruptions" in index.findings[8]
    assert "37 more remainders" in index.findings[17]


@pytest.mark.parametrize(("max_gap", "bursts"), [(1.5, 4), (2.5, 5)])
def test_a_missing_frame_interrupts_only_where_it_should(max_gap, bursts):
    seconds = np.delete(np.arange(41), 10) * 0.1
    assert len(find_bursts(_times(seconds), 8, max_gap=max_gap)) == bursts


def test_jitter_is_no_gap():
    rng = np.random.default_rng(0)
    seconds = np.arange(64) * 0.0333 + rng.uniform(-0.008, 0.008, 64)
    assert len(find_bursts(_times(seconds), 16)) == 4


def test_too_few_frames_are_refused():
    with pytest.raises(InputError, match=r"64 frames.*40 of 40"):
        find_bursts(_times(np.arange(40) * 0.1), 64)
    with pytest.raises(InputError, match="0 of 0"):
        find_bursts(_times([]), 64)


def test_times_of_bursts():
    times = _times(np.arange(32) * 0.1)
    begin, end, average = burst_times(times, 0.02, find_bursts(times, 16))
    start = START.astype(np.int64) / 1e6
    np.testing.assert_allclose(begin - start, [0.0, 1.6], atol=1e-6)
    np.testing.assert_allclose(end - start, [1.52, 3.12], atol=1e-6)
    np.testing.assert_allclose(average - start, [0.76, 2.36], atol=1e-6)


def test_unix_seconds():
    assert unix_seconds(np.datetime64("1970-01-01T00:00:01.5")) == 1.5
    assert unix_seconds(START) == pytest.approx(1756909312.456, abs=1e-6)


def test_exposures_with_equal_times_are_named():
    times = np.repeat(np.datetime64("2025-09-03T14:21:52", "us") + np.arange(3) * np.timedelta64(1, "s"), 30)
    with pytest.raises(InputError, match=r"time of the one before.*fractions of a second"):
        find_bursts(times, 16)
    times[7] = np.datetime64("NaT")
    with pytest.raises(InputError, match="without a time; found 1 of 90"):
        find_bursts(times, 16)
