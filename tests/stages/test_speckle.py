"""Stage speckle: each engine, resumption, and the external program's files and failures."""

from __future__ import annotations

import os
import shutil
import signal
from collections import namedtuple
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from tests._channels import context

from stillsun.config.schema import (
    CameraConfig,
    ChannelConfig,
    FileSet,
    KisipConfig,
    ObservationConfig,
    SpeckleConfig,
    SpeckleEngine,
    SpeckleMethod,
)
from stillsun.core.backend import get_backend
from stillsun.errors import ConfigError, InputError, ReconstructionError
from stillsun.io.source import ArraySource
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.stages import speckle as stage
from stillsun.stages.base import ChannelPaths

BURSTS, FRAMES, ROWS, COLUMNS = 5, 3, 60, 90
NAME = "20250903_142152_gband_kisip"
DIAMETER_M = 0.762


@pytest.fixture(scope="module")
def raw():
    """Raw frames of all bursts, and what each burst shows once it is calibrated."""
    rng = np.random.default_rng(4)
    scenes = []
    for _ in range(BURSTS):
        noise = rng.normal(size=(ROWS, COLUMNS))
        field = scipy.ndimage.gaussian_filter(noise, 2) - scipy.ndimage.gaussian_filter(noise, 6)
        scenes.append(np.rint(3000 * (1 + 0.1 * field / field.std())))
    frames = np.repeat(np.stack(scenes), FRAMES, axis=0) + 200
    return frames.astype(np.uint16), np.stack(scenes).astype(np.float32)


