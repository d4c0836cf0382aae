"""A channel that follows the reference channel: its frames are held still by what was measured there."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import ExitStack

import h5py
import numpy as np
import pytest
from tests._channels import channel
from tests.stages import _level0

from stillsun.config.schema import ChannelConfig, DestretchConfig, ObservationConfig, SpeckleConfig, Turn
from stillsun.core.destretch import apply_shifts, displacement_field
from stillsun.core.flows import motion_lattice
from stillsun.core.orient import Orientation
from stillsun.errors import InputError, RegistrationError
from stillsun.io._storeblock import write_block
from stillsun.io._storesums import GROUP
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.products.destretched import Destretched
from stillsun.stages import destretch
from stillsun.stages.registry import FOLLOWING, STAGES, stage_of_channel

SCALE = {"R": (0.10, 0.11), "S": (0.13, 0.12)}  # of the camera's frames
SHAPE = {"R": (190, 200), "S": (140, 150)}
TURNS = {"R": [Turn.rot90], "S": [Turn.fliplr]}
TRANSLATION, ROTATION = (0.9, -0.6), 1.2
FRAMES = 6
KERNELS = [0, 48, 24, 12]


def orientation(name):
    return Orientation.from_steps([turn.value for turn in TURNS[name]])


def sky(name):
    """Coordinates (x, y) of the pixels of an oriented frame, arcsec from the reference's centre."""
    shape, scale = orientation(name).shape(SHAPE[name]), orientation(name).plate_scale(SCALE[name])
    rows, columns = np.indices(shape)
    x, y = (columns - (shape[1] - 1) / 2) * scale[0], (rows - (shape[0] - 1) / 2) * scale[1]
    if name == "R":
        return x, y
    c, s = np.cos(np.radians(ROTATION)), np.sin(np.radians(ROTATION))
    return TRANSLATION[0] + c * x - s * y, TRANSLATION[1] + s * x + c * y


