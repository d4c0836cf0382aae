"""Scenes and seeing that are hard for the open reconstruction, and sequences of bursts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from stillsun import reconstruct
from stillsun.synth.imaging import Imager
from stillsun.synth.seeing import Atmosphere, Layer

SCALE = 0.06
WAVELENGTH = 430.5
SIDE = 160
INSIDE = (slice(24, -24),) * 2


@pytest.fixture(scope="module")
def imager():
    return Imager((SIDE, SIDE), SCALE * np.eye(2), (0.0, 0.0), WAVELENGTH * 1e-9)


def granules(imager, seed=0):
    """Granulation on the imager's grid, mean 1, contrast 15 %, and the distance from its middle in px."""
    shape = (len(imager.rows), len(imager.columns))
    f = np.hypot(scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1]))
    noise = scipy.fft.fft2(np.random.default_rng(seed).standard_normal(shape))
    image = scipy.fft.ifft2(noise * 10 ** (-5 * f) * (f < 0.47)).real
    return 1 + 0.15 * (image - image.mean()) / image.std()


def observe(imager, scene, r0, frames, seed=0):
    """Burst through two layers of turbulence, 12000 electrons at a brightness of 1, and the truth."""
    prepared = imager.prepare(scene.astype(np.float32))
    layers = (Layer(0.0, 0.8, 6.0, 30.0), Layer(5000.0, 0.2, 18.0, 112.0))
    atmosphere = Atmosphere(layers, r0 * (500 / WAVELENGTH) ** 1.2, 20.0, seed, frozen=False)
    rng = np.random.default_rng(seed)
    images = np.stack([imager.expose(prepared, atmosphere, float(k))[0] for k in range(frames)])
    light = np.maximum(images, 0) * 12_000
    burst = rng.poisson(light) + 10 * rng.standard_normal(light.shape)
    return burst.astype(np.float32), 12_000 * imager.ideal(prepared)


def moved(image, truth):
    """The image at the best of shifts by whole pixels."""
    shifts = [np.subtract(s, 3) for s in np.ndindex(7, 7)]
    return max(
        (np.roll(image, s, axis=(0, 1)) for s in shifts),
        key=lambda c: np.corrcoef(c[INSIDE].ravel(), truth[INSIDE].ravel())[0, 1],
    )


def correlation(image, truth):
    return np.corrcoef(moved(image, truth)[INSIDE].ravel(), truth[INSIDE].ravel())[0, 1]


def test_very_bad_seeing(imager):
    burst, truth = observe(imager, granules(imager), 0.05, 32)
    result = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
    best = burst[burst.std(axis=(1, 2)).argmax()]
    assert np.isfinite(result.image).all()
    assert result.r0 == pytest.approx(0.05, rel=0.3)
    assert correlation(result.image, truth) > correlation(best, truth) + 0.1
    assert correlation(result.image, truth) > correlation(burst.mean(axis=0), truth) + 0.1
    assert result.image[INSIDE].std() == pytest.approx(truth[INSIDE].std(), rel=0.35)


def test_umbra_stays_dark_and_sharp(imager):
    y, x = np.meshgrid(imager.rows, imager.columns, indexing="ij")
    distance = np.hypot(y - 90, x - 75)
    spot = 0.15 + 0.85 / (1 + np.exp((30 - distance) / 1.5))
    burst, truth = observe(imager, granules(imager) * spot, 0.10, 24)
    result = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
    image = moved(result.image, truth)
    umbra = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([90, 75])[:, None, None])) < 22
    assert image.min() > 0
    assert np.abs(image - truth)[umbra].mean() < 0.04 * truth.mean()
    assert correlation(result.image, truth) > 0.985
    # The edge of the spot does not decide on the seeing.
    assert result.r0 == pytest.approx(0.10, rel=0.3)


def test_limb_leaves_the_sky_dark(imager):
    y, x = np.meshgrid(imager.rows, imager.columns, indexing="ij")
    outside = y + 0.3 * x - 120
    sun = 0.02 + 0.98 * 0.5 * (1 - np.tanh(outside / 2))
    burst, truth = observe(imager, granules(imager) * sun, 0.10, 24)
    result = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
    image = moved(result.image, truth)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    height = rows + 0.3 * columns - 120
    sky, disc = (height > 8) & (height < 60), height < -8
    disc[:12], disc[:, :12], disc[:, -12:] = False, False, False
    assert np.abs(image - truth)[sky].mean() < 0.01 * truth.max()
    assert np.corrcoef(image[disc], truth[disc])[0, 1] > 0.97
    assert image[disc].mean() == pytest.approx(truth[disc].mean(), rel=0.01)


def drifting(imager, bursts):
    """Granules that move and change from burst to burst, as within seconds on the Sun."""
    one, two = granules(imager, 1), granules(imager, 2)
    for k in range(bursts):
        share = 0.2 * k / bursts
        moved_on = np.roll(one, (k // 5, k // 4), axis=(0, 1))
        yield (moved_on + share * (two - 1)) / np.hypot(1, share)


def seam_excess(images, truths, steps):
    """Power at the frequencies of the subfields' grid over that beside them, both over the truth's."""
    window = np.hanning(SIDE - 24)
    excess = []
    for axis, step in enumerate(steps):
        at = np.arange(1, 5) / step
        # The window's spectrum is four of its frequency pixels wide.
        beside = np.concatenate([at - 2.2 / (SIDE - 24), at + 2.2 / (SIDE - 24)])

        def power(frames, f, axis=axis):
            wave = np.exp(-2j * np.pi * np.outer(f, np.arange(SIDE - 24))) * window
            total = 0.0
            for frame in frames:
                inner = np.moveaxis(frame[12:-12, 12:-12], axis, 0)
                across = scipy.fft.fft((inner / inner.mean() - 1) * window, axis=1)
                # A seam runs across the frame: its power is where that frequency is near zero.
                total = total + np.abs(wave @ across[:, [-2, -1, 0, 1, 2]]) ** 2
            return np.asarray(total).sum(axis=1)

        gains = [power(images, f) / power(truths, f) for f in (at, beside)]
        excess.append(gains[0].mean() / gains[1].mean() - 1)
    return np.array(excess)


@pytest.mark.parametrize("bursts", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_sequence_without_seams_or_jumps(imager, bursts):
    images, truths, results = [], [], []
    for number, scene in enumerate(drifting(imager, bursts)):
        burst, truth = observe(imager, scene, 0.12, 20, seed=number)
        result = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
        images.append(moved(result.image, truth))
        truths.append(truth)
        results.append(result)
    steps = [c[1] - c[0] for c in results[0].centres]
    excess = seam_excess(images, truths, steps)
    assert np.abs(excess).max() < 0.05
    for image, truth in zip(images, truths, strict=True):
        assert image.mean() == pytest.approx(truth.mean(), rel=2e-3)
        assert np.corrcoef(image[INSIDE].ravel(), truth[INSIDE].ravel())[0, 1] > 0.95
    # The contrast follows the Fried parameter, which 20 exposures of a small field give to a tenth.
    contrast = np.array([i[INSIDE].std() / t[INSIDE].std() for i, t in zip(images, truths, strict=True)])
    assert np.abs(contrast * [r.r0 / 0.12 for r in results] - 1).max() < 0.1
    assert contrast.std() < 0.13
    assert contrast.mean() == pytest.approx(1, abs=0.12)