class Work:
    """A channel's directory with the products that the stage reads, and runs of the stage on it."""

    def __init__(self, directory: Path, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = ChannelPaths(directory / "ROSA_GBAND")
        self.raw = raw
        self.observation = ObservationConfig(name="test")
        self.reads = 0
        monkeypatch.setattr("stillsun.io.inventory.open_source", self._open_source)
        self.calibration_digest = "calibration-1"
        self.noise = np.ones((FRAMES, ROWS, COLUMNS), dtype=np.float32)
        self.backend = get_backend("numpy", threads=2)
        self.notes: list[str] = []
        self.progress: list[tuple[int, int]] = []

    def _open_source(self, _observation, _settings, role):
        assert role == "data"
        times = np.datetime64("2025-09-03T14:21:52", "us") + np.arange(len(self.raw)) * np.timedelta64(
            33, "ms"
        )
        return ArraySource(self.raw, times, 0.01)

    def _product(self, name, rows, values, digest, attributes):
        fields = {
            key: Field(np.shape(value)[stack:], str(np.asarray(value).dtype), stack=bool(stack))
            for key, (value, stack) in values.items()
        }
        path = self.paths.directory / f"{name}.h5"
        with create_store(path, Layout(rows, fields, attributes), digest) as store:
            for key, (value, _) in values.items():
                store.write(key, value)
        return path

    def run(self, config: SpeckleConfig, digest: str = "speckle-1") -> dict[str, np.ndarray]:
        frame = np.ones((ROWS, COLUMNS), dtype=np.float32)
        calibration = {
            "dark": (200 * frame, 0),
            "gain": (frame, 0),
            "bad_pixels": (np.zeros((ROWS, COLUMNS), dtype=np.uint8), 0),
            "noise": (self.noise, 0),
            "plate_scale": (np.array([0.06, 0.0602]), 0),
        }
        begin = np.datetime64("2025-09-03T14:21:52", "s").astype(float)
        bursts = {
            "first_frame": (np.arange(BURSTS) * FRAMES, 1),
            "time_beg": (begin + 0.1 * np.arange(BURSTS), 1),
        }
        about = {"frames_per_burst": FRAMES}
        path = self.paths.directory / "speckle.h5"
        with ExitStack() as stack:
            inputs = {
                "calibration": self._product("calibration", 0, calibration, self.calibration_digest, {}),
                "bursts": self._product("bursts", BURSTS, bursts, "bursts-1", about),
            }
            readers = {name: stack.enter_context(StoreReader(p)) for name, p in inputs.items()}
            ctx = context(
                "ROSA_GBAND",
                self.paths.directory,
                readers,
                config=config,
                settings=ChannelConfig(
                    camera=CameraConfig(shape=[ROWS, COLUMNS]),
                    wavelength_nm=430.5,
                    plate_scale=[0.06, 0.06],
                    exposure_ms=10.0,
                    data=FileSet(),
                ),
                observation=self.observation,
                backend=self.backend,
                writes=path,
                progress=lambda *n: self.progress.append(n),
                digest=digest,
                notes=self.notes,
            )
            stage.run(ctx)
        with StoreReader(path) as store:
            assert store.done().all()
            return {name: store.read(name) for name in store.names()} | store.attributes


@pytest.fixture
def work(tmp_path, raw, monkeypatch):
    return Work(tmp_path, raw[0], monkeypatch)


@pytest.fixture
def kisip(fakes, tmp_path):
    """Install the stand-in for the program with a fault; gives the configuration."""

    def configure(**fault) -> SpeckleConfig:
        place = tmp_path / "kisip" / "bin"
        shutil.rmtree(place, ignore_errors=True)
        fakes.install(place, **fault)
        return SpeckleConfig(
            engine=SpeckleEngine.kisip,
            timeout=20.0,
            subfield_arcsec=5.0,
            kisip=KisipConfig(bin=str(place), retries=1),
        )

    return configure


def files(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir()) if directory.is_dir() else []


def test_times_and_exposures_are_those_of_the_exposures_that_were_used(tmp_path, raw, monkeypatch):
    frames = raw[0].copy()
    frames[[3, 5, 10]] = 0  # first and last of the second burst, the middle one of the fourth
    work = Work(tmp_path, frames, monkeypatch)
    stored = work.run(SpeckleConfig(engine=SpeckleEngine.none))
    assert list(stored["exposures"]) == [3, 1, 3, 2, 3]
    begin = np.datetime64("2025-09-03T14:21:52", "s").astype(float) + 0.033 * FRAMES * np.arange(BURSTS)
    np.testing.assert_allclose(stored["time_beg"] - begin, [0, 0.033, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(
        stored["time_end"] - begin, 0.01 + np.array([2, 1, 2, 2, 2]) * 0.033, atol=1e-5
    )
    np.testing.assert_allclose(stored["time_avg"] - begin, 0.038, atol=1e-5)
    assert len([note for note in work.notes if "burst 1" in note or "burst 3" in note]) >= 2


def stop_after(monkeypatch, bursts):
    """Let the engine of the stage end the run after some bursts; gives what it had been."""
    whole = stage.tile_aligned_mean
    left = iter(range(bursts))

    def fragile(frames, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return whole(frames, **options)

    monkeypatch.setattr(stage, "tile_aligned_mean", fragile)
    return whole


def test_none_gives_the_mean_of_frames_that_do_not_move(work, raw):
    product = work.run(SpeckleConfig(engine=SpeckleEngine.none))
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-5)
    # As that of raw frames in the product of assemble, so that they can be compared.
    centres = raw[1][:, ROWS // 4 : ROWS - ROWS // 4, COLUMNS // 4 : COLUMNS - COLUMNS // 4]
    assert product["image"].dtype == np.float32
    assert np.isnan(product["r0"]).all()
    assert np.isnan(product["alpha"]).all()
    assert product["contrast"] == pytest.approx([s.std() / s.mean() for s in centres], rel=1e-4)
    assert product["shifts"].shape[:3] == (BURSTS, FRAMES, 2)
    assert product["shifts"].shape[3:] == (len(product["centres_y"]), len(product["centres_x"]))
    assert product["engine"] == "none"
    assert work.progress[-1] == (BURSTS, BURSTS)
    assert not work.paths.speckle_bursts.exists()
    assert not work.paths.speckle_output.exists()


def test_bursts_are_read_beside_a_gpu_at_work(work, gpu):
    """Calibrated by another thread in a stream of its own, complete when it hands them over."""
    expected = work.run(SpeckleConfig(engine=SpeckleEngine.none), "cpu")
    work.backend = gpu
    found = work.run(SpeckleConfig(engine=SpeckleEngine.none), "gpu")
    np.testing.assert_allclose(found["image"], expected["image"], rtol=1e-5)
    np.testing.assert_array_equal(found["shifts"], expected["shifts"])


def test_rows_that_are_done_are_not_done_again(work, raw, monkeypatch):
    whole = stop_after(monkeypatch, 2)
    config = SpeckleConfig(engine=SpeckleEngine.none)
    with pytest.raises(KeyboardInterrupt):
        work.run(config)
    monkeypatch.setattr(stage, "tile_aligned_mean", whole)
    work.progress.clear()
    product = work.run(config)
    assert work.progress == [(n, BURSTS) for n in (2, 3, 4, 5)]
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-5)


def test_bursts_of_an_engine_in_memory_are_kept_if_asked_for(work, raw, monkeypatch):
    config = SpeckleConfig(engine=SpeckleEngine.none)
    config.kisip.header_offset = 64
    whole = stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        work.run(config)
    monkeypatch.setattr(stage, "tile_aligned_mean", whole)
    # A longer run of another time left its files.
    work.paths.speckle_bursts.mkdir(exist_ok=True)
    for stale in (0, BURSTS + 2):
        (work.paths.speckle_bursts / f"{NAME}.raw.batch.00.{stale:03d}").write_bytes(b"old")
    # The first two bursts were reconstructed without being kept: their files are not forgotten.
    product = work.run(replace(config, keep_bursts=True))
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-5)
    names = [f"{NAME}.raw.batch.00.{n:03d}" for n in range(BURSTS)]
    assert files(work.paths.speckle_bursts) == [*names, "gband.noise"]
    for name, scene in zip(names, raw[1], strict=True):
        content = (work.paths.speckle_bursts / name).read_bytes()
        assert content[:64] == bytes(64)
        assert content[64:] == np.repeat(scene[None], FRAMES, axis=0).astype("=f4").tobytes()
    assert not work.paths.speckle_output.exists()


def test_disk_space_for_kept_bursts_is_looked_at_first(work, monkeypatch):
    usage = namedtuple("usage", "total used free")
    each = 4 * FRAMES * ROWS * COLUMNS
    free = 4 * ROWS * COLUMNS * BURSTS + each + (BURSTS - 1) * each
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free))
    with pytest.raises(ReconstructionError, match=r"disk is too small.*keep_bursts=false$") as caught:
        work.run(SpeckleConfig(engine=SpeckleEngine.none, keep_bursts=True))
    assert "masking" not in str(caught.value)
    assert files(work.paths.speckle_bursts) == []


