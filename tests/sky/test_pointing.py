"""Pointing from the telescope log: gaps, signs, and what happens when nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.sky.observer import Site, helioprojective, observe, rotate_with_sun
from stillsun.sky.pointing import (
    CSYER_UNKNOWN,
    Solution,
    guider_angle,
    nearest_known,
    pointing_from_log,
    pointing_from_solution,
    pointing_unknown,
)

TIMES = 1756909313.6 + 60.0 * np.arange(6)


@pytest.fixture(scope="module")
def observer():
    return observe(TIMES, Site())


def test_log_gives_each_frame_its_own_pointing(observer):
    lat, lon = -23.16 + 0.01 * np.arange(6), 51.4 - 0.02 * np.arange(6)
    pointing = pointing_from_log(lat, lon, np.full(6, 13.8), observer, Site())
    np.testing.assert_array_equal(pointing.crval, helioprojective(lat, lon, observer))
    np.testing.assert_allclose(pointing.crota2, 0.5)
    assert pointing.method == "telescope log"
    assert np.all((pointing.uncertainty >= 10) & (pointing.uncertainty <= 30))


def test_gaps_are_bridged_by_solar_rotation(observer):
    lat, lon = np.full(6, -5.0), np.full(6, 10.0)
    lat[[1, 2, 5]] = np.nan
    guider = np.array([np.nan, 14.3, np.nan, 13.3, 13.3, np.nan])
    pointing = pointing_from_log(lat, lon, guider, observer, Site())
    assert np.isfinite(pointing.crval).all()
    start = helioprojective(-5.0, 10.0, observe(TIMES[:1], Site()))[0]
    np.testing.assert_allclose(pointing.crval[1], rotate_with_sun(start, TIMES[0], TIMES[1:2], Site())[0])
    # Row 2 is nearer to row 3 than to row 0: it is carried back in time.
    assert pointing.crval[2, 0] < pointing.crval[3, 0]
    np.testing.assert_allclose(pointing.crota2, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], atol=1e-12)


def test_sense_of_the_guider():
    assert guider_angle([15.3], 13.3, 1)[0] == pytest.approx(2.0)
    assert guider_angle([15.3], 13.3, -1)[0] == pytest.approx(-2.0)
    assert guider_angle([13.3 + 359.0])[0] == pytest.approx(-1.0)
    np.testing.assert_array_equal(guider_angle([np.nan, np.nan]), [0.0, 0.0])


def test_unknown_pointing_says_so(observer):
    nan = np.full(6, np.nan)
    pointing = pointing_from_log(nan, nan, nan, observer, Site())
    np.testing.assert_array_equal(pointing.crval, 0.0)
    np.testing.assert_array_equal(pointing.uncertainty, CSYER_UNKNOWN)
    assert pointing.method == "unknown"
    # The error bar covers the whole Sun.
    assert (pointing.uncertainty > observer.solar_radius_arcsec).all()
    np.testing.assert_array_equal(pointing_unknown(2, [1.0, 2.0]).crota2, [1.0, 2.0])


def test_pointing_by_hand_is_carried_on(observer):
    solution = Solution.by_hand((-300.0, 120.0), TIMES[2])
    pointing = pointing_from_solution(solution, np.full(6, 13.3), observer, Site())
    np.testing.assert_allclose(pointing.crval[2], (-300.0, 120.0), atol=1e-6)
    assert np.all(np.diff(pointing.crval[:, 0]) > 0.1)
    np.testing.assert_allclose(pointing.crota2, 0.0, atol=1e-12)


def test_each_segment_has_its_own_pointing(observer):
    times = np.array([TIMES[1], TIMES[4]])
    points = np.array([[100.0, 50.0], [110.0, 45.0]])
    solution = Solution(
        np.array([TIMES[0], TIMES[3]]), times, points, np.array([0.2, 0.5]), np.array([0.1, 0.4]), -1, "x"
    )
    pointing = pointing_from_solution(solution, np.full(6, 14.3), observer, Site())
    for row in range(6):
        k = int(row >= 3)
        expected = rotate_with_sun(points[k], times[k], TIMES[row : row + 1], Site())[0]
        np.testing.assert_allclose(pointing.crval[row], expected, atol=1e-6)
    np.testing.assert_allclose(pointing.crota2, [-0.8, -0.8, -0.8, -0.5, -0.5, -0.5])
    np.testing.assert_array_equal(pointing.uncertainty, [0.1, 0.1, 0.1, 0.4, 0.4, 0.4])


def test_nearest_known():
    np.testing.assert_array_equal(
        nearest_known([0.0, 1.0, 2.0, 4.0, 5.0], [True, False, False, True, False]), [0, 0, 0, 3, 3]
    )
