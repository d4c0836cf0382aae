"""Figures show what they are given: pixels, orientation, axes."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from stillsun.qa.plots import MARGINS, camera_figure, encode, grid_figure, image_figure
from stillsun.qa.scaling import fit, intensity_limits
from stillsun.qa.series import Line, Panel, series_figure

SCALE = (0.05, 0.08)


def _pixels(figure) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(encode(figure, "png")))[..., :3]


def test_fit_bins_or_repeats():
    image = np.arange(7 * 10, dtype=float).reshape(7, 10)
    binned = fit(image, 5)
    assert binned.shape == (3, 5)
    assert binned[0, 0] == image[0:2, 0:2].mean()
    assert fit(image, 10) is image
    np.testing.assert_array_equal(fit(image, 29)[2:4, 4:6], np.full((2, 2), image[1, 2]))


def test_intensity_limits_ignore_rim_and_outliers():
    image = np.random.default_rng(0).uniform(1, 2, (100, 100))
    image[:7] = 1e6
    image[50, 50] = -1e6
    low, high = intensity_limits(image, clip=1.0)
    assert (low, high) == pytest.approx((1.01, 1.99), abs=0.01)
    assert intensity_limits(np.full((20, 20), np.nan)) == (0.0, 1.0)
    assert intensity_limits(np.full((20, 20), 3.0)) == (2.5, 3.5)


def test_frame_is_drawn_pixel_by_pixel_row_0_at_the_bottom():
    image = np.random.default_rng(1).uniform(0, 1, (90, 130))
    drawn = _pixels(image_figure(image, SCALE, (0, 1), "t", size=130))
    left, _, bottom, top = MARGINS
    assert drawn.shape == (90 + bottom + top, 130 + left + MARGINS[1], 3)
    inside = drawn[top : top + 90, left : left + 130, 0][::-1]
    # The frame's line covers the outermost pixels.
    np.testing.assert_allclose(inside[3:-3, 3:-3], image[3:-3, 3:-3], atol=0.01)


def test_axes_are_arcsec_from_the_centre():
    axes = image_figure(np.zeros((90, 130)), SCALE, (0, 1), "t").axes[0]
    assert axes.get_xlim() == pytest.approx((-3.25, 3.25))
    assert axes.get_ylim() == pytest.approx((-3.6, 3.6))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (arcsec)", "y (arcsec)")
    larger = image_figure(np.zeros((90, 130)), SCALE, (0, 1), "t", size=400).axes[0]
    assert larger.get_ylim() == pytest.approx((-3.6, 3.6))
    # 43 x 30 blocks of 3 pixels, without the column that is left.
    binned = image_figure(np.zeros((90, 130)), SCALE, (0, 1), "t", size=50).axes[0]
    assert binned.get_xlim() == pytest.approx((-43 * 1.5 * 0.05, 43 * 1.5 * 0.05))
    assert binned.get_ylim() == pytest.approx((-3.6, 3.6))


def test_grid_has_rows_and_columns_in_order():
    levels = [[0.1, 0.3], [0.6, 0.9]]
    frames = [[np.full((80, 80), v) for v in row] for row in levels]
    drawn = _pixels(grid_figure(frames, [["a", "b"], ["c", "d"]], SCALE, (0, 1), size=80))
    left, right, bottom, top = MARGINS
    step_x, step_y = 80 + left + right, 80 + bottom + top
    centres = [[drawn[j * step_y + top + 40, i * step_x + left + 40, 0] for i in (0, 1)] for j in (0, 1)]
    np.testing.assert_allclose(centres, levels, atol=0.005)


def test_series_share_time_and_name_units():
    times = 1_725_000_000.0 + np.arange(5.0)
    panels = [
        Panel("r0 (cm)", [Line("", np.arange(5.0))]),
        Panel("x", [Line("a", np.ones(5)), Line("b", np.ones(5))]),
    ]
    figure = series_figure(times, panels)
    first, second = figure.axes
    assert [a.get_ylabel() for a in (first, second)] == ["r0 (cm)", "x"]
    assert second.get_xlabel() == "time (UTC)"
    assert len(second.lines) == 2
    assert first.get_xlim() == second.get_xlim()
    moments = first.lines[0].get_xdata()
    assert moments[0] == np.datetime64("2024-08-30T06:40:00.000")
    assert encode(figure, "png")[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 3.0], (0.88, 3.12)),
        ([100.0, 100.1], (99.55, 100.55)),
        ([0.0, 0.0], (-1.0, 1.0)),
        ([np.nan, 2.0, 4.0], (1.88, 4.12)),
    ],
)
def test_small_changes_look_small(values, expected):
    panel = Panel("q", [Line("", np.array(values))])
    figure = series_figure(1.7e9 + np.arange(len(values), dtype=float), [panel])
    assert figure.axes[0].get_ylim() == pytest.approx(expected, abs=0.01)


def test_series_of_one_frame():
    figure = series_figure(np.array([1.7e9]), [Panel("q", [Line("", np.array([1.0]))])])
    assert encode(figure, "png")[:4] == b"\x89PNG"


def test_camera_images_have_bars_with_units():
    rng = np.random.default_rng(2)
    figure = camera_figure(
        {"dark": rng.uniform(size=(30, 40)), "flat": rng.uniform(size=(30, 40))}, {"dark": "DN"}
    )
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels.count("DN") == 1
    assert encode(figure, "jpg")[:2] == b"\xff\xd8"
