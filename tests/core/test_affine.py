"""What was measured in one channel holds another one still."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stillsun.core.affine import carry_displacement, pixel_map, shifts_of_field
from stillsun.core.backend import get_backend
from stillsun.core.destretch import apply_shifts, destretch, displacement_field
from stillsun.core.orient import Orientation
from stillsun.core.series import apply_field
from stillsun.errors import InputError

CPU = get_backend("numpy", threads=2)
KERNELS = (0, 64, 32, 16)
SOURCE, SOURCE_SCALE = (200, 220), (0.11, 0.09)  # (rows, columns); arcsec per pixel along x, y
TARGET, TARGET_SCALE = (150, 130), (0.13, 0.12)
TRANSLATION, ROTATION = (1.1, -0.7), 3.0


def sky_scene(x, y):
    """Intensity at a place in arcsec; a sum of waves of some 0.7 arcsec."""
    rng = np.random.default_rng(4)
    total = np.zeros(np.broadcast(x, y).shape)
    for _ in range(60):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        k = 2 * np.pi / rng.uniform(0.6, 1.6)
        total = total + np.cos(k * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return 1000 + 20 * total


def seeing(x, y):
    """Displacement on the sky (x, y), arcsec."""
    return np.stack([0.25 + 0.12 * np.sin(x / 1.7 + y / 2.9), -0.31 + 0.14 * np.cos(x / 2.3 - y / 1.9)])


def places(shape, scale, translation=(0.0, 0.0), rotation=0.0):
    """Sky coordinates (x, y) of the pixels, arcsec from the source's centre."""
    rows, columns = np.indices(shape)
    x, y = (columns - (shape[1] - 1) / 2) * scale[0], (rows - (shape[0] - 1) / 2) * scale[1]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    return translation[0] + c * x - s * y, translation[1] + s * x + c * y


def pair(shape, scale, **where):
    x, y = places(shape, scale, **where)
    push = seeing(x, y)
    return sky_scene(x, y).astype(np.float32), sky_scene(x + push[0], y + push[1]).astype(np.float32)


@pytest.fixture(scope="module")
def measured():
    reference, image = pair(SOURCE, SOURCE_SCALE)
    return destretch(image, reference, KERNELS, backend=CPU)


@pytest.mark.parametrize("steps", [[], ["rot90"], ["rot90", "flipud"], ["fliplr"], ["flip"]])
def test_another_channel_is_held_still_too(measured, steps):
    still, moved = pair(TARGET, TARGET_SCALE, translation=TRANSLATION, rotation=ROTATION)
    orientation = Orientation.from_steps(steps)
    # As the camera sees it.
    camera = orientation.inverse().apply(moved)
    pixels = pixel_map(
        camera.shape,
        TARGET_SCALE,
        SOURCE,
        SOURCE_SCALE,
        TRANSLATION,
        ROTATION,
        orientation if steps else None,
    )
    field, covered = carry_displacement(measured.displacement, pixels, camera.shape, CPU)
    image, valid = apply_field(np.ascontiguousarray(camera), field, backend=CPU)
    image, valid = orientation.apply(image), orientation.apply(valid & covered)
    inner = np.s_[16:-16, 16:-16]
    assert valid[inner].mean() > 0.95
    there = valid[inner]
    before = np.std((moved - still)[inner][there])
    after = np.std((image - still)[inner][there])
    assert after < 0.05 * before


def test_equal_pixels_get_the_same_bytes(measured):
    still = pair(SOURCE, SOURCE_SCALE)[0]
    pixels = pixel_map(SOURCE, SOURCE_SCALE, SOURCE, SOURCE_SCALE)
    field = displacement_field(measured.shifts, KERNELS, SOURCE, CPU)
    carried, covered = carry_displacement(field, pixels, SOURCE, CPU)
    np.testing.assert_array_equal(carried, field)
    assert covered.all()
    np.testing.assert_array_equal(
        apply_field(still, carried, backend=CPU)[0],
        apply_shifts(still, measured.shifts, KERNELS, backend=CPU),
    )


def test_shift_is_scaled_and_turned():
    field = np.zeros((2, 40, 50), np.float32)
    field[1] = 3.0
    # Twice the pixels, turned so that this channel's +y is the source's -x.
    pixels = pixel_map((60, 60), (0.05, 0.05), (40, 50), (0.1, 0.1), rotation_deg=90.0)
    carried, covered = carry_displacement(field, pixels, (60, 60), CPU)
    np.testing.assert_allclose(carried[0], -6.0, atol=1e-5)
    np.testing.assert_allclose(carried[1], 0.0, atol=1e-5)
    assert covered.all()
    wide = pixel_map((100, 60), (0.1, 0.1), (40, 50), (0.1, 0.1))
    covered = carry_displacement(field, wide, (100, 60), dataclasses.replace(CPU, is_gpu=True))[1]
    assert covered.sum() == 40 * 50
    assert covered[30:70, 5:55].all()


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="plate scales"):
        pixel_map((40, 40), (0.1, 0.0), (40, 40), (0.1, 0.1))
    same = pixel_map((40, 40), (0.1, 0.1), (40, 40), (0.1, 0.1))
    with pytest.raises(InputError, match="displacement field"):
        carry_displacement(np.zeros((40, 40)), same, (40, 40), CPU)


def test_a_field_is_expressed_by_shifts(measured):
    pixels = pixel_map(TARGET, TARGET_SCALE, SOURCE, SOURCE_SCALE, TRANSLATION, ROTATION)
    field, _ = carry_displacement(measured.displacement, pixels, TARGET, CPU)
    shifts = shifts_of_field(field, KERNELS, CPU)
    np.testing.assert_allclose(shifts[0], field.mean(axis=(1, 2)), atol=1e-4)
    again = displacement_field(shifts, KERNELS, TARGET, CPU)
    # Beyond the centres of the outermost tiles their value is held.
    inner = np.s_[:, 8:-8, 8:-8]
    assert np.std((again - field)[inner]) < 0.03
    # Each kernel adds what the larger ones leave.
    rough = displacement_field(shifts[:2], KERNELS[:2], TARGET, CPU)
    left, coarse, whole = (np.std(f[inner]) for f in (again - field, rough - field, field))
    assert left < 0.2 * coarse < 0.2 * whole
