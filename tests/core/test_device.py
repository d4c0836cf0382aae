"""All of the core on a GPU backend: no array meets NumPy by accident, and the results are the CPU's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests.fakes.device import device, missing_from

from stillsun import apply_shifts, destretch, destretch_series, get_backend
from stillsun.core.affine import carry_displacement, pixel_map, shifts_of_field
from stillsun.core.batch import raw_block
from stillsun.core.calibrate import correct_frames, correct_image, make_correction
from stillsun.core.quality import frame_quality
from stillsun.core.registration.offset import lay_on, remaining_offset
from stillsun.core.registration.similarity import match_images
from stillsun.core.statistics import average_frames
from stillsun.core.summary import summarise
from stillsun.speckle.stack import tile_aligned_mean

CPU = get_backend("numpy", threads=1)
SHAPE = (120, 132)
KERNELS = (0, 64, 32, 16)


def scene(seed, shape=SHAPE, sigma=1.5):
    image = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma, mode="wrap")
    return (1000 * (1 + 0.1 * image / image.std())).astype(np.float32)


def frames(holes=False):
    rng = np.random.default_rng(1)
    moved = [np.roll(scene(0), rng.integers(-2, 3, 2), (0, 1)) for _ in range(5)]
    stack = np.stack(moved) + 2 * rng.standard_normal((5, *SHAPE))
    if holes:
        stack[3] = np.nan
        stack[1, :5] = np.nan
    return stack.astype(np.float32)


def raw():
    return np.random.default_rng(2).poisson(frames()).astype(np.uint16)


def correction(backend):
    rng = np.random.default_rng(3)
    bad = rng.random(SHAPE) < 0.002
    return make_correction(rng.normal(100, 1, SHAPE), rng.normal(1, 0.01, SHAPE), bad, backend=backend)


def solved(backend):
    result = destretch(frames()[1], frames()[0], kernels=KERNELS, backend=backend)
    return result.image, *result.shifts, result.displacement, result.valid


def replayed(backend):
    shifts = [np.random.default_rng(4).uniform(-2, 2, s.shape) for s in solved(CPU)[1:5]]
    return (apply_shifts(frames()[2], shifts, kernels=KERNELS, backend=backend),)


def series(backend, holes=False, **options):
    result = destretch_series(frames(holes), kernels=KERNELS, window=3, backend=backend, **options)
    return result.images, result.displacement


def calibrated(backend):
    made = correction(backend)
    out = correct_frames([raw_block(raw())], made)
    return get(out), correct_image(raw()[0], made)


def averaged(backend):
    found = average_frames(lambda a, b: [raw_block(raw()[a:b])], 5, saturation=1250, backend=backend)
    return found.mean, found.variance


def quality(backend):
    return (
        *frame_quality(frames(), backend=backend),
        *frame_quality(backend.asarray(frames()), backend=backend),
    )


def laid(backend):
    holes = scene(0)
    holes[:9] = np.nan
    place = (0.11, 0.1), (0.3, 0.2), 10.0, backend
    return lay_on((100, 110), (0.1, 0.1), scene(0), *place), lay_on((100, 110), (0.1, 0.1), holes, *place)


def offset(backend):
    one = scene(5, (300, 300), 2.0)
    found = remaining_offset(
        one, np.roll(one, (2, -1), (0, 1)), (0.05, 0.05), reach_arcsec=2.0, backend=backend
    )
    return found.shift, found.error, (found.correlation,)


def matched(backend):
    wide = scene(6, (180, 190), 3.0)
    found = match_images(wide, wide[20:150, 30:160], (0.1, 0.1), (0.1, 0.1), backend=backend)
    return found.translation, (found.rotation_deg,)


def carried(backend):
    field = 3 * (np.stack([scene(7), scene(8)]) / 1000 - 1)
    pixels = pixel_map((90, 100), (0.12, 0.12), SHAPE, (0.1, 0.1), (0.4, -0.3), 3.0)
    return carry_displacement(field, pixels, (90, 100), backend)


def expressed(backend):
    field = np.stack([scene(7), scene(8)]) / 1000 - 1
    return tuple(shifts_of_field(field, KERNELS, backend))


def numbers(backend):
    found = summarise(scene(0), backend)
    return ([v for v in vars(found).values() if isinstance(v, int | float)],)


def stacked(backend):
    found = tile_aligned_mean(frames(), backend=backend)
    return found.image, found.shifts


def get(array):
    return array.get() if hasattr(array, "get") else array


CASES = {
    "destretch": solved,
    "apply_shifts": replayed,
    "destretch_series": series,
    "destretch_series, fixed reference": lambda b: series(b, reference="fixed"),
    "destretch_series, flows preserved": lambda b: series(b, preserve_flows=True),
    "destretch_series, holes": lambda b: series(b, holes=True),
    "calibrate": calibrated,
    "average_frames": averaged,
    "frame_quality": quality,
    "lay_on": laid,
    "remaining_offset": offset,
    "match_images": matched,
    "carry_displacement": carried,
    "shifts_of_field": expressed,
    "summarise": numbers,
    "tile_aligned_mean": stacked,
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_cpus(name, gpu):
    for expected, found in zip(CASES[name](CPU), CASES[name](gpu), strict=True):
        expected, found = np.asarray(expected), np.asarray(found)  # the stand-in refuses if still there
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
        if expected.dtype == bool:
            assert np.mean(found != expected) < 1e-3
            continue
        scale = np.nanmax(np.abs(expected)) if expected.size else 1.0
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * scale)


def test_the_field_stays_on_the_device_until_it_is_asked_for(gpu):
    result = destretch(frames()[1], frames()[0], kernels=KERNELS, backend=gpu)
    assert isinstance(result.field, gpu.xp.ndarray)
    assert isinstance(result.displacement, np.ndarray)
    np.testing.assert_array_equal(result.displacement, result.field.get())


def test_the_stand_in_refuses_what_a_device_refuses():
    array = device().asarray(np.arange(4.0))
    host = np.ones(4)
    for fault in (
        lambda: np.asarray(array),
        lambda: np.sqrt(array),
        lambda: np.sum(array),
        lambda: array + host,
        lambda: host * array,
        lambda: array[np.array([0, 1])],
        lambda: array.__setitem__(slice(None), host),
        lambda: array.__iadd__(host),
        lambda: device().xp.exp(host),
        lambda: device().xp.where(array > 0, host, 0.0),
    ):
        with pytest.raises(TypeError):
            fault()
    np.testing.assert_array_equal((np.float32(2) * array + 1).get(), [1, 3, 5, 7])


def test_cupy_has_what_is_used():
    """CuPy can be imported without a device: every function and method that these tests used is there."""
    cupy = pytest.importorskip("cupy", reason="pip install 'stillsun[gpu]'")
    for case in CASES.values():
        case(device())
    assert not missing_from(cupy)