def test_masking_is_given_what_the_configuration_says(work, raw, monkeypatch):
    seen = {}
    grid = (9, 9)

    def engine(burst, **options):
        from stillsun.speckle.engine import Reconstruction

        seen.update(options, shape=burst.shape)
        ny, nx = grid
        return Reconstruction(
            burst.mean(axis=0),
            0.1,
            np.full(grid, 0.09, dtype=np.float32),
            np.zeros((FRAMES, 2, ny, nx), dtype=np.float32),
            np.full(grid, 0.02, dtype=np.float32),
            notes=("fit at the edge",),
        )

    from stillsun.speckle.masking.geometry import subfield_lattice, subfield_size

    size = subfield_size(2.0, (0.0602, 0.06), (ROWS, COLUMNS))
    grid = subfield_lattice((ROWS, COLUMNS), size, 0.3).counts
    monkeypatch.setattr(stage, "reconstruct", engine)
    config = SpeckleConfig(
        engine=SpeckleEngine.masking, subfield_arcsec=2.0, max_iterations=4, noise_filter=False
    )
    product = work.run(config)
    assert seen["plate_scale"] == (0.06, 0.0602)
    assert (seen["wavelength"], seen["diameter"], seen["deconvolve"]) == (430.5, 762.0, True)
    assert (seen["subfield_arcsec"], seen["max_iterations"], seen["noise_filter"]) == (2.0, 4, False)
    assert (seen["pixel_mtf"], seen["wind"]) == (True, 10.0)
    assert seen["exposure_ms"] == 10.0
    assert seen["noise"].shape == seen["shape"] == (FRAMES, ROWS, COLUMNS)
    assert product["r0"] == pytest.approx([0.1] * BURSTS)
    assert product["alpha"] == pytest.approx([0.1 / DIAMETER_M] * BURSTS)
    assert product["r0_map"].shape == (BURSTS, *grid)
    assert "burst 3: fit at the edge" in work.notes


