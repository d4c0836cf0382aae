"""Sign convention, resampling, control points."""

import numpy as np
import pytest
from tests.fakes.device import open_device

from stillsun.core.backend import get_backend
from stillsun.core.tiles import lattice
from stillsun.core.warp import INTERPOLATIONS, add_control_points, resample, resample_box, resample_mask
from stillsun.errors import ConfigError, InputError

CPU = get_backend("numpy", threads=2)
GENERIC = open_device()
BACKENDS = pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["numba", "generic"])


def smooth_field(shape, size=3.0, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 20
    a = rng.uniform(0, 6, 4)
    field = np.stack([np.sin(y + a[0]) * np.cos(0.7 * x + a[1]), np.cos(0.8 * y + a[2]) * np.sin(x + a[3])])
    return (size * field).astype(np.float32)


@BACKENDS
@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_zero_field_is_identity_to_the_bit(name, backend):
    image = np.random.default_rng(0).standard_normal((37, 51)).astype(np.float32)
    out = resample(image, np.zeros((2, 37, 51)), name, backend)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, image)


@BACKENDS
@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("shift", [(3, -5), (-4, 2), (0, 7), (-6, 0)])
def test_content_moves_by_plus_the_displacement(name, shift, backend):
    image = np.zeros((40, 50), np.float32)
    image[20, 25] = 1
    field = np.empty((2, 40, 50), np.float32)
    field[0], field[1] = shift
    out = resample(image, field, name, backend)
    expected = np.zeros_like(image)
    expected[20 + shift[0], 25 + shift[1]] = 1
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("name", "error"), [("lanczos4", 8e-3), ("bicubic", 2e-2), ("bilinear", 9e-2)])
def test_band_limited_image_is_met_between_its_samples(name, error):
    field = smooth_field((90, 100))
    y, x = np.mgrid[:90, :100]

    def scene(v, u):
        return np.sin(0.9 * v + 0.3 * u) + np.cos(0.7 * u - 0.4 * v)

    out = resample(scene(y, x), field, name, CPU)
    truth = scene(y - field[0], x - field[1])
    inner = np.s_[10:-10, 10:-10]
    assert np.sqrt(np.mean((out - truth)[inner] ** 2)) < error


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_generic_formula_agrees_with_the_kernel(name):
    image = np.random.default_rng(2).standard_normal((60, 70)).astype(np.float32)
    field = smooth_field((60, 70), size=8)
    np.testing.assert_allclose(
        resample(image, field, name, GENERIC), resample(image, field, name, CPU), atol=1e-5
    )


@BACKENDS
def test_edge_value_is_held_and_nan_stays_near(backend):
    image = np.tile(np.arange(30, dtype=np.float32), (20, 1))
    field = np.zeros((2, 20, 30), np.float32)
    field[1] = 10.5
    out = resample(image, field, "lanczos4", backend)
    np.testing.assert_allclose(out[:, :7], 0, atol=1e-4)
    np.testing.assert_allclose(out[:, 15:], image[:, 15:] - 10.5, atol=1e-4)
    image[10, 15] = np.nan
    out = resample(image, 0.25 + 0 * field, "bicubic", backend)
    assert np.isnan(out).sum() == 16
    assert np.isfinite(out[:8]).all()


@BACKENDS
def test_mask_is_honest(backend):
    valid = np.ones((20, 30), bool)
    valid[10, 15] = False
    field = np.zeros((2, 20, 30), np.float32)
    np.testing.assert_array_equal(resample_mask(valid, field, backend), valid)
    field[0], field[1] = 2.5, -3
    out = resample_mask(valid, field, backend)
    expected = np.zeros_like(valid)
    expected[3:, :27] = True  # rows 0.5 and up are between two rows of the frame
    expected[12:14, 12] = False
    np.testing.assert_array_equal(out, expected)


@BACKENDS
def test_rectangle_is_moved_like_its_mask(backend):
    rng = np.random.default_rng(3)
    field = rng.normal(0, 3, (2, 60, 70)).astype(np.float32)
    field[:, ::3] = np.rint(field[:, ::3])  # on the samples, where the edge decides
    for box in ((0, 60, 0, 70), (4, 51, 9, 70), (20, 20, 5, 9)):
        mask = np.zeros((60, 70), bool)
        mask[box[0] : box[1], box[2] : box[3]] = True
        np.testing.assert_array_equal(resample_box(box, field, backend), resample_mask(mask, field, CPU))


@BACKENDS
@pytest.mark.parametrize("bins", [1, 2])
def test_control_points_of_a_linear_field(backend, bins):
    shape = (100, 140)
    points = lattice(shape, 20)
    y, x = np.meshgrid(points.y.centres, points.x.centres, indexing="ij")
    grid = np.stack([0.02 * y - 0.01 * x, 0.03 * x + 1])
    field = np.ones((2, 100 // bins, 140 // bins), np.float32)
    add_control_points(field, [(grid, points)], bins, backend)
    v, u = (bins * a + (bins - 1) / 2 for a in np.mgrid[: 100 // bins, : 140 // bins])
    expected = 1 + np.stack([0.02 * v - 0.01 * u, 0.03 * u + 1]) / bins
    inner = np.s_[:, 20 // bins : -20 // bins, 20 // bins : -20 // bins]
    np.testing.assert_allclose(field[inner], expected[inner], atol=1e-5)


def test_wrong_input_is_refused():
    image = np.zeros((20, 30), np.float32)
    with pytest.raises(InputError, match="do not fit"):
        resample(image, np.zeros((2, 30, 20)), "lanczos4", CPU)
    with pytest.raises(ConfigError, match="lanczos4"):
        resample(image, np.zeros((2, 20, 30)), "nearest", CPU)
