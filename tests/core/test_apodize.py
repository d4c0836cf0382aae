"""What is taken from an image before it is measured: both forms of each function, and known answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.ndimage as ndimage

from stillsun.core.apodize import fill, high_pass, valid_box
from stillsun.core.backend import get_backend

CPU = get_backend("numpy", threads=2)
GENERIC = dataclasses.replace(CPU, is_gpu=True, name="generic")


@pytest.mark.parametrize("border", [0.0, 7.0, np.nan, np.inf])
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_box_is_what_varies(border, holes):
    rng = np.random.default_rng(2)
    for _ in range(40):
        rows, columns, top, bottom, left, right = rng.integers((6, 6, 0, 0, 0, 0), (14, 14, 3, 3, 3, 3))
        image = rng.normal(size=(rows, columns)).astype(np.float32)
        image[rng.random(image.shape) < holes] = np.nan
        image[:top], image[rows - bottom :] = border, border
        image[:, :left], image[:, columns - right :] = border, border
        finite = np.isfinite(image)
        low, high = np.where(finite, image, np.inf), np.where(finite, image, -np.inf)
        alive = [np.flatnonzero(high.max(axis=k) > low.min(axis=k)) for k in (1, 0)]
        expected = tuple(edge for line in alive for edge in (line[0], line[-1] + 1))
        assert valid_box(image, CPU) == valid_box(image, GENERIC) == expected
        if holes == 0 and top + left + bottom + right:
            assert expected == (top, rows - bottom, left, columns - right)


@pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["numba", "generic"])
def test_image_of_one_value_has_no_box(backend):
    for value in (0.0, np.nan):
        assert valid_box(np.full((9, 8), value, np.float32), backend) == (0, 0, 0, 0)
    # A single column cannot vary along x.
    assert valid_box(np.repeat(np.arange(8, dtype=np.float32)[:, None], 9, 1)[:, :1], backend) == (0, 0, 0, 0)


def test_holes_get_the_mean_around_them():
    rng = np.random.default_rng(4)
    image = rng.normal(10, 1, (53, 64)).astype(np.float32)
    image[10:30, 20:50], image[40, 41] = np.nan, np.nan
    valid = np.isfinite(image)
    valid[:5] = False
    box = (5, 53, 0, 64)
    ours, theirs = fill(image, valid, box, CPU), fill(image, valid, box, GENERIC)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(ours[5:][valid[5:]], image[5:][valid[5:]])
    assert np.abs(ours - 10).max() < 5
    # Blocks are counted from the box: row 35 in it, with 34 and columns 40 and 41.
    np.testing.assert_allclose(ours[40, 41], image[[39, 39, 40], [40, 41, 40]].mean(), atol=1e-5)
    np.testing.assert_array_equal(ours[:5], np.repeat(ours[5:6], 5, axis=0))


@pytest.mark.parametrize("sigma", [1.0, 1.4, 4.0])
def test_background_is_the_gaussian_mean(sigma):
    image = np.random.default_rng(6).normal(100, 5, (40, 47)).astype(np.float32)
    smooth = ndimage.gaussian_filter(image.astype(float), sigma, mode="nearest", truncate=3)
    for backend in (CPU, GENERIC):
        np.testing.assert_allclose(high_pass(image, sigma, backend), image - smooth, atol=1e-4)
