"""Drift of a channel against the reference channel: measured, refused, stored and applied."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests._channels import channel, context

from stillsun.config.schema import ObservationConfig, RegisterConfig
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.products.registration import Registration
from stillsun.stages._drift import _APART, _beside
from stillsun.stages.register import run

SCALE = {"R": (0.06, 0.06), "S": (0.084, 0.083)}
SHAPE = {"R": (210, 220), "S": (180, 170)}
TRANSLATION, ROTATION = np.array([0.6, -0.3]), 0.5
DRIFT = np.array([0.25, -0.12])
STEP, FRAMES = 0.05, 9
TIMES = 1756909313.6 + 10.0 * np.arange(FRAMES)


def pattern(seed, arcsec=0.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((500, 500)), arcsec / STEP)
    return noise / noise.std()


def see(sun, name, moved=(0.0, 0.0)):
    y, x = (s * (np.arange(n) - (n - 1) / 2) for n, s in zip(SHAPE[name], SCALE[name][::-1], strict=True))
    x, y = x[None, :], y[:, None]
    if name == "S":
        a, t = np.radians(ROTATION), TRANSLATION + moved
        x, y = t[0] + np.cos(a) * x - np.sin(a) * y, t[1] + np.sin(a) * x + np.cos(a) * y
    x, y = np.broadcast_arrays(x, y)
    return ndimage.map_coordinates(sun, [y / STEP + 250, x / STEP + 250], order=3)


def put(path, rows, values, attributes=None):
    fields = {
        k: Field(np.shape(v)[1:] if rows else np.shape(v), np.asarray(v).dtype.name, stack=rows > 0)
        for k, v in values.items()
    }
    with create_store(path, Layout(rows, fields, attributes or {}), "x") as store:
        for name, value in values.items():
            store.write(name, value)


def write(path, name, sun, target, held=None):
    put(
        path / f"{name}.calibration.h5",
        0,
        {
            "bad_pixels": np.zeros(SHAPE[name], np.uint8),
            "plate_scale": np.array(SCALE[name]),
            **({} if target is None else {"target": (1000 * (8 + see(target, name))).astype(np.float32)}),
        },
    )
    put(path / f"{name}.bursts.h5", FRAMES, {"time_avg": TIMES})
    share = np.linspace(-0.5, 0.5, FRAMES)[:, None] * DRIFT
    images = np.stack([1000 * (8 + see(sun, name, s)) for s in share]).astype(np.float32)
    put(
        path / f"{name}.destretch.h5",
        FRAMES,
        {
            "image": images,
            "valid": np.ones(images.shape, np.uint8),
            "shifts_0": np.zeros((FRAMES, 2)) if held is None else held[:, ::-1] / SCALE[name][::-1],
        },
        {"kernels": [0]},
    )


def register(path, name, **options):
    product = path / f"{name}.registration.h5"

    own = ("calibration", "bursts", "destretch")
    reference = None
    if name == "S":
        reference = channel("R", path, {k: path / f"R.{k}.h5" for k in (*own, "registration")})
    ctx = context(
        name,
        path,
        {kind: path / f"{name}.{kind}.h5" for kind in own},
        config=RegisterConfig(**options),
        observation=ObservationConfig(reference_channel="R"),
        reference=reference,
        writes=product,
    )
    run(ctx)
    return StoreReader(product), ctx


@pytest.fixture
def night(tmp_path):
    target = pattern(3, 0.5)
    write(tmp_path, "R", pattern(1), target)
    register(tmp_path, "R")
    return tmp_path, target


@pytest.mark.parametrize("track", [False, True])
def test_drift_is_measured_and_applied_when_asked(night, track):
    path, target = night
    # Half of what the channel shows is its own.
    write(path, "S", pattern(1) + 0.7 * pattern(2), target)
    product, ctx = register(path, "S", track_drift=track)
    seconds = TIMES[-1] - TIMES[0]
    measured = product.read("drift_rate") * seconds
    np.testing.assert_allclose(measured, DRIFT, atol=0.3 * 0.084)
    assert (product.read("drift_rate_error") * seconds < 0.05).all()
    offset, error = product.read("drift_offset"), product.read("drift_offset_error")
    assert (np.abs(offset) < 3 * error).all()
    assert (error < 0.06).all()
    assert any("drift (" in n and ("follow it" in n) for n in ctx.notes)
    assert (path / "register.png").stat().st_size > 10000
    moved = Registration.on(product).geometry_at(TIMES).crpix - product.read("crpix")
    if not track:
        np.testing.assert_array_equal(moved, 0.0)
    else:
        # A translation that grows means a reference pixel that goes the other way.
        np.testing.assert_allclose(moved[-1] - moved[0], -DRIFT / SCALE["S"], atol=0.3)


def test_frames_are_compared_with_those_beside_them_in_time():
    # The reference channel is faster, begins later and has a hole.
    one = np.arange(0.0, 100.0, 10.0)
    two = np.concatenate([np.arange(22.0, 43.0, 4.0), np.arange(80.0, 120.0, 4.0)])
    rows, near = _beside(one, two, np.arange(10))
    expected = [row for row in range(10) if np.abs(two - one[row]).min() <= _APART * 10.0]
    assert rows.tolist() == expected
    assert 4 <= len(expected) < 9
    np.testing.assert_array_equal(np.abs(two[near] - one[rows]), [np.abs(two - t).min() for t in one[rows]])


def test_reference_pixel_goes_where_the_moving_translation_takes_it(tmp_path):
    offset, rate = np.array([0.3, -0.5]), np.array([0.002, 0.004])
    angle, scale = np.radians(35.0), np.array([0.06, 0.09])
    centre = np.array([85.5, 90.5])
    values = {
        "crpix": centre,
        "plate_scale": scale,
        "rotation_deg": np.float64(35.0),
        "uncertainty": np.float64(0.0),
        "drift_applied": np.uint8(1),
        "drift_offset": offset,
        "drift_rate": rate,
        "drift_time": np.float64(TIMES[3]),
    }
    put(tmp_path / "registration.h5", 0, values)
    with StoreReader(tmp_path / "registration.h5") as store:
        moved = Registration.on(store).geometry_at(TIMES).crpix - centre
    # On the reference's field, u = t + R(d) S (p - c), every pixel moves with the translation.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = offset + (TIMES - TIMES[3])[:, None] * rate
    np.testing.assert_allclose(-(moved * scale) @ turn.T, expected, atol=1e-12)


def test_drift_that_destretch_took_out_is_found_in_its_shifts(night):
    path, target = night
    share = np.linspace(0.0, 1.0, FRAMES)[:, None]
    # A lock that jumps moves both fields; this one is seen by a frame of one channel earlier.
    jump = np.where(np.arange(FRAMES)[:, None] >= 5, (0.9, 0.4), (0.0, 0.0))
    early = np.where(np.arange(FRAMES)[:, None] >= 4, (0.9, 0.4), (0.0, 0.0))
    write(path, "R", pattern(1), target, held=jump)
    register(path, "R")
    turn = np.radians(-ROTATION)
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    write(path, "S", pattern(9), target, held=(early + share * 2 * DRIFT) @ back.T)
    product, ctx = register(path, "S")
    seconds = TIMES[-1] - TIMES[0]
    np.testing.assert_allclose(product.read("held_rate") * seconds, 2 * DRIFT, atol=0.02)
    assert (product.read("held_rate_error") * seconds < 0.1).all()
    assert "drift_rate" not in product
    assert any("wandered against the reference" in n and "in CRPIX" in n for n in ctx.notes)


def test_frames_of_the_sun_are_shown_where_there_is_no_target(night):
    path, _ = night
    write(path, "S", pattern(1), None)
    product, ctx = register(path, "S")
    assert not product.read("accepted")
    assert any("this channel has no target image" in n for n in ctx.notes)
    assert (path / "register.png").stat().st_size > 10000


def test_what_cannot_be_measured_is_said(night):
    path, target = night
    write(path, "S", pattern(9), target)
    product, ctx = register(path, "S", track_drift=True)
    assert "drift_rate" not in product
    assert any("drift against the reference channel cannot be measured" in n for n in ctx.notes)
    assert product.read("accepted")
