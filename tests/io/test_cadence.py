"""Groups of frames told by the times of their files."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.io.cadence import find_cadence


def _written(numbers, size=64, interval=60.0, seed=0):
    """Times of files: 0.03 s a frame, up to a tenth of a second late."""
    late = np.random.default_rng(seed).uniform(0, 0.02, numbers.size)
    return 1.7e9 + interval * (numbers // size) + 0.03 * (numbers % size) + late


@pytest.mark.parametrize(("size", "interval"), [(64, 60.0), (32, 20.5)])
def test_frames_and_interval_are_found(size, interval):
    numbers = np.arange(5 * size + 7)
    found = find_cadence(numbers, _written(numbers, size, interval))
    assert (found.frames, found.groups, found.clear) == (size, 6, True)
    assert found.interval_s == pytest.approx(interval, abs=0.01)
    assert found.scatter_s < 0.05


def test_missing_files_do_no_harm():
    # First and last frames of groups among them.
    numbers = np.delete(np.arange(640), [0, 5, 63, 128, 129, 200, 447])
    found = find_cadence(numbers, _written(numbers))
    assert (found.frames, found.groups, found.clear) == (64, 10, True)
    assert found.interval_s == pytest.approx(60.0, abs=0.01)


def test_two_groups_are_doubtful_and_irregular_ones_too():
    numbers = np.arange(128)
    assert not find_cadence(numbers, _written(numbers)).clear
    numbers = np.arange(320)
    times = _written(numbers)
    times[128:] += 9
    found = find_cadence(numbers, times)
    assert found.frames == 64
    assert not found.clear
    assert "doubtful" in str(found)


@pytest.mark.parametrize("stalls", [(), (100, 233), (100, 250), (511,), (200, 400)])
def test_a_run_without_pauses_is_no_clear_cadence(stalls):
    """Disks stall: the files of a steady run are late by then, once or twice."""
    numbers = np.arange(700)
    times = _written(numbers, size=1000)
    for stall in stalls:
        times[stall:] += 3
    found = find_cadence(numbers, times)
    assert found is None or not found.clear


def test_a_copy_that_lost_the_times_tells_nothing():
    assert find_cadence(np.arange(300), np.full(300, 1.7e9)) is None
    assert find_cadence([0], [1.7e9]) is None
