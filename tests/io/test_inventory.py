"""Files by role, and every fault of the declaration named with its key."""

from __future__ import annotations

import numpy as np
import pytest
from tests.io import _rawfiles

from stillsun.config.schema import CameraConfig, ChannelConfig, FileSet, ObservationConfig, ReaderName
from stillsun.errors import ConfigError, InputError
from stillsun.io import inventory

SHAPE = (20, 30)


@pytest.fixture
def frames():
    return np.random.default_rng(3).integers(0, 65536, (5, *SHAPE), dtype=np.uint16)


@pytest.fixture
def observation(tmp_path, frames):
    for role in ("", "dark_", "flat_"):
        _rawfiles.write_rosa(tmp_path, frames, name=f"das1_rosa_{role}2025-09-03_14.21.52_{{:04d}}.fit")
    rosa = ChannelConfig(
        camera=CameraConfig(shape=list(SHAPE)),
        wavelength_nm=430.5,
        plate_scale=[0.06, 0.06],
        exposure_ms=10.0,
        data=FileSet(pattern="das1_rosa_2025*.fit"),
        dark=FileSet(pattern="das1_rosa_dark*.fit"),
        flat=FileSet(pattern="das1_rosa_flat*.fit"),
    )
    (tmp_path / "zyla" / "data").mkdir(parents=True)
    _rawfiles.write_hardcam(tmp_path / "zyla" / "data", frames)
    zyla = ChannelConfig(
        camera=CameraConfig(reader=ReaderName.hardcam, shape=list(SHAPE)),
        wavelength_nm=656.28,
        plate_scale=[0.084, 0.084],
        exposure_ms=29.4,
        start="2025-09-03T14:21:52.456Z",
        data=FileSet(directory="zyla/data", pattern="*spool.dat"),
        dark=FileSet(directory="zyla/data", pattern="*spool.dat"),
        flat=FileSet(directory="zyla/data", pattern="*spool.dat"),
    )
    return ObservationConfig(raw_dir=str(tmp_path), channels={"G": rosa, "Z": zyla})


def test_good_declaration_has_no_findings_and_opens(observation, frames):
    assert inventory.check(observation, "G") == []
    for role in ("data", "dark", "flat"):
        source = inventory.open_source(observation, observation.channels["G"], role)
        np.testing.assert_array_equal(source.read(0, 5), frames)
    assert inventory.find_files(observation, observation.channels["G"], "target") == []


def test_groups_are_declared_as_a_whole(observation, frames):
    zyla = observation.channels["Z"]
    zyla.data = FileSet(directory="zyla/data", pattern="*spool.dat")
    zyla.group_frames = 2
    findings = "\n".join(inventory.check(observation, "Z", ["data"]))
    assert "group_frames and group_interval_s go together" in findings
    zyla.group_interval_s = 0.05
    assert "group_interval_s: 2 frames take 0.059 s" in inventory.check(observation, "Z", ["data"])[0]
    zyla.group_interval_s = 60.0
    assert inventory.check(observation, "Z", ["data"]) == []
    times = inventory.open_source(observation, zyla, "data").start_times
    steps = np.diff(times) / np.timedelta64(1, "s")
    np.testing.assert_allclose(steps, [0.0294, 59.9706, 0.0294, 59.9706], atol=1e-6)


def test_names_of_a_clock_ahead_are_hinted_at(observation):
    channel = observation.channels["G"]
    channel.clock_offset_h = 1.0
    channel.data.pattern = "das1_rosa_2025-09-03_13.21.52_*.fit"
    assert "+1 h from UTC" in inventory.check(observation, "G", ["data"])[0]


def test_hardcam_times_come_from_start_and_exposure(observation, frames):
    source = inventory.open_source(observation, observation.channels["Z"], "data")
    np.testing.assert_array_equal(source.read(0, 5), frames)
    assert source.start_times[0] == _rawfiles.START
    assert source.start_times[4] - _rawfiles.START == np.timedelta64(4 * 29400, "us")
    observation.channels["Z"].frame_interval_ms = 40.0
    source = inventory.open_source(observation, observation.channels["Z"], "data")
    assert source.start_times[4] - _rawfiles.START == np.timedelta64(160_000, "us")
    assert source.exposure_s == pytest.approx(0.0294)


