"""Solar flows stay, seeing goes."""

import numpy as np
import pytest
import scipy.ndimage as ndimage
from tests.fakes.device import open_device

from stillsun.core.backend import get_backend
from stillsun.core.destretch import Destretcher, displacement_field
from stillsun.core.flows import Follower, motion_lattice, sample_motion, seeing_field, slow_motion
from stillsun.core.reference import RunningReference
from stillsun.core.series import destretch_series, remove_seeing
from stillsun.core.warp import add_control_points
from stillsun.errors import InputError
from stillsun.synth.flowseries import FlowSeries, cells

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
    series = destretch_series(frames, kernels, window=8, preserve_flows=True, backend=CPU)
    plain = destretch_series(frames, kernels, window=8, backend=CPU)
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


def test_slow_part_of_a_line_is_the_line():
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 50, 40))
    rate, start = rng.standard_normal((2, 2, 4, 5))
    motions = [(start + rate * t).astype(np.float32) for t in times]
    for time in (times[0], 20.0, times[-1]):
        np.testing.assert_allclose(
            slow_motion(motions, times, time, 30.0), start + rate * time, rtol=1e-4, atol=1e-4
        )
    # Of what bends it is the straight line with tricube weights.
    bent = [(start + rate * np.sin(t / 7)).astype(np.float32) for t in times]
    away = (times - 20.0) / 15.0
    weights = np.where(np.abs(away) < 1, (1 - np.abs(away) ** 3) ** 3, 0)
    line = np.polyfit(times - 20.0, np.reshape(bent, (len(times), -1)), 1, w=np.sqrt(weights))
    found = slow_motion(bent, times, 20.0, 15.0)
    np.testing.assert_allclose(found.ravel(), line[1], atol=1e-4)
    few = slow_motion(motions[:2], [0.0, 10.0], 0.0, 1.0)
    np.testing.assert_allclose(few, motions[0])


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
    found = list(remove_seeing(field_of, np.arange(12.0), good, backend=CPU))
    assert len(found) == 12
    assert not found[4][0].any()
    # A steady flow is all slow: nothing is left to take out.
    for number in (0, 3, 11):
        assert np.abs(found[number][0]).max() < 0.05 * np.abs(field_of(11)).max()
    again = list(remove_seeing(field_of, np.arange(12.0), good, first=7, backend=CPU))
    np.testing.assert_array_equal(again[0][0], found[7][0])


def test_follower_stays_behind_a_steady_flow_by_its_time():
    follower = Follower(20)
    rate = np.full((2, 3, 3), 0.05, np.float32)
    behind, seen = np.zeros_like(rate), []
    for _ in range(400):
        behind = behind + rate  # the Sun moves on
        behind = behind - follower.update(behind)  # the reference follows
        seen.append(behind.max())
    assert seen[-1] == pytest.approx(0.05 * 20, rel=0.06)
    assert max(seen) < 1.5 * seen[-1]


def test_reference_follows_a_convergent_flow_in_a_long_sequence():
    # Over 140 frames the flow carries the pattern by up to 10 pixels, into sinks where it must end.
    rng = np.random.default_rng(3)
    scene = ndimage.gaussian_filter(rng.standard_normal((300, 300)), 1.8, mode="wrap")
    series = FlowSeries(scene, cells((112, 112), 0.035, 80), 0.5, life=100)
    count, first, kernels = 140, 50, (0, 64, 32, 12)
    assert np.abs(series.flow).max() * count > 10
    frames = [series.frame(n)[0] for n in range(count)]
    found = {}
    for follower in (Follower(), None):
        stream = Destretcher(RunningReference(8, CPU), kernels, follower=follower, backend=CPU)
        shifts = [stream.push(frame).shifts for frame in frames]

        def whole(number, shifts=shifts):
            return displacement_field(shifts[number], kernels, (112, 112), CPU)

        kept = [field for field, _ in remove_seeing(whole, np.arange(count), [True] * count, backend=CPU)]
        found[follower is not None] = series.judge(kept[first:], first, margin=20)
    assert found[True].survival == pytest.approx(1, abs=0.03)
    assert found[True].jitter < 0.08
    assert found[True].swim < 0.18
    # Held where the first frame was, it would soon be lost.
    assert found[False].jitter > 3 * found[True].jitter
