"""Contrast and sharpness of frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter

from stillsun.core.backend import get_backend
from stillsun.core.quality import frame_change, frame_quality


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