def flickering(number):
    """An engine whose images have a contrast of their own each, by the burst's mean; and the factors."""
    from stillsun.speckle.engine import Reconstruction

    factors = 1 + 0.06 * np.array([0, 1, -1, 0.5, -0.5])
    calls = []

    def engine(burst, **_):
        mean = burst.mean(axis=0)
        calls.append(mean)
        if len(calls) > number:
            raise KeyboardInterrupt
        factor = factors[round(float(mean[0, 0] - 1000) / 100)]
        return Reconstruction(mean.mean() * (1 + factor * (mean / mean.mean() - 1)), 0.1)

    engine.calls = calls
    return engine


def still_scene():
    """Raw frames of five bursts of one scene, whose first pixel counts the bursts."""
    rng = np.random.default_rng(9)
    scene = 3000 * (1 + 0.1 * scipy.ndimage.gaussian_filter(rng.normal(size=(ROWS, COLUMNS)), 2) * 7)
    frames = np.repeat(scene[None], BURSTS * FRAMES, axis=0) + 200
    frames[:, 0, 0] = 1200 + 100 * np.repeat(np.arange(BURSTS), FRAMES)
    return frames.astype(np.uint16)


STEADY = SpeckleConfig(engine=SpeckleEngine.masking, subfield_arcsec=2.0)


def test_contrast_is_held_to_its_running_value(tmp_path, monkeypatch):
    work = Work(tmp_path, still_scene(), monkeypatch)
    monkeypatch.setattr(stage, "reconstruct", flickering(99))
    held = work.run(STEADY)
    plain = work.run(replace(STEADY, series=False), "speckle-2")
    assert plain["contrast"].std() / plain["contrast"].mean() > 0.035
    assert held["contrast"].std() / held["contrast"].mean() < 0.004
    centre = np.s_[:, 15:45, 22:67]
    own = held["image"][centre]
    assert held["contrast"] == pytest.approx(own.std(axis=(1, 2)) / own.mean(axis=(1, 2)), rel=0.02)
    np.testing.assert_allclose(held["image"].mean(axis=(1, 2)), plain["image"].mean(axis=(1, 2)), rtol=1e-5)
    assert held["steadied"] == pytest.approx([0, 0.06, 0.06, 0.03, 0.03], abs=0.012)
    assert held["steadying"].shape == (BURSTS, held["steadying"].shape[1], len(held["ring_q"]))
    assert set(plain) & {"steadied", "steadying", "ring_power", "filter_state"} == set()


@pytest.mark.parametrize(
    ("last", "stops"),
    [
        ("exposures", (2, 3)),
        ("ring_power", (2, 3)),
        ("image", (2, 6, 3)),
        ("steadied", (2, 1)),
        ("contrast", (2, 6, 3)),
        ("filter_state", (2, 6, 3)),
    ],
)
def test_images_killed_while_they_are_held_have_the_same_bytes(tmp_path, monkeypatch, last, stops):
    """The run ends at some write, while bursts are made and in the pass that filters, again and again."""
    monkeypatch.setattr(stage, "reconstruct", flickering(99))
    whole = Work(tmp_path / "whole", still_scene(), monkeypatch)
    whole.run(STEADY)
    work = Work(tmp_path / "killed", still_scene(), monkeypatch)
    write = stage.StoreWriter.write
    done = []

    def fragile(store, name, value, row=None):
        write(store, name, value, row)
        done.append(name)
        if name == last and row is not None and done.count(name) == left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage.StoreWriter, "write", fragile)
    left = list(stops)
    while left:
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            work.run(STEADY)
        left.pop(0)
    monkeypatch.setattr(stage.StoreWriter, "write", write)
    work.run(STEADY)
    found, expected = ((w.paths.directory / "speckle.h5").read_bytes() for w in (work, whole))
    assert found == expected


