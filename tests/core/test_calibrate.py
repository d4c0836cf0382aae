"""Statistics, gain, bad pixels and the fused correction against plain NumPy in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.fakes.device import device

from stillsun.core import _rawkernels
from stillsun.core import calibrate as calibrate_module
from stillsun.core._streamed import store_streamed
from stillsun.core.backend import get_backend, to_host
from stillsun.core.badpixels import DEAD, HOT, fill_table, find_bad_pixels
from stillsun.core.batch import RawBlock, decode, frames_per_batch, raw_block
from stillsun.core.calibrate import (
    correct_frames,
    correct_image,
    gain_table,
    make_correction,
)
from stillsun.core.statistics import frame_statistics
from stillsun.errors import InputError

SHAPE = (41, 37)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def frames(rng):
    values = rng.integers(0, 65536, (13, *SHAPE), dtype=np.uint16)
    values[0, 0, :4] = (0, 1, 32768, 65535)
    return values


@pytest.fixture(params=["compiled", "generic"])
def backend(request):
    """The compiled loops, and the array-namespace branch that a device runs."""
    host = get_backend("numpy", threads=2)
    if request.param == "compiled":
        return host
    return device()


def encoded(frames, *, swapped, flip, gap=7, overscan=0):
    """The frames as they would lie in a file, with bytes between frames and behind rows."""
    count, rows, columns = frames.shape
    stored = frames ^ np.uint16(flip)
    stored = stored.byteswap() if swapped else stored
    width = columns + overscan
    stride = rows * width + gap
    words = np.full(5 + count * stride, 0xABCD, dtype=np.uint16)
    for k in range(count):
        room = words[5 + k * stride : 5 + k * stride + rows * width].reshape(rows, width)
        room[:, :columns] = stored[k]
    return RawBlock(words, 5, stride, width, frames.shape, swapped, flip)


ENCODINGS = [
    {"swapped": True, "flip": 0x8000},
    {"swapped": False, "flip": 0},
    {"swapped": False, "flip": 0, "overscan": 12},
    {"swapped": True, "flip": 0},
    {"swapped": False, "flip": 0x8000},
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_decoding(frames, encoding):
    block = encoded(frames, **encoding)
    np.testing.assert_array_equal(decode(block), frames)
    np.testing.assert_array_equal(decode(block.frames(3, 9)), frames[3:9])
    np.testing.assert_array_equal(decode(block.window(slice(4, 20), slice(30, 37))), frames[:, 4:20, 30:37])
    np.testing.assert_array_equal(np.concatenate([decode(part) for part in block.split(5)]), frames)


def test_blocks_that_reach_behind_the_buffer_are_refused(frames):
    block = encoded(frames, swapped=False, flip=0)
    with pytest.raises(ValueError, match="frames end"):
        replace(block, shape=(14, *SHAPE), words=block.words[: 13 * block.frame_stride + 5])
    with pytest.raises(ValueError, match="uint16"):
        replace(block, words=block.words.astype(np.int32))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_mean_and_variance(frames, encoding, backend):
    seen = []
    result = frame_statistics(
        [encoded(frames[:9], **encoding), encoded(frames[9:], **encoding)],
        frames=13,
        backend=backend,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result.frames == 13
    np.testing.assert_allclose(result.mean, frames.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(result.variance, frames.var(axis=0, ddof=1, dtype=np.float64), rtol=1e-10)
    assert seen[-1] == (13, 13)


def test_mean_does_not_depend_on_order_blocks_or_threads(frames):
    one = frame_statistics([raw_block(frames)], backend=get_backend("numpy", threads=1))
    two = frame_statistics([raw_block(frame[None]) for frame in frames[::-1]], backend=get_backend("numpy"))
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.variance, two.variance)


def test_sums_of_many_bright_frames_do_not_overflow():
    """A sum in 32 bits holds 65536 frames at full scale, a single-precision one loses digits at 256."""
    frame = np.full((1, 3, 5), 65535, dtype=np.uint16)
    # A frame stride of zero repeats one frame.
    many = RawBlock(frame.reshape(-1), 0, 0, 5, (200_000, 3, 5))
    result = frame_statistics([many])
    assert result.frames == 200_000
    np.testing.assert_array_equal(result.mean, 65535.0)
    np.testing.assert_array_equal(result.variance, 0.0)


def test_no_frames_and_mixed_shapes_are_refused(frames):
    with pytest.raises(InputError, match="no frames"):
        frame_statistics([])
    with pytest.raises(InputError, match="different shape"):
        frame_statistics([raw_block(frames), raw_block(frames[:, :20])])


def test_gain_is_the_median_signal_over_the_signal(rng):
    dark = rng.normal(300, 5, SHAPE)
    flat = dark + rng.normal(8000, 500, SHAPE)
    flat[3, 4] = dark[3, 4]
    flat[5, 6] = dark[5, 6] - 20
    gain = gain_table(flat, dark)
    assert gain.dtype == np.float32
    good = np.ones(SHAPE, dtype=bool)
    good[[3, 5], [4, 6]] = False
    expected = np.median(flat - dark) / (flat - dark)[good]
    np.testing.assert_allclose(gain[good], expected, rtol=2e-7)
    np.testing.assert_array_equal(gain[~good], 0.0)


def test_flats_darker_than_darks_are_refused():
    with pytest.raises(InputError, match=r"not brighter.*swapped"):
        gain_table(np.full(SHAPE, 200.0), np.full(SHAPE, 300.0))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_calibrated_frames_equal_the_formula(frames, encoding, backend, rng):
    dark = rng.normal(300, 20, SHAPE)
    flat = dark + rng.normal(8000, 800, SHAPE)
    correction = make_correction(dark, gain_table(flat, dark), backend=backend)
    result = correct_frames([encoded(frames[:9], **encoding), encoded(frames[9:], **encoding)], correction)
    assert result.dtype == np.float32
    expected = (frames - dark) * np.median(flat - dark) / (flat - dark)
    # Three roundings of single precision, of values up to the largest raw one.
    np.testing.assert_allclose(to_host(result), expected, rtol=4e-7, atol=65535 * 2**-23)


def test_both_branches_give_the_same_bytes(frames, rng):
    bad = rng.random(SHAPE) < 0.05
    dark, gain = rng.normal(300, 20, SHAPE), rng.normal(1, 0.1, SHAPE)
    host = get_backend("numpy", threads=2)
    results = [
        to_host(correct_frames([raw_block(frames)], make_correction(dark, gain, bad, backend=b)))
        for b in (host, device())
    ]
    np.testing.assert_array_equal(results[0], results[1])


def test_result_does_not_depend_on_how_the_frames_are_cut(frames, rng):
    bad = rng.random(SHAPE) < 0.05
    dark, gain = rng.normal(300, 20, SHAPE), rng.normal(1, 0.1, SHAPE)
    results = [
        correct_frames(
            blocks, make_correction(dark, gain, bad, backend=get_backend("numpy", threads=threads))
        )
        for blocks in ([raw_block(frames)], [raw_block(frame[None]) for frame in frames])
        for threads in (1, 2)
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("lead", [0, 1, 15])
def test_a_large_result_is_the_same_as_a_small_one(frames, rng, monkeypatch, lead):
    """Stores past the caches need an aligned place; what lies before and behind is left alone."""
    bad = rng.random(SHAPE) < 0.05
    correction = make_correction(rng.normal(300, 20, SHAPE), rng.normal(1, 0.1, SHAPE), bad, backend="numpy")
    blocks = [
        encoded(frames[:5], swapped=True, flip=0x8000),
        *(raw_block(frame[None]) for frame in frames[5:]),
    ]
    expected = correct_frames(blocks, correction)
    monkeypatch.setattr(calibrate_module, "_STREAMED_BYTES", 0)
    room = np.full(expected.size + 32, -7.0, dtype=np.float32)
    inside = slice(lead, lead + expected.size)
    correct_frames(blocks, correction, room[inside].reshape(expected.shape))
    np.testing.assert_array_equal(room[inside].reshape(expected.shape), expected)
    assert (np.delete(room, inside) == -7).all()


@pytest.mark.parametrize("size", [0, 3, 16, 17, 95])
@pytest.mark.parametrize("lead", [0, 1, 9, 15])
def test_vectors_are_copied_whole_at_any_place(size, lead):
    source = np.arange(1, size + 1, dtype=np.float32)
    room = np.zeros(size + 40, dtype=np.float32)
    store_streamed(source, room[lead : lead + size])
    np.testing.assert_array_equal(room, np.pad(source, (lead, 40 - lead)))


def test_result_goes_where_it_is_told(frames):
    correction = make_correction(np.zeros(SHAPE), np.ones(SHAPE), backend="numpy")
    out = np.empty((13, *SHAPE), dtype=np.float32)
    assert correct_frames([raw_block(frames)], correction, out) is out
    np.testing.assert_array_equal(out, frames)
    with pytest.raises(ValueError, match="float32"):
        correct_frames([raw_block(frames)], correction, np.empty((12, *SHAPE), dtype=np.float32))
    with pytest.raises(InputError, match="differ in shape"):
        correct_frames([raw_block(frames[:, :, :30])], correction)


def test_part_of_the_field_is_the_same_as_a_part_of_the_result(frames, rng):
    bad = np.zeros(SHAPE, dtype=bool)
    bad[10, 20] = True
    correction = make_correction(rng.normal(300, 20, SHAPE), rng.normal(1, 0.1, SHAPE), bad, backend="numpy")
    whole = correct_frames([raw_block(frames)], correction)
    rows, columns = slice(5, 30), slice(9, 31)
    part = correct_frames([raw_block(frames).window(rows, columns)], correction.crop(rows, columns))
    np.testing.assert_array_equal(part, whole[:, rows, columns])


def test_mean_image_is_corrected_like_the_frames(frames, rng):
    bad = np.zeros(SHAPE, dtype=bool)
    bad[7, 7] = True
    correction = make_correction(rng.normal(300, 20, SHAPE), rng.normal(1, 0.1, SHAPE), bad, backend="numpy")
    mean = correct_frames([raw_block(frames)], correction).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(correct_image(frames.mean(axis=0), correction), mean, rtol=1e-5)


def test_dead_and_hot_pixels_are_found_and_nothing_else(rng):
    dark = rng.normal(300, 3, (80, 90))
    flat = dark + 8000 * (1 - 0.3 * np.hypot(*np.mgrid[-1:1:80j, -1:1:90j])) + rng.normal(0, 20, (80, 90))
    dark[4, 5] += 500
    flat[4, 5] += 500
    flat[60, 70] = dark[60, 70] + 3
    flat[0, 0] = 0
    flags = find_bad_pixels(dark, flat)
    expected = np.zeros((80, 90), dtype=np.uint8)
    expected[4, 5] = HOT
    expected[60, 70] = expected[0, 0] = DEAD
    np.testing.assert_array_equal(flags, expected)


def test_constant_darks_have_no_hot_pixels():
    dark = np.full(SHAPE, 100.0)
    dark[0, 0] = 101.0
    assert not find_bad_pixels(dark, dark + 1000).any()


def test_bad_pixels_are_filled_from_their_good_neighbours(rng):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plane = (1000 + 7 * y - 3 * x).astype(np.uint16)
    bad = np.zeros(SHAPE, dtype=bool)
    bad[10, 10] = bad[20:23, 20:23] = True
    spoilt = plane.copy()
    spoilt[bad] = 65535
    correction = make_correction(np.zeros(SHAPE), np.ones(SHAPE), bad, backend="numpy")
    filled = correct_frames([raw_block(spoilt[None])], correction)[0]
    # On a plane the mean of neighbours on all sides is the pixel; at a cluster's rim they are on one side.
    np.testing.assert_allclose(filled[10, 10], plane[10, 10], rtol=1e-6)
    np.testing.assert_allclose(filled[21, 21], plane[21, 21], rtol=1e-6)
    assert np.abs(filled - plane)[20:23, 20:23].max() < 15
    np.testing.assert_array_equal(filled[~bad], plane[~bad])


def test_corners_and_hopeless_cameras():
    bad = np.zeros(SHAPE, dtype=bool)
    bad[0, 0] = bad[-1, -1] = True
    _, neighbours, weights = fill_table(bad)
    assert not bad.reshape(-1)[neighbours[weights > 0]].any()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    # A whole row: only the rows above and below are left.
    bad[:] = False
    bad[20] = True
    index, neighbours, weights = fill_table(bad)
    assert set((neighbours[weights > 0] // SHAPE[1]).tolist()) == {19, 21}
    assert index.size == SHAPE[1]
    with pytest.raises(InputError, match="every pixel"):
        fill_table(np.ones(SHAPE, dtype=bool))


def test_a_bad_pixel_beside_another_is_the_weighted_mean_of_its_good_neighbours_alone():
    bad = np.zeros(SHAPE, dtype=bool)
    bad[12, 30:32] = True
    image = np.random.default_rng(3).normal(1000, 50, SHAPE)
    index, neighbours, weights = fill_table(bad)
    filled = (image.ravel()[neighbours] * weights).sum(axis=1)
    for flat, value in zip(index, filled, strict=True):
        y, x = divmod(int(flat), SHAPE[1])
        weight = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) * ~bad[y - 1 : y + 2, x - 1 : x + 2]
        expected = (weight * image[y - 1 : y + 2, x - 1 : x + 2]).sum() / weight.sum()
        assert value == pytest.approx(expected, rel=1e-6)
    assert index.size == 2


def test_frames_per_batch_keeps_to_the_budget():
    assert frames_per_batch((1000, 1000), 4, 40_000_000) == 10
    assert frames_per_batch((1000, 1000), 4, 1) == 1


def test_kernels_cover_rows_that_do_not_fill_a_chunk(frames):
    """41 rows are one chunk and a rest; the constant must not be larger than that, or this tests nothing."""
    assert SHAPE[0] % _rawkernels.ROWS
    assert SHAPE[0] > _rawkernels.ROWS
