"""Jumps of a position among noise, drift and outliers."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.core.jumps import find_jumps


def track(seed=0, n=80, noise=0.5, drift=3.0):
    time = np.linspace(0, 1, n)[:, None]
    return np.random.default_rng(seed).normal(0, noise, (n, 2)) + drift * time * [1.0, -0.5]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("row", [3, 40, 77])
def test_jump_is_found_at_its_frame(seed, row):
    positions = track(seed)
    positions[row:] += [9.0, -8.0]
    assert find_jumps(positions, 3.0) == [row]


@pytest.mark.parametrize("seed", range(5))
def test_noise_drift_and_outliers_are_no_jumps(seed):
    positions = track(seed)
    assert find_jumps(positions, 3.0) == []
    positions[[20, 50]] += 30.0
    assert find_jumps(positions, 3.0) == []


def test_two_jumps_and_gaps():
    positions = track(7)
    positions[30:] += [12.0, 0.0]
    positions[55:] += [0.0, -12.0]
    positions[28:31] = np.nan
    assert find_jumps(positions, 3.0) == [31, 55]


def test_a_jump_must_exceed_what_is_usual():
    positions = track(8, noise=3.0)
    positions[40:] += [6.0, 0.0]
    assert find_jumps(positions, 3.0) == []
    assert find_jumps(positions[:1], 3.0) == []
