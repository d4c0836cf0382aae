"""One image laid on another, and the offset that remains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stillsun.core.registration.offset import lay_on, remaining_offset
from stillsun.errors import InputError

SCALE, OTHER = (0.06, 0.062), (0.084, 0.081)
STEP = 0.05


@pytest.fixture(scope="module")
def sun():
    """Structure of granules; periodic, sampled every 0.05 arcsec."""
    noise = np.random.default_rng(1).standard_normal((640, 640))
    noise = ndimage.gaussian_filter(noise, 0.35 / STEP, mode="wrap")
    return noise / noise.std()


def see(sun, shape, scale, translation=(0.0, 0.0), rotation_deg=0.0):
    """Image of a camera that lies so on the scene."""
    y, x = (s * (np.arange(n) - (n - 1) / 2) for n, s in zip(shape, scale[::-1], strict=True))
    x, y = x[None, :], y[:, None]
    a = np.radians(rotation_deg)
    u = translation[0] + np.cos(a) * x - np.sin(a) * y
    v = translation[1] + np.sin(a) * x + np.cos(a) * y
    return 10 + ndimage.map_coordinates(sun, [v / STEP + 320, u / STEP + 320], order=3, mode="grid-wrap")


def test_laid_image_is_the_reference(sun):
    fixed = see(sun, (200, 220), SCALE)
    moving = see(sun, (170, 160), OTHER, (0.7, -0.4), 1.3)
    laid = lay_on(fixed.shape, SCALE, moving, OTHER, (0.7, -0.4), 1.3, "numpy")
    inside = np.isfinite(laid)
    assert 0.6 < inside.mean() < 1.0
    hole = moving.copy()
    hole[:30] = np.nan
    left = np.isfinite(lay_on(fixed.shape, SCALE, hole, OTHER, (0.7, -0.4), 1.3, "numpy"))
    assert 0.75 < left.sum() / inside.sum() < 0.9
    assert not (left & ~inside).any()
    assert np.abs(laid - fixed)[inside].std() < 0.005
    offset = remaining_offset(fixed, laid, SCALE, backend="numpy")
    assert offset.accepted
    np.testing.assert_allclose(offset.shift, 0.0, atol=0.001)


@pytest.mark.parametrize("wrong", [(0.35, -0.2), (-1.1, 0.6)])
def test_offset_is_that_of_the_content(sun, wrong):
    fixed = see(sun, (200, 220), SCALE)
    moving = see(sun, (190, 180), OTHER, np.array([0.7, -0.4]), 1.3)
    # Laid as if it were elsewhere, its content lies off by as much.
    laid = lay_on(fixed.shape, SCALE, moving, OTHER, np.array([0.7, -0.4]) + wrong, 1.3, "numpy")
    offset = remaining_offset(fixed, laid, SCALE, backend="numpy")
    assert offset.accepted
    np.testing.assert_allclose(offset.shift, wrong, atol=0.001)


def test_stated_error_is_that_of_the_offset(sun):
    fixed = see(sun, (200, 200), SCALE)
    off = []
    for seed in range(6):
        other = ndimage.gaussian_filter(np.random.default_rng(seed + 10).standard_normal((200, 200)), 5.0)
        laid = fixed + 0.8 * other / other.std()
        offset = remaining_offset(fixed, laid.astype(np.float32), SCALE, backend="numpy")
        assert offset.accepted
        off.append(np.array(offset.shift) / offset.error)
    assert 0.7 < np.sqrt(np.mean(np.square(off))) < 1.4


def test_images_without_common_structure_are_refused(sun):
    fixed = see(sun, (200, 200), SCALE)
    assert not remaining_offset(fixed, np.rot90(fixed).copy(), SCALE, backend="numpy").accepted
    with pytest.raises(InputError, match="hardly overlap"):
        remaining_offset(fixed, np.full((200, 200), np.nan), SCALE, backend="numpy")
