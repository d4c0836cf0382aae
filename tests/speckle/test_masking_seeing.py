"""How the seeing of a burst is found: spectral ratio, and motion inside subfields."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun import reconstruct
from stillsun.errors import ReconstructionError
from stillsun.speckle.masking.geometry import inner_lattice, subfield_lattice, tukey
from stillsun.speckle.masking.motion import motion_gradient
from stillsun.speckle.masking.powers import BurstPowers
from stillsun.speckle.masking.ratio import seeing_model
from stillsun.speckle.masking.subfield import SubfieldResult
from stillsun.speckle.masking.transfer import seeing_table, telescope_transfer

SIZE, LIMIT, APODISED = 180, 0.4, 0.3
STRENGTH = 7.0


def tracked(shifts):
    """A subfield of which only the tracking counts, (frames, 2) pixels."""
    whole = np.rint(shifts).astype(np.int64)
    nothing = np.empty(0, np.float32)
    return SubfieldResult(nothing, nothing, 0.0, nothing, 0.0, whole, np.zeros(2), shifts - whole, 0.0)


def moving_field(lattice, gradient, frames=4000):
    """Subfields over an image that is moved as a whole, stretched and sheared at random."""
    rng = np.random.default_rng(1)
    whole = 5 * rng.standard_normal((frames, 2))
    tensor = np.sqrt(gradient) * rng.standard_normal((frames, 2, 2))
    rows, columns = lattice.centres
    return [tracked(whole + tensor @ np.array([y, x])) for y in rows for x in columns]


@pytest.mark.parametrize("gradient", [1e-4, 4e-6])
def test_motion_gradient_comes_from_neighbours(gradient):
    lattice = subfield_lattice((500, 600), SIZE, APODISED)
    results = moving_field(lattice, gradient)
    assert motion_gradient(results, lattice) == pytest.approx(gradient, rel=0.05)
    # One subfield without structure has the tracker lost.
    lost = int(np.flatnonzero(lattice.inner.ravel())[1])
    results[lost] = tracked(8 * np.random.default_rng(2).standard_normal((4000, 2)))
    assert motion_gradient(results, lattice) == pytest.approx(gradient, rel=0.05)


def test_motion_gradient_of_a_frame_that_one_subfield_fills():
    lattice = subfield_lattice((SIZE, SIZE), SIZE, APODISED)
    assert not lattice.inner.any()
    assert motion_gradient(moving_field(lattice, 1e-4, 8), lattice) == 0.0


def spectra(strength, gradient=0.0, slope=5.0):
    """Mean and coherent power of a subfield with a smooth object, and its frequencies."""
    model = seeing_model(SIZE, LIMIT, LIMIT, 0.95, APODISED)
    q = model.frequencies.q
    speckle, long_exposure = seeing_table().at(strength, q, slope)
    power = 10.0 ** (-slope * q) * telescope_transfer(q) ** 2
    place = np.arange(SIZE) - (SIZE - 1) / 2
    window = np.outer(*2 * [tukey(SIZE, APODISED) ** 2])
    distance = np.hypot(place[:, None], place)
    # What is left at each place of waves that move by a variance of gradient times distance squared.
    radii = np.linspace(0, q.max(), 60)
    left = [
        (window * np.exp(-gradient * (2 * np.pi * LIMIT * r * distance) ** 2)).sum() / window.sum()
        for r in radii
    ]
    coherent = power * long_exposure**2 * np.interp(q, radii, left)
    return model, power * speckle, coherent, q


def fitted(power, coherent, model, gradient=0.0, noise=0.0):
    rows = (np.reshape(a * np.ones_like(power), (1, -1)) for a in (power, noise, coherent))
    return model.fit(BurstPowers(*rows, np.ones(1, bool), gradient)).strength


def test_motion_inside_subfields_is_not_taken_for_seeing():
    gradient = 2e-4
    model, power, coherent, _ = spectra(STRENGTH, gradient)
    assert fitted(power, coherent, model, gradient) == pytest.approx(STRENGTH, rel=0.04)
    assert fitted(power, coherent, model) > 1.06 * STRENGTH
    model, power, coherent, _ = spectra(STRENGTH)
    assert fitted(power, coherent, model) == pytest.approx(STRENGTH, rel=0.04)


@pytest.mark.parametrize("slope", [4.0, 8.0, 12.0])
def test_what_the_tracker_sees_is_known(slope):
    model, power, coherent, _ = spectra(STRENGTH, slope=slope)
    assert fitted(power, coherent, model) == pytest.approx(STRENGTH, rel=0.04)


def test_trackers_of_steep_objects_leave_more_motion_at_fine_detail():
    table, q = seeing_table(), np.array([0.18, 0.22])
    left = np.array([table.at(STRENGTH, q, slope)[1] for slope in (3.0, 4.0, 5.0, 10.0, 15.0, 30.0)])
    assert np.all(np.diff(left[:-1], axis=0) < 0)
    np.testing.assert_array_equal(left[-1], left[-2])
    np.testing.assert_array_equal(left[2], table.at(STRENGTH, q)[1])
    np.testing.assert_allclose(left[1], np.sqrt(left[0] * left[2]))


def test_frequencies_with_little_coherent_power_hardly_count():
    model, power, coherent, q = spectra(STRENGTH)
    known = fitted(power, coherent, model)
    ratio = coherent / power
    for factor in (0.6, 1.5):
        faint = np.where((ratio < 0.2) & (q > 0.1), factor, 1.0)
        assert fitted(power, coherent * faint, model) == pytest.approx(known, rel=0.03)


def test_burst_without_structure_is_refused():
    with pytest.raises(ReconstructionError, match="too few frames"):
        reconstruct(np.full((6, 64, 64), 700, np.float32), 0.06, 430.5)


def test_what_noise_hides_does_not_decide_on_the_seeing():
    """No seeing at all, and a level of the noise that is wrong by a twentieth."""
    model, power, coherent, _ = spectra(0.0)
    noise = np.full_like(power, 1e-4 * power[0])
    wrong = np.maximum(coherent - 0.05 * noise, 0.0)
    assert fitted(power, wrong, model, noise=noise) < 0.6
    # Without a word of the noise this looks like seeing.
    assert fitted(power, wrong, model) > 2.0


@pytest.mark.parametrize("shape", [(200, 240), (SIZE, 400), (600, 600)])
def test_subfields_for_the_fit_stay_inside_where_there_is_room(shape):
    shifts = np.array([[3, -12], [-5, 9], [0, 0]])
    lattice = inner_lattice(shape, SIZE, shifts)
    assert lattice.inner.all()
    for starts, length, moved in zip((lattice.rows, lattice.columns), shape, (5, 12), strict=True):
        assert len(starts) == len(set(starts.tolist()))
        room = min(moved, (length - SIZE) // 2)
        assert starts[0] == room
        assert abs(starts[-1] + SIZE - length + room) <= 1
