"""Solar flows stay, seeing goes."""

from functools import partial

import numpy as np
import pytest
import scipy.ndimage as ndimage
from scripts.bench.flow_series import FlowSeries, cells
from tests.fakes.device import open_device

from stillsun.core.backend import get_backend
from stillsun.core.destretch import Destretcher, Match, displacement_field
from stillsun.core.flows import (
    Follower,
    SlowMotion,
    motion_lattice,
    reference_window,
    sample_motion,
    seeing_field,
    usual_cadence,
)
from stillsun.core.reference import RunningReference
from stillsun.core.series import destretch_series, remove_seeing
from stillsun.core.warp import add_control_points
from stillsun.errors import InputError

CPU = get_backend("numpy", threads=2)
GENERIC = open_device()
SHAPE = (112, 120)
FRAMES = 72
FLOW = 0.03  # pixels a frame, rms
SEEING = 0.7  # pixels, rms


def smooth(rng, width):
    part = np.stack(
        [ndimage.gaussian_filter(rng.standard_normal(SHAPE), width, mode="wrap") for _ in range(2)]
    )
    return part / part.std()


@pytest.fixture(scope="module")
def drifting():
    """Frames of a scene that flows, in changing seeing; the flow, and the push of each frame."""
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(SHAPE)
    scene = ndimage.gaussian_filter(noise, 1.8, mode="wrap")
    scene = 1000 * (1 + 0.1 * scene / scene.std())
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    flow = smooth(rng, 16)
    flow = FLOW * (flow - flow.mean(axis=(1, 2), keepdims=True))
    frames, pushes = [], []
    for number in range(FRAMES):
        seeing = SEEING * smooth(rng, 14)
        seeing += rng.uniform(-1.5, 1.5, 2)[:, None, None] - seeing.mean(axis=(1, 2), keepdims=True)
        # frame(y) = scene(y + push): content moves by -push.
        push = seeing - flow * number
        frames.append(ndimage.map_coordinates(scene, grid + push, order=3, mode="wrap").astype(np.float32))
        pushes.append(push)
    return frames, flow, pushes


def shown(displacement, pushes):
    """Place of the scene that every pixel of the corrected frames shows, less its own, (n, 2, y, x)."""
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    out = []
    for field, push in zip(displacement, pushes, strict=True):
        at = grid - field
        out.append(np.stack([ndimage.map_coordinates(p, at, order=3, mode="wrap") for p in push]) - field)
    return np.array(out)[:, :, 20:-20, 20:-20]


def test_flow_survives_and_seeing_does_not(drifting):
    frames, flow, pushes = drifting
    kernels = (0, 64, 32, 16)
    series = destretch_series(frames, kernels, window=8, backend=CPU)
    plain = destretch_series(frames, kernels, window=8, preserve_flows=False, backend=CPU)
    inner = flow[:, 20:-20, 20:-20]

    def judge(displacement):
        places = shown(displacement, pushes)[6:]
        places -= places.mean(axis=(2, 3), keepdims=True)
        time = np.arange(len(places)) - (len(places) - 1) / 2
        slope = -np.tensordot(time, places, (0, 0)) / (time**2).sum()
        survival = (slope * inner).sum() / (inner**2).sum()
        jitter = np.diff(places, axis=0).std() / np.sqrt(2)
        return survival, jitter

    survival, jitter = judge(series.displacement)
    without, steady = judge(plain.displacement)
    raw, seeing = judge(np.zeros_like(series.displacement))
    assert raw == pytest.approx(1, abs=0.1)
    assert 0.93 < survival < 1.07
    assert jitter < 0.2 * seeing
    # Without it the flow is taken for seeing.
    assert abs(without) < 0.4 * survival
    assert steady < 0.2 * seeing
    assert series.images.shape == (FRAMES, *SHAPE)
    # The images are those of the displacement, and steady.
    calm = np.diff(series.images[10:, 25:-25, 25:-25], axis=0).std()
    assert calm < 0.3 * np.diff(np.array(frames)[10:, 25:-25, 25:-25], axis=0).std()


def test_one_time_a_frame(drifting):
    frames, _, _ = drifting
    with pytest.raises(InputError, match="one time a frame"):
        destretch_series(frames[:3], (0, 32), preserve_flows=True, times=[0, 1], backend=CPU)


