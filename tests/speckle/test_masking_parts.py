"""The parts of the open reconstruction against plain statements of their formulas."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.fft
from scipy.special import gamma, kv

from stillsun.core.backend import get_backend
from stillsun.errors import InputError, ReconstructionError
from stillsun.speckle.masking.assembly import Mosaic
from stillsun.speckle.masking.bispectrum import mean_bispectrum, weigh
from stillsun.speckle.masking.geometry import cut, subfield_lattice, subfield_size, tukey
from stillsun.speckle.masking.indices import equations, frequencies, triples
from stillsun.speckle.masking.knox_thompson import (
    align,
    cross_equations,
    cross_spectra,
    mean_cross_spectra,
)
from stillsun.speckle.masking.noise import FlatFrames, FlatNoise, flat_noise, subfield_noise
from stillsun.speckle.masking.phases import register, solve
from stillsun.speckle.masking.prepare import prepare
from stillsun.speckle.masking.screens import simulate_table, tracked
from stillsun.speckle.masking.subfield import Geometry
from stillsun.speckle.masking.tracking import coherent_mean, frame_shifts
from stillsun.speckle.masking.transfer import seeing_table, telescope_transfer

CPU = get_backend("numpy", threads=1)
SET = (32, 0.41, 0.39, 0.95, 0.10, 0.10)


def scene(shape, seed=0, slope=2.5, contrast=0.1):
    """Random image of mean 1 with the steep power of granulation."""
    rng = np.random.default_rng(seed)
    f = np.hypot(scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1]))
    spectrum = scipy.fft.fft2(rng.standard_normal(shape)) * 10 ** (-slope * f / 0.4)
    image = scipy.fft.ifft2(spectrum).real
    return (1 + contrast * (image - image.mean()) / image.std()).astype(np.float32)


# --- transfer functions


def test_telescope_transfer_is_the_pupils_autocorrelation():
    n = 256
    axis = np.arange(n) - n // 2 + 0.5
    pupil = (np.hypot(axis[:, None], axis) <= n / 4).astype(float)
    transfer = scipy.fft.ifft2(np.abs(scipy.fft.fft2(pupil)) ** 2).real
    transfer /= transfer[0, 0]
    q = np.arange(n // 2) / (n / 2)
    np.testing.assert_allclose(transfer[0, : n // 2], telescope_transfer(q), atol=0.004)
    assert telescope_transfer(1.3) == 0


def von_karman(r, outer_scale):
    """Structure function of phase for a Fried parameter of 1."""
    x = 2 * np.pi * np.maximum(r, 1e-9) / outer_scale
    factor = (24 / 5 * gamma(6 / 5)) ** (5 / 6) * gamma(11 / 6) / (2 ** (5 / 6) * np.pi ** (8 / 3))
    return 2 * outer_scale ** (5 / 3) * factor * (gamma(5 / 6) / 2 ** (1 / 6) - x ** (5 / 6) * kv(5 / 6, x))


@pytest.mark.parametrize(("strength", "q"), [(5.0, 0.25), (8.0, 0.5), (12.0, 0.25)])
def test_speckle_transfer_follows_korff(strength, q):
    """The Monte Carlo table against the integral of Korff 1973 over four displaced pupils."""
    across = 96
    n = 4 * across
    axis = np.arange(n) - n // 2 + 0.5
    s = round(q * across)
    pupil = (np.hypot(axis[:, None], axis) <= across / 2).astype(float)
    common = pupil * np.roll(pupil, s, axis=1)
    weight = scipy.fft.ifft2(np.abs(scipy.fft.fft2(common)) ** 2).real
    y, x = (scipy.fft.fftfreq(n) * n for _ in range(2))
    y = y[:, None]

    def structure(step):
        return von_karman(np.hypot(y, x + step) / across * strength, 26.0 * strength)

    exponent = -0.5 * (2 * structure(s)[0, 0] + 2 * structure(0) - structure(s) - structure(-s))
    korff = (weight * np.exp(exponent)).sum() / pupil.sum() ** 2
    ratio, _ = seeing_table().at(strength, q)
    assert ratio * telescope_transfer(q) ** 2 == pytest.approx(korff, rel=0.06)


def test_table_without_seeing_is_the_telescope_and_falls_with_seeing():
    table = seeing_table()
    np.testing.assert_array_equal(table.at(0.0, table.q), 1.0)
    middle = table.speckle[:, 30]
    assert np.all(np.diff(middle) < 0)
    assert np.all(table.long_exposure**2 <= table.speckle * 1.02 + 1e-6)


def test_table_can_be_made_again():
    again = simulate_table(strengths=np.array([0.0, 6.0]), exposures=48, object_slopes=(5.0, 12.0), seed=5)
    speckle, _ = seeing_table().at(6.0, again.q)
    inside = (again.q > 0.02) & (again.q < 0.9)
    np.testing.assert_allclose(again.speckle[1][inside], speckle[inside], rtol=0.25)
    seeing_limited = again.q < 0.3
    for slope, made in zip((5.0, 12.0), again.long_exposure[:, 1], strict=True):
        _, long_exposure = seeing_table().at(6.0, again.q, slope)
        np.testing.assert_allclose(made[seeing_limited], long_exposure[seeing_limited], rtol=0.15)


# --- index sets


def test_every_triple_once_and_none_missing():
    f, t = frequencies(*SET[:4]), triples(*SET)
    count = len(f)
    full = np.concatenate([np.stack([f.y, f.x], 1), -np.stack([f.y, f.x], 1)])
    np.testing.assert_array_equal(full[t.u] + full[t.v], full[t.w])
    members = np.stack([full[t.u], full[t.v], -full[t.w]], axis=1)

    def key(triple):
        """The same for any order of the members and for their negatives."""
        return min(tuple(sorted(map(tuple, (sign * triple).tolist()))) for sign in (1, -1))

    found = {key(m) for m in members}
    assert len(found) == len(t)
    inside = {tuple(p) for p in full.tolist()}
    short = [p for p, q in zip(full, np.tile(f.q, 2), strict=True) if q <= 0.1 or np.hypot(*p) <= 2.3]
    every = {
        key(np.stack([u, v, -(u + v)])) for v in short for u in full if tuple((u + v).tolist()) in inside
    }
    assert found == every
    assert count == len({tuple(p) for p in full[:count].tolist()})


def test_equations_hold_for_true_phases():
    f, t, e = frequencies(*SET[:4]), triples(*SET), equations(*SET)
    rng = np.random.default_rng(1)
    half = np.exp(2j * np.pi * rng.random(len(f)))
    p = np.concatenate([half, half.conj()])
    b = p[t.u] * p[t.v] * p[t.w].conj()
    phasor = np.where(e.triple >= 0, b[e.triple], b[-1 - e.triple].conj())
    target = np.repeat(np.arange(len(f)), np.diff(e.start))
    np.testing.assert_allclose(p[e.a] * p[e.b] * phasor, p[target], atol=1e-12)
    known = np.arange(len(e.a)) < e.known[target]
    assert np.all(np.maximum(e.a % len(f), e.b % len(f))[known] < target[known])
    assert np.all(np.diff(e.start)[f.fixed :] > 0)


# --- bispectrum and phases


def spectra(frames, seed=0):
    rng = np.random.default_rng(seed)
    f = frequencies(*SET[:4])
    shape = (len(f), frames)
    true = np.exp(2j * np.pi * rng.random(len(f)))
    speckle = 1 + 0.5 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    return f, true, (true[:, None] * speckle).astype(np.complex64)


def bispectrum_of(values):
    t = triples(*SET)
    phasor, snr = np.empty(len(t), np.complex64), np.empty(len(t), np.float32)
    real, imag = np.ascontiguousarray(values.real), np.ascontiguousarray(values.imag)
    mean_bispectrum(real, imag, t.u, t.v, t.w, phasor, snr)
    return phasor, snr


def test_bispectrum_kernel_is_the_formula():
    _, _, values = spectra(21)
    t = triples(*SET)
    both = np.concatenate([values, values.conj()]).astype(np.complex128)
    b = both[t.u] * both[t.v] * both[t.w].conj()
    mean, power = b.mean(axis=1), (np.abs(b) ** 2).mean(axis=1)
    snr = np.abs(mean) / np.sqrt((power - np.abs(mean) ** 2) / 20)
    phasor, found = bispectrum_of(values)
    np.testing.assert_allclose(phasor, mean / np.abs(mean), atol=1e-5)
    np.testing.assert_allclose(found, snr, rtol=1e-5)


def test_weights_keep_the_best_share():
    rng = np.random.default_rng(2)
    snr = rng.random(5000).astype(np.float32)
    weights = np.abs(weigh(np.ones(5000, np.complex64), snr, 0.8, 1.2))
    assert np.count_nonzero(weights) == pytest.approx(4000, abs=50)
    kept = weights > 0
    assert snr[kept].min() > snr[~kept].max()
    np.testing.assert_allclose(weights[kept], snr[kept] ** 1.2, rtol=1e-4)


def run_solver(phasor, guess, sweeps):
    f, e = frequencies(*SET[:4]), equations(*SET)
    phases = guess.astype(np.complex64)
    change = solve(
        phasor.astype(np.complex64), e.start, e.known, e.a, e.b, e.triple, phases, f.fixed, sweeps, 0.0
    )
    return phases, change


def test_known_phases_come_back_exactly_from_shifted_frames():
    """Shifts cancel in the bispectrum; the fixed phases alone say where the object is."""
    f, true, _ = spectra(1)
    rng = np.random.default_rng(3)
    shift = rng.uniform(-3, 3, (2, 8))
    ramp = np.exp(-2j * np.pi / SET[0] * (f.y[:, None] * shift[0] + f.x[:, None] * shift[1]))
    phasor, snr = bispectrum_of((true[:, None] * ramp).astype(np.complex64))
    assert np.all(snr > 100)
    guess = np.ones(len(f), complex)
    guess[: f.fixed] = true[: f.fixed]
    for sweeps in (0, 3):
        phases, change = run_solver(phasor, guess, sweeps)
        np.testing.assert_allclose(phases, true, atol=2e-4)
        assert change < 1e-3


def test_solver_is_phasor_averaging():
    """One recursive start and one sweep against a plain loop, with noisy bispectrum."""
    f, true, values = spectra(24, seed=4)
    phasor, snr = bispectrum_of(values)
    weighted = weigh(phasor, snr, 0.8, 1.2)
    guess = np.where(np.arange(len(f)) < f.fixed, true, 1)
    phases, change = run_solver(weighted, guess, 1)

    e = equations(*SET)
    count = len(f)
    p = np.concatenate([guess, guess.conj()])
    w = np.where(e.triple >= 0, weighted[e.triple], weighted[-1 - e.triple].conj()).astype(complex)
    steps = []
    for sweep in range(2):
        for t in range(0 if sweep else f.fixed, count):
            part = slice(e.start[t], e.start[t + 1] if sweep else e.known[t])
            total = (p[e.a[part]] * p[e.b[part]] * w[part]).sum()
            if total != 0:
                new = total / abs(total)
                if sweep:
                    steps.append(np.angle(new * p[t].conj()))
                p[t], p[count + t] = new, new.conj()
    np.testing.assert_allclose(phases, p[:count], atol=1e-5)
    assert change == pytest.approx(np.sqrt(np.mean(np.square(steps))), rel=1e-4)


def test_object_is_put_where_the_mean_image_has_it():
    f, true, _ = spectra(1)
    mean = (true * 10 ** (-2.5 * f.q)).astype(np.complex64)
    away = true * np.exp(-2j * np.pi / 32 * (f.y * 4.3 - f.x * 2.8))
    np.testing.assert_allclose(register(away.astype(np.complex64), mean, f.y, f.x, 32), true, atol=1e-5)


# --- Knox-Thompson

WINDOWED = (*SET, 0.3)


def test_every_pair_once_and_none_missing():
    f, c = frequencies(*SET[:4]), cross_spectra(*WINDOWED)
    full = np.concatenate([np.stack([f.y, f.x], 1), -np.stack([f.y, f.x], 1)])

    def key(u, w):
        """The same for the conjugate, in which members are exchanged."""
        return min((tuple(u), tuple(w)), (tuple(w), tuple(u)), (tuple(-u), tuple(-w)), (tuple(-w), tuple(-u)))

    found = [key(full[u], full[w]) for u, w in zip(c.u, c.w, strict=True)]
    assert len(set(found)) == len(found)
    q = np.hypot(*(full[:, None] - full).T / (SET[0] * np.array(SET[1:3]))[:, None, None]).T
    length = np.hypot(*(full[:, None] - full).T).T
    near = np.argwhere(((q <= 0.1) | (length <= 2.3)) & (length > 0))
    # With minus itself a frequency has twice its phase: the sign stays open.
    assert set(found) == {key(full[u], full[w]) for u, w in near if np.any(full[u] + full[w])}


def test_equations_of_pairs_hold_for_true_phases():
    f, c, e = frequencies(*SET[:4]), cross_spectra(*WINDOWED), cross_equations(*WINDOWED)
    rng = np.random.default_rng(1)
    half = np.exp(2j * np.pi * rng.random(len(f)))
    p = np.concatenate([half, half.conj()])
    cross = p[c.u] * p[c.w].conj()
    half = np.append(half, 1)
    p = np.concatenate([half, half.conj()])
    phasor = np.where(e.triple >= 0, cross[e.triple], cross[-1 - e.triple].conj())
    target = np.repeat(np.arange(len(f) + 1), np.diff(e.start))
    np.testing.assert_allclose(p[e.a] * p[e.b] * phasor, p[target], atol=1e-12)
    known = np.arange(len(e.a)) < e.known[target]
    assert np.all((e.a % len(half) < target)[known])
    assert np.all(np.diff(e.start)[:-1] > 0)
    assert np.all((e.known - e.start[:-1])[f.fixed : -1] > 0)


def cross_spectra_of(values, noise):
    c = cross_spectra(*WINDOWED)
    phasor, snr = np.empty(len(c), np.complex64), np.empty(len(c), np.float32)
    real, imag = (np.ascontiguousarray(v, np.float32) for v in (values.real, values.imag))
    mean_cross_spectra(real, imag, c.u, c.w, c.leak, noise, phasor, snr)
    return phasor, snr


def test_cross_spectrum_kernel_is_the_formula():
    _, _, values = spectra(21)
    c = cross_spectra(*WINDOWED)
    both = np.concatenate([values, values.conj()]).astype(np.complex128)
    each = both[c.u] * both[c.w].conj()
    mean = each.mean(axis=1) - 0.3 * c.leak
    snr = np.abs(mean) / np.sqrt(each.var(axis=1) / 20)
    phasor, found = cross_spectra_of(values, 0.3)
    np.testing.assert_allclose(phasor, mean / np.abs(mean), atol=1e-5)
    np.testing.assert_allclose(found, snr, rtol=1e-5)


def test_windowed_noise_leaks_as_foreseen():
    f, c = frequencies(*SET[:4]), cross_spectra(*WINDOWED)
    window = tukey(SET[0], WINDOWED[-1])
    noise = np.random.default_rng(2).standard_normal((4000, SET[0], SET[0])) * np.outer(window, window)
    values = scipy.fft.fft2(noise, norm="ortho")[:, f.y, f.x].T
    both = np.concatenate([values, values.conj()])
    mean = (both[c.u] * both[c.w].conj()).mean(axis=1)
    power = np.mean(np.abs(values) ** 2)
    assert np.abs(c.leak).max() > 0.15
    slope = np.vdot(c.leak, mean) / np.vdot(c.leak, c.leak)
    assert slope == pytest.approx(power, rel=0.02)
    assert np.abs(mean - power * c.leak).max() < 0.1 * power


def test_known_phases_come_back_from_aligned_frames():
    f, true, _ = spectra(1)
    shift = np.random.default_rng(3).uniform(-0.6, 0.6, (8, 2))
    angle = 2 * np.pi / SET[0] * (f.y[:, None] * shift[:, 0] + f.x[:, None] * shift[:, 1])
    values = true[:, None] * np.exp(-1j * angle)
    real, imag = (np.ascontiguousarray(v, np.float32) for v in (values.real, values.imag))
    align(real, imag, f.y, f.x, SET[0], -shift)
    np.testing.assert_allclose(real + 1j * imag, np.broadcast_to(true[:, None], values.shape), atol=2e-4)
    phasor, _ = cross_spectra_of(real + 1j * imag, 0.0)
    e = cross_equations(*WINDOWED)
    phases = np.ones(len(f) + 1, np.complex64)
    phases[: f.fixed] = true[: f.fixed]
    change = solve(phasor, e.start, e.known, e.a, e.b, e.triple, phases, f.fixed, 2, 0.0)
    np.testing.assert_allclose(phases[:-1], true, atol=1e-5)
    assert phases[-1] == 1
    assert change < 1e-3


# --- geometry and tracking


@pytest.mark.parametrize("shape", [(100, 131), (64, 64), (300, 64)])
def test_subfields_put_together_give_the_frame(shape):
    image = scene(shape, seed=5)
    lattice = subfield_lattice(shape, 48, 0.3)
    window = tukey(48, 0.3)
    assert np.all(np.diff(lattice.rows) <= 24)
    mosaic = Mosaic(lattice, window, CPU)
    tile, mean = np.empty((1, 48, 48), np.float32), np.empty(1)
    still = np.zeros((1, 2), np.int64)
    smooth = scene(shape, seed=50, slope=20)
    for i, row in enumerate(lattice.rows):
        for j, column in enumerate(lattice.columns):
            cut(
                image[None],
                np.ones(1, np.float32),
                smooth,
                np.arange(1),
                row,
                column,
                still,
                window.astype(np.float32),
                1,
                tile,
                mean,
            )
            assert abs(tile.sum()) < 1e-2
            mosaic.add(i, j, tile[0], mean[0])
    np.testing.assert_allclose(mosaic.image() + smooth, image, atol=3e-6)


def test_cutting_moves_bins_and_reflects():
    image = scene((40, 50), seed=6)
    window = np.ones(16, np.float32)
    one, four, mean = np.empty((1, 16, 16), np.float32), np.empty((1, 8, 8), np.float32), np.empty(1)
    shift = np.array([[3, -2]])
    surface = scene((40, 50), seed=60)
    args = (image[None], np.full(1, 2, np.float32), surface, np.arange(1), -4, 30, shift, window)
    cut(*args, 1, one, mean)
    padded = np.pad(image, 20, mode="symmetric")
    expected = padded[20 - 4 - 3 :, 20 + 30 + 2 :][:16, :16] * 2
    expected = expected - np.pad(surface, 20, mode="symmetric")[20 - 4 :, 20 + 30 :][:16, :16]
    np.testing.assert_allclose(mean[0], expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(one[0], expected - expected.mean(), atol=1e-5)
    cut(*args, 2, four, mean)
    np.testing.assert_allclose(four[0], one[0].reshape(8, 2, 8, 2).sum(axis=(1, 3)), atol=1e-5)


def test_subfield_sides_are_even_and_near_what_is_asked():
    for arcsec in (2, 5, 7, 10, 15):
        size = subfield_size(arcsec, (0.06, 0.06), (1000, 1000))
        assert size % 2 == 0
        assert size * 0.06 == pytest.approx(arcsec, rel=0.08)
    with pytest.raises(InputError, match="too small"):
        subfield_size(0.5, (0.06, 0.06), (1000, 1000))


def test_frames_are_tracked():
    rng = np.random.default_rng(7)
    big = scene((300, 300), seed=7)
    moves = rng.integers(-20, 21, (10, 2))
    burst = np.stack([np.roll(big, m, axis=(0, 1))[40:-40, 40:-40] for m in moves])
    shifts = frame_shifts(np.ascontiguousarray(burst), np.ones(10, np.float32), CPU)
    difference = shifts + moves
    assert np.abs(difference - np.median(difference, axis=0)).max() <= 4


def test_coherent_mean_aligns_to_a_fraction_of_a_pixel():
    f, true, _ = spectra(1)
    rng = np.random.default_rng(8)
    object_ = true * 10 ** (-2.5 * f.q)
    shift = rng.uniform(-0.8, 0.8, (12, 2))
    shift -= shift.mean(axis=0)
    # Of unequal light: what the bright ones show must not become the place of all.
    light = np.where(shift[:, 0] > 0, 1.6, 0.4)
    light /= light.mean()
    values = (light * object_[:, None]) * np.exp(
        -2j * np.pi / 32 * (f.y[:, None] * shift[:, 0] + f.x[:, None] * shift[:, 1])
    )
    real, imag = (np.ascontiguousarray(v, np.float32) for v in (values.real, values.imag))
    found, mean = np.empty((12, 2)), np.empty(len(f), np.complex64)
    coherent_mean(real, imag, f.y, f.x, 32, len(f) // 3, 4, found, mean)
    np.testing.assert_allclose(found, -shift, atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(mean / object_, 1, atol=1e-4)
    assert np.abs(values.mean(axis=1) / object_ - 1).max() > 0.2


def test_exposures_lose_the_tilt_that_a_tracker_sees():
    grid = 48
    f = scipy.fft.fftfreq(grid)
    smooth = np.exp(-((f[:, None] ** 2 + f**2) / (2 * 0.06**2)))
    shift = np.array([[3.3, -7.4], [-0.2, 0.0], [-11.7, 5.6]])
    tilt = np.exp(-2j * np.pi * (shift[:, 0, None, None] * f[:, None] + shift[:, 1, None, None] * f))
    found = tracked((smooth * tilt).astype(np.complex64), smooth.astype(np.complex64))
    np.testing.assert_allclose(found, np.broadcast_to(smooth, found.shape), atol=0.01)


# --- preparation and noise


def test_dead_pixels_are_filled_and_odd_frames_left_out():
    rng = np.random.default_rng(9)
    image = scene((60, 70), seed=9, slope=4)
    burst = (1000 * image * (1 + 0.01 * rng.standard_normal((8, 60, 70)))).astype(np.float32)
    original = burst.copy()
    burst[:, :, 30] = 7.0
    burst[:, 11, 12] = np.nan
    burst[2] = 60_000.0
    burst[5] *= 0.1
    given = burst.copy()
    prepared = prepare(burst, CPU)
    np.testing.assert_array_equal(burst, given)
    np.testing.assert_array_equal(prepared.used, [0, 1, 3, 4, 6, 7])
    assert len(prepared.notes) == 2
    assert np.isfinite(prepared.frames).all()
    wrong = np.abs(prepared.frames / original[prepared.used] - 1)
    assert wrong[:, :, 30].mean() < 0.05
    wrong[:, :, 30] = 0
    wrong[:, 11, 12] = 0
    assert wrong.max() == 0
    np.testing.assert_allclose(prepared.frames.mean(axis=(1, 2)) * prepared.scale, 1, rtol=1e-5)


@pytest.mark.parametrize("fault", ["constant", "zero", "nan"])
def test_nothing_to_reconstruct_is_said(fault):
    value = {"constant": 5.0, "zero": 0.0, "nan": np.nan}[fault]
    with pytest.raises(ReconstructionError, match="too few frames"):
        prepare(np.full((6, 32, 32), value, np.float32), CPU)


def test_noise_of_a_subfield_has_its_level_and_the_colour_of_the_flats():
    f = frequencies(*SET[:4])
    power = np.linspace(1, 3, len(f))
    geometry = SimpleNamespace(frequencies=f)
    two = [SimpleNamespace(noise=level, power=level * (4 - power)) for level in (4e-5, 6e-5)]
    flats = FlatNoise(2e-5 * power, 1e-5, 8000.0)
    # Twice the flats' noise at those frequencies that are beyond the limit, at the level of each subfield.
    expected = np.outer((4e-5, 6e-5), 2 * power)
    np.testing.assert_allclose(subfield_noise(two, geometry, flats, 2000.0), expected)
    np.testing.assert_allclose(
        subfield_noise(two, geometry, None, 2000.0), np.outer((4e-5, 6e-5), np.ones(len(f)))
    )
    # Nothing is seen beyond the limit: photon noise, at a quarter of the light four times as much.
    for one in two:
        one.noise = np.nan
    np.testing.assert_allclose(subfield_noise(two, geometry, flats, 2000.0), np.outer((1, 1), 8e-5 * power))
    highest = f.q >= 0.97 * f.q[-1]
    least = subfield_noise(two, geometry, None, 2000.0)
    assert (np.ptp(least, axis=1) == 0).all()
    assert two[0].power[highest].min() <= least[0, 0] <= two[0].power[highest].max()


def test_noise_of_flat_frames_has_its_colour():
    rng = np.random.default_rng(10)
    white = rng.standard_normal((12, 130, 140))
    smooth = (white + np.roll(white, 1, axis=2)) / np.sqrt(2)
    pattern = scene((130, 140), seed=11)
    geometry = Geometry(32, (0.3, 0.3), 4, 0.95, 0.1, 0.1, 0.3)
    noise = flat_noise(8000 * pattern + 80 * smooth, (130, 140), geometry)
    f = geometry.frequencies
    expected = 0.01**2 * (1 + np.cos(2 * np.pi * f.x / 32)) * np.mean(geometry.window**2) ** 2
    np.testing.assert_allclose(noise.power.mean(), expected.mean(), rtol=0.05)
    low, high = f.x < 3, f.x > 7
    assert noise.power[low].mean() / noise.power[high].mean() == pytest.approx(
        expected[low].mean() / expected[high].mean(), rel=0.1
    )
    assert noise.level == pytest.approx(8000, rel=0.01)
    sun = np.stack([scene((130, 140), seed=70 + k, slope=6, contrast=0.03) for k in range(12)])
    moving = flat_noise(8000 * sun * pattern + 80 * white, (130, 140), geometry)
    assert moving.power.max() <= 3.01 * moving.beyond
    assert moving.beyond == pytest.approx(0.01**2 * np.mean(geometry.window**2) ** 2, rel=0.1)
    kept = FlatFrames(8000 * pattern + 80 * smooth)
    np.testing.assert_array_equal(kept.noise((130, 140), geometry).power, noise.power)
    assert kept.noise((130, 140), geometry) is kept.noise((130, 140), geometry)
    assert flat_noise(np.ones((12, 130, 140)), (130, 140), geometry) is None
    with pytest.raises(InputError, match="do not match"):
        flat_noise(np.ones((4, 20, 20)), (130, 140), geometry)
