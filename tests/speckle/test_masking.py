"""Bursts with known truth through the open reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from scipy import ndimage

from stillsun import get_backend, reconstruct
from stillsun.errors import ConfigError, InputError
from stillsun.synth.imaging import Imager
from stillsun.synth.seeing import Atmosphere, Layer

SCALE = 0.06
WAVELENGTH = 430.5
SIDE = 200
R0 = 0.12


def granules(shape, seed=0, contrast=0.15):
    """Image of mean 1 with granulation's power, ``10^(-5 q)``, inside 93 % of the diffraction limit."""
    limit = 0.762 / (WAVELENGTH * 1e-9) * SCALE * np.pi / 648_000
    rng = np.random.default_rng(seed)
    q = np.hypot(scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1])) / limit
    spectrum = scipy.fft.fft2(rng.standard_normal(shape)) * np.where(q < 0.93, 10 ** (-2.5 * q), 0)
    image = scipy.fft.ifft2(spectrum).real
    return (1 + contrast * (image - image.mean()) / image.std()).astype(np.float32)


@pytest.fixture(scope="module")
def observed():
    """Burst of 40 exposures (12000 electrons, noise) of granules through r0 = 12 cm, and the truth."""
    imager = Imager((SIDE, SIDE), SCALE * np.eye(2), (0.0, 0.0), WAVELENGTH * 1e-9)
    prepared = imager.prepare(granules((len(imager.rows), len(imager.columns)), seed=1))
    layers = (Layer(0.0, 0.8, 6.0, 30.0), Layer(5000.0, 0.2, 18.0, 112.0))
    atmosphere = Atmosphere(layers, R0 * (500 / WAVELENGTH) ** 1.2, 20.0, 3, frozen=False)
    rng = np.random.default_rng(2)
    burst = np.empty((40, SIDE, SIDE), dtype=np.float32)
    for k in range(len(burst)):
        image = np.maximum(imager.expose(prepared, atmosphere, float(k))[0], 0) * 12_000
        # Transparency changes from frame to frame.
        burst[k] = rng.poisson(image * (1 + 0.03 * np.sin(k))) + 10 * rng.standard_normal(image.shape)
    return burst, imager.ideal(prepared)


@pytest.fixture(scope="module")
def result(observed):
    return reconstruct(observed[0], SCALE, WAVELENGTH, 762.0, deconvolve=False)


def compare(image, truth, border=24):
    """Correlation and contrast ratio inside a border, the better of shifts by a fraction of a pixel."""
    inside = (slice(border, -border),) * 2
    best = (-1.0, 0.0, (0.0, 0.0))
    for shift in np.ndindex(13, 13):
        moved = ndimage.shift(image, np.subtract(shift, 6) / 4, order=3, mode="reflect")[inside]
        correlation = np.corrcoef(moved.ravel(), truth[inside].ravel())[0, 1]
        if correlation > best[0]:
            contrast = (moved.std() / moved.mean()) / (truth[inside].std() / truth[inside].mean())
            best = (float(correlation), float(contrast), tuple(shift))
    return best


def test_burst_becomes_the_diffraction_limited_image(observed, result):
    burst, truth = observed
    frames = burst / burst.mean(axis=(1, 2), keepdims=True)
    single = compare(frames[frames.std(axis=(1, 2)).argmax()], truth)[0]
    mean = compare(frames.mean(axis=0), truth)[0]
    correlation, contrast, _ = compare(result.image, truth)
    assert max(single, mean) < 0.95
    assert correlation > 0.985
    assert contrast == pytest.approx(1.0, abs=0.12)
    assert result.notes == ()


def test_knox_thompson_is_nearly_as_good(observed, result):
    burst, truth = observed
    found = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False, method="knox_thompson")
    assert found.r0 == result.r0
    assert not np.array_equal(found.image, result.image)
    assert compare(found.image, truth)[0] > compare(result.image, truth)[0] - 0.004


def test_fried_parameter(result):
    assert result.r0 == pytest.approx(R0, rel=0.15)
    assert result.r0_map.shape == result.convergence.shape == tuple(map(len, result.centres))
    np.testing.assert_allclose(result.r0_map, R0, rtol=0.15)


def test_photometric_level_is_the_burst_means(observed, result):
    burst, _ = observed
    assert result.image.dtype == np.float32
    assert result.image.shape == burst.shape[1:]
    assert np.isfinite(result.image).all()
    assert result.image.mean() == pytest.approx(burst.mean(), rel=2e-3)
    smooth = ndimage.gaussian_filter(burst.mean(axis=0), 20)
    assert np.abs(ndimage.gaussian_filter(result.image, 20) / smooth - 1).max() < 0.02


