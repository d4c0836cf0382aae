"""Turbulence and imaging against theory: Noll's variances, flux, identity without turbulence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j0

from stillsun.core.zernike import noll_indices, zernike_basis
from stillsun.errors import ConfigError
from stillsun.synth.imaging import ARCSEC, Imager
from stillsun.synth.mirror import AdaptiveOptics
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import REFERENCE_WAVELENGTH_M, Atmosphere, Layer

GROUND = (Layer(0.0, 1.0, 6.0, 30.0),)
DIAMETER = 0.762
SHAPE = (150, 170)
JACOBIAN = np.array([[0.0598, 0.0006], [-0.0006, 0.0604]])
WAVELENGTH = 430.5e-9


@pytest.fixture(scope="module")
def imager():
    return Imager(SHAPE, JACOBIAN, (0.3, -0.2), WAVELENGTH)


@pytest.fixture(scope="module")
def scene(imager):
    sun = granulation_scene(25.0, 7)
    corner = np.array([0.3, -0.2]) - JACOBIAN @ (np.array(SHAPE[::-1]) - 1) / 2
    return sun.image(corner, JACOBIAN, imager.rows, imager.columns, 0.0, Appearance.gband)


@pytest.fixture(scope="module")
def atmosphere():
    return Atmosphere(GROUND, r0=0.10, seed=3, frozen=False)


def pupil_points():
    axis = np.linspace(-1, 1, 41)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    inside = np.hypot(x, y) <= 1
    return x[inside], y[inside]


def test_zernike_order_is_nolls():
    assert noll_indices(11) == [
        (0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0),
    ]  # fmt: skip


def test_zernikes_are_orthonormal():
    x, y = pupil_points()
    basis = zernike_basis(x, y, 10)
    np.testing.assert_allclose(basis @ basis.T / len(x), np.eye(10), atol=0.06)


@pytest.mark.parametrize(("modes", "noll"), [(3, 0.134), (21, 0.0208)])
def test_variance_left_after_modes_is_nolls(atmosphere, modes, noll):
    x, y = pupil_points()
    basis = zernike_basis(x, y, modes)
    solver = np.linalg.pinv(basis.T)
    points = np.stack([x, y], axis=1) * DIAMETER / 2
    variance = []
    for k in range(400):
        path = atmosphere.path(points, np.zeros((1, 2)), 1e-3 * k)[0].astype(float)
        rest = path - (solver @ path) @ basis
        variance.append(np.mean(rest**2))
    phase = np.mean(variance) * (2 * np.pi / REFERENCE_WAVELENGTH_M) ** 2
    # The outer scale (20 m) takes a little away, the screens' pixels (2 cm) too.
    assert phase / (DIAMETER / 0.10) ** (5 / 3) == pytest.approx(noll, rel=0.07)


def test_structure_function_is_von_karmans():
    outer = 20.0
    air = Atmosphere(GROUND, r0=0.10, outer_scale=outer, seed=5, frozen=False)
    distances = np.array([0.06, 0.20, 0.60])
    points = np.concatenate([np.zeros((1, 2)), distances[:, None] * [0.8, 0.6]])
    paths = np.array([air.path(points, np.zeros((1, 2)), 1e-3 * k)[0] for k in range(3000)], dtype=float)
    phase = paths * 2 * np.pi / REFERENCE_WAVELENGTH_M
    measured = np.mean((phase[:, 1:] - phase[:, :1]) ** 2, axis=0)
    f = np.geomspace(1e-4, 1e3, 40_000)
    power = 0.0229 * 0.10 ** (-5 / 3) * (f**2 + outer**-2) ** (-11 / 6)
    theory = [2 * np.trapezoid(power * (1 - j0(2 * np.pi * f * d)) * 2 * np.pi * f, f) for d in distances]
    np.testing.assert_allclose(measured, theory, rtol=0.08)


def test_frozen_flow_moves_with_the_wind():
    air = Atmosphere((Layer(0.0, 1.0, 8.0, 90.0),), seed=2)
    points = np.array([[0.1, 0.2], [-0.3, 0.05]])
    later = air.path(points + np.array([0.0, 8.0 * 0.05]), np.zeros((1, 2)), 0.05)
    np.testing.assert_allclose(later, air.path(points, np.zeros((1, 2)), 0.0), rtol=1e-4, atol=1e-11)


def test_image_without_turbulence_is_the_diffraction_limited_one(imager, scene, atmosphere):
    prepared = imager.prepare(scene)
    image, shifts = imager.expose(prepared, atmosphere, 0.0, strength=0.0)
    np.testing.assert_allclose(image, imager.ideal(prepared), atol=1e-6)
    assert np.abs(shifts).max() == 0


def test_ideal_image_is_the_convolution_with_the_airy_function(imager, scene):
    """An independent statement: transfer function of a circle, over the whole scene at once."""
    frequency = np.stack(np.meshgrid(np.fft.fftfreq(scene.shape[1]), np.fft.fftfreq(scene.shape[0])), axis=-1)
    cycles = frequency @ np.linalg.inv(JACOBIAN * ARCSEC)  # cycles a radian
    q = np.clip(np.hypot(cycles[..., 0], cycles[..., 1]) * WAVELENGTH / DIAMETER, 0, 1)
    transfer = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q**2))
    expected = np.fft.ifft2(np.fft.fft2(scene) * transfer).real[64 : 64 + SHAPE[0], 64 : 64 + SHAPE[1]]
    ideal = imager.ideal(imager.prepare(scene))
    assert np.std(ideal - expected) < 0.004 * np.std(expected) + 5e-4
    assert ideal.mean() == pytest.approx(expected.mean(), rel=1e-3)


def test_every_field_point_shows_the_scene_through_its_own_function(imager, scene):
    """At a field point the image is that of a telescope that sees its direction through no other air."""
    high = Atmosphere([Layer(9000.0, 1.0, 5.0, 0.0)], 0.08, 20.0, 5)
    image = imager.expose(imager.prepare(scene), high, 0.0)[0]
    middle = (np.array(SHAPE[::-1]) - 1) / 2
    for row, column in ((64, 64), (0, 128)):
        centre = np.array([0.3, -0.2]) + JACOBIAN @ (np.array([column, row]) - middle)
        ground = Atmosphere([Layer(0.0, 1.0, 5.0, 0.0)], 0.08, 20.0, 5)
        # All directions see what this one sees: the start of the ground layer is moved to its footprint.
        ground._start = ground._start + 9000.0 * centre * ARCSEC
        alone = imager.expose(imager.prepare(scene), ground, 0.0)[0]
        near = slice(row, row + 1), slice(column, column + 1)
        np.testing.assert_allclose(image[near], alone[near], atol=1e-4)
        assert np.abs(image - alone).max() > 0.02


def test_blending_adds_nothing_where_the_field_sees_the_same(imager, scene):
    """Ground turbulence, a scene with a steep edge: one convolution, to the precision of the numbers."""
    steep = scene.copy()
    steep[:, 100:] *= 0.2
    air = Atmosphere(GROUND, 0.07, seed=2)
    image = imager.expose(imager.prepare(steep), air, 0.0)[0]
    wide = Imager((64, 64), JACOBIAN, JACOBIAN @ [17, 7] + [0.3, -0.2], WAVELENGTH)
    one = steep[60 : 60 + len(wide.rows), 70 : 70 + len(wide.columns)]
    part = wide.expose(wide.prepare(one), air, 0.0)[0]
    np.testing.assert_allclose(image[60:124, 70:134], part, atol=3e-6)


def test_flux_is_kept(imager, scene, atmosphere):
    prepared = imager.prepare(scene)
    means = [imager.expose(prepared, atmosphere, 0.01 * k)[0].mean() for k in range(6)]
    assert np.mean(means) == pytest.approx(imager.ideal(prepared).mean(), rel=0.01)


def test_turbulence_blurs_and_depends_on_r0(imager, scene):
    prepared = imager.prepare(scene)
    sharp = imager.ideal(prepared).std()
    contrast = {}
    for r0 in (0.05, 0.10, 0.20):
        air = Atmosphere(r0=r0, seed=4, frozen=False)
        contrast[r0] = np.mean([imager.expose(prepared, air, 0.01 * k)[0].std() for k in range(6)])
    assert contrast[0.05] < contrast[0.10] < contrast[0.20] < sharp
    assert contrast[0.10] < 0.75 * sharp


def test_stated_shifts_are_those_of_the_image(imager, scene):
    """Weak seeing moves the image: the measured motion is the stated one, in sign and size."""
    prepared = imager.prepare(scene)
    ideal = imager.ideal(prepared)
    air = Atmosphere(GROUND, r0=0.3, seed=6, frozen=False)
    window = np.outer(np.hanning(SHAPE[0]), np.hanning(SHAPE[1]))
    reference = np.fft.fft2((ideal - ideal.mean()) * window)
    stated, seen = [], []
    for k in range(12):
        image, shifts = imager.expose(prepared, air, 0.01 * k)
        product = np.fft.fft2((image - image.mean()) * window) * reference.conj()
        correlation = np.fft.ifft2(product).real
        peak = np.unravel_index(np.argmax(correlation), correlation.shape)
        seen.append([(p + n // 2) % n - n // 2 for p, n in zip(peak, SHAPE, strict=True)])
        stated.append(shifts.mean(axis=(1, 2)))
    stated, seen = np.array(stated), np.array(seen)
    assert stated.std() > 0.5
    assert np.sqrt(np.mean((stated - seen) ** 2)) < 0.5


def test_ground_layer_moves_the_field_as_one_and_high_layer_does_not(imager, scene):
    prepared = imager.prepare(scene)
    spread = {}
    for height in (0.0, 10_000.0):
        air = Atmosphere((Layer(height, 1.0, 6.0, 0.0),), seed=8)
        spread[height] = imager.expose(prepared, air, 0.0)[1].std(axis=(1, 2)).max()
    assert spread[0.0] < 1e-3
    assert spread[10_000.0] > 0.1


def test_channels_share_their_seeing():
    """Cameras of other scale, orientation and colour see the same motion on the sky."""
    air = Atmosphere(GROUND, seed=9)
    turned = np.array([[0.0, -0.0843], [-0.0838, 0.0]])
    motion = []
    for jacobian, wavelength in ((JACOBIAN, WAVELENGTH), (turned, 656.3e-9)):
        camera = Imager((70, 70), jacobian, (0, 0), wavelength)
        flat = camera.prepare(np.ones((len(camera.rows), len(camera.columns)), dtype=np.float32))
        shifts = camera.expose(flat, air, 0.2)[1].mean(axis=(1, 2))
        motion.append(jacobian @ shifts[::-1])
    np.testing.assert_allclose(motion[0], motion[1], rtol=0.03, atol=0.003)
    assert np.hypot(*motion[0]) > 0.02


def test_adaptive_optics_correct_most_where_they_are_locked():
    layers = (Layer(0.0, 0.6, 6.0, 30.0), Layer(9000.0, 0.4, 15.0, 100.0))
    shape = (300, 300)
    jacobian = np.eye(2) * 0.06
    optics = AdaptiveOptics(20, 0.9, lock=(-4.0, 0.0))
    camera = Imager(shape, jacobian, (0, 0), WAVELENGTH, optics=optics)
    open_loop = Imager(shape, jacobian, (0, 0), WAVELENGTH)
    flat = camera.prepare(np.ones((len(camera.rows), len(camera.columns)), dtype=np.float32))
    residual, free = [], []
    air = Atmosphere(layers, seed=20)
    for k in range(8):
        residual.append(camera.expose(flat, air, 0.4 * k)[1])
        free.append(open_loop.expose(flat, air, 0.4 * k)[1])
    left = np.sqrt(np.mean(np.array(residual) ** 2, axis=(0, 1)))
    whole = np.sqrt(np.mean(np.array(free) ** 2, axis=(0, 1)))
    # The lock point lies at column 83, row 149.5: grid point (2, 1).
    assert left[2, 1] < 0.25 * whole[2, 1]
    assert left[2, 5] > 1.5 * left[2, 1]


def corrected(optics, air, directions=((0.0, 0.0),), times=12):
    """Rms path difference that is left, in each direction."""
    camera = Imager((1, 1), JACOBIAN, (0, 0), WAVELENGTH, optics=optics)
    solver = np.linalg.pinv(zernike_basis(*(camera._pupil.T / (DIAMETER / 2)), 2)[:1].T)
    left = []
    for k in range(times):
        paths = air.path(camera._pupil, np.array(directions) * ARCSEC, 0.3 * k)
        sensed = air.path(camera._pupil, camera._sensed, 0.3 * k, 1.0, optics.lag).mean(axis=0)
        paths = paths - (camera._solver @ sensed) @ camera._modes
        left.append(np.mean((paths - (solver @ paths.T).T) ** 2, axis=1))
    return np.sqrt(np.mean(left, axis=0))


def test_a_mirror_behind_the_sensor_leaves_more():
    air = Atmosphere((Layer(0.0, 1.0, 15.0, 30.0),), seed=21)
    late = [corrected(AdaptiveOptics(54, 1.0, lag=lag), air)[0] for lag in (0.0, 2e-3, 8e-3)]
    assert 1.1 * late[0] < late[1] < 0.6 * late[2]


def test_independent_exposures_have_the_lag_of_the_wind():
    layers = (Layer(0.0, 1.0, 15.0, 30.0),)
    optics = AdaptiveOptics(54, 1.0, lag=2e-3)
    frozen, free = (
        corrected(optics, Atmosphere(layers, seed=22, frozen=f), times=40)[0] for f in (True, False)
    )
    assert free == pytest.approx(frozen, rel=0.2)


def test_a_wide_sensor_sees_less_of_high_layers_and_all_of_the_ground():
    optics = [AdaptiveOptics(30, 1.0, field=field) for field in (0.0, 8.0)]
    air = Atmosphere(GROUND, seed=23)
    ground = [corrected(o, air, times=3)[0] for o in optics]
    assert ground[0] == pytest.approx(ground[1], rel=1e-3)
    high = Atmosphere((Layer(8000.0, 1.0, 10.0, 0.0),), seed=23)
    (narrow, narrow_off), (wide, wide_off) = (corrected(o, high, ((0, 0), (4.0, 0))) for o in optics)
    assert wide > 1.5 * narrow
    # What the middle loses the field around it gains.
    assert wide_off < narrow_off


def test_efficiency_falls_with_the_radial_order():
    shares = AdaptiveOptics(54, 0.9, order=5.0).shares()
    assert shares[:2] == pytest.approx([0.9, 0.9])
    radial = np.array([n for n, _ in noll_indices(55)[1:]])
    assert shares[radial == 5] == pytest.approx(0.45)
    assert (np.diff(shares) <= 0).all()
    np.testing.assert_array_equal(AdaptiveOptics(20, 0.7).shares(), np.full(20, 0.7))


def test_pixels_too_large_are_refused():
    with pytest.raises(ConfigError, match="too large"):
        Imager((64, 64), np.eye(2) * 0.15, (0, 0), WAVELENGTH)


def test_nearer_field_points_change_nothing_but_what_the_field_differs_in():
    scene_of = {}
    for step in (32, 64):
        camera = Imager(SHAPE, JACOBIAN, (0, 0), WAVELENGTH, step=step)
        rng = np.random.default_rng(4)
        whole = rng.random((SHAPE[0] + 400, SHAPE[1] + 400))
        scene = camera.prepare(whole[np.ix_(camera.rows + 150, camera.columns + 150)])
        ground, high = (
            Atmosphere([Layer(height, 1.0, 5.0, 0.0)], 0.1, 20.0, 1) for height in (0.0, 10_000.0)
        )
        scene_of[step] = [camera.expose(scene, air, 0.0)[0] for air in (ground, high)]
    inside = (slice(20, -20),) * 2
    same, different = (
        np.std((a - b)[inside]) / np.std(a[inside]) for a, b in zip(scene_of[32], scene_of[64], strict=True)
    )
    assert same < 0.03
    assert different > 3 * same
