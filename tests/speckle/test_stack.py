"""Tile-aligned mean of a burst, against bursts whose motion is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from stillsun.core.backend import get_backend
from stillsun.errors import InputError
from stillsun.speckle.stack import tile_aligned_mean
from stillsun.synth.imaging import Imager
from stillsun.synth.seeing import Atmosphere

CPU = get_backend("numpy", threads=2)
GENERIC = replace(CPU, is_gpu=True, name="generic")


@pytest.fixture(scope="module")
def scene():
    """A granulation-like field, (260, 260), mean 1000, contrast 10 %."""
    noise = np.random.default_rng(5).normal(size=(260, 260))
    field = scipy.ndimage.gaussian_filter(noise, 2.0) - scipy.ndimage.gaussian_filter(noise, 5.0)
    return (1000 * (1 + 0.1 * field / field.std())).astype(np.float32)


def moved(scene, shifts, shape):
    """Frames whose content is moved by -shift, so that +shift brings it to where the scene has it."""
    rows, columns = shape
    return np.stack([scene[40 + y : 40 + y + rows, 40 + x : 40 + x + columns] for y, x in shifts])


@pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["kernel", "generic"])
def test_whole_frame_motion_is_undone_without_interpolation(scene, backend):
    shifts = np.array([(0, 0), (9, -4), (-9, 4), (3, 12), (-3, -12)])
    result = tile_aligned_mean(moved(scene, shifts, (150, 171)), tile=48, backend=backend)
    truth = scene[40:190, 40:211]
    assert result.image.dtype == np.float32
    np.testing.assert_allclose(result.image, truth, rtol=1e-6)
    np.testing.assert_allclose(
        result.shifts, np.broadcast_to(shifts[:, :, None, None], result.shifts.shape), atol=0.3
    )
    assert result.shifts.shape == (5, 2, len(result.centres[0]), len(result.centres[1]))


def test_motion_that_differs_over_the_field_is_undone(scene):
    rows, columns = np.indices((200, 200)).astype(float)
    truth = scene[30:230, 30:230]
    phase = 2 * np.pi * np.arange(8) / 8
    frames = np.stack(
        [
            scipy.ndimage.map_coordinates(
                scene,
                [rows + 30 + 4 * np.sin(p + rows / 60), columns + 30 + 4 * np.cos(p + columns / 50)],
                order=3,
            )
            for p in phase
        ]
    )
    result = tile_aligned_mean(frames, tile=64, backend=CPU)
    inner = np.s_[8:-8, 8:-8]
    before, after = (np.std((image - truth)[inner]) for image in (frames.mean(axis=0), result.image))
    assert after < 0.25 * before
    y, x = np.meshgrid(*result.centres, indexing="ij")
    expected = np.stack([[4 * np.sin(p + y / 60), 4 * np.cos(p + x / 50)] for p in phase])
    assert np.sqrt(np.mean((result.shifts - expected)[:, :, 1:-1, 1:-1] ** 2)) < 0.25


def test_turbulence_sharper_than_the_plain_mean(scene):
    imager = Imager((128, 128), np.diag([0.06, 0.06]), (0.0, 0.0), 430.5e-9)
    rows, columns = len(imager.rows), len(imager.columns)
    prepared = imager.prepare(scene[:rows, :columns])
    atmosphere = Atmosphere(r0=0.10, seed=3, frozen=False)
    frames = np.stack([imager.expose(prepared, atmosphere, 0.03 * k)[0] for k in range(16)])
    truth = imager.ideal(prepared)
    result = tile_aligned_mean(frames, backend=CPU)

    def contrast(image):
        return np.std(image[16:-16, 16:-16])

    def likeness(image):
        return max(
            np.corrcoef(
                np.roll(image, (y, x), (0, 1))[16:-16, 16:-16].ravel(), truth[16:-16, 16:-16].ravel()
            )[0, 1]
            for y in range(-4, 5)
            for x in range(-4, 5)
        )

    plain = frames.mean(axis=0)
    assert contrast(result.image) > 1.1 * contrast(plain)
    assert likeness(result.image) > likeness(plain) + 0.05


def test_noise_stays_white_and_falls_with_the_number_of_frames(scene):
    rng = np.random.default_rng(1)
    truth = scene[40:200, 40:200]
    frames = truth + rng.normal(scale=30, size=(16, 160, 160))
    image = tile_aligned_mean(frames, backend=CPU).image
    noise = image - truth
    assert np.std(noise) == pytest.approx(30 / 4, rel=0.1)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1]) / np.var(noise)
    assert abs(neighbours) < 0.05
    assert image.mean() == pytest.approx(frames.mean(), rel=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (31, 20), (64, 200), (97, 33)])
def test_any_size_gives_every_pixel(scene, shape):
    frames = np.repeat(scene[None, : shape[0], : shape[1]], 3, axis=0)
    image = tile_aligned_mean(frames, backend=CPU).image
    np.testing.assert_allclose(image, frames[0], rtol=1e-6)


def test_constant_burst_and_single_frame(scene):
    np.testing.assert_allclose(tile_aligned_mean(np.full((4, 90, 90), 7.0), backend=CPU).image, 7, rtol=1e-6)
    zero = tile_aligned_mean(np.zeros((4, 90, 90)), backend=CPU)
    assert not zero.image.any()
    assert not zero.shifts.any()
    np.testing.assert_allclose(tile_aligned_mean(scene[None], backend=CPU).image, scene, rtol=1e-6)


def test_kernel_equals_formula(scene):
    rng = np.random.default_rng(2)
    shifts = rng.integers(-12, 13, size=(6, 2))
    frames = moved(scene, shifts, (101, 130)) + rng.normal(scale=20, size=(6, 101, 130)).astype(np.float32)
    kernel, formula = (tile_aligned_mean(frames, tile=40, backend=b) for b in (CPU, GENERIC))
    np.testing.assert_allclose(kernel.image, formula.image, rtol=1e-6)
    np.testing.assert_array_equal(kernel.shifts, formula.shifts)


def test_same_bytes_whatever_the_threads(scene):
    frames = moved(scene, [(0, 0), (3, 1), (-5, 2)], (150, 150))
    one, two = (tile_aligned_mean(frames, backend=get_backend("numpy", threads=n)) for n in (1, 2))
    assert one.image.tobytes() == two.image.tobytes()


def test_what_is_no_burst_is_refused(scene):
    for wrong in (scene, scene[None, :5], np.empty((0, 20, 20))):
        with pytest.raises(InputError, match="not a burst"):
            tile_aligned_mean(wrong, backend=CPU)
    broken = np.array(scene[None])
    broken[0, 3, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        tile_aligned_mean(broken, backend=CPU)


def test_progress_counts_tiles(scene):
    seen = []
    result = tile_aligned_mean(scene[None], backend=CPU, progress=lambda *n: seen.append(n))
    tiles = result.shifts.shape[2] * result.shifts.shape[3]
    assert seen[-1] == (tiles, tiles)