def test_sampled_motion_is_the_mean_over_blocks():
    field = np.random.default_rng(0).standard_normal((2, 37, 50)).astype(np.float32)
    field[1] += 3
    for backend in (CPU, GENERIC):
        motion, pointing = sample_motion(field, backend)
        assert motion.shape == (2, *motion_lattice((37, 50)).count)
        np.testing.assert_allclose(motion[0, 1, 2] + pointing[0], field[0, 8:16, 16:24].mean(), atol=1e-5)
        np.testing.assert_allclose(motion.mean(axis=(1, 2)), 0, atol=1e-6)


def kept(times, period, number):
    """Share of a sway that counts as slow motion at a frame in the middle, and of white seeing, rms."""
    slow = SlowMotion(times)
    near = slow.near(number)
    weights = slow.weights(number, near)
    away = times[near] - times[number]
    return weights @ np.cos(2 * np.pi * away / period), np.sqrt(weights @ weights)


def test_a_steady_motion_is_slow_at_any_time():
    rng = np.random.default_rng(1)
    for times in (2.0 * np.arange(60), np.sort(rng.uniform(0, 120, 60)), 30.0 * np.arange(40)):
        slow = SlowMotion(times)
        for number in (0, 5, 20, len(times) - 1):
            near = slow.near(number)
            assert number in near
            weights = slow.weights(number, near)
            assert weights.sum() == pytest.approx(1, abs=1e-3)
            # Less than a fiftieth of the way of a minute is lost, at the ends too.
            assert weights @ (times[near] - times[number]) == pytest.approx(0, abs=1.2 * max(1, times[1] / 2))


