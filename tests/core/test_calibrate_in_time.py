"""Corrections between sequences of darks and flats, against the formula in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes.device import device

from stillsun.core.backend import get_backend, to_host
from stillsun.core.batch import raw_block
from stillsun.core.calibrate import correct_frames, gain_table, make_correction, response_table
from stillsun.core.calibrate_in_time import between, make_drifting

SHAPE = (23, 31)
DARK_TIMES = np.array([1000.0, 5000.0, 9000.0])
FLAT_TIMES = np.array([1500.0, 8500.0])


@pytest.fixture
def maps():
    rng = np.random.default_rng(8)
    darks = rng.normal(300, 30, (3, *SHAPE)).astype(np.float32)
    responses = rng.normal(1, 0.1, (2, *SHAPE)).astype(np.float32)
    responses[:, 4, 5] = 0
    return darks, responses


def _drifting(maps, backend):
    bad = np.zeros(SHAPE, dtype=np.uint8)
    bad[4, 5] = 1
    darks, responses = maps
    return make_drifting(darks, DARK_TIMES, responses, FLAT_TIMES, bad, backend=backend)


@pytest.fixture(params=["compiled", "device"])
def drifting(request, maps):
    return _drifting(maps, device() if request.param == "device" else get_backend("numpy", threads=2))


@pytest.mark.parametrize(
    ("seconds", "dark", "flat"),
    [
        (-5e9, (0, 0, 0.0), (0, 0.0)),
        (1000.0, (0, 0, 0.0), (0, 0.0)),
        (2000.0, (0, 1, 0.25), (0, 1 / 14)),
        (5000.0, (1, 1, 0.0), (0, 0.5)),
        (8000.0, (1, 2, 0.75), (0, 13 / 14)),
        (5e9, (2, 2, 0.0), (1, 0.0)),
    ],
)
def test_dark_and_response_change_linearly_in_time(drifting, maps, seconds, dark, flat):
    darks, responses = (values.astype(np.float64) for values in maps)
    correction = drifting.at(seconds)
    found_dark, found_gain = to_host(correction.dark), to_host(correction.gain)
    first, second, share = dark
    np.testing.assert_allclose(found_dark, darks[first] + share * (darks[second] - darks[first]), rtol=1e-6)
    begin, part = flat
    response = responses[begin] + part * (responses[-1] - responses[begin])
    expected = np.divide(1, response, out=np.zeros(SHAPE), where=response > 0)
    np.testing.assert_allclose(found_gain, expected, rtol=1e-6)
    assert found_gain[4, 5] == 0
    assert found_dark.dtype == found_gain.dtype == np.float32
    np.testing.assert_allclose(between(maps[0], DARK_TIMES, seconds), found_dark, rtol=1e-6)


def test_both_branches_give_the_same_bits(maps):
    host, other = (_drifting(maps, backend) for backend in (get_backend("numpy", threads=2), device()))
    rows, columns = slice(2, 19), slice(3, 30)
    for one, two in ((host, other), (host.crop(rows, columns), other.crop(rows, columns))):
        for seconds in (0.0, 1700.0, 6543.21):
            np.testing.assert_array_equal(one.at(seconds).dark, to_host(two.at(seconds).dark))
            np.testing.assert_array_equal(one.at(seconds).gain, to_host(two.at(seconds).gain))


def test_at_a_sequence_it_is_the_correction_of_that_sequence():
    rng = np.random.default_rng(3)
    dark, flat = rng.normal(300, 9, SHAPE), rng.normal(9000, 500, SHAPE)
    bad = rng.random(SHAPE) < 0.02
    frames = rng.integers(300, 9000, (4, *SHAPE), dtype=np.uint16)
    drifting = make_drifting(
        np.array([dark, dark + 50]),
        [0.0, 9.0],
        np.array([response_table(flat, dark)]),
        [4.0],
        bad,
        backend="numpy",
    )
    plain = make_correction(dark, gain_table(flat, dark), bad, backend="numpy")
    assert plain.at(123.0) is plain
    expected = correct_frames([raw_block(frames)], plain)
    np.testing.assert_allclose(
        correct_frames([raw_block(frames)], drifting.at(0.0)), expected, rtol=1e-5, atol=1e-2
    )
    rows, columns = slice(3, 20), slice(5, 30)
    part = correct_frames([raw_block(frames).window(rows, columns)], drifting.crop(rows, columns).at(6.0))
    whole = correct_frames([raw_block(frames)], drifting.at(6.0))[:, rows, columns]
    inner = ~bad[rows, columns]
    np.testing.assert_array_equal(part[:, inner], whole[:, inner])
