"""Sequences without flicker: what the filter takes out, and what it must leave."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from tests.fakes.device import device

from stillsun import reconstruct, reconstruct_series
from stillsun.core.backend import get_backend
from stillsun.errors import ConfigError, InputError
from stillsun.speckle.masking.flicker import Flicker, running_weight
from stillsun.speckle.masking.series import steady
from stillsun.synth.imaging import Imager
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import Atmosphere

SCALE, WAVELENGTH, DIAMETER = 0.09, 656.3, 762.0
LIMIT = DIAMETER * 1e-3 / (WAVELENGTH * 1e-9) * np.pi / 648_000 * SCALE
SIDE, SIZE, IMAGES, BORDER = 256, 76, 24, 20
CADENCE = 10.0


def scenes(side=SIDE, times=(0.0,), seed=3):
    """Granulation of mean 1, and as the perfect telescope shows it."""
    jacobian = SCALE * np.eye(2)
    imager = Imager((side,) * 2, jacobian, (0.0, 0.0), WAVELENGTH * 1e-9)
    sun = granulation_scene(side * SCALE, seed)
    for seconds in times:
        plain = sun.image(np.zeros(2), jacobian, imager.rows, imager.columns, seconds, Appearance.gband)
        prepared = imager.prepare(plain / plain.mean())
        yield imager, prepared, imager.ideal(prepared)


def misjudged(image, error, tilt=0.0):
    """The image after a division by a wrong transfer function, which changes over the field."""
    y, x = scipy.fft.fftfreq(SIDE)[:, None], scipy.fft.rfftfreq(SIDE)
    q = np.hypot(y, x) / LIMIT
    wrong = scipy.fft.irfft2(scipy.fft.rfft2(image) * np.exp(error * np.minimum(q / 0.2, 1.5)), s=image.shape)
    place = 1 + tilt * np.linspace(-1, 1, SIDE)
    return image + (wrong - image) * place


def steadied(images, half=IMAGES):
    flicker = Flicker((SIDE, SIDE), (LIMIT, LIMIT), SIZE)
    powers = np.stack([flicker.measure(image) for image in images])
    found = []
    for k, image in enumerate(images):
        correction = flicker.correction(powers, k, running_weight(np.arange(len(images)) - k, half))
        found.append(flicker.apply(image, correction, "numpy"))
    return np.stack(found)


def contrasts(images):
    inner = images[:, BORDER:-BORDER, BORDER:-BORDER]
    return inner.std(axis=(1, 2)) / inner.mean(axis=(1, 2))


def pixel_scatter(images):
    inner = images[:, BORDER:-BORDER, BORDER:-BORDER]
    return float(np.sqrt((inner.std(axis=0) ** 2).mean()) / inner.mean())


@pytest.fixture(scope="module")
def still():
    return next(scenes())[2]


def test_errors_of_the_transfer_function_are_taken_out(still):
    rng = np.random.default_rng(1)
    images = np.stack([misjudged(still, e, 0.3) for e in 0.15 * rng.standard_normal(IMAGES)])
    after = steadied(images, 10 * IMAGES)
    before = contrasts(images)
    assert before.std() / before.mean() > 0.04
    assert contrasts(after).std() < 0.1 * before.std()
    assert pixel_scatter(after) < 0.1 * pixel_scatter(images)
    # The mean level of each image, and the contrast in the mean, are what they were.
    np.testing.assert_allclose(after.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    assert contrasts(after).mean() == pytest.approx(np.median(before), rel=0.02)


@pytest.mark.parametrize("period", [180.0, 300.0])
def test_brightness_that_oscillates_in_part_of_the_field_is_kept(still, period):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:SIDE, :SIDE]
    blob = np.exp(-((y - 90) ** 2 + (x - 150) ** 2) / (2 * (2.5 / SCALE) ** 2))
    wave = np.sin(2 * np.pi * CADENCE * np.arange(IMAGES) / period)
    errors = 0.1 * rng.standard_normal(IMAGES)
    images = np.stack(
        [misjudged(still * (1 + 0.03 * w * blob), e) for w, e in zip(wave, errors, strict=True)]
    )
    after = steadied(images)
    middle = np.s_[:, 80:100, 140:160]
    curve = after[middle].mean(axis=(1, 2)) / still[middle[1:]].mean()
    amplitude = 2 * np.mean((curve - curve.mean()) * wave) / np.mean(2 * wave**2)
    assert amplitude == pytest.approx(0.03 * blob[80:100, 140:160].mean(), rel=0.08)


def test_a_part_of_the_field_that_changes_by_itself_does_not_decide(still):
    """The contrast of a quarter of the field doubles in one image; elsewhere nothing changes."""
    images = np.repeat(still[None], 9, axis=0)
    images[4, :110, :110] = 1 + 2 * (still[:110, :110] - 1)
    after = steadied(images, 9)
    assert np.abs(after[4] - images[4])[150:, 150:].max() < 0.01
    grown = after[4, 20:90, 20:90].std() / still[20:90, 20:90].std()
    assert grown == pytest.approx(2, rel=0.08)


def test_granulation_that_evolves_is_kept():
    """The change from image to image is the Sun's, as it is without the filter."""
    images = np.stack([ideal for _, _, ideal in scenes(times=20.0 * np.arange(12))])
    after = steadied(images, 12)
    assert pixel_scatter(after - images + 1) < 0.06 * pixel_scatter(images)