def test_an_image_half_filtered_is_made_again(tmp_path, monkeypatch):
    engine = flickering(99)
    monkeypatch.setattr(stage, "reconstruct", engine)
    work = Work(tmp_path, still_scene(), monkeypatch)
    write = stage.StoreWriter.write

    def fragile(store, name, value, row=None):
        write(store, name, value, row)
        if name == "image" and row == 2 and int(store.read("filter_state", 2)) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage.StoreWriter, "write", fragile)
    with pytest.raises(KeyboardInterrupt):
        work.run(STEADY)
    assert len(engine.calls) == BURSTS
    monkeypatch.setattr(stage.StoreWriter, "write", write)
    work.run(STEADY)
    assert len(engine.calls) == BURSTS + 1


def test_masking_end_to_end(work, raw):
    work.raw = np.random.default_rng(1).poisson(work.raw).astype(np.uint16)
    product = work.run(SpeckleConfig(engine=SpeckleEngine.masking, subfield_arcsec=2.4, deconvolve=False))
    assert np.isfinite(product["image"]).all()
    assert product["r0_map"].shape[1:] == (len(product["centres_y"]), len(product["centres_x"]))
    for image, truth in zip(product["image"], raw[1], strict=True):
        assert np.corrcoef(image.ravel(), truth.ravel())[0, 1] > 0.9
        assert image.mean() == pytest.approx(truth.mean(), rel=0.02)


def test_external_program_end_to_end(fakes, kisip, work, raw):
    config = kisip()
    product = work.run(config)
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    assert product["alpha"] == pytest.approx([0.125] * BURSTS)
    assert product["r0"] == pytest.approx([0.125 * DIAMETER_M] * BURSTS)
    # Three subfields along x and two along y, x first in the program's file.
    assert product["r0_map"].shape == (BURSTS, 2, 3)
    expected = (0.1 + 0.01 * np.arange(6).reshape(3, 2)).T * DIAMETER_M
    np.testing.assert_allclose(product["r0_map"][4], expected, rtol=1e-5)
    assert (len(product["centres_y"]), len(product["centres_x"])) == (2, 3)
    (call,) = fakes.calls(Path(config.kisip.bin))
    assert call["cwd"] == str(work.paths.directory)
    assert call["base"] == str(work.paths.directory / "preSpeckle" / f"{NAME}.raw.batch.00")
    assert call["output"] == str(work.paths.directory / "speckle" / f"{NAME}.speckle.batch.00")
    assert call["method"] == ["1", "5", "95", "10", "10", "10", "80", "1.2", "30", "1"]
    assert call["props"] == ["90", "60", "3", "0", "0.06", "0.0602", "762", "430.5", "-1", "-1", "1"]
    assert f"{NAME}.speckle.batch.00.004.final" in files(work.paths.speckle_output)
    assert not work.paths.speckle_bursts.exists()
    assert work.notes == []
    assert (BURSTS, BURSTS) in work.progress


