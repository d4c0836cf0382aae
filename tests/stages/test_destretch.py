"""Stage destretch: moved frames are held still, oriented, resumable."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndimage
from tests.stages import _level0

from stillsun.config.schema import ChannelConfig, DestretchConfig, ObservationConfig, ReferenceKind, Turn
from stillsun.core.destretch import apply_shifts
from stillsun.core.orient import Orientation
from stillsun.errors import ConfigError
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.stages import _destretch_writer
from stillsun.stages.registry import STAGES

SHAPE = (128, 150)
FRAMES = 6
KERNELS = [0, 64, 32, 16]


def scene():
    noise = np.random.default_rng(3).standard_normal(SHAPE)
    image = ndimage.gaussian_filter(noise, 1.8, mode="wrap")
    return 4000 * (1 + 0.1 * image / image.std())


@pytest.fixture(scope="module")
def moved():
    """Frames of one scene, shifted and distorted; frame 3 is dead."""
    rng = np.random.default_rng(5)
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    frames = []
    for number in range(FRAMES):
        push = np.stack(
            [ndimage.gaussian_filter(rng.standard_normal(SHAPE), 12, mode="wrap") for _ in range(2)]
        )
        push = 0.5 * push / push.std() + rng.uniform(-4, 4, 2)[:, None, None]
        frame = ndimage.map_coordinates(scene(), grid + push, order=3, mode="wrap")
        frames.append(np.full(SHAPE, 7.0) if number == 3 else frame)
    return np.array(frames, np.float32)


@pytest.fixture
def bursts(tmp_path):
    path = tmp_path / "bursts.h5"
    with create_store(path, Layout(FRAMES, {"time_avg": Field((), "float64")}), "b") as store:
        store.write("time_avg", 1.7e9 + 2.0 * np.arange(FRAMES))
        store.mark(slice(None))
    return path


@pytest.fixture
def speckle(moved, bursts, tmp_path):
    fields = {
        "image": Field(SHAPE, "float32"),
        "r0": Field((), "float64"),
        "sharpness": Field((), "float64"),
    }
    path = tmp_path / "speckle.h5"
    with create_store(path, Layout(FRAMES, fields), "s") as store:
        store.write("image", moved)
        store.write("r0", np.full(FRAMES, np.nan))
        store.write("sharpness", np.array([1.0, 2.0, 5.0, 0.0, 3.0, 4.0]))
        store.mark(slice(None))
    return path


def observation(*turns):
    channel = ChannelConfig(orientation=[Turn[t] for t in turns])
    return ObservationConfig(channels={"C": channel})


def run(speckle, directory, config, *turns, **options):
    directory.mkdir(exist_ok=True)
    with StoreReader(speckle) as frames, StoreReader(speckle.with_name("bursts.h5")) as times:
        inputs = {"speckle": frames, "bursts": times}
        return _level0.run_stage(
            observation(*turns), directory, STAGES["destretch"], config, inputs=inputs, **options
        )


@pytest.mark.parametrize("kind", ["running", "fixed", "two_pass"])
def test_frames_are_held_still(speckle, moved, tmp_path, kind):
    config = DestretchConfig(kernels=KERNELS, reference=ReferenceKind[kind], window=3, preserve_flows=False)
    store, notes = run(speckle, tmp_path / "out", config)
    images = store.read("image")
    live = [0, 1, 2, 4, 5]
    inner = np.s_[24:-24, 24:-24]
    before = moved[(live, *inner)].std(axis=0).mean()
    assert images[(live, *inner)].std(axis=0).mean() < 0.15 * before
    assert notes == ["frames without any structure were left as they are: 3"]
    assert not store.read("valid", 3).any()
    np.testing.assert_array_equal(images[3], moved[3])
    assert store.read("valid", 4)[inner].all()
    change = store.read("change_px")
    assert np.isnan(change[[0, 3]]).all()
    assert np.nanmax(change) < 0.3
    residual = store.read("residual_px")
    assert np.nanmax(residual) < 0.3
    assert store.read("rms_px").shape == (FRAMES, 4)
    # What is stored is enough to do it again.
    shifts = [store.read(f"shifts_{k}", 4) for k in KERNELS]
    np.testing.assert_array_equal(apply_shifts(moved[4], shifts, KERNELS, backend="numpy"), images[4])
    if kind == "fixed":
        assert store.attributes["reference_frame"] == 2  # the sharpest, without a Fried parameter
        assert store.read("rms_px", 2).max() < 0.01


def test_frames_are_oriented_once(speckle, moved, tmp_path):
    config = DestretchConfig(kernels=[0, 64, 32], preserve_flows=False)
    plain, _ = run(speckle, tmp_path / "plain", config)
    turned, _ = run(speckle, tmp_path / "turned", config, "rot90", "fliplr")
    turn = Orientation.from_steps(["rot90", "fliplr"])
    assert turned.shape("image") == (FRAMES, SHAPE[1], SHAPE[0])
    np.testing.assert_allclose(turned.read("image", 0), turn.apply(moved[0]), rtol=1e-5)
    inner = np.s_[24:-24, 24:-24]
    # The lattice begins at another corner; the images agree all the same.
    ours, expected = turned.read("image", 5)[inner], turn.apply(plain.read("image", 5))[inner]
    assert np.std(ours - expected) < 0.1 * np.std(expected)


@pytest.mark.parametrize(
    ("kind", "flows", "stop"),
    [
        ("running", False, 4),
        ("running", True, 4),
        ("running", True, 8),
        ("two_pass", False, 4),
        ("two_pass", False, 6),
        ("two_pass", False, 9),
        ("two_pass", True, 10),
        ("two_pass", True, 16),
    ],
)
def test_interrupted_run_goes_on_with_the_same_bytes(speckle, tmp_path, kind, flows, stop):
    config = DestretchConfig(kernels=KERNELS, reference=ReferenceKind[kind], window=2, preserve_flows=flows)
    passes = 1 + (kind == "two_pass") + flows
    whole, _ = run(speckle, tmp_path / "whole", config)

    class KilledError(Exception):
        pass

    def progress(done, total):
        if done == stop:
            raise KilledError

    with pytest.raises(KilledError):
        run(speckle, tmp_path / "again", config, progress=progress)
    seen = []
    again, _ = run(speckle, tmp_path / "again", config, progress=lambda done, total: seen.append(done))
    assert seen[-1] == 6 * passes
    assert min(seen) == stop
    assert len(seen) <= 6 * passes - stop + passes
    for name in whole.names():
        np.testing.assert_array_equal(again.read(name), whole.read(name))


def test_flows_are_kept_when_asked_for(speckle, moved, tmp_path):
    config = DestretchConfig(kernels=KERNELS, preserve_flows=True)
    store, notes = run(speckle, tmp_path / "out", config)
    assert store.shape("slow_motion") == (FRAMES, 2, 16, 19)
    assert len(notes) == 1
    images = store.read("image")
    live, inner = [0, 1, 2, 4, 5], np.s_[24:-24, 24:-24]
    # Five frames with nothing but seeing: what they have in common stays, the rest goes.
    before = moved[(live, *inner)].std(axis=0).mean()
    assert images[(live, *inner)].std(axis=0).mean() < 0.5 * before
    np.testing.assert_array_equal(images[3], moved[3])


def test_repeated_kernel_is_stored_twice(speckle, tmp_path):
    store, _ = run(speckle, tmp_path / "out", DestretchConfig(kernels=[0, 64, 32, 32]))
    assert {"shifts_0", "shifts_64", "shifts_32", "shifts_32_3"} <= set(store.names())


def test_clearest_frame_by_fried_parameter_is_the_fixed_reference(moved, bursts, tmp_path):
    fields = {n: Field(SHAPE if n == "image" else (), "float32") for n in ("image", "r0", "sharpness")}
    path = tmp_path / "speckle.h5"
    with create_store(path, Layout(FRAMES, fields), "s") as store:
        store.write("image", moved)
        store.write("r0", np.array([0.07, 0.08, 0.06, np.nan, 0.11, 0.09]))
        store.write("sharpness", np.array([1.0, 2.0, 5.0, 0.0, 3.0, 4.0]))
        store.mark(slice(None))
    config = DestretchConfig(kernels=KERNELS, reference=ReferenceKind.fixed)
    store, _ = run(path, tmp_path / "out", config)
    assert store.attributes["reference_frame"] == 4
    assert store.read("rms_px", 4).max() < 0.01


def test_failure_of_writing_comes_up_and_keeps_what_was_written(speckle, tmp_path, monkeypatch):
    original = _destretch_writer.DestretchedWriter.write_image

    def full(self, number, *rest):
        if number == 2:
            raise OSError("disk full")
        original(self, number, *rest)

    config = DestretchConfig(kernels=KERNELS, window=2, preserve_flows=False)
    with monkeypatch.context() as patch:
        patch.setattr(_destretch_writer.DestretchedWriter, "write_image", full)
        with pytest.raises(OSError, match="disk full"):
            run(speckle, tmp_path / "out", config)
    (part,) = (tmp_path / "out").rglob("*.part")
    with StoreReader(part) as store:
        assert store.done().tolist() == [True, True, False, False, False, False]
    again, _ = run(speckle, tmp_path / "out", config)
    whole, _ = run(speckle, tmp_path / "whole", config)
    np.testing.assert_array_equal(again.read("image"), whole.read("image"))


def test_reference_frame_that_is_not_there(speckle, tmp_path):
    config = DestretchConfig(kernels=KERNELS, reference=ReferenceKind.fixed, reference_frame=6)
    with pytest.raises(ConfigError, match="0 to 5"):
        run(speckle, tmp_path / "out", config)
