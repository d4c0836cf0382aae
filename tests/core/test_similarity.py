"""Two images of one target: offset, rotation and error against truth, and refusal where nothing matches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stillsun.core.backend import get_backend
from stillsun.core.registration.overlap import _masked_correlation
from stillsun.core.registration.similarity import match_images
from stillsun.errors import InputError


def target(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Groups of three bars in two directions at many scales, scattered over 60 arcsec."""
    places = np.random.default_rng(5)
    value = np.ones_like(x)
    for group in range(6):
        size = 12 * 0.62**group
        left, bottom = places.uniform(-30, 30, 2)
        for k in range(3):
            bars = (
                (left + 0.8 * k * size, bottom, 0.2 * size, size),
                (left, bottom - (2.5 - 0.8 * k) * size, size, 0.2 * size),
            )
            for cx, cy, width, height in bars:
                inside = [
                    0.5 - 0.5 * np.tanh((np.abs(v - c) - h) / 0.16)
                    for v, c, h in ((x, cx, width), (y, cy, height))
                ]
                value = value * (1 - 0.9 * inside[0] * inside[1])
    return value


def seen(shape, scale, translation=(0.0, 0.0), rotation_deg=0.0, blur=0.8, noise=0.02, seed=0):
    """The target as a channel sees it."""
    y, x = np.indices(shape).astype(float)
    qx, qy = (x - (shape[1] - 1) / 2) * scale[0], (y - (shape[0] - 1) / 2) * scale[1]
    a = np.radians(rotation_deg)
    ux = translation[0] + np.cos(a) * qx - np.sin(a) * qy
    uy = translation[1] + np.sin(a) * qx + np.cos(a) * qy
    image = ndimage.gaussian_filter(target(ux, uy), blur)
    return image + np.random.default_rng(seed).normal(0, noise, shape)


@pytest.mark.parametrize(
    ("shape", "scale", "translation", "rotation"),
    [
        ((250, 251), (0.384, 0.376), (6.31, -3.87), 0.734),
        ((260, 240), (0.30, 0.31), (-5.0, 4.0), -1.3),
        ((300, 300), (0.336, 0.3372), (0.0, 0.0), 0.0),
    ],
)
def test_known_geometry_comes_back(shape, scale, translation, rotation):
    reference = 3000 * seen((300, 300), (0.336, 0.3372), seed=1)
    light = 1 + 0.2 * (np.arange(shape[1]) / shape[1] - 0.5)
    image = 0.6 * light * seen(shape, scale, translation, rotation, blur=1.0, seed=2)
    match = match_images(reference, image, (0.336, 0.3372), scale, backend="numpy")
    assert match.accepted, match.faults
    off = np.subtract(match.translation, translation)
    # A twentieth of a pixel, and no more than three of its own standard errors.
    assert np.hypot(*off) < 0.05 * 0.336
    assert np.all(np.abs(off) < 3 * np.array(match.error) + 1e-3)
    assert match.rotation_deg == pytest.approx(rotation, abs=0.015)
    assert match.correlation > 0.95
    # With the best gain and level what is left is what is not correlated.
    assert match.residual == pytest.approx(np.sqrt(1 - match.correlation**2), rel=0.02)
    # Nor are those much larger than they need be.
    assert np.hypot(*match.error) < 4 * np.hypot(*off)


def test_correlation_at_an_offset_is_that_of_the_pixels_in_common():
    backend = get_backend("numpy", threads=1)
    rng = np.random.default_rng(6)
    shape, size = (24, 30), (48, 60)
    mask_one, mask_two = np.ones(shape), np.ones(shape)
    mask_one[:5, :9] = mask_two[15:, 22:] = 0
    scene = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2.0)
    # Means and scatter that differ between the parts in common.
    one = 3 + 9 * scene[4:28, 6:36] + 0.1 * np.arange(30)
    two = -2 + 4 * scene[7:31, 4:34] + 0.05 * np.arange(24)[:, None]

    def transforms(image, mask):
        return [backend.fft.rfft2(a, s=size) for a in (mask, image * mask, image**2 * mask)]

    fixed = [np.conj(f) for f in transforms(one, mask_one)]
    found = _masked_correlation(fixed, transforms(two, mask_two), size, backend)
    for down, across in ((0, 0), (-3, 2), (5, -4), (-9, 7), (6, 11)):
        rows = slice(max(0, -down), min(24, 24 - down)), slice(max(0, down), min(24, 24 + down))
        columns = slice(max(0, -across), min(30, 30 - across)), slice(max(0, across), min(30, 30 + across))
        a, b = (rows[0], columns[0]), (rows[1], columns[1])
        common = (mask_one[a] * mask_two[b]) > 0
        expected = np.corrcoef(one[a][common], two[b][common])[0, 1]
        assert found[down % 48, across % 60] == pytest.approx(expected, abs=1e-4)
    assert np.unravel_index(found.argmax(), found.shape) == (45, 2)
    assert found[20, 20] == -1  # a fifteenth of the field


def test_both_directions_agree():
    one = seen((220, 240), (0.3, 0.3), seed=3)
    two = seen((240, 220), (0.32, 0.31), (4.0, 2.5), 0.8, seed=4)
    forth = match_images(one, two, (0.3, 0.3), (0.32, 0.31), backend="numpy")
    back = match_images(two, one, (0.32, 0.31), (0.3, 0.3), backend="numpy")
    a = np.radians(forth.rotation_deg)
    t = np.array(forth.translation)
    inverse = -np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) @ t
    np.testing.assert_allclose(back.translation, inverse, atol=0.005)
    assert back.rotation_deg == pytest.approx(-forth.rotation_deg, abs=0.002)


def test_dust_in_one_image_does_not_pull():
    reference = seen((250, 250), (0.33, 0.33))
    image = seen((250, 250), (0.33, 0.33), (2.0, -1.0), 0.5, seed=9)
    image[100:112, 140:150] = 0.1
    image[30, 40] = 50.0
    match = match_images(reference, image, (0.33, 0.33), (0.33, 0.33), backend="numpy")
    assert match.accepted, match.faults
    np.testing.assert_allclose(match.translation, (2.0, -1.0), atol=0.1 * 0.33)


@pytest.mark.parametrize("blur", [0.0, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_unrelated_images_are_refused(blur, seed):
    rng = np.random.default_rng(seed)
    one, two = (100 + ndimage.gaussian_filter(rng.normal(size=(160, 160)), blur) for _ in range(2))
    match = match_images(one, two, (0.3, 0.3), (0.3, 0.3), backend="numpy")
    assert not match.accepted
    assert match.faults


def test_rotation_beyond_the_search_is_refused():
    one = seen((200, 200), (0.3, 0.3))
    two = seen((200, 200), (0.3, 0.3), (1.0, 1.0), 6.0, seed=8)
    assert not match_images(one, two, (0.3, 0.3), (0.3, 0.3), backend="numpy").accepted


@pytest.mark.parametrize(
    "bad", [np.ones((50, 50)), np.full((50, 50), np.nan), np.zeros((50, 50)), np.ones(50), -np.ones((50, 50))]
)
def test_useless_images_are_named(bad):
    with pytest.raises(InputError, match="image"):
        match_images(seen((50, 50), (1.0, 1.0)), bad, (1.0, 1.0), (1.0, 1.0), backend="numpy")
