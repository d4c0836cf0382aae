"""Shifts of tiles and frames: correlation, least squares, repair."""

import numpy as np
import pytest
import scipy.ndimage as ndimage
from tests.fakes.device import open_device

from stillsun.core._device import peaks_on_device
from stillsun.core._gradient import WINDOW_SIGMA as REFINE_SIGMA
from stillsun.core._gradient import polish_tiles, refine_frame, refine_tiles
from stillsun.core._repair import repair
from stillsun.core.backend import get_backend
from stillsun.core.correlate import (
    _FIT,
    WINDOW_SIGMA,
    _peaks,
    correlate_frames,
    correlate_tiles,
)
from stillsun.core.tiles import lattice

CPU = get_backend("numpy", threads=2)
GENERIC = open_device()
BACKENDS = pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["numba", "generic"])


def scene(shape, seed=0):
    """Structure of a few pixels, periodic, mean 0, rms 1."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    image = ndimage.gaussian_filter(noise, 1.7, mode="wrap") - ndimage.gaussian_filter(noise, 4, mode="wrap")
    return (image / image.std()).astype(np.float32)


def moved(image, shift):
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), shift)).real.astype(np.float32)


@BACKENDS
@pytest.mark.parametrize("shift", [(3, -5), (-2.3, 1.6), (0.4, 4.2), (-4.5, 0)])
def test_tiles_find_a_shift_of_either_sign(shift, backend):
    reference = scene((130, 150))
    image = moved(reference, (-shift[0], -shift[1]))
    shifts, measured = correlate_tiles(image, reference, lattice((130, 150), 32), 8, 1, backend)
    inner = np.s_[1:-1, 1:-1]
    assert measured[inner].all()
    error = shifts[(slice(None), *inner)] - np.array(shift)[:, None, None]
    # The windows pull a shift of an eighth of the kernel back by some per cent; repetition removes that.
    assert np.abs(np.median(error, axis=(1, 2))).max() < 0.2
    assert np.abs(error).max() < 1


def test_batched_tiles_are_the_naive_loop():
    reference = scene((70, 90), 1)
    image = moved(reference, (1.3, -0.8)) + 0.2 * scene((70, 90), 2)
    size, points = 16, lattice((70, 90), 16)
    line = np.exp(-((np.arange(size) - 7.5) ** 2) / (2 * (WINDOW_SIGMA * size) ** 2))
    window = np.outer(line, line)
    shifts, measured = correlate_tiles(image, reference, points, 4, 1, CPU)
    for j in range(1, points.y.count - 1):
        for i in range(1, points.x.count - 1):
            y, x = points.y.start + j * points.y.step, points.x.start + i * points.x.step
            a, b = (f[y : y + size, x : x + size].astype(float) for f in (image, reference))
            a, b = ((t - (t * window).sum() / window.sum()) * window for t in (a, b))
            best, surface = None, np.zeros((size, size))
            for v in range(size):
                for u in range(size):
                    surface[v, u] = (np.roll(a, (v, u), (0, 1)) * b).sum()
            lags = [(v, u) for v in range(-4, 5) for u in range(-4, 5)]
            best = max(lags, key=lambda lag: surface[lag])
            assert measured[j, i]
            near = [(v, u) for v in (-1, 0, 1) for u in (-1, 0, 1)]
            design = np.array([[1, v, u, v * v, u * u, u * v] for v, u in near], float)
            values = [surface[(best[0] + v) % size, (best[1] + u) % size] for v, u in near]
            c = np.linalg.lstsq(design, values, rcond=None)[0]
            top = np.linalg.solve([[2 * c[3], c[5]], [c[5], 2 * c[4]]], [-c[1], -c[2]])
            np.testing.assert_allclose(shifts[:, j, i], np.array(best) + top, atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_peak_is_inside_the_search_and_positive(compiled):
    lag = np.fft.fftfreq(16, 1 / 16)

    def paraboloid(place, height=10.0):
        y, x = lag[:, None] - place[0], lag - place[1]
        return height - 0.5 * y**2 - 0.4 * x**2 + 0.3 * y * x

    surfaces = np.stack(
        [
            paraboloid((3.7, -2.2)),
            paraboloid((-1.2, 0.3)),
            paraboloid((5.2, 0.0)),  # on the limit of the search: the flank of something else
            paraboloid((1.0, -4.8)),
            paraboloid((0.4, 0.3), height=-3.0),
            -paraboloid((0.0, 0.0)),  # a hollow
        ]
    ).astype(np.float32)
    shifts, good = _peaks(surfaces, 5, _FIT) if compiled else peaks_on_device(surfaces, 5, _FIT, GENERIC)
    assert good.tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(shifts[:, :2].T, [(3.7, -2.2), (-1.2, 0.3)], atol=1e-5)
    assert not shifts[:, 2:].any()
    # Where only the neighbours of no shift are looked at, the limit is all there is.
    shifts, good = _peaks(surfaces, 1, _FIT) if compiled else peaks_on_device(surfaces, 1, _FIT, GENERIC)
    assert good.tolist()[1]
    np.testing.assert_allclose(shifts[:, 1], (-1.2, 0.3), atol=1e-5)


@BACKENDS
def test_tiles_without_data_or_contrast_are_not_measured(backend):
    reference = scene((130, 150))
    image = reference.copy()
    image[:, :40] = np.nan
    image[:40, 100:] = 1.0
    points = lattice((130, 150), 32)
    shifts, measured = correlate_tiles(image, reference, points, 8, 1, backend)
    assert np.isfinite(shifts).all()
    assert not measured[:, points.x.centres < 24].any()
    assert not measured[np.ix_(points.y.centres < 24, points.x.centres > 116)].any()
    assert measured[4:-1, 4:-1].all()
    shifts, measured = refine_tiles(image, reference, points, 1, backend)
    assert np.isfinite(shifts).all()
    assert not measured[:, points.x.centres < 20].any()


@pytest.mark.parametrize("kernel", [12, 13, 32])
def test_numba_and_array_formula_agree(kernel):
    reference = scene((200, 230), 1)
    image = moved(reference, (1.1, -0.7)) + 0.1 * scene((200, 230), 2)
    image[:, :30] = np.nan
    points = lattice((200, 230), kernel)
    ours, ok = correlate_tiles(image, reference, points, kernel / 4, 1, CPU)
    theirs, good = correlate_tiles(image, reference, points, kernel / 4, 1, GENERIC)
    np.testing.assert_array_equal(ok, good)
    np.testing.assert_allclose(ours, theirs, atol=3e-5)
    ours, ok = refine_tiles(image, reference, points, 1, CPU)
    theirs, good = refine_tiles(image, reference, points, 1, GENERIC)
    np.testing.assert_array_equal(ok, good)
    np.testing.assert_allclose(ours, theirs, atol=3e-5)


@pytest.mark.parametrize("kernel", [12, 13])
def test_polish_of_numba_and_array_formula_agree(kernel):
    reference = scene((120, 130), 1)
    image = moved(reference, (0.4, -0.3)) + 0.1 * scene((120, 130), 2)
    image[:, :30] = np.nan
    points = lattice((120, 130), kernel)
    ours, ok = polish_tiles(image, reference, points, CPU)
    theirs, good = polish_tiles(image, reference, points, GENERIC)
    np.testing.assert_array_equal(ok, good)
    np.testing.assert_allclose(ours, theirs, atol=3e-5)


def test_polish_follows_fine_detail_and_leans_on_the_surroundings_where_there_is_none():
    rng = np.random.default_rng(8)
    rows, columns = 220, 240
    points = lattice((rows, columns), 12)
    inner = np.s_[:, 4:-4, 4:-4]
    grid = np.mgrid[:rows, :columns].astype(float)
    waves = np.stack([np.sin(grid[1] / 4), np.cos(grid[0] / 4)])
    centres = np.rint(np.stack(np.meshgrid(points.y.centres, points.x.centres, indexing="ij"))).astype(int)
    centres = np.clip(centres, 0, np.array([rows - 1, columns - 1])[:, None, None])
    error = {}
    for name, width, push in (("fine", 1.0, 0.15 * waves), ("coarse", 5.0, 0 * waves)):
        truth = push[:, centres[0], centres[1]]
        reference = ndimage.gaussian_filter(rng.standard_normal((rows, columns)), width, mode="wrap")
        reference /= reference.std()
        image = ndimage.map_coordinates(reference, grid + push, order=5, mode="wrap")
        image += 0.1 * rng.standard_normal((rows, columns))
        pair = image.astype(np.float32), reference.astype(np.float32)
        wide, _ = refine_tiles(*pair, points, 1, CPU)
        narrow, measured = polish_tiles(*pair, points, CPU)
        assert measured[4:-4, 4:-4].all()
        error[name] = [float(np.sqrt(np.mean((d - truth)[inner] ** 2))) for d in (wide, narrow)]
    assert error["fine"][1] < 0.9 * error["fine"][0]
    assert error["coarse"][1] < 0.9 * error["coarse"][0]  # nothing but noise


def test_refinement_is_the_windowed_least_squares():
    reference = scene((80, 90), 1)
    image = moved(reference, (0.5, -0.4))
    points = lattice((80, 90), 24)
    shifts, _ = refine_tiles(image, reference, points, 1, CPU)
    stencil = np.array([1, -8, 0, 8, -1]) / 12
    mean = (image.astype(float) + reference) / 2
    gy = ndimage.correlate1d(mean, stencil, axis=0)
    gx = ndimage.correlate1d(mean, stencil, axis=1)
    y, x = np.mgrid[:80, :90]
    for j, i in ((2, 2), (3, 4), (4, 3)):
        away = np.stack([y - points.y.centres[j], x - points.x.centres[i]])
        weight = np.exp(-(away**2).sum(axis=0) / (2 * (REFINE_SIGMA * 24) ** 2))
        root = np.sqrt(weight).ravel()
        design = np.stack([gy.ravel(), gx.ravel()], 1) * root[:, None]
        expected = np.linalg.lstsq(design, -(reference - image).ravel() * root, rcond=None)[0]
        # The window of the package is cut off where the plain statement's goes on.
        np.testing.assert_allclose(shifts[:, j, i], expected, atol=3e-3)
    np.testing.assert_allclose(np.median(shifts, axis=(1, 2)), (-0.5, 0.4), atol=0.02)
    np.testing.assert_allclose(refine_frame(image, reference, CPU), (-0.5, 0.4), atol=0.02)


@BACKENDS
@pytest.mark.parametrize("shift", [(20.3, -33.6), (-31, 38), (0.2, 0)])
def test_whole_frames_do_not_wrap(shift, backend):
    whole = scene((220, 260), 3)
    rows, columns = 140, 160
    place = (40, 50)
    reference = whole[place[0] : place[0] + rows, place[1] : place[1] + columns]
    shifted = moved(whole, (-shift[0], -shift[1]))
    image = shifted[place[0] : place[0] + rows, place[1] : place[1] + columns]
    found = correlate_frames(image, reference, (rows // 4, columns // 4), backend)
    np.testing.assert_allclose(found, shift, atol=0.2)


@BACKENDS
def test_repair_takes_neighbours_and_leaves_the_others(backend):
    y, x = np.mgrid[:15, :18]
    smooth = np.stack([0.05 * y - 0.02 * x, np.sin(x / 6)])
    measured = np.ones((15, 18), bool)
    shifts = smooth.copy()
    shifts[:, 7, 9] = 5, -4  # outlier
    shifts[1, 5, 14] += 4  # outlier along x alone
    shifts[:, 3, 4] = 40, 0  # beyond the limit
    measured[10, 12] = False
    measured[:, 0] = False
    shifts[:, ~measured] = 0
    fixed, share = repair(shifts, measured, 8.0, 0.1, backend)
    assert fixed.dtype == np.float32
    assert share == pytest.approx(3 / measured.sum())
    np.testing.assert_allclose(fixed, smooth, atol=0.25)  # at the edge the last value is held
    np.testing.assert_allclose(fixed[:, :, 1:], smooth[:, :, 1:], atol=0.02)
    good = measured.copy()
    good[7, 9] = good[3, 4] = good[5, 14] = False
    np.testing.assert_allclose(fixed[:, good], smooth[:, good], atol=1e-6)


@BACKENDS
def test_repair_without_any_measurement_is_no_shift(backend):
    fixed, share = repair(np.full((2, 4, 5), 3.0), np.zeros((4, 5), bool), 8.0, 0.1, backend)
    assert not fixed.any()
    assert share == 0
    fixed, share = repair(np.full((2, 4, 5), 30.0), np.ones((4, 5), bool), 8.0, 0.1, backend)
    assert not fixed.any()
    assert share == 1
