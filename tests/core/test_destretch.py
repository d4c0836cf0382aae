"""Destretch of frames and sequences: known truth comes back."""

import inspect
from functools import partial

import numpy as np
import pytest
import scipy.ndimage as ndimage
from scripts.bench.known_warp import known_warp
from tests.fakes.device import open_device

import stillsun
from stillsun.core._levels import Levels
from stillsun.core.backend import get_backend
from stillsun.core.destretch import (
    DEFAULT_KERNELS,
    Destretcher,
    apply_shifts,
    destretch,
    displacement_field,
)
from stillsun.core.reference import FixedReference, RunningReference, mean_frame
from stillsun.core.series import apply_field, destretch_series
from stillsun.core.tiles import lattice
from stillsun.errors import ConfigError, InputError

CPU = get_backend("numpy", threads=2)
GENERIC = open_device()
SMALL = (0, 64, 32, 16)
held_series = partial(destretch_series, preserve_flows=False)


def granules(shape, seed=0):
    """An image with structure of several pixels and a mean, periodic."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    image = ndimage.gaussian_filter(noise, 1.8, mode="wrap")
    image = image / image.std() + 0.6 * ndimage.gaussian_filter(noise, 5, mode="wrap") * 20
    return (1000 + 100 * image).astype(np.float32)


def fourier_shift(image, shift):
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), shift)).real.astype(np.float32)


def cut(image, shape, place):
    return image[place[0] : place[0] + shape[0], place[1] : place[1] + shape[1]]


@pytest.fixture(scope="module")
def pair():
    return known_warp(granules((330, 350), 5), 3, rms=1.0)


@pytest.fixture(scope="module")
def solved(pair):
    return destretch(pair.distorted, pair.reference, SMALL, backend=CPU)


def test_public_names_are_these():
    assert stillsun.destretch is destretch
    assert stillsun.destretch_series is destretch_series
    assert stillsun.apply_shifts is apply_shifts


def test_equal_frames_are_not_moved():
    image = granules((200, 230))
    result = destretch(image, image, SMALL, backend=CPU)
    assert np.abs(result.displacement).max() < 1e-4
    np.testing.assert_allclose(result.image, image, rtol=3e-3)
    assert result.image.dtype == np.float32
    assert result.valid.all()


@pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["numba", "generic"])
@pytest.mark.parametrize("shift", [(3, -5), (-7.3, 2.6), (0, 4.5), (41.2, -52.7), (-48, -20.4)])
def test_global_shift_of_any_size_and_sign(shift, backend):
    scene = granules((330, 360), 1)
    shape, place = (200, 220), (60, 70)
    reference = cut(scene, shape, place)
    image = cut(fourier_shift(scene, (-shift[0], -shift[1])), shape, place)
    result = destretch(image, reference, (0,), backend=backend)
    np.testing.assert_allclose(result.shifts[0], shift, atol=0.03)
    np.testing.assert_allclose(result.displacement.mean(axis=(1, 2)), shift, atol=0.03)
    # The mask tells what came from outside the frame.
    top = int(np.ceil(max(shift[0], 0)))
    assert result.valid[top + 1 : shape[0] + int(np.floor(min(shift[0], 0))) - 1, 110].all()
    assert not result.valid[: max(top - 1, 0)].any()
    fine = destretch(image, reference, SMALL, backend=backend)
    y, x = np.nonzero(result.valid)
    inner = np.s_[:, y.min() + 20 : y.max() - 20, x.min() + 20 : x.max() - 20]
    error = fine.displacement[inner] - np.array(shift)[:, None, None]
    assert np.sqrt(np.mean(error**2)) < 0.03


def test_known_warp_comes_back(pair, solved):
    start = pair.residual(np.zeros_like(pair.displacement))
    assert start > 3
    assert pair.residual(solved.displacement) < 0.12
    assert pair.residual(solved.displacement, outer=4) < 0.3
    assert np.isfinite(solved.image).all()


def test_result_is_the_composed_field_applied_once(pair, solved):
    assert [s.shape for s in solved.shifts] == [(2,)] + [
        (2, *lattice((330, 350), k).count) for k in SMALL[1:]
    ]
    field = displacement_field(solved.shifts, SMALL, (330, 350), CPU)
    np.testing.assert_array_equal(field, solved.displacement)
    grid = np.mgrid[:330, :350]
    spline = ndimage.map_coordinates(pair.distorted, grid - solved.displacement, order=5, mode="nearest")
    y0, y1, x0, x1 = pair.box
    inner = np.s_[y0 + 16 : y1 - 16, x0 + 16 : x1 - 16]
    assert np.std((solved.image - spline)[inner]) < 0.02 * np.std(spline[inner])


def test_replay_gives_the_same_bytes(pair, solved):
    np.testing.assert_array_equal(
        apply_shifts(pair.distorted, solved.shifts, SMALL, backend=CPU), solved.image
    )
    # Shifts survive a store, and move another channel alike, global shift included.
    stored = [np.array(s, np.float32).tolist() for s in solved.shifts]
    other = np.sqrt(pair.distorted)
    again = apply_shifts(other, stored, SMALL, backend=CPU)
    y0, y1, x0, x1 = pair.box
    inner = np.s_[y0 + 16 : y1 - 16, x0 + 16 : x1 - 16]
    np.testing.assert_allclose(again[inner] ** 2, solved.image[inner], rtol=0.02)


def test_given_shifts_are_taken_as_they_are(pair, solved):
    reference = FixedReference(pair.reference, CPU)
    result = Destretcher(reference, SMALL, backend=CPU).push(pair.distorted, solved.shifts)
    np.testing.assert_array_equal(result.image, solved.image)
    np.testing.assert_array_equal(result.displacement, solved.displacement)
    np.testing.assert_allclose(result.rms, solved.rms)
    assert result.residual == pytest.approx(solved.residual)
    assert not result.repaired.any()
    # Wrong ones too; the reference tells how wrong.
    off = [solved.shifts[0] + np.float32([0.0, 1.0]), *solved.shifts[1:]]
    wrong = Destretcher(reference, SMALL, backend=CPU).push(pair.distorted, off)
    assert wrong.residual == pytest.approx(1.0, abs=0.15)
    with pytest.raises(InputError, match="one array of shifts a kernel"):
        Destretcher(reference, SMALL, backend=CPU).push(pair.distorted, off[:2])


def test_numba_and_array_formula_agree(pair, solved):
    generic = destretch(pair.distorted, pair.reference, SMALL, backend=GENERIC)
    assert np.abs(generic.displacement - solved.displacement).max() < 1e-4
    np.testing.assert_array_equal(generic.valid, solved.valid)
    np.testing.assert_array_equal(
        apply_shifts(pair.distorted, generic.shifts, SMALL, backend=GENERIC), generic.image
    )


def test_threads_do_not_change_a_bit(pair, solved):
    single = destretch(pair.distorted, pair.reference, SMALL, backend=get_backend("numpy", threads=1))
    np.testing.assert_array_equal(single.image, solved.image)


def test_constant_border_and_holes_stay_out(pair):
    image = pair.distorted.copy()
    image[150:160, 200:215] = np.nan
    image[77, 90] = np.inf
    result = destretch(image, pair.reference, SMALL, backend=CPU)
    assert np.isfinite(result.image).all()
    assert pair.residual(result.displacement) < 0.15
    moved = np.round(np.array([155, 207]) + result.displacement[:, 155, 207]).astype(int)
    assert not result.valid[moved[0], moved[1]]
    y0, y1, x0, x1 = pair.box
    assert result.valid[y0 + 70, x0 + 70]
    # The border is constant in the frame, so nothing that came from it counts.
    assert not result.valid[: y0 + 1].any()
    assert result.valid.sum() > 0.9 * (y1 - y0 - 12) * (x1 - x0 - 12)


def test_nothing_is_invented_beyond_the_valid_part(pair, solved):
    y0, y1, x0, x1 = pair.box
    level = pair.distorted[y0:y1, x0:x1].mean(dtype=np.float64)
    np.testing.assert_allclose(solved.image[~solved.valid], level, rtol=1e-6)
    # ... while the field goes on without a step.
    assert np.abs(np.diff(solved.displacement, axis=1)).max() < 0.5


def test_contrast_and_level_of_the_frame_do_not_matter(pair, solved):
    result = destretch(0.5 * pair.distorted + 300, pair.reference, SMALL, backend=CPU)
    assert np.abs(result.displacement - solved.displacement).max() < 1e-4


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [((100, 140), (0, 128, 33, 15)), ((61, 75), (0, 13)), ((50, 60), (0, 200)), ((40, 300), (0, 64, 32))],
)
def test_odd_kernels_and_large_kernels(shape, kernels):
    scene = granules((shape[0] + 40, shape[1] + 40), 2)
    reference = cut(scene, shape, (20, 20))
    image = cut(fourier_shift(scene, (-1.4, 2.2)), shape, (20, 20))
    result = destretch(image, reference, kernels, backend=CPU)
    assert result.image.shape == shape
    middle = result.displacement[:, shape[0] // 3 : -shape[0] // 3, shape[1] // 3 : -shape[1] // 3]
    np.testing.assert_allclose(np.median(middle, axis=(1, 2)), (1.4, -2.2), atol=0.1)


def test_a_peak_of_the_field_that_one_large_tile_sees_is_not_lost():
    reference = granules((300, 300), 12)
    grid = np.mgrid[:300, :300].astype(float)
    hill = np.exp(-((grid[0] - 160) ** 2 + (grid[1] - 140) ** 2) / (2 * 28.0**2))
    push = np.stack([11 * hill, -7 * hill])
    image = ndimage.map_coordinates(reference.astype(float), grid + push, order=5, mode="wrap")
    truth = push
    for _ in range(30):
        truth = np.stack([ndimage.map_coordinates(p, grid - truth, order=1, mode="nearest") for p in push])
    result = destretch(image, reference, DEFAULT_KERNELS, backend=CPU)
    error = (result.displacement - truth)[:, 20:-20, 20:-20]
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 1


@pytest.mark.parametrize("place", [(0, 30), (63, 30), (30, 0), (30, 71), (30, 41)])
def test_a_single_hole_is_no_data_wherever_it_is(place):
    image = granules((64, 72))
    image[place] = np.nan
    frame = Levels(image, CPU)
    field = np.zeros((2, 64, 72), np.float32)
    moved, valid = frame.move(field, "lanczos4")
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(valid, np.isfinite(image))
    for bins in (1, 2, 4):
        there = np.zeros((64 // bins, 72 // bins), bool)
        there[place[0] // bins, place[1] // bins] = True
        there[[0, -1]] = there[:, [0, -1]] = True
        np.testing.assert_array_equal(np.isnan(frame.level(bins)), there)


def test_dead_frame_is_returned_as_it_is():
    reference = granules((120, 130))
    for dead in (np.zeros((120, 130)), np.full((120, 130), np.nan)):
        result = destretch(dead, reference, SMALL, backend=CPU)
        assert not result.image.any()
        assert not result.valid.any()
        assert not any(s.any() for s in result.shifts)


def test_wrong_input_is_refused():
    image = granules((120, 130))
    with pytest.raises(InputError, match="shape"):
        destretch(image, image[:-1], SMALL, backend=CPU)
    with pytest.raises(InputError, match="constant"):
        destretch(image, np.ones((120, 130)), SMALL, backend=CPU)
    with pytest.raises(InputError, match="no image"):
        destretch(image[0], image, SMALL, backend=CPU)
    for kernels in ((), (0, 3), (16, 0), (16, 32), (12.5,)):
        with pytest.raises(ConfigError):
            destretch(image, image, kernels, backend=CPU)
    with pytest.raises(ConfigError, match="repair_tolerance"):
        destretch(image, image, SMALL, repair_tolerance=0, backend=CPU)
    shifts = destretch(image, image, SMALL, backend=CPU).shifts
    with pytest.raises(InputError, match="one array of shifts a kernel"):
        apply_shifts(image, shifts[1:], SMALL, backend=CPU)
    with pytest.raises(InputError, match="do not fit"):
        apply_shifts(image[:80], shifts, SMALL, backend=CPU)
    with pytest.raises(InputError, match="no frames"):
        destretch_series([], SMALL, backend=CPU)
    with pytest.raises(ConfigError, match="running"):
        destretch_series([image], SMALL, reference="mean", backend=CPU)


@pytest.fixture(scope="module")
def sequence():
    """Frames of one scene in changing seeing, with a constant border, and the seeing."""
    scene = granules((190, 200), 8)
    grid = np.mgrid[:190, :200].astype(float)
    rng = np.random.default_rng(4)
    frames, fields = [], []
    for _ in range(7):
        push = np.stack(
            [ndimage.gaussian_filter(rng.standard_normal((190, 200)), 12, mode="wrap") for _ in range(2)]
        )
        push *= 0.8 / push.std()
        push += rng.uniform(-3, 3, 2)[:, None, None]
        frame = np.full((190, 200), 900, np.float32)
        frame[12:-12, 12:-12] = ndimage.map_coordinates(scene, grid + push, order=3, mode="wrap")[
            12:-12, 12:-12
        ]
        frames.append(frame)
        fields.append(push)
    return frames, fields


@pytest.mark.parametrize("reference", ["running", "fixed", "two_pass"])
def test_sequence_is_held_still(sequence, reference):
    frames, _ = sequence
    series = held_series(iter(frames), (0, 64, 32, 16), reference, window=3, backend=CPU)
    assert series.images.shape == (7, 190, 200)
    assert series.displacement.shape == (7, 2, 190, 200)
    assert series.images.dtype == np.float32
    if reference != "two_pass":
        valid = series.valid[0]
        np.testing.assert_allclose(series.images[0][valid], frames[0][valid], rtol=1e-5)
    inner = np.s_[:, 40:-40, 40:-40]
    before = np.std(np.array(frames)[inner], axis=0).mean()
    after = np.std(series.images[inner], axis=0).mean()
    assert after < 0.12 * before


@pytest.mark.parametrize("reference", ["running", "fixed", "two_pass"])
def test_frames_of_a_sequence_are_of_one_size(sequence, reference):
    frames, _ = sequence
    with pytest.raises(InputError, match="shape"):
        destretch_series([frames[0], frames[1][:-2]], SMALL, reference, backend=CPU)


def test_sequence_begins_with_its_first_frame_that_shows_anything(sequence):
    frames, _ = sequence
    dead = [np.zeros_like(frames[0]), np.full_like(frames[0], np.nan)]
    series = held_series([dead[0], *frames[:2], dead[1], *frames[2:4]], SMALL, window=3, backend=CPU)
    plain = held_series(frames[:4], SMALL, window=3, backend=CPU)
    np.testing.assert_array_equal(series.images[[1, 2, 4, 5]], plain.images)
    assert not series.valid[[0, 3]].any()
    assert not series.images[[0, 3]].any()


def test_fixed_reference_by_number_and_by_array(sequence):
    frames, _ = sequence
    by_number = held_series(frames, SMALL, "fixed", reference_index=3, backend=CPU)
    by_array = held_series(frames, SMALL, frames[3], backend=CPU)
    np.testing.assert_array_equal(by_number.images, by_array.images)
    assert np.abs(by_number.displacement[3]).max() < 2e-3
    with pytest.raises(InputError, match="reference_index=7"):
        destretch_series(frames, SMALL, "fixed", reference_index=7, backend=CPU)


def test_two_passes_match_every_frame_to_the_mean_of_the_first(sequence):
    frames, _ = sequence
    seen = []
    first = held_series(frames, SMALL, "running", window=3, backend=CPU)
    series = held_series(
        iter(frames), SMALL, "two_pass", window=3, backend=CPU, progress=lambda *done: seen.append(done)
    )
    assert seen == [(n + 1, 14) for n in range(14)]
    mean = mean_frame([np.where(v, i, np.nan) for i, v in zip(first.images, first.valid, strict=True)])
    np.testing.assert_allclose(
        mean[first.valid.all(axis=0)], first.images.mean(axis=0)[first.valid.all(axis=0)], rtol=1e-5
    )
    by_array = held_series(frames, SMALL, mean, backend=CPU)
    np.testing.assert_array_equal(series.images, by_array.images)
    # A mean of all frames is a better reference than the first frame alone.
    inner = np.s_[:, 40:-40, 40:-40]
    noisy = [f + np.random.default_rng(n).normal(0, 40, f.shape) for n, f in enumerate(frames)]
    spread = {}
    for reference in ("fixed", "two_pass"):
        fields = held_series(noisy, SMALL, reference, window=3, backend=CPU).displacement
        clean = np.array([apply_field(f, d, backend=CPU)[0] for f, d in zip(frames, fields, strict=True)])
        spread[reference] = np.std(clean[1:][inner], axis=0).mean()
    assert spread["two_pass"] < 0.9 * spread["fixed"]
    with pytest.raises(InputError, match="no frames"):
        destretch_series([], SMALL, "two_pass", backend=CPU)


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_interrupted_sequence_gives_the_same_bytes(sequence, stop):
    frames, _ = sequence
    whole = Destretcher(RunningReference(3, CPU), SMALL, backend=CPU)
    expected = [whole.push(f) for f in frames]
    first = Destretcher(RunningReference(3, CPU), SMALL, backend=CPU)
    for frame in frames[:stop]:
        first.push(frame)
    kept = first.reference.state()
    assert kept.dtype == np.float32
    assert kept.shape == (min(stop, 3), 190, 200)
    second = Destretcher(RunningReference(3, CPU), SMALL, backend=CPU)
    second.reference.restore(kept)
    for frame, result in zip(frames[stop:], expected[stop:], strict=True):
        again = second.push(frame)
        np.testing.assert_array_equal(again.image, result.image)
        np.testing.assert_array_equal(again.displacement, result.displacement)
    # The stored frames with their masks are all that is needed.
    stored = np.stack([np.where(r.valid, r.image, np.nan) for r in expected[max(0, stop - 3) : stop]])
    np.testing.assert_array_equal(kept, stored)


def test_running_reference_is_the_mean_of_the_last_frames():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((5, 8, 9)).astype(np.float32)
    valid = rng.random((5, 8, 9)) > 0.3
    valid[2:, 0, 0] = False
    for backend in (CPU, GENERIC):
        reference = RunningReference(3, backend)
        assert reference.current() is None
        for frame, mask in zip(frames, valid, strict=True):
            reference.update(frame, mask)
        reference.update(frames[0], np.zeros((8, 9), bool))  # a dead frame does not count
        last = np.where(valid, frames, np.nan)[2:]
        count = valid[2:].sum(axis=0)
        expected = np.where(count > 0, np.nansum(last, axis=0) / np.maximum(count, 1), np.nan)
        np.testing.assert_allclose(reference.current(), expected, atol=1e-6)
        assert np.isnan(reference.current()[0, 0])
    with pytest.raises(ConfigError, match="window"):
        RunningReference(0, CPU)


def test_fixed_reference_is_prepared_once(sequence, monkeypatch):
    frames, _ = sequence
    made = []
    original = Levels.__init__

    def counted(self, image, backend):
        made.append(1)
        original(self, image, backend)

    monkeypatch.setattr(Levels, "__init__", counted)
    stream = Destretcher(FixedReference(frames[0], CPU), (0, 64, 32), backend=CPU)
    for frame in frames[:3]:
        stream.push(frame)
    assert len(made) == 4


@pytest.mark.real
@pytest.mark.parametrize(("band", "field", "ring"), [("gband", 0.115, 0.17), ("cak", 0.25, 0.32)])
def test_known_warp_of_a_real_frame(real_frame, band, field, ring):
    frame = real_frame(band)[200:840, 200:840]
    pair = known_warp(frame, 1)
    result = destretch(pair.distorted, pair.reference, DEFAULT_KERNELS, backend=CPU)
    assert pair.residual(result.displacement) < field
    assert pair.residual(result.displacement, outer=4) < ring
    power, coherent = pair.fine_power(result.image, {"gband": 0.40, "cak": 0.22}[band])
    assert 0.95 < power < 1.05  # few modes in a part of a frame; the whole one gives 0.99 to 1.01
    assert coherent > 0.97


@pytest.mark.real
@pytest.mark.parametrize(("band", "limit"), [("gband", 0.975), ("cak", 0.982)])
def test_consecutive_real_frames_agree_better(real_frame, band, limit):
    reference, image = real_frame(band, 0), real_frame(band, 1)
    result = destretch(image, reference, DEFAULT_KERNELS, backend=CPU)
    y0, y1, x0, x1 = Levels(reference, CPU).box
    inner = np.s_[y0 + 48 : y1 - 48, x0 + 48 : x1 - 48]
    assert np.corrcoef(result.image[inner].ravel(), reference[inner].ravel())[0, 1] > limit


def test_arguments_in_their_documented_order():
    names = {
        destretch: ("image", "reference", "kernels", "repair_tolerance", "backend"),
        destretch_series: ("frames", "kernels", "reference", "window", "preserve_flows", "backend"),
        apply_shifts: ("image", "shifts", "kernels", "backend"),
    }
    for function, wanted in names.items():
        parameters = inspect.signature(function).parameters.values()
        assert tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD) == wanted


@pytest.mark.parametrize("backend", [CPU, GENERIC], ids=["numba", "generic"])
def test_an_odd_kernel_measures_columns_as_rows(backend):
    # A transform back that is not told the odd width gives an even one, and shrinks shifts along x.
    image = granules((231, 257))
    y, x = destretch(fourier_shift(image, (1.7, 1.7)), image, (33,), backend=backend).shifts[0].mean((1, 2))
    assert y == pytest.approx(-1.7, rel=0.1)
    assert x == pytest.approx(y, abs=0.02)
