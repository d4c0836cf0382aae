"""Averages without the frames that are off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillsun.core.backend import get_backend
from stillsun.core.batch import raw_block
from stillsun.core.statistics import average_frames, pooled
from stillsun.errors import InputError

SHAPE = (37, 41)


@pytest.fixture
def frames():
    return np.random.default_rng(5).normal(4000, 40, (90, *SHAPE)).astype(np.uint16)


def _average(frames, backend=None, **options):
    reads = []

    def read(start, stop):
        reads.append((start, stop))
        return raw_block(frames[start:stop]).split(7)

    return average_frames(read, len(frames), backend=backend or get_backend("numpy"), **options), reads


@pytest.mark.parametrize("threads", [1, 2])
def test_off_and_saturated_frames_are_taken_out_exactly(frames, threads):
    frames[4] //= 2
    frames[50:53] += 300
    frames[70, :, 5:] = 16383
    result, reads = _average(frames, get_backend("numpy", threads=threads), saturation=16383)
    assert result.outliers == (4, 50, 51, 52)
    assert result.saturated == (70,)
    assert result.frames == 85
    rest = np.delete(frames, [4, 50, 51, 52, 70], axis=0)
    np.testing.assert_array_equal(result.mean, rest.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(result.variance, rest.var(axis=0, ddof=1, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(result.levels, frames[:, ::8].mean(axis=(1, 2)))
    # One pass over all, and the refused ones once more.
    assert reads == [(0, 90), (4, 5), (50, 51), (51, 52), (52, 53), (70, 71)]


def test_drift_steps_and_noise_are_kept(frames):
    drift = np.linspace(1, 0.8, len(frames))
    step = np.where(np.arange(len(frames)) < 60, 1, 0.7)
    for light in (1, drift, step):
        changed = (frames * np.reshape(light, (-1, 1, 1))).astype(np.uint16)
        result, _ = _average(changed)
        assert result.outliers == ()
        assert result.frames == 90
    few, _ = _average(frames[:4])
    assert few.frames == 4


def test_one_saturated_pixel_harms_nothing_and_all_saturated_is_refused(frames):
    frames[3, 0, 0] = 65535
    assert _average(frames, saturation=65535)[0].saturated == ()
    with pytest.raises(InputError, match="all frames are saturated"):
        _average(np.full((6, *SHAPE), 65535, np.uint16), saturation=65535)


def test_plain_arrays_and_compiled_loops_agree(frames):
    frames[12] //= 3
    compiled, _ = _average(frames)
    plain, _ = _average(frames, replace(get_backend("numpy"), is_gpu=True))
    np.testing.assert_array_equal(plain.mean, compiled.mean)
    np.testing.assert_allclose(plain.levels, compiled.levels)
    assert plain.outliers == compiled.outliers == (12,)


def test_sequences_are_pooled_without_what_changed_between_them(frames):
    first, second = frames[:30], frames[30:] + np.uint16(500)
    second[7] += 900
    parts = [_average(values)[0] for values in (first, second)]
    both = pooled(parts)
    rest = np.delete(second, 7, axis=0)
    together = np.concatenate([first, rest]).astype(np.float64)
    assert both.frames == 89
    assert both.outliers == (37,)
    assert both.levels.size == 90
    np.testing.assert_allclose(both.mean, together.mean(axis=0))
    within = (29 * first.var(axis=0, ddof=1) + 58 * rest.var(axis=0, ddof=1)) / 87
    np.testing.assert_allclose(both.variance, within, rtol=1e-9)
    assert pooled(parts[:1]) is parts[0]
