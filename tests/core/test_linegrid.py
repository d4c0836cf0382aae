"""Plate scale from images of the line grid whose scale is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stillsun.core.linegrid import _judge, measure_line_grid
from stillsun.errors import InputError

LINES = 3.76


def grid(shape, scale, turn, *, noise=0.03, spots=0, seed=0, spacing=LINES):
    """Blurred lines 0.06 of their distance wide, uneven light, photon noise, dust."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape, dtype=np.float64)
    x, y = (x - 0.43 * shape[1]) * scale[0], (y - 0.52 * shape[0]) * scale[1]
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    light = np.ones(shape)
    for position in ((c * x + s * y) / spacing + 0.37, (c * y - s * x) / spacing + 0.21):
        distance = np.abs(position - np.rint(position))
        light *= 0.05 + 0.95 * np.clip((distance - 0.03) / 0.015 + 0.5, 0, 1)
    for _ in range(spots):
        row, column = (rng.uniform(0, n) for n in shape)
        light *= 1 - 0.8 * np.exp(
            -((np.indices(shape)[0] - row) ** 2 + (np.indices(shape)[1] - column) ** 2) / 50
        )
    light = gaussian_filter(light, 1.5)
    light *= 1 - 0.2 * (np.hypot(x / x.max(), y / y.max())) ** 2
    return (5000 * (light + noise * rng.normal(size=shape))).astype(np.float32)


@pytest.mark.parametrize("turn", [0.0, 1.0, -1.0])
@pytest.mark.parametrize(
    ("shape", "scale", "configured"),
    [((1002, 1004), (0.0604, 0.0598), (0.06, 0.06)), ((400, 520), (0.0838, 0.0843), (0.0772, 0.09))],
)
def test_scale_of_real_size_within_a_thousandth(shape, scale, configured, turn):
    found = measure_line_grid(grid(shape, scale, turn, spots=8), configured)
    np.testing.assert_allclose(found.plate_scale, scale, rtol=2e-4)
    assert np.abs(np.subtract(found.rotation_deg, turn)).max() < 0.05
    # One line to the next, and the mean of all: both are known far better than the scales differ.
    assert max(found.scatter) < 0.01 * min(scale)
    assert max(found.error) < 5e-4 * min(scale)
    expected = [int(n * s / LINES) for n, s in zip(shape[::-1], scale, strict=True)]
    assert np.abs(np.subtract(found.lines, expected)).max() <= 1


def test_spread_of_the_error_is_the_error_that_is_told():
    """The mean of many noisy images scatters as much as each of them says."""
    scale = (0.11, 0.105)
    found = [
        measure_line_grid(grid((200, 210), scale, 0.7, noise=0.25, seed=k), (0.1, 0.1)) for k in range(12)
    ]
    off = np.array([f.plate_scale for f in found]) - scale
    told = np.sqrt(np.mean([np.square(f.error) for f in found], axis=0))
    assert (off.std(axis=0) < 2.5 * told).all()
    assert (off.std(axis=0) > told / 4).all()


def test_other_slides_and_small_chips():
    found = measure_line_grid(grid((152, 160), (0.06, 0.0605), 0.5), (0.06, 0.06))
    assert found.lines == (2, 2)
    np.testing.assert_allclose(found.plate_scale, (0.06, 0.0605), rtol=2e-3)
    found = measure_line_grid(
        grid((300, 300), (0.06, 0.06), 0.5, spacing=1.88), (0.06, 0.06), spacing_arcsec=1.88
    )
    np.testing.assert_allclose(found.plate_scale, 0.06, rtol=1e-3)


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).normal(100, 1, (300, 300)),
        gaussian_filter(np.random.default_rng(1).normal(size=(300, 300)), 3) + 5,
        np.ones((200, 200)),
        grid((40, 400), (0.06, 0.06), 0.0),
        grid((400, 400), (0.09, 0.06), 0.5),
    ],
    ids=["noise", "granules", "blank", "too small", "half as large again"],
)
def test_what_is_no_grid_is_refused(image):
    with pytest.raises(InputError, match="line grid"):
        measure_line_grid(image, (0.06, 0.06))


def test_lines_that_are_off_their_places_are_what_the_error_tells():
    rng = np.random.default_rng(7)
    period, strips, number = 25.0, 12, np.arange(40)
    off = 0.5 * rng.standard_normal(number.size)
    across = (10 + period * number + off)[:, None] + 0.05 * rng.standard_normal((number.size, strips))
    straight = np.polyfit(number, 10 + period * number + off, 1)[::-1]
    each = np.repeat(number, strips)
    family = _judge(each, across.ravel(), np.array([*straight, 0.0]), (1 / period, 0.0))
    # Standard error of the slope of a line through 40 places that are off by half a pixel.
    assert family.error == pytest.approx(0.5 / np.sqrt(40 * (40**2 - 1) / 12) / period, rel=0.25)
    assert family.scatter == pytest.approx(0.5 * np.sqrt(2) / period, rel=0.25)
    assert family.lines == 40
