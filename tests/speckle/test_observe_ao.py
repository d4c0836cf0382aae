"""The benchmark's own adaptive optics against theory: it judges the reconstruction, so it must be right."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from stillsun.speckle.masking.adaptive_wavefront import von_karman_covariance

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bench"
CENTRE, OFF = np.zeros((1, 2)), np.array([[7.0, 5.0]])


@pytest.fixture(scope="module")
def simulator():
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("observe_ao", SCRIPTS / "observe_ao.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["observe_ao"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


@pytest.fixture(scope="module")
def case(simulator):
    return simulator.CASES["two, 10 cm"]


@pytest.fixture(scope="module")
def air(simulator, case):
    return simulator.Air(case, np.random.default_rng(0))


def test_phase_has_the_structure_function_of_von_karman_turbulence(air):
    places = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.3]])
    times = np.random.default_rng(1).uniform(0, 400, 3000)
    phase = np.array([air.phase(places, CENTRE, t)[0] for t in times])
    for number, apart in ((1, 0.1), (2, 0.3)):
        expected = 2 * (von_karman_covariance(0.0, 200.0) - von_karman_covariance(apart / 0.1, 200.0))
        assert np.mean((phase[:, number] - phase[:, 0]) ** 2) == pytest.approx(expected, rel=0.1)


def test_sensor_gives_a_mode_back_with_the_share_of_its_order(simulator, case):
    # The same noise, as the same seed gives it, is in both and drops out.
    mirror = simulator.Mirror(case, simulator.Camera().pupil)
    flat = mirror.figure(np.zeros_like(mirror.modes[:1]), np.random.default_rng(0))
    for mode in (0, 7, 30):
        seen = mirror.figure(mirror.modes[mode : mode + 1], np.random.default_rng(0))
        np.testing.assert_allclose(seen - flat, mirror.gain[mode] * mirror.modes[mode], atol=1e-6)
    assert mirror.gain[0] > 1.5 * mirror.gain[30] > 0


def test_correction_is_best_at_the_lock_point(simulator, case, air):
    pupil = simulator.Camera().pupil
    mirror = simulator.Mirror(case, pupil)
    rng = np.random.default_rng(2)
    left = np.zeros(3)
    for t in rng.uniform(0, 400, 24):
        figure = mirror.figure(air.phase(pupil, mirror.directions, t - simulator.LAG), rng)
        centre, off = air.phase(pupil, CENTRE, t)[0], air.phase(pupil, OFF, t)[0]
        left += [centre.var(), (centre - figure).var(), (off - figure).var()]
    assert left[1] < 0.08 * left[0]
    assert 2 * left[1] < left[2] < 0.4 * left[0]


def test_uniform_scene_stays_uniform_through_seeing_that_changes_over_the_field(simulator, air):
    camera = simulator.Camera()
    spectra = camera.spectra(np.ones((len(camera.places),) * 2))
    image = camera.image(spectra, air.phase(camera.pupil, camera.directions, 1.0))
    np.testing.assert_allclose(image, 1.0, atol=1e-5)
