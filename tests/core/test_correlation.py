"""Masked template search against the plain formula, and the peak of a surface."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.core.registration.correlation import TemplateSearch, find_peak
from stillsun.errors import InputError


@pytest.mark.parametrize("unit", [1.0, 1e-4, 1e4])
def test_correlation_is_that_of_the_formula(unit):
    rng = np.random.default_rng(1)
    image = unit * (rng.normal(5.0, 1.0, (30, 37)) + np.linspace(0, 4, 37))
    template, mask = rng.normal(0, 1, (9, 12)), rng.random((9, 12)) > 0.3
    found = TemplateSearch(image, "numpy").correlate(template, mask)
    assert found.shape == (22, 26)
    expected = np.empty_like(found)
    for r in range(22):
        for c in range(26):
            expected[r, c] = np.corrcoef(image[r : r + 9, c : c + 12][mask], template[mask])[0, 1]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_template_is_found_whatever_its_gain_and_level():
    image = np.random.default_rng(2).normal(100.0, 1.0, (64, 64))
    cut = 3.0 * image[20:40, 31:55] - 7.0
    surface = TemplateSearch(image, "numpy").correlate(cut, np.ones(cut.shape))
    peak = find_peak(surface)
    np.testing.assert_allclose(peak.position, (20, 31), atol=0.05)
    assert surface.max() == pytest.approx(1.0, abs=1e-4)
    assert not peak.at_edge


def test_an_even_place_has_no_correlation():
    image = np.zeros((40, 40))
    image[:, 25:] = np.random.default_rng(3).normal(size=(40, 15))
    surface = TemplateSearch(image, "numpy").correlate(image[5:15, 28:38], np.ones((10, 10)))
    assert np.isfinite(surface).all()
    np.testing.assert_array_equal(surface[:, :10], 0.0)


def test_what_cannot_be_searched_is_refused():
    search = TemplateSearch(np.random.default_rng(4).normal(size=(20, 20)), "numpy")
    with pytest.raises(InputError, match="larger"):
        search.correlate(np.ones((21, 5)), np.ones((21, 5)))
    with pytest.raises(InputError, match="the same everywhere"):
        search.correlate(np.ones((5, 5)), np.ones((5, 5)))
    with pytest.raises(InputError, match="mask"):
        search.correlate(np.eye(5), np.zeros((5, 5)))
    with pytest.raises(InputError, match="not finite"):
        TemplateSearch(np.full((5, 5), np.nan), "numpy")


def test_peak_of_a_paraboloid_is_exact():
    y, x = np.mgrid[0:9.0, 0:11.0]
    dy, dx = y - 4.3, x - 6.8
    peak = find_peak(2.0 - 0.1 * dy**2 - 0.05 * dx**2 + 0.03 * dx * dy)
    np.testing.assert_allclose(peak.position, (4.3, 6.8), atol=1e-6)
    assert peak.height == pytest.approx(2.0, abs=1e-6)
    np.testing.assert_allclose(peak.curvature, [[-0.2, 0.03], [0.03, -0.1]], atol=1e-6)
    assert find_peak(-(y**2) - (x - 5.0) ** 2).at_edge
