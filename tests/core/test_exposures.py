"""What is no exposure: each kind is left out with its reason, whatever the engine."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.core.backend import get_backend
from stillsun.core.calibrate import make_correction
from stillsun.core.exposures import judge_exposures
from stillsun.io.bursts import BurstReader
from stillsun.io.source import ArraySource
from stillsun.speckle.masking.prepare import prepare
from stillsun.speckle.stack import tile_aligned_mean

CPU = get_backend("numpy", threads=1)


@pytest.fixture
def burst():
    rng = np.random.default_rng(6)
    scene = np.kron(rng.normal(1, 0.1, (10, 12)), np.ones((8, 8)))
    return (3000 * scene + rng.normal(0, 30, (12, 80, 96))).astype(np.float32)


def _spoil(burst):
    burst[1] = -40 + 0.3 * np.random.default_rng(1).normal(size=burst[1].shape)  # zeros, less the dark
    burst[3] = 3000
    burst[4, :10] = np.nan
    burst[6] *= 0.4
    burst[7] *= 3
    burst[9] = 3000 + 8 * (burst[9] - 3000)
    return burst


def test_each_reason_is_named(burst):
    judgement = judge_exposures(_spoil(burst), CPU)
    assert judgement.reasons == {
        1: "no light", 3: "constant", 4: "not finite", 6: "too faint", 7: "too bright",
        9: "contrast unlike the others",
    }  # fmt: skip
    np.testing.assert_array_equal(judgement.used, [0, 2, 5, 8, 10, 11])
    assert judgement.notes[0].startswith("6 exposures left out: 1 (no light), 3 (constant)")


def test_clouds_and_seeing_are_no_reason(burst):
    burst *= np.linspace(0.7, 1.3, 12, dtype=np.float32)[:, None, None]
    assert judge_exposures(burst, CPU).reasons == {}


def test_every_engine_leaves_out_the_same_and_keeps_the_level(burst):
    """Exposures of zeros lowered the level of the mean by their share."""
    good = burst[[0, 2, 5, 8, 10, 11]]
    spoilt = _spoil(burst.copy())
    result = tile_aligned_mean(spoilt, tile=32, backend="numpy")
    np.testing.assert_array_equal(result.image, tile_aligned_mean(good, tile=32, backend="numpy").image)
    np.testing.assert_array_equal(
        np.isnan(result.shifts).all(axis=(1, 2, 3)).nonzero()[0], [1, 3, 4, 6, 7, 9]
    )
    assert result.notes == judge_exposures(spoilt, CPU).notes
    assert prepare(spoilt, CPU).used.tolist() == [0, 2, 5, 8, 10, 11]


def test_a_raw_frame_of_one_value_is_none_after_calibration_too(burst):
    """Dark and gain give structure to zeros; a file of zeros must not pass for an exposure."""
    rng = np.random.default_rng(9)
    raw = np.clip(burst, 0, 65535).astype(np.uint16)
    raw[2], raw[5] = 0, 4000
    raw[6] = 0
    raw[6, 40, 40] = 1
    times = np.datetime64("2025-09-03T14:21:52", "us") + np.arange(12) * np.timedelta64(30, "ms")
    dark = rng.uniform(90, 110, raw.shape[1:]).astype(np.float32)
    gain = rng.uniform(0.8, 1.2, raw.shape[1:]).astype(np.float32)
    correction = make_correction(dark, gain, np.zeros(raw.shape[1:], bool), backend="numpy")
    reader = BurstReader(ArraySource(raw, times, 0.01), correction, np.array([0]), 12)
    judgement = judge_exposures(reader.read(0), CPU)
    assert judgement.reasons == {2: "no light", 5: "constant", 6: "no light"}
    part = reader.window(slice(10, 70), slice(8, 88)).read(0)
    assert judge_exposures(part, CPU).reasons == judgement.reasons
