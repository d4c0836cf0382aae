"""Unstable pixels: those that jump, and not what moved over the flats."""

from __future__ import annotations

import numpy as np

from stillsun.core.badpixels import UNSTABLE, find_unstable_pixels

SHAPE = (90, 110)
FRAMES = 24


def _mean_and_variance(values):
    return values.mean(axis=0), values.var(axis=0, ddof=1)


def _flags(darks, flats):
    (dark, dark_variance), (flat, flat_variance) = (_mean_and_variance(v) for v in (darks, flats))
    return find_unstable_pixels(dark, flat, dark_variance, flat_variance)


def _frames(rng):
    """3 DN read noise, photon noise of 8000 DN at 3 electrons a DN."""
    darks = rng.normal(300, 3, (FRAMES, *SHAPE))
    return darks, rng.normal(8300, np.sqrt(8000 / 3), (FRAMES, *SHAPE))


def test_pixels_that_jump_are_found_alone_in_clusters_and_at_the_edge():
    darks, flats = _frames(np.random.default_rng(2))
    expected = np.zeros(SHAPE, dtype=bool)
    expected[40, 50] = expected[20:24, 30:33] = expected[0, 0] = expected[89, 60] = expected[10, 109] = True
    darks[::2, expected] += 40
    flags = _flags(darks, flats)
    np.testing.assert_array_equal(flags == UNSTABLE, expected)


def test_sensitivity_that_changes_shows_in_the_flats():
    darks, flats = _frames(np.random.default_rng(3))
    flats[::2, 60, 70] *= 1.1
    assert np.argwhere(_flags(darks, flats)).tolist() == [[60, 70]]


def test_what_moved_over_the_flats_is_no_fault_of_its_pixels():
    darks, flats = _frames(np.random.default_rng(4))
    y, x = np.indices(SHAPE)
    flats[7] -= 1500 * np.exp(-((y - 50) ** 2 + (x - 60) ** 2) / 150)
    # The patch is noisy enough to be taken for bad, and a pixel in it that jumps is.
    variance = flats.var(axis=0, ddof=1)
    assert np.count_nonzero(variance > 10 * np.median(variance)) > 150
    assert not _flags(darks, flats).any()
    flats[::2, 50, 60] += 4000
    assert np.argwhere(_flags(darks, flats)).tolist() == [[50, 60]]


def test_many_frames_do_not_make_a_fault_of_a_little_more_noise_nor_few_of_chance():
    rng = np.random.default_rng(5)
    level = np.full(SHAPE, 300.0)
    for frames, harmless, fault in ((2000, 3.0, 5.0), (4, 6.0, 60.0)):
        # Sample variances of `frames` frames; the scatter is a thirtieth of the variance, or as large.
        dark, flat = (scale * rng.chisquare(frames - 1, SHAPE) / (frames - 1) for scale in (9.0, 2700.0))
        dark[30, 40], flat[50, 60] = 9 * harmless, 2700 * harmless
        dark[70, 20], flat[10, 90] = 9 * fault, 2700 * fault
        flags = find_unstable_pixels(level, level + 8000, dark, flat)
        assert np.argwhere(flags).tolist() == [[10, 90], [70, 20]]


def test_single_frames_tell_nothing():
    zero = np.zeros(SHAPE)
    assert not find_unstable_pixels(zero + 300, zero + 8000, zero, zero).any()
