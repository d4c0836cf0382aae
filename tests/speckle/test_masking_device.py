"""The GPU branch of the open reconstruction: its kernels for each architecture, and run without a device."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from tests.fakes.device import device, missing_from

import stillsun.core
import stillsun.speckle.masking
from stillsun import get_backend, reconstruct
from stillsun.errors import ReconstructionError
from stillsun.speckle.masking import launch
from stillsun.speckle.masking.device_tracking import coherent_means, register_subfields
from stillsun.speckle.masking.geometry import cut, tukey
from stillsun.speckle.masking.indices import equations, frequencies, triples
from stillsun.speckle.masking.knox_thompson import cross_spectra, mean_cross_spectra
from stillsun.speckle.masking.phases import solve

SOURCE = Path(stillsun.speckle.masking.__file__).with_name("kernels.cu")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
SET = (24, 0.4, 0.38, 0.95, 0.10, 0.10)
CPU = get_backend("numpy", threads=1)
# Forwards, backwards and at random: code that misses a barrier gives another result.
ORDERS = (0, 1, 5)


@pytest.mark.parametrize(
    "source", [SOURCE, Path(stillsun.core.__file__).with_name("kernels.cu")], ids=["speckle", "core"]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile(architecture, source):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="pip install 'stillsun[gpu-check]'")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC not found: {error}")
    code = source.read_bytes()
    made, program = nvrtc.nvrtcCreateProgram(code, b"kernels.cu", 0, [], [])
    assert made == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [b"-std=c++17", f"--gpu-architecture={architecture}".encode()]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, length = nvrtc.nvrtcGetProgramLogSize(program)
    # bytearray: NVRTC writes into it, and the bytes b" " of length one are shared by the whole process.
    text = bytearray(length)
    nvrtc.nvrtcGetProgramLog(program, text)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, text.decode()
    assert not text.strip(b"\0\n"), text.decode()
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = bytearray(size)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    for name in re.findall(r"__global__ void (\w+)\(", code.decode()):
        assert b".text." + name.encode() in cubin
    nvrtc.nvrtcDestroyProgram(program)


def in_every_order(work):
    """The result of some work on the device that is not there; the same bits in each order of threads."""
    results = [work(device(order=order)) for order in ORDERS]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    return results[0]


@pytest.mark.parametrize("binning", [1, 2])
def test_cut_is_the_formula(binning):
    rng = np.random.default_rng(1)
    frames = rng.normal(1, 0.1, (3, 40, 33)).astype(np.float32)
    scale = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    surface = rng.normal(1, 0.1, (40, 33)).astype(np.float32)
    window = tukey(24, 0.3).astype(np.float32)
    first = np.array([[-5, -4], [20, 15], [8, 4]], dtype=np.int32)
    shifts = rng.integers(-6, 7, (3, 3, 2)).astype(np.int32)

    def work(backend):
        put = [backend.asarray(a) for a in (frames, scale, surface, first, shifts, window)]
        return [a.get() for a in launch.cut_subfields(*put, binning, backend)]

    tiles, means = in_every_order(work)
    padded = np.pad(frames.astype(float), ((0, 0), (24, 24), (24, 24)), mode="symmetric")
    still = np.pad(surface.astype(float), 24, mode="symmetric")
    flat = np.outer(window, window).astype(float)
    for s, (row, column) in enumerate(first + 24):
        for k, (down, across) in enumerate(shifts[s]):
            part = padded[k, row - down : row - down + 24, column - across : column - across + 24]
            part = part * scale[k] - still[row : row + 24, column : column + 24]
            mean = (part * flat).sum() / flat.sum()
            np.testing.assert_allclose(means[s, k], mean, atol=1e-7)
            expected = ((part - mean) * flat).reshape(24 // binning, binning, 24 // binning, binning)
            np.testing.assert_allclose(tiles[s, k], expected.sum(axis=(1, 3)), atol=1e-6)
        compiled, levels = np.empty_like(tiles[s]), np.empty(3)
        place = int(row - 24), int(column - 24)
        cut(
            *(frames, scale, surface, np.arange(3), *place, shifts[s].astype(int), window, binning),
            *(compiled, levels),
        )
        np.testing.assert_allclose(tiles[s], compiled, atol=1e-6)


def test_cut_with_shifts_common_to_all_subfields_and_no_surface():
    rng = np.random.default_rng(2)
    frames = rng.normal(1, 0.1, (2, 30, 30)).astype(np.float32)
    scale, window = np.ones(2, np.float32), tukey(16, 0.3).astype(np.float32)
    first = np.array([[1, 2], [7, 5]], dtype=np.int32)
    shifts = np.array([[1, -2], [0, 3]], dtype=np.int32)
    d = device()
    put = [d.asarray(a) for a in (frames, scale, first, np.stack([shifts, shifts]), shifts, window)]
    nothing = d.asarray(np.zeros((30, 30), np.float32))
    one = launch.cut_subfields(put[0], put[1], None, put[2], put[4], put[5], 1, d)
    two = launch.cut_subfields(put[0], put[1], nothing, put[2], put[3], put[5], 1, d)
    np.testing.assert_array_equal(one[0].get(), two[0].get())


def spectra(count, frames, seed=3):
    rng = np.random.default_rng(seed)
    shape = 2, count, frames
    values = 1 + rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return values.astype(np.complex64)


# A warp takes 32 frames at a time.
@pytest.mark.parametrize("frames", [5, 32, 41])
def test_bispectrum_is_the_formula(frames):
    t = triples(*SET)
    values = spectra(len(frequencies(*SET[:4])), frames)
    values[1, :, :] = values[1, :, :1]  # frames all alike

    def work(backend):
        put = [backend.asarray(a) for a in (values, t.u, t.v, t.w)]
        return [a.get() for a in launch.mean_bispectra(*put, backend)]

    phasor, snr = in_every_order(work)
    both = np.concatenate([values, values.conj()], axis=1).astype(np.complex128)
    b = both[:, t.u] * both[:, t.v] * both[:, t.w].conj()
    mean = b.mean(axis=2)
    np.testing.assert_allclose(phasor, mean / np.abs(mean), atol=2e-4)
    expected = np.abs(mean) / (b.std(axis=2) / np.sqrt(frames - 1) + 1e-30)
    np.testing.assert_allclose(snr[0], expected[0], rtol=1e-3)
    np.testing.assert_allclose(snr[1], 1000 * np.sqrt((frames - 1) / frames), rtol=1e-3)


def test_cross_spectra_are_those_of_the_cpu():
    f = frequencies(*SET[:4])
    pairs = cross_spectra(*SET, 0.3)
    values = spectra(len(f), 20, seed=4)
    noise = np.array([0.3, 0.1])

    def work(backend):
        put = [backend.asarray(a) for a in (values, pairs.u, pairs.w, pairs.leak, noise)]
        return [a.get() for a in launch.mean_cross_spectra(*put, backend)]

    phasor, snr = in_every_order(work)
    for s, one in enumerate(values):
        compiled, ratio = np.empty(len(pairs), np.complex64), np.empty(len(pairs), np.float32)
        parts = np.ascontiguousarray(one.real), np.ascontiguousarray(one.imag)
        mean_cross_spectra(*parts, pairs.u, pairs.w, pairs.leak, noise[s], compiled, ratio)
        np.testing.assert_allclose(phasor[s], compiled, atol=1e-4)
        np.testing.assert_allclose(snr[s], ratio, rtol=1e-4)


@pytest.mark.parametrize("shared_memory", [0, 96 * 1024])
def test_phases_are_solved_in_the_order_of_the_cpu(shared_memory):
    """A plain loop over frequencies with the newest values, which is also what the Numba kernel does."""
    f, e, t = frequencies(*SET[:4]), equations(*SET), triples(*SET)
    rng = np.random.default_rng(5)
    count, sweeps = len(f), 2
    elements = rng.standard_normal((2, len(t))) + 1j * rng.standard_normal((2, len(t)))
    elements = elements.astype(np.complex64)
    weights = np.where(e.triple >= 0, elements[:, e.triple], elements[:, -1 - e.triple].conj())
    guess = np.exp(2j * np.pi * rng.random((2, count))).astype(np.complex64)

    def work(backend):
        backend = replace(backend, shared_memory=shared_memory)
        start, known = (backend.asarray(a, dtype=np.int32) for a in (e.start, e.known))
        members = backend.asarray(np.stack([e.a, e.b], axis=1))
        phases = backend.asarray(guess.copy())
        put = backend.asarray(np.ascontiguousarray(weights)), start, known, members, phases
        change = launch.solve_phases(*put, f.fixed, sweeps, 0.0, backend)
        return phases.get(), change.get()

    phases, change = in_every_order(work)
    for s in range(2):
        plain = guess[s].astype(np.complex128)
        for sweep in range(sweeps + 1):
            before = plain.copy()
            for k in range(f.fixed if sweep == 0 else 0, count):
                own = slice(e.start[k], e.known[k] if sweep == 0 else e.start[k + 1])
                both = np.concatenate([plain, plain.conj()])
                total = (both[e.a[own]] * both[e.b[own]] * weights[s, own]).sum()
                plain[k] = total / abs(total) if abs(total) > 0 else plain[k]
        np.testing.assert_allclose(phases[s], plain, atol=1e-4)
        rms = np.sqrt(np.mean(np.angle(plain * before.conj()) ** 2))
        np.testing.assert_allclose(change[s], rms, rtol=1e-3)
        compiled = guess[s].copy()
        given = e.start, e.known, e.a, e.b, e.triple
        solve(elements[s], *given, compiled, f.fixed, sweeps, 0.0)
        np.testing.assert_allclose(phases[s], compiled, atol=1e-4)


def test_sweeps_end_when_the_phases_stand():
    f, e, t = frequencies(*SET[:4]), equations(*SET), triples(*SET)
    d = device()
    ones = d.asarray(np.ones((1, len(e.a)), np.complex64))
    start, known = (d.asarray(a, dtype=np.int32) for a in (e.start, e.known))
    members = d.asarray(np.stack([e.a, e.b], axis=1))
    phases = d.asarray(np.exp(1j * np.arange(len(f)))[None].astype(np.complex64))
    found = [
        float(launch.solve_phases(ones, start, known, members, phases, f.fixed, n, 0.15, d).get()[0])
        for n in (0, 30)
    ]
    assert found[0] == 0
    assert 0 < found[1] < 0.15
    assert len(t)


def moved(values, f, shift):
    """Spectra of objects (subfields, m), moved by (subfields, frames, 2): (subfields, m, frames)."""
    phase = f.y[:, None] * shift[:, None, :, 0] + f.x[:, None] * shift[:, None, :, 1]
    return (values[:, :, None] * np.exp(-2j * np.pi / 24 * phase)).astype(np.complex64)


@pytest.fixture
def objects():
    """Frequencies, and spectra of two objects: one with the power of granulation, one that is a ridge."""
    f = frequencies(*SET[:4])
    ridge = np.exp(-(((f.y - f.x) / 4) ** 2) - (f.y + f.x) ** 2 / 200)
    phases = np.exp(2j * np.pi * np.random.default_rng(4).random((2, len(f))))
    return f, phases, (phases * np.stack([10 ** (-2.5 * f.q), ridge])).astype(np.complex64)


def test_objects_are_put_where_the_mean_images_have_them(objects):
    f, phases, means = objects
    d = device()
    away = moved(phases, f, np.array([[[4.3, -2.8]], [[-3.4, 1.7]]]))[:, :, 0]
    put = (d.asarray(a) for a in (away, means, f.y, f.x))
    np.testing.assert_allclose(register_subfields(*put, 24, d).get(), phases, atol=1e-4)


def test_coherent_means_align_to_a_fraction_of_a_pixel(objects):
    f, _, means = objects
    d = device()
    shift = np.random.default_rng(7).uniform(-0.8, 0.8, (2, 9, 2))
    shift -= shift.mean(axis=1, keepdims=True)
    light = np.where(shift[:, :, 0] > 0, 1.6, 0.4)
    light /= light.mean(axis=1, keepdims=True)
    frames = light[:, None].astype(np.float32) * moved(means, f, shift)
    found, mean = coherent_means(*(d.asarray(a) for a in (frames, f.y, f.x)), 24, len(f) // 3, 4, d.xp)
    np.testing.assert_allclose(found.get(), -shift, atol=1e-4)
    np.testing.assert_allclose(found.get().mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(mean.get() / means, 1, atol=1e-4)


@pytest.fixture(scope="module")
def burst():
    """A jittering, blurred scene with an odd frame and dead pixels."""
    rng = np.random.default_rng(6)
    scene = ndimage.gaussian_filter(rng.standard_normal((48, 52)), 1.0, mode="wrap")
    scene = 1 + 0.1 * scene / scene.std()
    frames = np.empty((7, 48, 52), dtype=np.float32)
    for frame in frames:
        blurred = ndimage.gaussian_filter(scene, rng.uniform(0.5, 1.0), mode="wrap")
        light = 1000 * rng.uniform(0.95, 1.05) * np.roll(blurred, rng.integers(-2, 3, 2), (0, 1))
        frame[...] = light + 3 * rng.standard_normal(light.shape)
    frames[2] = np.nan
    frames[:, 20:22, 30] = 5
    frames[:, 40, 41] = np.nan
    return frames


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "knox_thompson"},
        {"ao_used": True, "ao_modes": 4, "max_iterations": 1, "phase_limit": 60},
    ],
    ids=["triple_correlation", "knox_thompson", "adaptive_optics"],
)
def test_reconstruction_agrees_with_the_cpu(burst, gpu, options):
    options = {"subfield_arcsec": 1.2, "max_iterations": 4, "keep_subfields": True, **options}
    expected = reconstruct(burst, 0.048, 430.5, backend=CPU, **options)
    progress = []
    found = reconstruct(
        gpu.asarray(burst), 0.048, 430.5, backend=gpu, progress=lambda *p: progress.append(p), **options
    )
    assert isinstance(found.image, np.ndarray)
    rms = np.sqrt(np.mean((found.image - expected.image) ** 2))
    assert rms < 1e-4 * expected.image.std()
    assert found.notes == expected.notes
    assert found.r0 == pytest.approx(expected.r0, rel=1e-3)
    assert progress[-1] == (expected.r0_map.size, expected.r0_map.size)
    np.testing.assert_allclose(found.r0_map, expected.r0_map, rtol=1e-3)
    np.testing.assert_array_equal(found.shifts, expected.shifts)
    # Differences of float32 phases, radians, which the fit does not enter: sums in another order leave 1e-5.
    np.testing.assert_allclose(found.convergence, expected.convergence, rtol=1e-2, atol=2e-5)
    scale = np.abs(expected.subfields.images).max()
    np.testing.assert_allclose(found.subfields.images, expected.subfields.images, atol=1e-3 * scale)


def test_memory_bounds_the_subfields_in_work(burst):
    """With hardly any memory the subfields are taken one by one, to the same bytes."""
    options = {"subfield_arcsec": 1.2, "max_iterations": 1, "phase_limit": 60}
    images = [
        reconstruct(burst[3:], 0.048, 430.5, backend=device(memory=memory), **options).image
        for memory in (1, 2**30)
    ]
    np.testing.assert_array_equal(*images)


def test_a_device_that_others_use_takes_fewer_subfields(burst, monkeypatch):
    """What was counted on may not be free: smaller batches, the same bytes; and words where none is left."""
    options = {"subfield_arcsec": 1.2, "max_iterations": 1, "phase_limit": 60}
    plenty = reconstruct(burst[3:], 0.048, 430.5, backend=device(), **options).image
    taken = []
    plain = launch.cut_subfields

    def cut_few(frames, scale, surface, first, *rest):
        taken.append(len(first))
        if surface is not None and len(first) > free:
            raise MemoryError("out of memory allocating 7 bytes")
        return plain(frames, scale, surface, first, *rest)

    monkeypatch.setattr("stillsun.speckle.masking.device.cut_subfields", cut_few)
    free = 2
    short = reconstruct(burst[3:], 0.048, 430.5, backend=device(), **options).image
    np.testing.assert_array_equal(short, plenty)
    assert max(taken) > 2
    assert taken[-1] <= 2
    free = 0
    with pytest.raises(ReconstructionError, match=r"no memory for a single subfield.*7 bytes"):
        reconstruct(burst[3:], 0.048, 430.5, backend=device(), **options)


@pytest.mark.parametrize("method", ["triple_correlation", "knox_thompson"])
def test_cupy_has_what_is_used(burst, method):
    cupy = pytest.importorskip("cupy", reason="pip install 'stillsun[gpu]'")
    reconstruct(burst, 0.048, 430.5, backend=device(), subfield_arcsec=1.2, method=method, max_iterations=0)
    assert not missing_from(cupy)