def test_deconvolved_image_has_the_telescopes_blur_removed(observed, result):
    burst, _ = observed
    sharp = reconstruct(burst, SCALE, WAVELENGTH, 762.0)
    assert sharp.r0 == result.r0
    assert sharp.image.std() > 1.1 * result.image.std()
    assert sharp.image.mean() == pytest.approx(result.image.mean(), rel=1e-3)


def test_subfields_leave_no_seams(observed, result):
    """Error power where subfields begin and end is that of elsewhere."""
    _, truth = observed
    _, _, shift = compare(result.image, truth)
    moved = ndimage.shift(result.image, np.subtract(shift, 6) / 4, order=3, mode="reflect")
    error = np.diff(moved / moved.mean() - truth / truth.mean(), axis=0)[24:-24, 24:-24] ** 2
    lines = error.mean(axis=1)
    half = (result.centres[0][1] - result.centres[0][0]) / 2
    joints = np.rint(result.centres[0][:-1] + half).astype(int) - 24
    joints = joints[(joints >= 2) & (joints < len(lines) - 2)]
    near = np.concatenate([lines[j - 2 : j + 3] for j in joints]).mean()
    assert near < 1.5 * lines.mean()


def test_subfields_kept_make_up_the_image(observed, result):
    burst, _ = observed
    kept = reconstruct(burst, SCALE, WAVELENGTH, 762.0, deconvolve=False, keep_subfields=True)
    assert kept.image.tobytes() == result.image.tobytes()
    assert result.subfields is None
    parts = kept.subfields
    size = len(parts.window)
    assert parts.images.shape == parts.amplitudes.shape == (*result.r0_map.shape, size, size)
    weight = np.outer(*2 * [np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2])
    wide = np.zeros((2, SIDE + 2 * size, SIDE + 2 * size))
    starts = [np.rint(c - (size - 1) / 2).astype(int) + size for c in kept.centres]
    for i, j in np.ndindex(result.r0_map.shape):
        at = (..., slice(starts[0][i], starts[0][i] + size), slice(starts[1][j], starts[1][j] + size))
        wide[at] += [weight * parts.images[i, j] / np.outer(parts.window, parts.window), weight]
    total, weights = wide[:, size:-size, size:-size]
    # What a subfield has beyond the frame's edge is not in the picture, but its background is.
    inside = (slice(8, -8),) * 2
    np.testing.assert_allclose((total / weights)[inside], result.image[inside], rtol=1e-4)

    # Seeing takes the coherent part away, from low frequencies to high ones.
    ratio = parts.ratio.mean(axis=(0, 1))
    assert parts.ratio.shape[-1] == len(parts.radii)
    assert np.all((parts.ratio >= 0) & (parts.ratio <= 1))
    assert ratio[(parts.radii > 0.02) & (parts.radii < 0.06)].min() > 0.5
    assert ratio[(parts.radii > 0.35) & (parts.radii < 0.6)].mean() < 0.2

    # All exposures alike: their mean amplitude is that of the windowed image.
    still = np.stack(4 * [1000 * granules((100, 100), seed=8)])
    alone = reconstruct(still, SCALE, WAVELENGTH, 762.0, keep_subfields=True, noise_filter=False)
    parts = alone.subfields
    picture = np.abs(scipy.fft.fft2(parts.images[1, 1], norm="ortho"))
    size = len(parts.window)
    q = np.hypot(scipy.fft.fftfreq(size)[:, None], scipy.fft.fftfreq(size)) / (
        0.762 / (WAVELENGTH * 1e-9) * SCALE * np.pi / 648_000
    )
    middle = (q > 0.1) & (q < 0.3)
    transfer = (2 / np.pi) * (np.arccos(q[middle]) - q[middle] * np.sqrt(1 - q[middle] ** 2))
    np.testing.assert_allclose(
        (parts.amplitudes[1, 1][middle] ** 2).sum(),
        ((picture[middle] * transfer) ** 2).sum(),
        rtol=0.06,
    )
    assert np.all(parts.amplitudes[..., q > 1] == 0)


def test_the_same_bytes_whatever_the_threads(observed):
    burst, _ = observed
    done = []

    def count_up(at, of):
        done.append((at, of))

    def image(threads):
        backend = get_backend("numpy", threads=threads)
        return reconstruct(burst[:8], SCALE, WAVELENGTH, backend=backend, progress=count_up).image

    images = [image(threads) for threads in (1, 2, 2)]
    assert images[0].tobytes() == images[1].tobytes() == images[2].tobytes()
    count = done[-1][1]
    assert done == 3 * [(k + 1, count) for k in range(count)]