def test_bursts_are_kept_if_asked_for(fakes, kisip, work, raw):
    config = replace(kisip(), keep_bursts=True)
    config.kisip.header_offset = 64
    config.method = SpeckleMethod.knox_thompson
    product = work.run(config)
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    names = [f"{NAME}.raw.batch.00.{n:03d}" for n in range(BURSTS)]
    assert files(work.paths.speckle_bursts) == [*names, "gband.noise"]
    content = (work.paths.speckle_bursts / names[2]).read_bytes()
    assert content[:64] == bytes(64)
    (call,) = fakes.calls(Path(config.kisip.bin))
    assert call["method"][0] == "0"
    assert call["props"][3] == "64"
    assert content[64:] == np.repeat(raw[1][2:3], FRAMES, axis=0).astype("=f4").tobytes()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "exit", "status": 1},
        {"kind": "signal", "status": int(signal.SIGSEGV)},
        {"kind": "stop"},
        {"kind": "skip"},
        {"kind": "truncate"},
        {"kind": "hang"},
    ],
    ids=lambda fault: fault["kind"],
)
def test_program_that_fails_once_still_makes_everything(kisip, work, raw, fault):
    config = replace(kisip(burst=2, times=1, **fault), timeout=1.5)
    product = work.run(config)
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    (note,) = work.notes
    assert "burst 2 of 0 to 4 was not made" in note


def test_failed_run_goes_on_where_it_stopped(fakes, kisip, work, raw):
    config = kisip(kind="signal", status=int(signal.SIGKILL), burst=3)
    with pytest.raises(ReconstructionError, match="1 of 5 bursts"):
        work.run(config)
    # What is made is kept, what is missing is still there to be made.
    assert files(work.paths.speckle_bursts) == [f"{NAME}.raw.batch.00.003", "gband.noise"]
    config = kisip()
    product = work.run(config)
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    assert [(c["first"], c["last"]) for c in fakes.calls(Path(config.kisip.bin))] == [("003", "003")]
    assert not work.paths.speckle_bursts.exists()


def test_outputs_of_another_configuration_or_a_finished_run_are_not_taken(fakes, kisip, work, raw):
    with pytest.raises(ReconstructionError):
        work.run(kisip(kind="exit", status=1, burst=4))
    config = kisip()
    work.calibration_digest = "calibration-2"
    work.run(config)
    assert [c["first"] for c in fakes.calls(Path(config.kisip.bin))] == ["000"]
    # Asked for again, although finished: made again.
    work.run(config, digest="speckle-2")
    assert [c["first"] for c in fakes.calls(Path(config.kisip.bin))] == ["000", "000"]


def test_foreign_files_are_left_alone(kisip, work):
    work.paths.speckle_output.mkdir(parents=True)
    (work.paths.speckle_output / "notes.txt").write_text("mine")
    (work.paths.speckle_output / f"{NAME}.speckle.batch.00.009.final").write_text("stale")
    work.run(kisip())
    found = files(work.paths.speckle_output)
    assert "notes.txt" in found
    assert f"{NAME}.speckle.batch.00.009.final" not in found


def test_disk_space_is_looked_at_first(fakes, kisip, work, monkeypatch):
    usage = namedtuple("usage", "total used free")
    each = 4 * FRAMES * ROWS * COLUMNS
    results = 4 * ROWS * COLUMNS * (14 * BURSTS + BURSTS)
    free = results + each + 2 * each
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free))
    config = kisip()
    # Enough for two bursts at a time.
    work.run(config)
    calls = fakes.calls(Path(config.kisip.bin))
    assert [(c["first"], c["last"]) for c in calls] == [("000", "001"), ("002", "003"), ("004", "004")]
    # Not for all of them.
    with pytest.raises(ReconstructionError, match=r"disk is too small.*GB free.*keep_bursts=false"):
        work.run(replace(config, keep_bursts=True), digest="speckle-2")
    assert not files(work.paths.speckle_bursts)
    assert len(fakes.calls(Path(config.kisip.bin))) == 3


def test_missing_program_is_found_before_a_burst_is_written(kisip, work):
    config = kisip()
    config.kisip.executable = "nothing"
    with pytest.raises(ConfigError, match=r"speckle\.kisip\.bin"):
        work.run(config)
    assert not work.paths.speckle_bursts.exists()


