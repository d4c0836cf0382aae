"""Transfer functions behind adaptive optics: against theory, Monte Carlo, and a simulated burst."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from stillsun import reconstruct
from stillsun.errors import ConfigError
from stillsun.speckle.masking.adaptive_field import Field, FieldCurves, Turbulence
from stillsun.speckle.masking.adaptive_transfer import residual_transfer, tracking_table, transfer_sums
from stillsun.speckle.masking.adaptive_wavefront import residual_wavefront, von_karman_covariance
from stillsun.speckle.masking.geometry import subfield_lattice
from stillsun.speckle.masking.transfer import seeing_table
from stillsun.synth.imaging import Imager
from stillsun.synth.mirror import AdaptiveOptics
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import Atmosphere, Layer

Q = np.linspace(0.0, 0.98, 50)
SCALE, WAVELENGTH, R0 = 0.06, 430.5, 0.10


def test_structure_function_is_kolmogorovs_within_the_outer_scale():
    distance = np.array([0.02, 0.1, 0.5])
    structure = 2 * (von_karman_covariance(0.0, 1e5) - von_karman_covariance(distance, 1e5))
    assert structure == pytest.approx(6.88 * distance ** (5 / 3), rel=0.04)


@pytest.mark.parametrize(("modes", "left"), [(2, 0.134), (9, 0.0377), (20, 0.0208)])
def test_perfect_correction_leaves_nolls_variance(modes, left):
    covariance = residual_wavefront(modes).corrected(1.0).covariance(0, 1.0, 0.3)
    variance = np.trace(covariance) / len(covariance) - covariance.mean()
    assert variance == pytest.approx(left, rel=0.12)


def test_correction_fades_with_the_distance_and_only_for_the_high_layer():
    wavefront = residual_wavefront(9).corrected(0.9)

    def variance(number, share):
        covariance = wavefront.covariance(number, 1.0, share)
        return np.trace(covariance) / len(covariance) - covariance.mean()

    places = range(len(wavefront.high))
    assert np.ptp([variance(n, 0.0) for n in places]) < 1e-9
    assert (np.diff([variance(n, 0.5) for n in places]) > 0).all()


def _pairs(wavefront):
    """Numbers of the points of the pairs, vector by vector."""
    pairs = wavefront.pairs
    for start, end in zip(pairs.start[:-1], pairs.start[1:], strict=True):
        yield pairs.first[start:end], pairs.second[start:end]


def test_sums_are_those_of_the_formula():
    wavefront = residual_wavefront(5)
    covariance = wavefront.corrected(0.8).covariance(3, 5.0, 0.3)
    for first, second in list(_pairs(wavefront))[4:60:17]:
        step = np.zeros((len(first), len(covariance)))
        step[np.arange(len(first)), second] = 1
        step[np.arange(len(first)), first] = -1
        together = step @ covariance @ step.T
        single = np.diag(together)
        square = np.exp(together - (single[:, None] + single) / 2).mean()
        found = transfer_sums(covariance.astype(np.float32), first, second)
        assert found == pytest.approx((square, np.exp(-single / 2).mean()), rel=1e-3)


def test_sums_are_means_over_wavefronts():
    rng = np.random.default_rng(0)
    wavefront = residual_wavefront(9)
    covariance = wavefront.corrected(0.9).covariance(2, 4.0, 0.3)
    covariance -= covariance.mean(axis=0) + covariance.mean(axis=1)[:, None] - covariance.mean()
    values, vectors = np.linalg.eigh(covariance)
    phases = rng.standard_normal((2000, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    first, second = list(_pairs(wavefront))[5]
    transfer = np.exp(1j * (phases[:, second] - phases[:, first])).mean(axis=1)
    square, mean = transfer_sums(covariance.astype(np.float32), first, second)
    assert square == pytest.approx(np.mean(np.abs(transfer) ** 2), rel=0.05)
    assert mean == pytest.approx(transfer.mean().real, rel=0.05)


def test_a_sensor_that_averages_leaves_what_frozen_screens_say():
    """Power of the transfer function over the field, against the wavefronts of the simulator."""
    optics = AdaptiveOptics(35, 0.95, order=8.0, field=8.0, lag=0.002)
    layers = (Layer(0.0, 0.7, 10.0, 30.0), Layer(6000.0, 0.3, 10.0, 100.0))
    imager = Imager((64, 64), SCALE * np.eye(2), (0.0, 0.0), WAVELENGTH * 1e-9, optics=optics, step=64)
    arcsec = np.pi / 648_000
    imager._directions = np.array([[0.0, 0.0], [6.0, 0.0]]) * arcsec
    step = np.diff(np.unique(imager._pupil[:, 0].round(9)))[0]
    column, row = np.rint((imager._pupil - imager._pupil.min(axis=0)) / step).astype(int).T
    air = Atmosphere(layers, R0 * (500 / WAVELENGTH) ** 1.2, 20.0, seed=8, frozen=False)
    side, count = column.max() + 1, 200
    lags = np.array([side // 8, side // 4, side // 2])
    power = np.zeros((2, len(lags)))
    for key in range(count):
        phases = np.full((2, side, side), np.nan)
        phases[:, row, column] = imager._paths(air, float(key), 1.0, 0.0) * (2 * np.pi / WAVELENGTH * 1e9)
        for k, lag in enumerate(lags):
            along, across = phases[:, :, lag:] - phases[:, :, :-lag], phases[:, lag:] - phases[:, :-lag]
            for moved in (along, across):
                power[:, k] += np.abs(np.nanmean(np.exp(1j * moved), axis=(1, 2))) ** 2 / (2 * count)
    wavefront = residual_wavefront(35)
    turbulence = Turbulence(0.762 / R0, 0.3, 6000.0, 0.95, 8.0)
    lattice = subfield_lattice((300, 300), 100, 0.3)
    field = Field(lattice, (SCALE, SCALE), (150.0, 150.0), 35, 0.762, 0.3, 8.0, 0.02)
    found = FieldCurves(wavefront, field).speckle(turbulence, np.array([0.0, 6.0]) * arcsec)
    at = lags * step / 0.762
    expected = np.stack([np.interp(at, FieldCurves.q, row) for row in found])
    assert power == pytest.approx(expected, rel=0.12)


def test_without_correction_it_is_the_table_of_the_seeing():
    wavefront, table = residual_wavefront(24), seeing_table()
    inside = (Q > 0.1) & (Q < 0.6)
    for strength in (4.0, 8.0):
        found = residual_transfer(wavefront.corrected(0.0), [4], Q, strength, 0.4)
        speckle, long = table.at(strength, Q)
        assert found.speckle[0, inside] == pytest.approx(speckle[inside], rel=0.1)
        ratio = tracking_table().correct(Q, found.coherent[0] / found.speckle[0])
        expected = long / np.sqrt(speckle)
        assert np.sqrt(ratio[inside]) == pytest.approx(expected[inside], abs=0.05)
        strong = (expected > 0.4) & (Q < 0.6)
        assert np.sqrt(ratio[strong]) == pytest.approx(expected[strong], abs=0.03)


def test_tracker_takes_a_tilt_for_what_it_is():
    wavefront = residual_wavefront(24)
    tracker = residual_transfer(wavefront.corrected(0.9), [0], Q, 6.0, 0.3).tracker[0]
    assert tracker @ wavefront.points[:, ::-1] == pytest.approx(np.eye(2), abs=1e-6)


def _field(lock, modes=24):
    lattice = subfield_lattice((300, 300), 100, 0.3)
    return Field(lattice, (0.06, 0.06), lock, modes, 0.762, 0.3)


def test_field_is_sharpest_at_the_lock_point():
    field = _field((75.0, 220.0))
    curves = FieldCurves(residual_wavefront(24), field).at(Turbulence(7.0, 0.3, 6000.0, 0.9))
    sharp = curves.speckle[:, 15].reshape(field.lattice.counts)
    rows, columns = field.lattice.centres
    row, column = np.unravel_index(sharp.argmax(), sharp.shape)
    assert abs(rows[row] - 75) < 10
    assert abs(columns[column] - 220) < 10
    assert field.angles(0)[0, 0] == pytest.approx(
        np.radians(0.06 / 3600) * np.hypot(field.lattice.rows[0] - 75, field.lattice.columns[0] - 220)
    )


def test_tracker_is_linear_where_nothing_is_lost():
    assert tracking_table().correct(Q, np.ones_like(Q)) == pytest.approx(1.0)
    # Along a weak loss the gain is that of its square: a tenth of the loss, a hundredth of the gain.
    gain = [
        np.max(np.abs(np.log(tracking_table().correct(Q, np.exp(-s * Q)) / np.exp(-s * Q))))
        for s in (0.01, 1)
    ]
    assert gain[0] < 0.03 * gain[1]


def test_a_subfield_follows_what_its_parts_have_in_common():
    # Beyond tilt: all of it with turbulence on the ground, the less the higher the rest.
    def gain(share, height):
        curves = FieldCurves(residual_wavefront(3), _field((150.0, 150.0), 3))
        turbulence = Turbulence(8.0, share, height, 0.0)
        linear = curves._tables(turbulence)[1]
        return float(np.log(curves._ladder(turbulence)[1] / linear)[20, 10])

    whole, near, far = gain(1e-6, 9000.0), gain(0.6, 2000.0), gain(0.6, 9000.0)
    assert whole > 0.1
    assert 0.95 * whole > near > 1.5 * far > 0


def test_a_subfield_loses_coherence_by_motion_within_it():
    # All in high turbulence: the larger the height, the more parts move against each other.
    curves = FieldCurves(residual_wavefront(3), _field((150.0, 150.0), 3))
    ratios = []
    for height in (1.0, 3000.0, 9000.0):
        found = curves.at(Turbulence(4.0, 1.0, height, 0.0))
        ratios.append((found.coherent / found.speckle)[:, 12])
    assert (ratios[0] > ratios[1]).all()
    assert (ratios[1] > ratios[2]).all()


@pytest.fixture(scope="module")
def corrected():
    """A burst behind adaptive optics that lock off the centre: burst, truth, lock point (x, y) in px."""
    side, lock = 300, (-3.0, 1.8)
    imager = Imager(
        (side, side),
        SCALE * np.eye(2),
        (0.0, 0.0),
        WAVELENGTH * 1e-9,
        optics=AdaptiveOptics(24, 0.9, lock),
        step=32,
    )
    corner = -SCALE * (np.array([side, side]) - 1) / 2
    scene = granulation_scene(25.0, 3).image(
        corner, SCALE * np.eye(2), imager.rows, imager.columns, 0.0, Appearance.gband
    )
    prepared = imager.prepare(scene / scene.mean())
    atmosphere = Atmosphere(r0=R0 * (500 / WAVELENGTH) ** 1.2, seed=4, frozen=False)
    rng = np.random.default_rng(4)
    burst = np.stack([imager.expose(prepared, atmosphere, float(k))[0] for k in range(40)])
    burst = rng.poisson(np.maximum(burst, 0) * 12_000).astype(np.float32)
    middle = (side - 1) / 2
    return burst, imager.ideal(prepared), (middle + lock[0] / SCALE, middle + lock[1] / SCALE)


def _contrast(image, truth, place=slice(40, -40)):
    image, truth = image[place, place] / image.mean(), truth[place, place] / truth.mean()
    return image.std() / truth.std()


OPTIONS = {"deconvolve": False, "max_iterations": 3, "backend": "numpy"}


@pytest.fixture(scope="module")
def found(corrected):
    """Reconstruction with the field fitted."""
    burst, _, (x, y) = corrected
    return reconstruct(burst, SCALE, WAVELENGTH, ao_used=True, ao_lock_x=x, ao_lock_y=y, **OPTIONS)


def test_amplitudes_behind_adaptive_optics(corrected, found):
    _, truth, (x, y) = corrected
    assert np.isfinite(found.image).all()
    assert found.r0 == pytest.approx(R0, rel=0.25)
    assert np.nanmedian(found.r0_map) == pytest.approx(found.r0, rel=0.2)
    assert _contrast(found.image, truth) == pytest.approx(1.0, abs=0.1)
    # As sharp at the lock point as far from it, where the correction has faded.
    row, column = round(y), round(x)
    near = np.s_[row - 30 : row + 30, column - 30 : column + 30]
    far = np.s_[40:100, 200:260]
    ratios = [
        (found.image[part].std() / found.image.mean()) / (truth[part].std() / truth.mean())
        for part in (near, far)
    ]
    assert ratios == pytest.approx([1.0, 1.0], abs=0.15)


def test_a_burst_without_correction_is_taken_as_such():
    side = 240
    imager = Imager((side, side), SCALE * np.eye(2), (0.0, 0.0), WAVELENGTH * 1e-9, step=64)
    corner = -SCALE * (np.array([side, side]) - 1) / 2
    scene = granulation_scene(25.0, 6).image(
        corner, SCALE * np.eye(2), imager.rows, imager.columns, 0.0, Appearance.gband
    )
    prepared = imager.prepare(scene / scene.mean())
    atmosphere = Atmosphere(r0=R0 * (500 / WAVELENGTH) ** 1.2, seed=9, frozen=False)
    burst = np.stack([imager.expose(prepared, atmosphere, float(k))[0] for k in range(16)])
    told = reconstruct(burst, SCALE, WAVELENGTH, ao_used=True, **OPTIONS)
    plain = reconstruct(burst, SCALE, WAVELENGTH, **OPTIONS)
    np.testing.assert_array_equal(told.image, plain.image)
    assert any("no correction by adaptive optics is seen" in note for note in told.notes)


def test_taken_for_tip_tilt_only_contrast_is_missed(corrected):
    burst, truth, _ = corrected
    plain = reconstruct(burst, SCALE, WAVELENGTH, **OPTIONS)
    assert plain.r0 > 1.6 * R0
    assert _contrast(plain.image, truth) < 0.85


def test_wrong_lock_point_shows(corrected, found):
    burst, truth, _ = corrected
    wrong = reconstruct(burst, SCALE, WAVELENGTH, ao_used=True, ao_lock_x=260, ao_lock_y=20, **OPTIONS)
    right, other = (
        np.std((image / image.mean() - truth / truth.mean())[40:-40, 40:-40])
        for image in (found.image, wrong.image)
    )
    assert right < 0.9 * other


@pytest.mark.parametrize("modes", [2, 67])
def test_modes_out_of_range_are_refused(modes):
    with pytest.raises(ConfigError, match="ao_modes"):
        reconstruct(np.ones((4, 200, 200)), 0.05, 430.5, ao_used=True, ao_modes=modes)


def test_the_fit_does_not_depend_on_threads(corrected):
    """One more thread of the matrix library, and sums are taken in another order."""
    burst, _, (x, y) = corrected
    part = burst[:12, :200, :200]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(
                reconstruct(part, SCALE, WAVELENGTH, ao_used=True, ao_lock_x=x, ao_lock_y=y, **OPTIONS)
            )
    np.testing.assert_array_equal(found[0].image, found[1].image)
    assert found[0].r0 == found[1].r0
