"""Contrast and sharpness of frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter, median_filter

from stillsun.core.backend import get_backend
from stillsun.core.quality import frame_change, frame_quality, median_gradient_similarity


def test_wave_of_known_contrast_and_gradient():
    x = np.arange(400)
    frame = np.broadcast_to(1000 * (1 + 0.1 * np.cos(2 * np.pi * x / 40)), (60, 400)).astype(np.float32)
    contrast, sharpness = frame_quality(frame[None], backend="numpy")
    assert contrast[0] == pytest.approx(0.1 / np.sqrt(2), rel=1e-5)
    # The difference over two pixels of a wave of frequency k is its slope times sinc(k).
    k = 2 * np.pi / 40
    assert sharpness[0] == pytest.approx(0.1 / np.sqrt(2) * np.sin(k), rel=5e-3)


def test_blur_lowers_sharpness_more_than_contrast():
    sharp = 1000 + 100 * gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 2)
    frames = np.stack([sharp, gaussian_filter(sharp, 2)]).astype(np.float32)
    contrast, sharpness = frame_quality(frames, backend="numpy")
    assert contrast[1] < 0.8 * contrast[0]
    assert sharpness[1] / sharpness[0] < 0.9 * contrast[1] / contrast[0]


def test_scale_does_not_matter_and_offset_does():
    frame = (1000 + 50 * np.random.default_rng(1).normal(size=(40, 50))).astype(np.float32)
    contrast, sharpness = frame_quality(np.stack([frame, 4 * frame, frame + 1000]), backend="numpy")
    assert contrast[1] == pytest.approx(contrast[0], rel=1e-6)
    assert sharpness[1] == pytest.approx(sharpness[0], rel=1e-6)
    assert contrast[2] == pytest.approx(contrast[0] / 2, rel=0.01)


def test_compiled_and_generic_agree_with_the_formula():
    frames = np.random.default_rng(2).uniform(500, 1500, (3, 31, 47)).astype(np.float32)
    host = get_backend("numpy", threads=2)
    compiled = frame_quality(frames, backend=host)
    generic = frame_quality(frames, backend=replace(host, is_gpu=True))
    double = frames.astype(np.float64)
    mean = double.mean(axis=(1, 2))
    across = (double[:, 1:-1, 2:] - double[:, 1:-1, :-2]) / 2
    along = (double[:, 2:, 1:-1] - double[:, :-2, 1:-1]) / 2
    expected = (double.std(axis=(1, 2)) / mean, np.sqrt((across**2 + along**2).mean(axis=(1, 2))) / mean)
    for found in (compiled, generic):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


def test_frames_without_light_have_no_quality():
    frames = np.zeros((2, 10, 10), dtype=np.float32)
    frames[1] = np.nan
    contrast, sharpness = frame_quality(frames, backend="numpy")
    assert np.isnan(contrast).all()
    assert np.isnan(sharpness).all()


def test_change_is_told_as_a_displacement():
    scene = gaussian_filter(np.random.default_rng(5).standard_normal((220, 240)), 2.5, mode="wrap")
    scene = 1000 + 80 * scene / scene.std()
    spectrum = np.fft.fft2(scene)
    for shift in (0.1, 0.4):
        # Per axis as far as along the diagonal, at another brightness and contrast.
        moved = np.fft.ifft2(fourier_shift(spectrum, (shift, -shift))).real
        change = frame_change(scene.astype(np.float32), (0.7 * moved - 50).astype(np.float32))
        assert change == pytest.approx(shift, rel=0.1)
    assert frame_change(scene, scene) < 1e-4
    other = gaussian_filter(np.random.default_rng(6).standard_normal((220, 240)), 2.5, mode="wrap")
    assert frame_change(scene, 1000 + 800 * other) > 2
    assert np.isnan(frame_change(scene, np.full_like(scene, 3.0)))


def test_median_gradient_similarity_is_its_formula():
    image = np.random.default_rng(5).normal(size=(23, 31)).astype(np.float32)

    def gradient(values):
        across = values[2:-2, 3:-1].astype(float) - values[2:-2, 1:-3]
        along = values[3:-1, 2:-2].astype(float) - values[1:-3, 2:-2]
        return np.hypot(across, along).sum()

    own, filtered = gradient(image), gradient(median_filter(image, 3))
    expected = 2 * own * filtered / (own**2 + filtered**2)
    assert median_gradient_similarity(image) == pytest.approx(expected, rel=1e-6)
    assert median_gradient_similarity(7 * image + 100) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(median_gradient_similarity(np.ones((9, 9), np.float32)))
    # What is missing takes nothing from the rest.
    wide = np.full((23, 50), np.nan, np.float32)
    wide[:, :31] = image
    assert median_gradient_similarity(wide) == pytest.approx(expected, rel=1e-6)


def test_median_gradient_similarity_falls_with_the_seeing():
    rng = np.random.default_rng(6)
    scene = gaussian_filter(rng.normal(size=(128, 128)), 2)
    found = []
    for blur in (0.0, 2.0, 4.0):
        seen = 1000 + 1000 * gaussian_filter(scene, blur) + 30 * rng.normal(size=scene.shape)
        found.append(median_gradient_similarity(seen.astype(np.float32)))
    assert found[0] > found[1] + 0.02
    assert found[1] > found[2] + 0.1