def scene(name, x, y):
    """Each channel sees another layer of the Sun."""
    rng = np.random.default_rng(len(name) + ord(name))
    total = np.zeros_like(x)
    for _ in range(60):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        k = 2 * np.pi / rng.uniform(0.6, 2.0)
        total += np.cos(k * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return 4000 * (1 + 0.02 * total)


def bars(x, y):
    rng = np.random.default_rng(9)
    value = np.ones_like(x)
    for _ in range(40):
        (u, v), (w, h) = rng.uniform(-10, 10, 2), rng.uniform(0.3, 1.2, 2)
        value *= 1 - 0.8 / (1 + np.exp(20 * np.maximum(np.abs(x - u) - w, np.abs(y - v) - h)))
    return 4000 * value


def seeing(number, x, y):
    """Displacement on the sky, arcsec."""
    rng = np.random.default_rng(number)
    if number == 0:
        return 0.0, 0.0
    a, b, c, d = rng.uniform(-1, 1, 4)
    return 0.3 * a + 0.12 * np.sin(x / 2.3 + y / 3.1 + 3 * b), 0.3 * c + 0.12 * np.cos(
        x / 2.7 - y / 2.1 + 3 * d
    )


def frame(name, number):
    x, y = sky(name)
    dx, dy = seeing(number, x, y)
    return orientation(name).inverse().apply(scene(name, x + dx, y + dy)).astype(np.float32)


def write(path, rows, values):
    stacked = {name: np.asarray(value) for name, value in values.items()}
    fields = {
        name: Field(value.shape[1:] if rows else value.shape, str(value.dtype), stack=bool(rows))
        for name, value in stacked.items()
    }
    with create_store(path, Layout(rows, fields), "x") as store:
        for name, value in stacked.items():
            store.write(name, value)
        if rows:
            store.mark(slice(None))


def write_channel(directory, name, late=0.0):
    directory.mkdir()
    picture = orientation(name).inverse().apply(bars(*sky(name))).astype(np.float32)
    write(directory / "calibration.h5", 0, {"plate_scale": SCALE[name], "target": picture})
    begin = 1.7e9 + late + 2.0 * np.arange(FRAMES)
    if late:
        begin[5] += 2.0
    write(
        directory / "bursts.h5",
        FRAMES,
        {"time_beg": begin, "time_avg": begin + 1, "time_end": begin + 2},
    )
    images = np.stack([frame(name, number) for number in range(FRAMES)])
    nothing = np.full(FRAMES, np.nan)
    write(directory / "speckle.h5", FRAMES, {"image": images, "r0": nothing, "sharpness": nothing})


OBSERVATION = ObservationConfig(
    channels={"C": ChannelConfig(orientation=TURNS["S"]), "R": ChannelConfig(orientation=TURNS["R"])},
    reference_channel="R",
)
PRODUCTS = ("bursts", "calibration", "destretch")
CONFIG = DestretchConfig(kernels=KERNELS, window=3, preserve_flows=False, follow_reference=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Directory of the reference channel, destretched, and of the one that follows."""
    place = tmp_path_factory.mktemp("pair")
    write_channel(place / "R", "R")
    write_channel(place / "S", "S", late=0.15)
    alone = dataclasses.replace(
        OBSERVATION, channels={"C": OBSERVATION.channels["R"]}, reference_channel=None
    )
    with ExitStack() as stack:
        inputs = opened(stack, place / "R", "speckle", "bursts")
        store, _ = _level0.run_stage(alone, place / "R", STAGES["destretch"], CONFIG, inputs=inputs)
        stack.enter_context(store)
        assert store.attributes["reference"] == "running"
        assert "followed" not in store
    return place


def opened(stack, directory, *names):
    return {name: stack.enter_context(StoreReader(directory / f"{name}.h5")) for name in names}


def follow(places, directory, config=CONFIG, source=None, source_products=PRODUCTS, **options):
    """Run the stage for the channel that follows; `source` is the reference channel's directory."""
    directory.mkdir(exist_ok=True)
    product = directory / "destretch.h5"
    with ExitStack() as stack:
        inputs = opened(stack, places / "S", "speckle", "bursts", "calibration")
        ctx = _level0.context(OBSERVATION, directory, FOLLOWING, config, inputs=inputs, **options)
        directory = source or places / "R"
        stores = opened(stack, directory, *source_products)
        settings = OBSERVATION.channels["R"]
        ctx.reference = channel("R", directory, stores, settings=settings, observation=OBSERVATION)
        destretch.run(ctx)
    return StoreReader(product), ctx.notes


def test_another_channel_is_held_still_by_the_shifts_of_the_reference(places, tmp_path):
    store, notes = follow(places, tmp_path)
    with store:
        assert store.attributes["reference"] == "followed"
        # 0.15 s late is the same burst all the same; after the reference's last one there is nothing.
        np.testing.assert_array_equal(store.read("followed"), [0, 1, 2, 3, 4, -1])
        assert notes == [
            "frames without shifts of the reference channel, or any structure, were left as they are: 5"
        ]
        x, y = sky("S")
        still = scene("S", x, y)
        inner = np.s_[20:-20, 20:-20]
        for number in range(FRAMES):
            moved = orientation("S").apply(frame("S", number))
            image, valid = store.read("image", number), store.read("valid", number)
            if number == 5:
                np.testing.assert_array_equal(image, moved)
                assert not valid.any()
                continue
            assert valid[inner].all()
            before, after = (np.std((a - still)[inner]) for a in (moved, image))
            assert after < (0.01 if number == 0 else 0.1) * np.std(still[inner])
            assert number == 0 or before > 0.5 * np.std(still[inner])
            # What is stored is enough to do it again.
            shifts = [store.read(f"shifts_{k}", number) for k in KERNELS]
            np.testing.assert_array_equal(apply_shifts(moved, shifts, KERNELS, backend="numpy"), image)
        assert np.nanmax(store.read("residual_px")) < 0.3
        assert np.isnan(store.read("residual_px", 0))
        assert (store.read("rms_px")[1:5, 0] > 0.5).all()


def test_interrupted_run_goes_on_with_the_same_bytes(places, tmp_path):
    whole, _ = follow(places, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def progress(done, total):
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        follow(places, tmp_path / "again", progress=progress)
    again, _ = follow(places, tmp_path / "again")
    with whole, again:
        for name in whole.names():
            np.testing.assert_array_equal(again.read(name), whole.read(name))


def test_flows_that_the_reference_keeps_are_kept(places, tmp_path):
    """The seeing is taken out, the slow motion of the reference channel stays in both."""
    source = tmp_path / "R"
    shutil.copytree(places / "R", source)
    slow = np.array([1.5, -2.0], np.float32)  # of the reference's pixels, everywhere
    with h5py.File(source / "destretch.h5", "r+") as file:
        shape = motion_lattice(file["image"].shape[1:]).count
        file["slow_motion"] = np.broadcast_to(slow[:, None, None], (FRAMES, 2, *shape)).copy()
    write_block(source / "destretch.h5")
    with (
        follow(places, tmp_path / "slow", source=source)[0] as store,
        follow(places, tmp_path / "all")[0] as full,
    ):
        inner = np.s_[:, 30:-30, 30:-30]
        found = [
            displacement_field([s.read(f"shifts_{k}", 0) for k in KERNELS], KERNELS, s.shape("image")[1:])[
                inner
            ]
            for s in (full, store)
        ]
        left = (found[0] - found[1]).mean(axis=(1, 2))
    # From pixels of the source to the sky, turned, and to the channel's pixels.
    a, b = orientation("R").plate_scale(SCALE["R"]), orientation("S").plate_scale(SCALE["S"])
    x, y = slow[1] * a[0], slow[0] * a[1]
    c, s = np.cos(np.radians(ROTATION)), np.sin(np.radians(ROTATION))
    np.testing.assert_allclose(left, [(-s * x + c * y) / b[1], (c * x + s * y) / b[0]], atol=0.02)


@pytest.mark.parametrize(
    ("products", "message"),
    [
        (("bursts", "calibration"), "is not destretched"),
        (("bursts", "destretch"), "the reference channel has no target image"),
    ],
)
def test_what_is_missing_is_named(places, tmp_path, products, message):
    with pytest.raises(InputError, match=message) as error:
        follow(places, tmp_path / "out", source_products=products)
    assert "destretch.follow_reference=false" in str(error.value)
    assert not list((tmp_path / "out").glob("*.h5*"))


@pytest.mark.parametrize("late", [0.4, -0.6, 3600.0])
def test_a_sequence_out_of_step_is_refused(places, tmp_path, late):
    source = tmp_path / "R"
    shutil.copytree(places / "R", source)
    with h5py.File(source / "bursts.h5", "r+") as file:
        for name in ("time_beg", "time_avg", "time_end"):
            file[name][...] += late
        del file[GROUP]
    write_block(source / "bursts.h5")
    with pytest.raises(InputError, match="too few bursts"):
        follow(places, tmp_path / "out", source=source)


def test_targets_that_do_not_match_are_refused(places, tmp_path):
    source = tmp_path / "R"
    shutil.copytree(places / "R", source)
    with h5py.File(source / "calibration.h5", "r+") as file:
        file["target"][...] = np.random.default_rng(0).normal(1000, 100, file["target"].shape)
        del file[GROUP]
    write_block(source / "calibration.h5")
    with pytest.raises(RegistrationError, match="match of the targets fails"):
        follow(places, tmp_path / "out", source=source)


def test_only_a_channel_that_follows_depends_on_the_reference():
    options = {"destretch": CONFIG, "speckle": SpeckleConfig()}
    assert stage_of_channel(STAGES["destretch"], options, is_reference=True) is STAGES["destretch"]
    assert stage_of_channel(STAGES["destretch"], options, is_reference=False) is FOLLOWING
    options["destretch"] = DestretchConfig()
    assert stage_of_channel(STAGES["destretch"], options, is_reference=False) is STAGES["destretch"]
    assert Destretched in FOLLOWING.reads_reference
