"""The simulated Sun: granulation that lives, a flow that is known, images taken as they are."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from stillsun.errors import ConfigError, InputError
from stillsun.synth.flow import KM_PER_ARCSEC, Flow, FlowCell, default_flow
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.scene import Appearance, granulation_scene, image_scene

GRID = np.arange(-100, 100)
PIXEL = np.eye(2) * 0.06


@pytest.fixture(scope="module")
def sun():
    return granulation_scene(22.0, 11)


def view(scene, seconds=0.0, look=Appearance.continuum):
    return scene.image((0.0, 0.0), PIXEL, GRID, GRID, seconds, look)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_granulation_has_the_level_and_contrast_of_the_sun(sun):
    image = view(sun)
    assert image.dtype == np.float32
    assert image.mean() == pytest.approx(1.0, abs=0.04)
    assert 0.12 < image.std() / image.mean() < 0.24


def test_granules_have_their_size(sun):
    """The power of the pattern peaks between 1 and 2.5 arcsec."""
    image = sun.pattern(0.0)
    n = image.shape[0]
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    fy, fx = np.meshgrid(*[np.fft.fftfreq(n, sun.period[0] / n)] * 2, indexing="ij")
    f = np.hypot(fy, fx)
    bins = np.linspace(0.05, 3, 40)
    total = np.histogram(f, bins, weights=power * f)[0] / np.maximum(np.histogram(f, bins)[0], 1)
    peak = 0.5 * (bins[:-1] + bins[1:])[np.argmax(total)]
    assert 1 / 2.5 < peak < 1 / 1.0


def test_granules_live_for_minutes(sun):
    now = view(sun)
    assert correlation(now, view(sun, 10.0)) > 0.97
    assert 0.3 < correlation(now, view(sun, 180.0)) < 0.95
    assert correlation(now, view(sun, 3000.0)) < 0.25


def test_scene_is_periodic_and_continuous_in_time(sun):
    rows = np.arange(20)
    here = sun.image((1.0, 2.0), PIXEL, rows, rows, 3.0)
    there = sun.image((1.0 + sun.period[1], 2.0 - sun.period[0]), PIXEL, rows, rows, 3.0)
    np.testing.assert_allclose(here, there, atol=2e-3)
    before, after = view(sun, 10.0 - 1e-3), view(sun, 10.0 + 1e-3)
    assert np.abs(after - before).max() < 1e-3


def test_looks_differ_but_share_their_sun():
    scene = granulation_scene(22.0, 3, spots=[DarkSpot(0.0, 0.0, 1.5)])
    images = {look: view(scene, look=look) for look in Appearance}
    assert correlation(images[Appearance.gband], images[Appearance.continuum]) > 0.9
    assert correlation(images[Appearance.cak], images[Appearance.continuum]) < 0.6
    inside = np.hypot(*np.meshgrid(GRID, GRID)) * 0.06 < 0.8
    for look, image in images.items():
        assert image[inside].mean() < 0.75 * image.mean(), look
    assert images[Appearance.gband][inside].mean() < 0.45


def test_same_seed_same_sun():
    a, b, c = (granulation_scene(12.0, seed).pattern(17.0) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert correlation(a, c) < 0.3


def test_flow_speed_is_what_was_asked_for():
    flow = Flow((FlowCell(1.0, -2.0, 3.0, radial=0.8),))
    vx, vy = flow.velocity(np.array([4.0]), np.array([-2.0]))
    assert vx[0] * KM_PER_ARCSEC == pytest.approx(0.8)
    assert vy[0] == 0


def test_paths_backwards_undo_paths_forwards():
    flow = default_flow(10.0, 1.0)
    x, y = np.meshgrid(np.linspace(-9, 9, 7), np.linspace(-9, 9, 7))
    back = flow.origin(*flow.origin(x, y, 1500.0), -1500.0)
    np.testing.assert_allclose(back, [x, y], atol=1e-5)
    assert np.abs(np.array(flow.origin(x, y, 1500.0)) - [x, y]).max() > 0.8


def test_lattice_agrees_with_the_exact_path():
    flow = default_flow(10.0, 1.0)
    rows = np.arange(-80, 90)
    fast = flow.origin_on_grid(np.array([0.5, 0.2]), PIXEL, rows, rows, 600.0)
    x = 0.5 + 0.06 * rows[None, :] + 0 * rows[:, None]
    y = 0.2 + 0.06 * rows[:, None] + 0 * rows[None, :]
    np.testing.assert_allclose(fast, flow.origin(x, y, 600.0), atol=0.006)


def test_features_are_carried_by_the_flow(tmp_path):
    """A frozen image moves by velocity times time, with the flow's sign."""
    rng = np.random.default_rng(1)
    data = 1 + 0.1 * rng.standard_normal((64, 64)).repeat(4, 0).repeat(4, 1)
    fits.PrimaryHDU(data.astype(np.float32)).writeto(tmp_path / "sun.fits")
    # Near the middle of a vast vortex beside the field the flow is uniform: towards +x here.
    flow = Flow((FlowCell(0.0, 400.0, 400.0, azimuthal=1.0),))
    still, moving = (image_scene(tmp_path / "sun.fits", scale=0.06, flow=f) for f in (Flow(), flow))
    vx = flow.velocity(np.array([0.0]), np.array([0.0]))[0][0]
    assert vx * KM_PER_ARCSEC == pytest.approx(1.0, rel=0.01)
    seconds = 5 * 0.06 / vx
    later = view(moving, seconds)
    np.testing.assert_allclose(later[20:-20, 25:-20], view(still)[20:-20, 20:-25], atol=0.02)


def test_image_scene_keeps_the_pixels(tmp_path):
    rng = np.random.default_rng(2)
    data = np.zeros((60, 50), dtype=np.float32) + 7.0
    data[5:-6, 4:-3] = rng.uniform(900, 1100, (49, 43))
    hdu = fits.PrimaryHDU(data)
    hdu.header["BZERO"] = 32768
    hdu.writeto(tmp_path / "sun.fits", output_verify="ignore")
    scene = image_scene(tmp_path / "sun.fits", scale=0.05)
    inner = data[5:-6, 4:-3]
    rows, columns = np.arange(-24, 25), np.arange(-21, 22)
    image = scene.image((0.0, 0.0), np.eye(2) * 0.05, rows, columns, 0.0)
    np.testing.assert_allclose(image, inner / inner.mean(), rtol=1e-3)


def test_real_frame_as_scene(real_frame_path):
    scene = image_scene(real_frame_path("gband"))
    image = scene.pattern(0.0)
    assert image.mean() == pytest.approx(1.0, abs=1e-3)
    assert 0.11 < image.std() < 0.14
    assert image.shape[0] < 2 * 1002 - 100


def test_scene_files_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match="no such scene"):
        image_scene(tmp_path / "missing.fits")
    (tmp_path / "text.fits").write_text("no FITS at all")
    with pytest.raises(InputError, match=r"text\.fits"):
        image_scene(tmp_path / "text.fits")
    fits.PrimaryHDU(np.ones((40, 40), dtype=np.float32)).writeto(tmp_path / "flat.fits")
    with pytest.raises(InputError, match="cannot be used"):
        image_scene(tmp_path / "flat.fits")
    fits.PrimaryHDU(np.ones(40, dtype=np.float32)).writeto(tmp_path / "line.fits")
    with pytest.raises(InputError, match="two-dimensional"):
        image_scene(tmp_path / "line.fits")