@pytest.mark.parametrize("method", ["triple_correlation", "knox_thompson"])
def test_without_seeing_and_noise_the_image_comes_back(method):
    image = granules((180, 170), seed=4)[:160, :150]
    result = reconstruct(np.stack(6 * [900 * image]), SCALE, WAVELENGTH, deconvolve=False, method=method)
    assert np.all(result.shifts == 0)
    error = result.image / 900 - image
    assert error.std() < 0.005 * image.std()
    assert error[12:-12, 12:-12].std() < 0.002 * image.std()
    assert "edge of the models" in result.notes[0]
    assert result.r0 > 3


def test_shifts_of_the_frames_are_found_and_the_mean_place_kept():
    rng = np.random.default_rng(5)
    big = granules((220, 220), seed=6)
    moves = rng.integers(-6, 7, (9, 2))
    burst = np.stack([1000 * np.roll(big, m, axis=(0, 1))[30:-30, 30:-30] for m in moves])
    result = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
    mean = moves.mean(axis=0)
    np.testing.assert_array_equal(
        result.shifts, np.broadcast_to((np.rint(mean) - moves)[..., None, None], result.shifts.shape)
    )
    turn = [scipy.fft.fftfreq(220) * m for m in mean]
    ramp = np.exp(-2j * np.pi * np.add.outer(*turn))
    expected = scipy.fft.ifft2(scipy.fft.fft2(big) * ramp).real[30:-30, 30:-30]
    inside = (slice(20, -20),) * 2
    assert np.corrcoef(result.image[inside].ravel(), expected[inside].ravel())[0, 1] > 0.995
    beside = np.roll(expected, 1, axis=0)
    assert np.corrcoef(result.image[inside].ravel(), beside[inside].ravel())[0, 1] < 0.98
    assert result.r0_map[1, 1] > 3


def test_odd_frames_and_dead_columns_do_no_harm(observed, result):
    burst, truth = observed
    burst = burst.copy()
    burst[:, :, 90] = 0
    burst[:, 50, 60] = np.nan
    burst[7] = 65_535
    found = reconstruct(burst, SCALE, WAVELENGTH, deconvolve=False)
    assert compare(found.image, truth)[0] > compare(result.image, truth)[0] - 0.01
    assert np.isnan(found.shifts[7]).all()
    assert np.isfinite(np.delete(found.shifts, 7, axis=0)).all()
    assert len(found.notes) == 2


@pytest.mark.parametrize("subfield", [2.0, 4.0, 15.0])
def test_any_subfield_size_and_few_frames(observed, subfield):
    burst, _ = observed
    found = reconstruct(burst[:4, :150, :120], (SCALE, 1.02 * SCALE), WAVELENGTH, subfield_arcsec=subfield)
    assert np.isfinite(found.image).all()
    assert found.image.mean() == pytest.approx(burst[:4].mean(), rel=0.02)
    assert 0.02 < found.image.std() / found.image.mean() < 0.3


def test_flat_frames_serve_as_noise(observed, result):
    burst, _ = observed
    flats = np.random.default_rng(7).poisson(12_000, (12, SIDE, SIDE)).astype(np.float32)
    found = reconstruct(burst, SCALE, WAVELENGTH, noise=flats, deconvolve=False)
    assert found.image.std() == pytest.approx(result.image.std(), rel=0.01)


def test_wrong_options_are_all_named():
    burst = np.ones((4, 64, 64), np.float32)
    with pytest.raises(ConfigError) as caught:
        reconstruct(burst, SCALE, WAVELENGTH, v_limit=0, snr_keep=120)
    assert "v_limit" in str(caught.value)
    assert "snr_keep" in str(caught.value)
    with pytest.raises(ConfigError, match="plate_scale"):
        reconstruct(burst, (0.1, 0.1, 0.1), WAVELENGTH)
    with pytest.raises(ConfigError, match="triple_correlation, knox_thompson"):
        reconstruct(burst, SCALE, WAVELENGTH, method="labeyrie")
    with pytest.raises(InputError, match="not a burst"):
        reconstruct(burst[0], SCALE, WAVELENGTH)
    with pytest.raises(InputError, match="too few frames"):
        reconstruct(burst[:2], SCALE, WAVELENGTH)
