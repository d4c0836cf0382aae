"""The yardstick of flows kept measures what it says."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndimage
from scripts.bench.flow_series import FlowSeries, cells, wandering

SHAPE = (120, 128)
COUNT = 40


@pytest.fixture(scope="module")
def scene():
    return ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((260, 260)), 2.0, mode="wrap")


@pytest.mark.parametrize("life", [None, 30])
def test_perfect_correction_leaves_flow_and_nothing_else(scene, life):
    series = FlowSeries(scene, wandering(SHAPE, 0.05, 40), 0.8, life)
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)

    def perfect(number):
        push, field = series.push(number), 0.0
        for _ in range(8):
            at = grid - field
            field = np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in push])
        return field

    found = series.judge(map(perfect, range(COUNT)))
    assert found.survival == pytest.approx(1, abs=0.01)
    assert found.jitter < 0.01
    assert found.swim < 0.01


def test_no_correction_leaves_flow_and_seeing(scene):
    series = FlowSeries(scene, wandering(SHAPE, 0.05, 40), 0.8)
    found = series.judge([np.zeros((2, *SHAPE))] * COUNT)
    assert found.jitter == pytest.approx(0.8, rel=0.2)
    assert found.swim == pytest.approx(0.8 / np.sqrt(10), rel=0.4)
    # What holds the pattern still takes the flow away.
    held = [series.push(n) - n * series.flow for n in range(COUNT)]
    assert series.judge(held).survival == pytest.approx(0, abs=0.15)


def test_pattern_moves_with_the_flow_and_is_replaced(scene):
    flow = np.zeros((2, *SHAPE))
    flow[1] = 0.25

    def sun(series, number):
        pointing = series.push(number).mean(axis=(1, 2))
        return ndimage.shift(series.frame(number)[0], pointing, order=3, mode="nearest")

    def likeness(series):
        expected = ndimage.shift(sun(series, 0), (0, 20 * 0.25), order=3, mode="nearest")
        inner = np.s_[16:-16, 16:-16]
        return np.corrcoef(expected[inner].ravel(), sun(series, 20)[inner].ravel())[0, 1]

    assert likeness(FlowSeries(scene, flow, 0.0, noise=0)) > 0.99
    assert likeness(FlowSeries(scene, flow, 0.0, life=200, noise=0)) > 0.8
    assert abs(likeness(FlowSeries(scene, flow, 0.0, life=20, noise=0))) < 0.3


def test_cells_flow_out_of_their_middle_into_their_edges():
    flow = cells((96, 96), 0.03, 48)
    assert flow.std() == pytest.approx(0.03)
    divergence = np.gradient(flow[0], axis=0) + np.gradient(flow[1], axis=1)
    assert divergence[48, 48] == divergence.max()
    assert divergence[0:48, 24].min() < -0.001
