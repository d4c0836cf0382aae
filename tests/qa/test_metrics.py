"""Figures of merit against frames whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
from tests._channels import KINDS, channel
from tests.qa._night import Night

from stillsun.qa import metrics
from stillsun.qa.metrics import dim_frames, inner_field, series_quality


@pytest.fixture
def stored(tmp_path):
    def store(night, product="destretch"):
        night.write(tmp_path, "A", (product,))
        return KINDS[product](tmp_path, "A")

    return store


def clearest(result, dim_fraction=0.0):
    """The clearest frame of a channel of which only these statistics are known."""
    return channel("A", ".", {}).clearest(
        passed_over=dim_frames(result.mean, dim_fraction), sharpness=result.sharpness
    )


def test_statistics_of_known_frames(stored):
    night = Night(5)
    night.seeing_blur = np.array([1.0, 0.1, 2.0, 0.5, 1.5])
    night.levels = np.array([1000.0, 900.0, 1000.0, 800.0, 1000.0])
    result = series_quality(stored(night))
    inner = inner_field(night.after()).astype(np.float64)
    assert result.mean == pytest.approx(inner.mean(axis=(1, 2)), rel=1e-6)
    rows, columns = night.after().shape[1:]
    centre = night.after().astype(np.float64)[
        :, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4
    ]
    assert result.contrast == pytest.approx(centre.std(axis=(1, 2)) / centre.mean(axis=(1, 2)), rel=1e-5)
    assert (clearest(result), result.worst()) == (1, 2)
    truth = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in itertools.pairwise(inner)]
    assert np.isnan(result.steadiness[0])
    assert result.steadiness[1:] == pytest.approx(truth, abs=1e-5)


def test_motion_lowers_steadiness(stored):
    night = Night(8)
    night.seeing_blur[:] = 0.5
    moved, still = (series_quality(stored(night, p)) for p in ("speckle", "destretch"))
    assert np.nanmean(still.steadiness) > 0.999
    assert np.nanmean(moved.steadiness) < 0.8


def test_frames_in_pieces_give_the_same(stored, monkeypatch):
    store = stored(Night(7))
    whole, seen = series_quality(store), []
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", 2 * 4 * 96 * 128)
    pieces = series_quality(store, lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(pieces.steadiness, whole.steadiness)
    np.testing.assert_array_equal(pieces.sharpness, whole.sharpness)
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_rim_does_not_count(stored):
    night = Night(2)
    plain = series_quality(stored(night))
    night.scene[:5] = 30.0
    night.scene = scipy.ndimage.shift(night.scene, 0)
    night.seeing_blur[:] = [0.01, 0.01]
    rimmed = series_quality(stored(night))
    assert rimmed.contrast[1] == pytest.approx(0.12, rel=0.1)
    assert plain.contrast[1] < rimmed.contrast[1]


def test_dim_noisy_frame_is_not_the_clearest(stored):
    night = Night(5)
    night.levels[2] = 300.0
    night.seeing_blur[:] = [1.0, 0.6, 0.01, 1.0, 1.0]
    result = series_quality(stored(night))
    assert clearest(result) == 2
    assert clearest(result, dim_fraction=0.7) == 1


def test_damaged_frame_is_passed_over(stored):
    night = Night(4)
    night.levels[3] = np.nan
    result = series_quality(stored(night))
    assert np.isnan(result.sharpness[3])
    assert clearest(result) == 2


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ([10.0, 10.0, 6.0, 10.0], [2]),
        ([10.0, 9.0, 8.0], []),
        ([np.nan, np.nan], []),
        ([10.0, np.nan, 10.0, 1.0], [3]),
    ],
)
def test_dim_frames(mean, expected):
    assert dim_frames(np.array(mean), 0.7).tolist() == expected