@pytest.mark.parametrize("cadence", [1.0, 2.0, 3.0])
def test_sways_of_minutes_are_kept_and_seeing_is_not(cadence):
    times = cadence * np.arange(round(600 / cadence))
    for period in (120.0, 240.0, 360.0):
        share, _ = kept(times, period, len(times) // 2)
        assert share == pytest.approx(1, abs=0.04 * max(1, cadence) if period < 200 else 0.03)
    assert kept(times, 30.0, len(times) // 2)[0] < 0.05
    assert kept(times, 240.0, len(times) // 2)[1] < 0.16 * np.sqrt(cadence)


def test_seeing_is_not_taken_for_motion_where_frames_are_few():
    # Frames are far apart, or there are few of them.
    for cadence in (10.0, 30.0):
        assert kept(cadence * np.arange(60), 1800.0, 30) == pytest.approx((1, 0.36), abs=0.05)
    for number in (0, 3, 5):
        assert kept(2.0 * np.arange(6), 1e5, number)[1] < 0.55


def test_uneven_times_and_gaps():
    rng = np.random.default_rng(8)
    times = np.sort(rng.uniform(0, 600, 300))
    assert kept(times, 240.0, 150)[0] == pytest.approx(1, abs=0.04)
    gap = np.concatenate([2.0 * np.arange(100), 1000 + 2.0 * np.arange(100)])
    assert SlowMotion(gap).near(99).stop == 100
    assert SlowMotion(gap).near(100).start == 100
    assert usual_cadence(gap) == 2.0
    assert usual_cadence([5.0]) == 2.0
    # Two frames of one time do no harm.
    assert np.isfinite(SlowMotion([0.0, 0.0, 2.0]).weights(1, [0, 1, 2])).all()


def test_the_reference_spans_no_more_than_a_minute():
    assert [reference_window(10, c) for c in (0.5, 2.0, 10.0, 30.0, 90.0)] == [10, 10, 6, 2, 2]
    assert reference_window(1, 30.0) == 1


def test_seeing_is_taken_out_at_the_place_where_the_motion_has_carried_it():
    # Content is carried by 10 columns: L = -10; the seeing sits at column 60 of the reference.
    field = np.zeros((2, 80, 120), np.float32)
    field[1] = -10
    field[0, 30:50, 55:65] = 1.0
    slow = np.zeros((2, *motion_lattice((80, 120)).count), np.float32)
    slow[1] = -10
    for backend in (CPU, GENERIC):
        out = seeing_field(field, slow, backend)
        assert np.abs(out[1, :, 15:]).max() < 1e-4
        centre = (out[0].sum(axis=0) * np.arange(120)).sum() / out[0].sum()
        assert centre == pytest.approx(69.5, abs=0.1)


def test_place_of_the_seeing_is_found_where_the_motion_changes():
    shape = (96, 120)
    points = motion_lattice(shape)
    y, x = np.meshgrid(points.y.centres, points.x.centres, indexing="ij")
    slow = np.stack([4 * np.sin(x / 18), 5 * np.cos(y / 20)]).astype(np.float32)
    carried = np.zeros((2, *shape), np.float32)
    add_control_points(carried, [(slow, points)], 1, CPU)
    v, u = np.mgrid[: shape[0], : shape[1]].astype(float)
    seeing = np.stack([np.sin(u / 6), np.cos(v / 5)])
    for backend in (CPU, GENERIC):
        out = seeing_field((carried + seeing).astype(np.float32), slow, backend)
        # What is at u of the reference is at u - L(u) of the Sun.
        there = [ndimage.map_coordinates(o, [v - carried[0], u - carried[1]], order=3) for o in out]
        inner = np.s_[:, 16:-16, 16:-16]
        np.testing.assert_allclose(np.stack(there)[inner], seeing[inner], atol=0.01)


def test_gaps_and_dead_frames_do_not_count():
    points = motion_lattice((64, 72))
    y, x = np.mgrid[: points.y.count, : points.x.count] / 3
    grid = np.stack([np.sin(y) * np.cos(x), np.cos(y - x)]).astype(np.float32)
    grid -= grid.mean(axis=(1, 2), keepdims=True)

    def field_of(number):
        field = np.zeros((2, 64, 72), np.float32)
        if number != 4:
            add_control_points(field, [(0.01 * number * grid, points)], 1, CPU)
        return field

    good = [n != 4 for n in range(12)]
    times = 10 * np.arange(12.0)
    matches = np.where(good, Match.good, Match.unlike)
    found = list(remove_seeing(field_of, times, matches, backend=CPU))
    assert len(found) == 12
    assert not found[4][0].any()
    # A steady flow is all slow: nothing is left to take out.
    for number in (0, 3, 11):
        assert np.abs(found[number][0]).max() < 0.05 * np.abs(field_of(11)).max()
    again = list(remove_seeing(field_of, times, matches, first=7, backend=CPU))
    np.testing.assert_array_equal(again[0][0], found[7][0])


def test_of_a_frame_that_was_not_matched_only_the_pointing_is_applied():
    rng = np.random.default_rng(4)
    fields = [0.5 * smooth(rng, 10).astype(np.float32) for _ in range(8)]
    fields[5] += np.float32([2, -3])[:, None, None]
    matches = [Match.first, *[Match.good] * 7]
    matches[5] = Match.unlike
    found = list(remove_seeing(fields.__getitem__, 2 * np.arange(8), matches, backend=CPU))
    inner = found[5][0][:, 24:-24, 24:-24]
    np.testing.assert_allclose(inner.mean(axis=(1, 2)), fields[5].mean(axis=(1, 2)), atol=0.05)
    assert inner.std(axis=(1, 2)).max() < 0.1
    # The others do not know of it.
    fields[5] = 100 * fields[5]
    again = list(remove_seeing(fields.__getitem__, 2 * np.arange(8), matches, backend=CPU))
    np.testing.assert_array_equal(again[4][0], found[4][0])


def test_nothing_is_carried_over_where_the_reference_begins_anew():
    rng = np.random.default_rng(4)
    fields = [0.5 * smooth(rng, 10).astype(np.float32) for _ in range(8)]
    matches = [Match.first, *[Match.good] * 3] * 2
    times = 2 * np.arange(8)

    def follower():
        return Follower(2, 2)

    whole = [f for f, _ in remove_seeing(fields.__getitem__, times, matches, 0, CPU, follower)]
    second = [f for f, _ in remove_seeing(fields[4:].__getitem__, times[4:], matches[4:], 0, CPU, follower)]
    np.testing.assert_array_equal(whole[4:], second)
    again = [f for f, _ in remove_seeing(fields.__getitem__, times, matches, 6, CPU, follower)]
    np.testing.assert_array_equal(again, whole[6:])


def test_follower_stays_behind_a_steady_flow_by_its_time():
    follower = Follower(20, 1)
    rate = np.full((2, 3, 3), 0.05, np.float32)
    behind, seen = np.zeros_like(rate), []
    for number in range(400):
        behind = behind + rate  # the Sun moves on
        # All the motion so far is that against the reference, and the way that the reference has gone.
        whole = behind + (0 if follower.offset is None else follower.offset)
        np.testing.assert_allclose(whole, (number + 1) * rate, rtol=1e-3)
        behind = behind - follower.update(behind)  # the reference follows
        seen.append(behind.max())
    assert seen[-1] == pytest.approx(0.05 * 20, rel=0.06)
    assert max(seen) < 1.5 * seen[-1]
    assert follower.held == pytest.approx(np.sqrt(2) * 0.05 * 20, rel=0.2)


def test_reference_follows_a_convergent_flow_in_a_long_sequence():
    # Over 140 frames the flow carries the pattern by up to 10 pixels, into sinks where it must end.
    rng = np.random.default_rng(3)
    scene = ndimage.gaussian_filter(rng.standard_normal((300, 300)), 1.8, mode="wrap")
    series = FlowSeries(scene, cells((112, 112), 0.035, 80), 0.5, life=100)
    count, first, kernels = 140, 50, (0, 64, 32, 12)
    assert np.abs(series.flow).max() * count > 10
    frames = [series.frame(n)[0] for n in range(count)]
    found = {}
    for follower in (partial(Follower, 7, 8), None):
        stream = Destretcher(RunningReference(8, CPU), kernels, follower=follower, backend=CPU)
        shifts = [stream.push(frame).shifts for frame in frames]

        def whole(number, shifts=shifts):
            return displacement_field(shifts[number], kernels, (112, 112), CPU)

        matches = [Match.first, *[Match.good] * (count - 1)]
        fields = remove_seeing(whole, 2 * np.arange(count), matches, 0, CPU, follower)
        kept = [field for field, _ in fields]
        found[follower is not None] = series.judge(kept[first:], first, margin=20)
    assert found[True].survival == pytest.approx(1, abs=0.03)
    assert found[True].jitter < 0.08
    assert found[True].swim < 0.18
    # Held where the first frame was, it would soon be lost.
    assert found[False].jitter > 3 * found[True].jitter


def spoilt(frame, kind, number):
    """A frame without what it should show."""
    rng = np.random.default_rng((9, number))
    noise = rng.standard_normal(frame.shape).astype(np.float32)
    if kind == "noise":
        return 1000 + 100 * noise
    if kind == "cloud":
        return 300 + 0.01 * frame + 3 * noise
    return ndimage.gaussian_filter(frame, float(kind.removeprefix("blur "))) + 2 * noise


@pytest.fixture(scope="module")
def spoiled(drifting):
    """What destretch does with frames 20 to 29 as they are, and how it does with others there."""
    frames = drifting[0][:48]

    def run(kind, flows):
        given = [spoilt(f, kind, n) if kind and 20 <= n < 30 else f for n, f in enumerate(frames)]
        return destretch_series(given, (0, 64, 32, 16), preserve_flows=flows, backend=CPU)

    return run, {flows: run(None, flows) for flows in (True, False)}


@pytest.mark.parametrize("flows", [True, False])
@pytest.mark.parametrize("kind", ["noise", "cloud", "blur 3", "blur 6"])
def test_pattern_stands_after_frames_without_structure(spoiled, kind, flows):
    run, plain = spoiled
    found = run(kind, flows)
    bad = np.zeros(48, bool)
    bad[20:30] = True
    np.testing.assert_array_equal(found.good, ~bad)
    assert plain[flows].good.all()
    moved = (found.displacement - plain[flows].displacement)[30:, :, 20:-20, 20:-20]
    assert moved.mean(axis=0).std() < (0.06 if flows else 0.1)  # the reference waits for ten frames
    assert np.abs(moved.mean(axis=(0, 2, 3))).max() < 0.03
    # What cannot be matched stays where the frames before it were.
    if kind in ("noise", "cloud"):
        usual = found.displacement[20:30].mean(axis=(2, 3))
        assert np.abs(usual - usual[0]).max() < 0.05
        assert np.abs(found.displacement[20:30].mean(axis=(2, 3))).max() < 1.5


def test_another_field_begins_anew_and_noise_at_the_begin_does_no_harm(drifting):
    frames = drifting[0]
    other = [np.roll(f, (45, 52), (0, 1)) for f in frames[24:40]]
    stream = Destretcher(RunningReference(8, CPU), (0, 64, 32, 16), backend=CPU)
    found = [stream.push(f).match for f in [*frames[:20], *other]]
    assert found[0] == found[22] == Match.first
    assert found[20:22] == [Match.unlike] * 2
    assert set(found[1:20] + found[23:]) == {Match.good}
    stream = Destretcher(RunningReference(8, CPU), (0, 64, 32, 16), backend=CPU)
    found = [stream.push(spoilt(f, "noise", n) if n < 2 else f).match for n, f in enumerate(frames[:10])]
    assert found[3] == Match.first
    assert set(found[4:]) == {Match.good}
