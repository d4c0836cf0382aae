"""Orientation: one object turns pixels, reference pixel, plate scale, angle and shape together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stillsun.core.orient import STEPS, Orientation
from stillsun.errors import ConfigError

SHAPE = (5, 8)
NUMPY = {
    "rot90": lambda a: np.rot90(a, axes=(-2, -1)),
    "flipud": lambda a: a[..., ::-1, :],
    "fliplr": lambda a: a[..., ::-1],
    "flip": lambda a: a[..., ::-1, ::-1],
}


def frame() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def world(position, crpix, cdelt, crota2):
    """Intermediate world coordinates, FITS style: R(CROTA2) diag(CDELT) (p - CRPIX)."""
    a = np.radians(crota2)
    rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return rotation @ (np.asarray(cdelt) * (np.asarray(position) - np.asarray(crpix)))


@pytest.mark.parametrize("steps", [s for n in range(4) for s in itertools.product(STEPS, repeat=n)])
def test_steps_do_what_numpy_does(steps):
    expected = frame()
    for step in steps:
        expected = NUMPY[step](expected)
    orientation = Orientation.from_steps(steps)
    np.testing.assert_array_equal(orientation.apply(frame()), expected)
    assert orientation.shape(SHAPE) == expected.shape
    assert Orientation.from_steps(orientation.steps) == orientation


def test_eight_elements_form_a_group():
    elements = Orientation.all()
    assert len(set(elements)) == 8
    for a, b in itertools.product(elements, repeat=2):
        np.testing.assert_array_equal(a.then(b).apply(frame()), b.apply(a.apply(frame())))
        assert a.then(b) in elements
    for a in elements:
        assert a.then(a.inverse()) == Orientation()
        np.testing.assert_array_equal(a.inverse().apply(a.apply(frame())), frame())
    assert len({e.text for e in elements}) == 8
    assert all(Orientation.from_text(e.text) == e for e in elements)


def test_stack_is_turned_frame_by_frame_without_copy():
    stack = np.stack([frame(), 2 * frame()])
    for orientation in Orientation.all():
        turned = orientation.apply(stack)
        assert np.shares_memory(turned, stack)
        assert turned.dtype == np.float32
        assert orientation.shape(stack.shape) == turned.shape
        np.testing.assert_array_equal(turned[1], orientation.apply(2 * frame()))


@pytest.mark.parametrize("orientation", Orientation.all(), ids=lambda o: o.text)
def test_marked_pixel_keeps_its_position_and_world_coordinates(orientation):
    crpix, cdelt, crota2 = (2.3, 4.1), (0.096, 0.084), 17.0
    new = orientation.wcs(crpix, cdelt, crota2, SHAPE)
    for y, x in [(0, 0), (1, 6), (4, 7), (3, 2)]:
        marked = np.zeros(SHAPE, np.float32)
        marked[y, x] = 1
        row, column = np.argwhere(orientation.apply(marked))[0]
        np.testing.assert_allclose(orientation.pixel((x + 1, y + 1), SHAPE), (column + 1, row + 1))
        np.testing.assert_allclose(
            world((column + 1, row + 1), *new), world((x + 1, y + 1), crpix, cdelt, crota2), atol=1e-12
        )
    np.testing.assert_allclose(np.abs(new[1]), orientation.plate_scale(cdelt))


@pytest.mark.parametrize(
    ("steps", "crpix", "cdelt", "angle"),
    [
        (["rot90"], (4.0, 6.0), (0.2, 0.1), 125.0),
        (["rot90"] * 3, (2.0, 3.0), (0.2, 0.1), -55.0),
        (["fliplr"], (6.0, 4.0), (-0.1, 0.2), 35.0),
        (["flip"], (6.0, 2.0), (0.1, 0.2), -145.0),
    ],
)
def test_known_formulas(steps, crpix, cdelt, angle):
    got = Orientation.from_steps(steps).wcs((3.0, 4.0), (0.1, 0.2), 35.0, SHAPE)
    np.testing.assert_allclose(got[0], crpix)
    np.testing.assert_allclose(got[1], cdelt)
    assert got[2] == pytest.approx(angle)


def test_centre_of_a_frame_stays_its_centre():
    for orientation in Orientation.all():
        shape = orientation.shape((1002, 1004))
        centre = orientation.pixel((502.5, 501.5), (1002, 1004))
        np.testing.assert_array_equal(centre, ((shape[1] + 1) / 2, (shape[0] + 1) / 2))


def test_unknown_step_is_refused():
    with pytest.raises(ConfigError, match="flplr"):
        Orientation.from_steps(["flplr"])