def test_noise_of_few_flat_frames_is_repeated_and_said(kisip, work):
    work.noise = np.stack([np.full((ROWS, COLUMNS), n, dtype=np.float32) for n in (1, 2)])
    work.run(replace(kisip(), keep_bursts=True))
    content = np.fromfile(work.paths.speckle_bursts / "gband.noise", np.float32)
    assert list(content.reshape(FRAMES, -1)[:, 0]) == [1, 2, 1]
    (note,) = work.notes
    assert "2 flat frames repeated to the 3 of a burst" in note
    assert "calibrate.noise_frames" in note


def test_noise_that_does_not_fit_is_refused(kisip, work):
    work.noise = np.ones((FRAMES, ROWS - 1, COLUMNS), dtype=np.float32)
    with pytest.raises(InputError, match="60 x 90"):
        work.run(kisip())


def test_relative_work_directory_and_untouched_environment(kisip, work, raw, monkeypatch):
    monkeypatch.chdir(work.paths.directory.parent)
    work.paths = ChannelPaths(Path("ROSA_GBAND"))
    before = dict(os.environ)
    product = work.run(kisip())
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    assert dict(os.environ) == before


def test_values_that_are_no_numbers_are_filled_and_said(kisip, work, raw):
    config = kisip(kind="nan", burst=1)
    product = work.run(config)
    assert np.isfinite(product["image"]).all()
    np.testing.assert_allclose(product["image"][1, 10:], raw[1][1, 10:], rtol=1e-6)
    assert work.notes == ["burst 1: 900 pixels without a value filled with the median"]


def test_deconvolution_that_cannot_be_undone_is_said(kisip, work):
    work.run(replace(kisip(), deconvolve=False))
    assert "deconvolve" in work.notes[0]


def with_empty_exposures(raw):
    """Raw frames of which the second of burst 1 has no light, and the last two of burst 3 are one value."""
    frames = raw[0].copy()
    frames[FRAMES + 1] = 0
    frames[4 * FRAMES - 2 : 4 * FRAMES] = 4000
    return frames


def test_the_external_program_is_given_no_empty_exposures(kisip, raw, tmp_path, monkeypatch):
    work = Work(tmp_path, with_empty_exposures(raw), monkeypatch)
    config = replace(kisip(), keep_bursts=True)
    product = work.run(config)
    # The program's stand-in averages what it is given.
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    content = (work.paths.speckle_bursts / f"{NAME}.raw.batch.00.003").read_bytes()
    assert content == np.repeat(raw[1][3:4], FRAMES, axis=0).astype("=f4").tobytes()
    assert product["exposures"].tolist() == [FRAMES, FRAMES - 1, FRAMES, FRAMES - 2, FRAMES][:BURSTS]
    left = [note for note in work.notes if "left out" in note]
    assert left == [
        "burst 1: 1 exposures left out, the nearest ones stand for them: 1 (no light)",
        f"burst 3: 2 exposures left out, the nearest ones stand for them: {FRAMES - 2} (constant), "
        f"{FRAMES - 1} (constant)",
    ]
    assert not list(work.paths.directory.rglob(".left_out.json"))


def test_what_was_left_out_is_known_after_an_interruption(kisip, raw, tmp_path, monkeypatch):
    work = Work(tmp_path, with_empty_exposures(raw), monkeypatch)
    with pytest.raises(ReconstructionError):
        work.run(kisip(kind="exit", status=1, burst=4))
    product = work.run(kisip())
    assert product["exposures"][1] == FRAMES - 1
    np.testing.assert_allclose(product["image"], raw[1], rtol=1e-6)
    assert sum("left out" in note for note in work.notes) == 2


def test_kept_bursts_hold_no_empty_exposures(raw, tmp_path, monkeypatch):
    work = Work(tmp_path, with_empty_exposures(raw), monkeypatch)
    work.run(SpeckleConfig(engine=SpeckleEngine.none, keep_bursts=True))
    content = (work.paths.speckle_bursts / f"{NAME}.raw.batch.00.001").read_bytes()
    assert content == np.repeat(raw[1][1:2], FRAMES, axis=0).astype("=f4").tobytes()
