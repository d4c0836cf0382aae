"""Range, mean, median and scatter against NumPy, and the compiled against the array formula."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.core import summary
from stillsun.core.backend import get_backend
from stillsun.core.summary import summarise
from stillsun.errors import InputError

RNG = np.random.default_rng(3)
IMAGES = {
    "granulation": RNG.normal(20000, 1500, (101, 64)).astype(np.float32),
    "odd": RNG.normal(size=(33, 7)).astype(np.float32),
    "outlier": np.append(RNG.normal(size=999), 1e30).astype(np.float32).reshape(10, 100),
    "two values": np.repeat(np.float32([1, 5]), 8).reshape(4, 4),
    "constant": np.full((5, 5), 3.25, np.float32),
    "one pixel": np.float32([[7]]),
    "strided": RNG.normal(size=(40, 60)).astype(np.float32)[::-1, ::2],
}


@pytest.mark.parametrize("name", IMAGES)
def test_compiled_and_array_formula_equal_numpy(name):
    image = IMAGES[name]
    wide = image.astype(np.float64)
    expected = (wide.min(), wide.max(), wide.mean(), np.median(wide), wide.std())
    result = summarise(image, "numpy")
    np.testing.assert_allclose(
        [result.minimum, result.maximum, result.mean, result.median, result.rms], expected, rtol=1e-6
    )
    assert (result.minimum, result.maximum) == expected[:2]
    if name != "outlier":
        arrays = summary._summarise_arrays(image.ravel(), get_backend("numpy"))
        np.testing.assert_allclose(arrays, expected, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    image = np.ones((4, 4), np.float32)
    image[2, 3] = value
    with pytest.raises(InputError, match="finite"):
        summarise(image, "numpy")