def test_all_faults_at_once(observation, tmp_path):
    channel = observation.channels["G"]
    channel.data.pattern = "das9*.fit"
    channel.dark.pattern = None
    channel.flat.directory = "elsewhere"
    findings = inventory.check(observation, "G")
    assert len(findings) == 3
    assert findings[0].startswith("observation.channels.G.data.pattern")
    assert "'das9*.fit'" in findings[0]
    assert str(tmp_path) in findings[0]
    assert "das1_rosa_2025-09-03_14.21.52_0000.fit" in findings[0]
    assert findings[1].startswith("observation.channels.G.dark.pattern: must be given")
    assert findings[2].startswith("observation.channels.G.flat.directory")
    assert str(tmp_path / "elsewhere") in findings[2]


def test_a_pattern_that_takes_darks_for_data_is_a_fault(observation):
    observation.channels["G"].data.pattern = "das1_rosa_*.fit"
    findings = inventory.check(observation, "G")
    assert any("data.pattern: also matches files of dark" in text for text in findings)


def test_data_may_serve_as_target(observation):
    observation.channels["G"].target = FileSet(pattern="das1_rosa_2025*.fit")
    assert inventory.check(observation, "G") == []


def test_hardcam_needs_a_start_that_is_a_time(observation):
    channel = observation.channels["Z"]
    for role in ("dark", "flat"):
        setattr(channel, role, FileSet(directory="zyla", pattern="*"))
    channel.start = None
    assert any(
        text.startswith("observation.channels.Z.start")
        for text in inventory.check(observation, "Z", ["data"])
    )
    channel.start = "14 o'clock"
    assert any("not a time" in text for text in inventory.check(observation, "Z", ["data"]))


def test_opening_without_files_names_the_place(observation, tmp_path):
    observation.channels["G"].data.pattern = "das9*.fit"
    with pytest.raises(InputError, match="das9"):
        inventory.open_source(observation, observation.channels["G"], "data")


def test_the_size_is_that_of_the_files(observation, frames, tmp_path):
    """A windowed read-out: camera.shape is that of the whole chip, and nothing needs to be added."""
    channels = observation.channels
    channels["G"].camera.shape = [1002, 1004]
    channels["Z"].camera.shape = [2048, 2048]
    channels["Z"].camera.file_shape = [2050, 2060]
    for channel in ("G", "Z"):
        for role in ("data", "dark"):
            source = inventory.open_source(observation, channels[channel], role)
            np.testing.assert_array_equal(source.read(0, 5), frames)
        data = inventory.open_source(observation, channels[channel], "data")
        assert any("camera.shape" in finding for finding in data.findings)


def test_calibration_frames_of_another_read_out_are_refused(observation, frames, tmp_path):
    _rawfiles.write_rosa(
        tmp_path, frames[:, :16, :16], name="das1_rosa_flat_2025-09-03_16.21.52_{:04d}.fit", per_file=8
    )
    (tmp_path / "zyla" / "flat").mkdir()
    _rawfiles.write_hardcam(tmp_path / "zyla" / "flat", frames[:, :16, :16])
    rosa, zyla = observation.channels["G"], observation.channels["Z"]
    with pytest.raises(InputError, match="frames of another shape"):
        inventory.open_source(observation, rosa, "flat")
    rosa.flat.pattern = "das1_rosa_flat_2025-09-03_16*.fit"
    zyla.flat.directory = "zyla/flat"
    for settings in (rosa, zyla):
        with pytest.raises(InputError, match=r"flat frames have another size.*20 rows x 30 .*found 16 rows"):
            inventory.open_source(observation, settings, "flat")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "shell pattern"),
        ("/etc/*.fit", "below the directory"),
        ("../*.fit", "below the directory"),
        ("a**b.fit", "whole name"),
        ("a\0b", "shell pattern"),
    ],
)
def test_impossible_patterns_are_named(observation, pattern, words):
    observation.channels["G"].data.pattern = pattern
    (finding,) = inventory.check(observation, "G")
    assert "G.data.pattern" in finding
    assert words in finding
    with pytest.raises(ConfigError, match="pattern"):
        inventory.find_files(observation, observation.channels["G"], "data")


@pytest.mark.parametrize("text", ["~nosuchuser/data", "a\0b"])
def test_impossible_directories_are_named(observation, text):
    observation.channels["G"].data.directory = text
    (finding,) = inventory.check(observation, "G")
    assert "data.directory" in finding
    observation.raw_dir = text
    assert all("raw_dir" in finding for finding in inventory.check(observation, "G"))
