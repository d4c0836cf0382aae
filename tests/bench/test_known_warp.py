"""The yardstick itself: its truth brings the frame back."""

import numpy as np
import pytest
import scipy.ndimage as ndimage
from scripts.bench.known_warp import known_warp


@pytest.fixture(scope="module")
def pair():
    noise = np.random.default_rng(0).standard_normal((260, 280))
    frame = np.full((260, 280), 40.0)
    scene = ndimage.gaussian_filter(noise, 2.0, mode="wrap")
    frame[10:-10, 12:-12] = (50 + 5 * scene / scene.std())[10:-10, 12:-12]
    return known_warp(frame, 4, rms=1.0, noise=0.0, change=0.0)


def test_truth_brings_the_frame_back(pair):
    grid = np.mgrid[:260, :280].astype(float)
    back = ndimage.map_coordinates(
        pair.distorted.astype(float), grid - pair.displacement, order=5, mode="nearest"
    )
    y0, y1, x0, x1 = pair.box
    assert (y0, y1, x0, x1) == (22, 238, 24, 256)
    inner = np.s_[y0 + 16 : y1 - 16, x0 + 16 : x1 - 16]
    error = (back - pair.clean)[inner].std()
    assert error < 0.02 * pair.clean[inner].std()
    assert error < 0.05 * (pair.distorted - pair.clean)[inner].std()


def test_figures_are_those_of_the_truth(pair):
    assert pair.residual(pair.displacement) == 0
    off = pair.displacement + np.array([0.3, -0.3])[:, None, None]
    assert pair.residual(off, outer=4) == pytest.approx(0.3)
    assert pair.displacement[0].mean() == pytest.approx(4.37, abs=0.1)
    assert pair.displacement[1].mean() == pytest.approx(-2.71, abs=0.1)
    power, coherent = pair.fine_power(pair.undistorted, 0.25)
    assert power == pytest.approx(1)
    assert coherent == pytest.approx(1, abs=1e-3)
