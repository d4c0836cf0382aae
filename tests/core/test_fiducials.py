"""Slides, the Sun and darkness are told apart, turned, noisy and with vignetting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stillsun.core.fiducials import Sight, look
from stillsun.synth.slides import ARCSEC_PER_MM, line_grid, target

SIDE = 300
SCALE = 0.08  # arcsec/px
LIGHT = 4000.0


def positions(side=SIDE):
    y, x = np.indices((side - 6, side)) - side / 2.0
    return x * SCALE + 1.3, y * SCALE - 0.7


def grid(turn):
    return line_grid(*positions(), turn_deg=turn)


def resolution(turn):
    return target(*positions(), turn_deg=turn)


def dots(turn, *, bright=False):
    x, y = positions()
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    u, v = (c * x + s * y) / ARCSEC_PER_MM, (c * y - s * x) / ARCSEC_PER_MM
    inside = np.hypot(u - np.rint(u), v - np.rint(v)) < 0.12
    return np.where(inside, 1.0, 0.02) if bright else np.where(inside, 0.05, 1.0)


def pinhole(turn):
    x, y = positions()
    return 0.004 + (np.hypot(x - turn / 20, y + 2) < 0.2)


def granules(turn):
    rng = np.random.default_rng(abs(int(turn)))
    field = gaussian_filter(rng.normal(size=(SIDE - 6, SIDE)), 4)
    return 1 + 0.05 * field / field.std()


def limb(turn):
    x, y = positions()
    return granules(turn) * np.where(np.cos(turn) * x + np.sin(turn) * y > 3, 0.03, 1)


def spot(turn):
    distance = np.hypot(*positions())
    return granules(turn) * np.select([distance < 4, distance < 7], [0.2, 0.7], 1.0)


def field_stop(turn):
    image = granules(turn)
    image[:, 270:] = 0.02
    return image


def flat(turn):
    return np.ones((SIDE - 6, SIDE))


def dark(turn):
    return np.zeros((SIDE - 6, SIDE))


def camera(image, *, seed=0, blur=1.0, noise=0.02, level=LIGHT):
    """What a camera makes of it: blur, vignetting, pixels of other gain, noise, dead and hot pixels."""
    rng = np.random.default_rng(seed)
    y, x = (np.linspace(-1, 1, n) for n in image.shape)
    gain = 1 - 0.1 * ((x - 0.1) ** 2 + (y[:, None] + 0.2) ** 2) + 0.006 * rng.normal(size=image.shape)
    light = gaussian_filter(image.astype(float), blur) * gain
    frame = level * (light + noise * np.sqrt(np.maximum(light, 0.01)) * rng.normal(size=image.shape))
    bad = tuple(rng.integers(3, n - 3, 6) for n in frame.shape)
    frame[bad] = rng.choice([0, 3 * level], 6)
    return frame


@pytest.mark.parametrize("turn", [0.0, 0.8, -17.0, 44.0])
@pytest.mark.parametrize(
    ("scene", "sight"),
    [
        (grid, Sight.linegrid),
        (resolution, Sight.target),
        (dots, Sight.dotgrid),
        (lambda turn: dots(turn, bright=True), Sight.dotgrid),
        (pinhole, Sight.pinhole),
        (granules, Sight.structure),
        (limb, Sight.structure),
        (spot, Sight.structure),
        (field_stop, Sight.structure),
        (flat, Sight.featureless),
        (dark, Sight.dark),
    ],
)
def test_what_is_seen(scene, sight, turn):
    for seed, blur, noise in ((0, 0.7, 0.01), (1, 1.8, 0.03)):
        found = look(camera(scene(turn), seed=seed, blur=blur, noise=noise), LIGHT * (0.8 + 0.4 * seed))
        assert found.sight is sight, found
        assert found.margin > 1


@pytest.mark.parametrize("level", [40.0, 30000.0])
def test_the_light_of_the_camera_does_not_matter(level):
    for scene, sight in ((grid, Sight.linegrid), (resolution, Sight.target), (granules, Sight.structure)):
        assert look(camera(scene(0.5), level=level), level).sight is sight


@pytest.mark.parametrize("side", [150, 300, 1100])
def test_line_spacing(side):
    image = line_grid(*positions(side), turn_deg=0.7)
    found = look(camera(image), LIGHT)
    assert found.spacing == pytest.approx([ARCSEC_PER_MM / SCALE] * 2, rel=5e-3)
    assert np.isnan(look(camera(grid(40.0)), LIGHT).spacing).all()


def test_stretched_pixels_are_seen_in_the_right_direction():
    x, y = positions()
    down, across = look(camera(line_grid(x, 0.9 * y, turn_deg=0.4)), LIGHT).spacing
    assert down / across == pytest.approx(1 / 0.9, rel=5e-3)


@pytest.mark.parametrize("band", ["gband", "cak"])
def test_real_frames_are_the_sun(real_frame, band):
    frame = real_frame(band)
    for part in (frame, frame[:200, 300:520], frame[500:, :400]):
        found = look(part, float(np.median(frame)))
        assert found.sight is Sight.structure
        assert found.margin > 1.5
