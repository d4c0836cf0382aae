"""Lattice and tiles."""

import numpy as np
import pytest
from tests.fakes.device import open_device

from stillsun.core.backend import get_backend
from stillsun.core.tiles import alignment, gather, lattice, window
from stillsun.errors import ConfigError

CPU = get_backend("numpy", threads=2)
GENERIC = open_device()


@pytest.mark.parametrize("kernel", [4, 5, 6, 12, 13, 16, 32, 33, 50, 64, 128, 300])
@pytest.mark.parametrize("shape", [(200, 313), (64, 64), (20, 500), (1002, 1004)])
def test_tiles_cover_the_frame_and_overlap_by_half(shape, kernel):
    points = lattice(shape, kernel)
    assert points.shape == shape
    for size, axis in zip(shape, (points.y, points.x), strict=True):
        last = axis.start + (axis.count - 1) * axis.step + kernel
        assert axis.start <= 0
        assert last >= size
        # No tile lies so far out that its neighbour does its work.
        assert -axis.start < max(axis.step, kernel - size + alignment(kernel))
        assert abs(axis.step - kernel / 2) < alignment(kernel)
        assert axis.start % alignment(kernel) == 0
        assert axis.step % alignment(kernel) == 0


def test_kernel_larger_than_frame_is_one_tile():
    assert lattice((60, 70), 128).count == (1, 1)


def test_too_small_kernel_is_refused():
    with pytest.raises(ConfigError, match="tile too small"):
        lattice((100, 100), 3)


def test_interpolation_between_control_points():
    axis = lattice((100, 100), 20).x
    first, weights = axis.at(np.arange(-50, 150.0))
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    # A parabola is met exactly between inner control points, and held beyond the last.
    values = (0.1 * axis.centres) ** 2
    points = np.clip(first + np.arange(-1, 3)[:, None], 0, axis.count - 1)
    found = (weights * values[points]).sum(axis=0)
    places = np.arange(-50, 150.0)
    inner = (places > axis.centres[1]) & (places < axis.centres[-2])
    np.testing.assert_allclose(found[inner], (0.1 * places[inner]) ** 2, atol=1e-4)
    assert found[0] == pytest.approx(values[0])
    assert found[-1] == pytest.approx(values[-1])


def test_gather_is_the_plain_statement():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((40, 50)).astype(np.float32)
    image[:, :7] = np.nan
    image[20, 20] = np.nan
    other = rng.standard_normal((40, 50)).astype(np.float32)
    other[:3] = np.nan
    starts_y, starts_x = np.array([-5, 10, 15, 36]), np.array([-3, 12, 4, 44])
    weights = window(12, 3)
    tiles, share = gather((image, other), starts_y, starts_x, weights, CPU)
    for t in range(4):
        values, present = np.zeros((2, 12, 12)), np.zeros((12, 12), bool)
        for i in range(12):
            for j in range(12):
                y, x = starts_y[t] + i, starts_x[t] + j
                if 0 <= y < 40 and 0 <= x < 50 and np.isfinite(image[y, x] + other[y, x]):
                    present[i, j], values[:, i, j] = True, (image[y, x], other[y, x])
        for k in range(2):
            mean = (values[k] * weights)[present].sum() / weights[present].sum()
            expected = np.where(present, values[k] - mean, 0) * weights
            np.testing.assert_allclose(tiles[k, t], expected, atol=1e-5)
        assert share[t] == pytest.approx(weights[present].sum() / weights.sum(), abs=1e-5)
    again, same = gather((image, other), starts_y, starts_x, weights, GENERIC)
    np.testing.assert_allclose(again, tiles, atol=1e-5)
    np.testing.assert_allclose(same, share, atol=1e-5)