def test_filter_on_a_device(still):
    flicker = Flicker((SIDE, SIDE), (LIMIT, LIMIT), SIZE)
    correction = np.linspace(-0.2, 0.1, flicker.terms * len(flicker.q)).reshape(flicker.terms, -1)
    there, here = (flicker.apply(still, correction, b) for b in ("numpy", device()))
    assert np.abs(there - still).max() > 0.01
    np.testing.assert_allclose(here, there, atol=1e-5)
    there, here = (flicker.measure(still, b) for b in ("numpy", device()))
    np.testing.assert_allclose(here, there, atol=1e-3)


def test_an_image_under_a_cloud_does_not_move_the_others(still):
    images = np.repeat(still[None], 9, axis=0)
    images[5] = 1 + 0.01 * (images[5] - 1)
    after = steadied(images, 9)
    np.testing.assert_allclose(after[:5], images[:5], atol=0.01)


def bursts(r0s, frames=10, side=128):
    imager, prepared, _ = next(scenes(side))
    air = Atmosphere(r0=0.1 * (500.0 / WAVELENGTH) ** 1.2, seed=50, frozen=False)
    rng = np.random.default_rng(0)
    for number, r0 in enumerate(r0s):
        times = number + np.arange(frames) / frames
        light = [imager.expose(prepared, air, t, (0.1 / r0) ** (5 / 6))[0] for t in times]
        yield rng.poisson(30_000 * np.maximum(light, 0)).astype(np.float32)


def test_a_series_of_bursts_does_not_flicker():
    rng = np.random.default_rng(4)
    made = list(bursts(rng.uniform(0.07, 0.14, 8)))
    given = {"plate_scale": SCALE, "wavelength": WAVELENGTH, "deconvolve": False}
    single = [reconstruct(b, **given) for b in made]
    series = list(reconstruct_series(iter(made), **given))
    images = [np.stack([r.image / 30_000 for r in found]) for found in (single, series)]
    before, after = (contrasts(i).std() / contrasts(i).mean() for i in images)
    assert before > 0.03
    assert after < 0.3 * before
    assert [r.r0 for r in series] == [r.r0 for r in single]
    assert all(np.isnan(r.steadied) for r in single)
    assert all(0 < r.steadied < 0.5 for r in series)
    # What an image is held to depends on its window only.
    rest = (SCALE, SCALE), LIMIT / SCALE, 7.0, 3, get_backend("numpy")
    whole, tail = list(steady(single, *rest)), list(steady(single[2:], *rest))
    np.testing.assert_array_equal(tail[3].image, whole[5].image)


def test_a_window_of_one_is_no_filter_and_errors_are_named():
    rng = np.random.default_rng(0)
    made = [1000 + 50 * rng.standard_normal((4, 100, 100)) for _ in range(2)]
    given = {"plate_scale": SCALE, "wavelength": WAVELENGTH}
    plain = [reconstruct(b, **given).image for b in made]
    for found, image in zip(reconstruct_series(made, window=1, **given), plain, strict=True):
        np.testing.assert_array_equal(found.image, image)
    with pytest.raises(ConfigError, match="window"):
        reconstruct_series(made, window=0, **given)
    with pytest.raises(InputError, match="different shapes"):
        list(reconstruct_series([made[0], made[1][:, :90]], **given))
