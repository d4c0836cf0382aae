"""A directory of raw files: sequences, roles, table and draft."""

from __future__ import annotations

import dataclasses
import os
import shutil
from datetime import datetime

import numpy as np
import pytest
from astropy.io import fits

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.io.classify import Role, Sureness, role_of_name, sort_sequences
from stillsun.io.draft import draft_text
from stillsun.io.rawdirectory import find_sequences
from stillsun.io.rosa import open_rosa
from stillsun.synth.observation import simulate
from stillsun.synth.rawfiles import spool_name, write_rosa, write_spool
from stillsun.synth.settings import SimulationSettings

ROLES = {"data", "dark", "flat", "target", "linegrid"}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A simulated night; the clock of das3 is an hour ahead."""
    settings = SimulationSettings.preset(
        "tiny", ["ROSA_GBAND", "ROSA_CAK", "HARDCAM"], bursts=2, frames_per_burst=8, dark_frames=4,
        flat_frames=8, fiducial_frames=2, frames_per_file=6, fulldisk_pixels=128,
    )  # fmt: skip
    channels = tuple(
        dataclasses.replace(c, clock_offset_hours=1.0) if c.computer == "das3" else c
        for c in settings.channels
    )
    out = tmp_path_factory.mktemp("simulated") / "night"
    simulate(out, dataclasses.replace(settings, channels=channels))
    return out


@pytest.fixture
def raw(night, tmp_path):
    """A copy of the raw directory that a test may change."""
    return shutil.copytree(night / "level0", tmp_path / "level0")


def fill_in(path):
    """The draft with the orientation that nobody but a person knows."""
    path.write_text(path.read_text().replace('orientation: "FILL IN"', "orientation: none"))


def roles(raw):
    directory = find_sequences(raw)
    return directory, {s.sequence.name: s for s in sort_sequences(directory.sequences)}


def expected(night):
    """Role of every sequence, from the simulator's own observation file."""
    run = load_settings([f"observation_file={night / 'observation.yaml'}"]).run
    wanted = {}
    for channel in run.observation.channels.values():
        for role in ROLES:
            files = getattr(channel, role)
            if channel.camera.reader.name == "rosa":
                wanted[files.pattern.removesuffix("_*.fit")] = role
            else:
                wanted[files.directory] = role
    return wanted


def test_every_sequence_of_a_simulated_night_gets_its_role(night):
    directory, found = roles(night / "level0")
    assert {name: item.role.value for name, item in found.items()} == expected(night)
    assert not directory.unreadable
    assert [log.name for log in directory.logs] == ["dcss_20250903.txt"]
    for item in found.values():
        told = item.role in (Role.dark, Role.flat) or item.sequence.camera == "hardcam"
        assert item.sureness is (Sureness.both if told else Sureness.image), item


def test_what_the_files_tell(night):
    _, found = roles(night / "level0")
    data = found["das1_rosa_2025-09-03_14.21.52"].sequence
    assert (data.frames, len(data.files), data.shape) == (16, 3, (152, 160))
    assert data.exposure_s == pytest.approx(6e-3)
    assert str(data.start) == "2025-09-03T14:21:52.033000"
    assert str(data.end) == "2025-09-03T14:21:52.528000"
    spools = found["250903_ZYLA/DBJ_data_142154_observation"].sequence
    assert (spools.shape, spools.file_shape) == ((144, 144), (146, 156))
    assert str(spools.start) == "2025-09-03T14:21:54.000000"


def test_the_draft_runs_when_the_orientation_is_filled_in(night, tmp_path, capsys):
    path = tmp_path / "night.yaml"
    assert main(["sort", str(night / "level0"), "-o", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("image") >= 15
    faults = [line for line in printed.err.splitlines() if line.startswith("  - ")]
    assert len(faults) == 3
    assert all("orientation: to be filled in; none or [] for none" in line for line in faults)
    assert main(["run", f"observation_file={path}"]) == 2
    assert "orientation: to be filled in" in capsys.readouterr().err
    path.write_text(path.read_text().replace('orientation: "FILL IN"', "orientation: none"))
    observation = load_settings([f"observation_file={path}"]).run.observation
    wanted = load_settings([f"observation_file={night / 'observation.yaml'}"]).run.observation
    assert list(observation.channels) == list(wanted.channels)
    for name, channel in wanted.channels.items():
        draft = observation.channels[name]
        for role in ROLES:
            assert getattr(draft, role) == getattr(channel, role)
        assert draft.camera.shape == channel.camera.shape
        assert draft.wavelength_nm == channel.wavelength_nm
        assert draft.exposure_ms == channel.exposure_ms
        assert draft.plate_scale == pytest.approx(channel.plate_scale, rel=0.01)
        assert draft.start == channel.start
        assert draft.clock_offset_h == (1.0 if name == "ROSA_CAK" else 0.0)
    text = path.read_text()
    assert text.count("FILL IN") >= 3
    run = ["run", f"observation_file={path}", "speckle=none", "align=none", "destretch.kernels=[0,32]",
           "progress=false", "assemble.frames_per_burst=4",
           "stages=[calibrate,assemble,speckle,destretch]"]  # fmt: skip
    assert main([*run, f"observation.work_dir={tmp_path / 'work'}"]) == 0
    assert sorted(p.parent.name for p in tmp_path.glob("work/*/destretch.h5")) == sorted(wanted.channels)


def test_an_existing_file_is_kept(night, tmp_path, capsys):
    path = tmp_path / "night.yaml"
    path.write_text("mine: 1\n")
    assert main(["sort", str(night / "level0"), "-o", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine: 1\n"


def test_directories_without_telling_names_are_told_by_image(raw):
    names = {}
    for number, old in enumerate(sorted((raw / "250903_ZYLA").iterdir())):
        names[f"250903_ZYLA/DBJ_data_{number}"] = old.name.rpartition("_")[2].replace("observation", "data")
        old.rename(old.with_name(f"DBJ_data_{number}"))
    _, found = roles(raw)
    assert {name: found[name].role.value for name in names} == names
    assert {found[name].sureness for name in names} == {Sureness.image}


def test_a_name_that_the_image_contradicts_is_said(raw):
    zyla = raw / "250903_ZYLA"
    (zyla / "DBJ_data_150254_target").rename(zyla / "DBJ_data_150254_flat")
    directory, found = roles(raw)
    item = found["250903_ZYLA/DBJ_data_150254_flat"]
    assert (item.role, item.sureness) == (Role.flat, Sureness.doubtful)
    assert "the name says flat, but target" in item.evidence
    # The draft takes the flat that is one.
    text = draft_text(directory, list(found.values()), raw.parent / "work")
    hardcam = text[text.index("\n  HARDCAM:") :]
    assert "DBJ_data_135754_flat" in hardcam[hardcam.index("\n    flat:") :][:120]


def test_a_flat_without_its_name_is_no_data(raw):
    for file in raw.glob("das1/das1_rosa_flat_*"):
        shutil.copy(file, file.with_name(file.name.replace("flat_2025-09-03_13", "2025-09-03_16")))
    _, found = roles(raw)
    item = found["das1_rosa_2025-09-03_16.57.52"]
    assert (item.role, item.sureness) == (Role.unknown, Sureness.doubtful)


def test_damaged_files_are_listed_and_the_rest_is_used(raw, capsys):
    first, second, third = sorted(raw.glob("das1/das1_rosa_2025-09-03_14.21.52_*"))
    second.write_bytes(second.read_bytes()[:-9000])
    third.write_bytes(b"no FITS file at all")
    spool = next((raw / "250903_ZYLA" / "DBJ_data_142154_observation").iterdir())
    spool.write_bytes(spool.read_bytes()[:-2])
    (raw / "notes.pdf").write_bytes(b"%PDF")
    directory, found = roles(raw)
    assert {path for path, _ in directory.unreadable} == {second, third, spool}
    assert all(reason for _, reason in directory.unreadable)
    assert [path.name for path in directory.others] == ["notes.pdf"]
    assert found["das1_rosa_2025-09-03_14.21.52"].sequence.files == (first,)
    assert found["das1_rosa_2025-09-03_14.21.52"].role is Role.data


def test_frames_of_another_size_in_a_sequence_are_listed(raw):
    frames = np.full((2, 40, 44), 3000, np.uint16)
    other = write_rosa(
        raw / "x", frames, computer="das1", serial="1", start=datetime(2025, 9, 3, 14, 21, 52), exposure_ms=6,
        interval_ms=33,
    )[0]  # fmt: skip
    other.rename(raw / "das1" / other.name.replace("_0000", "_0003"))
    directory, _ = roles(raw)
    assert [path.name for path, _ in directory.unreadable] == ["das1_rosa_2025-09-03_14.21.52_0003.fit"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_cannot_be_read_is_listed(raw):
    (raw / "das3").chmod(0)
    try:
        directory, _ = roles(raw)
    finally:
        (raw / "das3").chmod(0o755)
    assert [path for path, _ in directory.unreadable] == [raw / "das3"]


def _compress(files, keep=False):
    for file in files:
        with fits.open(file) as units:
            packed = [fits.PrimaryHDU()]
            for unit in units[1:]:
                packed.append(fits.CompImageHDU(unit.data, compression_type="RICE_1"))
                packed[-1].header["DATE"] = unit.header["DATE"]
                packed[-1].header["EXPOSURE"] = unit.header["EXPOSURE"]
            fits.HDUList(packed).writeto(file.with_name(file.name + ".fz"))
        if not keep:
            file.unlink()


def test_compressed_files(raw):
    _compress(sorted(raw.glob("das1/das1_rosa_2025-09-03_14.21.52_*")))
    _, found = roles(raw)
    item = found["das1_rosa_2025-09-03_14.21.52"]
    assert item.role is Role.data
    assert (item.sequence.frames, item.sequence.shape) == (16, (152, 160))
    assert item.sequence.pattern.endswith("_*.fit.fz")
    source = open_rosa(item.sequence.files, (152, 160))
    assert source.shape == (16, 152, 160)


@pytest.mark.parametrize("keep", [False, True])
def test_a_sequence_that_is_compressed_in_part_is_one(raw, keep):
    _compress(sorted(raw.glob("das1/das1_rosa_2025-09-03_14.21.52_*"))[:1], keep)
    directory, found = roles(raw)
    item = found["das1_rosa_2025-09-03_14.21.52"].sequence
    assert sum(s.name == item.name for s in directory.sequences) == 1
    assert item.frames == 16
    assert item.notes == (("1 files are there compressed too",) if keep else ())
    read = open_rosa(list((raw / item.directory).glob(item.pattern)), (152, 160))
    assert read.shape == (16, 152, 160)
    assert read.start_times[0] == item.start


def _next_night(raw, pattern):
    """Move files to the next day, by name and by what they say."""
    for file in sorted(raw.glob(pattern)):
        moved = file.with_name(file.name.replace("2025-09-03", "2025-09-04"))
        moved.write_bytes(file.read_bytes().replace(b"2025-09-03", b"2025-09-04"))
        if moved != file:
            file.unlink()


def test_nights_are_not_mixed(raw, tmp_path, capsys):
    _next_night(raw, "das3/*")
    log = next(raw.glob("dcss*"))
    # Alphabetically first, but of the wrong day.
    (raw / "dcss_20250801.txt").write_text(log.read_text().replace("2025-09-03", "2025-08-01"))
    path = tmp_path / "night.yaml"
    assert main(["sort", str(raw), "-o", str(path)]) == 0
    fill_in(path)
    run = load_settings([f"observation_file={path}"]).run.observation
    assert list(run.channels) == ["ROSA_GBAND", "HARDCAM"]
    assert run.telescope_log == str(log)
    text = path.read_text()
    assert "left out, as what they saw is of another night" in text
    assert "das3: das3_rosa_2025-09-04_15.21.52" in text
    assert "one of 2 logs, by its times" in text


def test_darks_of_another_night_are_said(raw):
    _next_night(raw, "das1/*_dark_*")
    directory, found = roles(raw)
    text = draft_text(directory, list(found.values()), raw.parent / "work")
    gband = text[text.index("\n  ROSA_GBAND:") : text.index("\n  ROSA_CAK:")]
    assert gband.count("of another night; there is none of this one") == 1


def test_a_camera_that_was_started_later_is_said(raw):
    for file in sorted((raw / "250903_ZYLA").glob("*observation")):
        file.rename(file.with_name(file.name.replace("142154", "155154")))
    directory, found = roles(raw)
    text = draft_text(directory, list(found.values()), raw.parent / "work")
    assert "begins +90 min from das1_rosa_2025-09-03_14.21.52; it is another sequence" in text


def test_a_directory_of_one_sequence_is_known_by_its_own_name(raw):
    directory = next((raw / "250903_ZYLA").glob("*dark"))
    (found,) = find_sequences(directory).sequences
    assert (found.name, found.kind, str(found.directory)) == (directory.name, directory.name, ".")


def test_windowed_read_outs_are_told_by_their_overscan(tmp_path):
    rng = np.random.default_rng(1)
    for name, shape in (("a", (120, 200)), ("b", (96, 96))):
        frames = rng.integers(90, 110, (2, *shape), dtype=np.uint16)
        write_spool(tmp_path / name, frames, start=datetime(2025, 9, 3), seconds=float)
    found = {s.name: s.shape for s in find_sequences(tmp_path).sequences}
    assert found == {"a": (120, 200), "b": (96, 96)}


def test_the_longest_data_and_the_nearest_calibration_are_chosen(raw):
    later = {"14.21.52": "17.30.00", "13.49.52": "17.20.00", "13.57.52": "17.40.00"}
    for file in sorted(raw.glob("das1/*")):
        for old, new in later.items():
            # The later sequence of data has lost its last file.
            if old in file.name and "14.21.52_0002" not in file.name:
                copy = file.with_name(file.name.replace(old, new))
                date = (f"T{old.replace('.', ':')}", f"T{new.replace('.', ':')}")
                copy.write_bytes(file.read_bytes().replace(*(d.encode() for d in date)))
    directory, found = roles(raw)
    text = draft_text(directory, list(found.values()), raw.parent / "work")
    gband = text[text.index("\n  ROSA_GBAND:") : text.index("\n  ROSA_CAK:")]
    chosen = [line.strip() for line in gband.splitlines() if line.strip().startswith("pattern")]
    assert "14.21.52_*" in chosen[0]
    assert "dark_2025-09-03_13.49.52" in chosen[1]
    assert "flat_2025-09-03_13.57.52" in chosen[2]
    assert "# Also:" in gband
    assert "dark_2025-09-03_17.20.00" in gband


def test_a_camera_of_unknown_filter_is_left_open(raw, tmp_path, capsys):
    for file in sorted(raw.glob("das1/*")):
        file.rename(file.with_name(file.name.replace("das1", "das5")))
    path = tmp_path / "night.yaml"
    assert main(["sort", str(raw), "-o", str(path)]) == 0
    assert "ROSA_DAS5.wavelength_nm: must be given" in capsys.readouterr().err
    fill_in(path)
    load_settings([f"observation_file={path}", "observation.channels.ROSA_DAS5.wavelength_nm=589.6"])


def test_hardcam_alone_starts_when_its_directory_says(raw, tmp_path):
    path = tmp_path / "night.yaml"
    assert main(["sort", str(raw / "250903_ZYLA"), "-o", str(path)]) == 0
    fill_in(path)
    channel = load_settings([f"observation_file={path}"]).run.observation.channels["HARDCAM"]
    assert channel.start == "2025-09-03T14:21:54.000"
    assert "CHECK: from the directory's name" in path.read_text()


def _filament_run(directory, groups=3, missing=()):
    """Spool files of groups of 64 frames, one group a minute, in a directory that tells the date and time."""
    frames = np.full((64 * groups, 24, 30), 3000, np.uint16)
    write_spool(
        directory,
        frames,
        start=datetime(2025, 9, 3, 16, 0, 0),
        seconds=lambda number: 60.2 * (number // 64) + 0.03 * (number % 64),
    )
    for number in missing:
        (directory / spool_name(number)).unlink()


@pytest.mark.parametrize(("groups", "clear"), [(4, True), (2, False)])
def test_groups_are_proposed_where_they_are_clear_and_asked_for_otherwise(tmp_path, groups, clear):
    raw = tmp_path / "raw" / "250903_ZYLA"
    _filament_run(raw / "DBJ_data_160002_observation", groups, missing=(7,))
    path = tmp_path / "night.yaml"
    assert main(["sort", str(raw), "-o", str(path)]) == 0
    text = path.read_text()
    assert f"{groups} groups of 64 frames every 60.2 s" in text
    assert ("group_frames: 64" in text) == ("group_interval_s: 60.2" in text) == clear
    assert ("triggered in groups" in text) != clear
    # A copy may have lost the times.
    for file in (raw / "DBJ_data_160002_observation").iterdir():
        os.utime(file, (1.7e9, 1.7e9))
    path.unlink()
    assert main(["sort", str(raw), "-o", str(path)]) == 0
    text = path.read_text()
    assert "group_frames: 64" not in text
    assert "the files' times show none" in text


def test_nothing_to_sort(tmp_path, capsys):
    assert main(["sort", str(tmp_path / "none"), "-o", str(tmp_path / "o.yaml")]) == 2
    assert main(["sort", str(tmp_path), "-o", str(tmp_path / "o.yaml")]) == 1
    assert "no sequence of data" in capsys.readouterr().err
    assert not (tmp_path / "o.yaml").exists()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("DBJ_data_141613_observation", Role.data),
        ("DBJ_data_2.dark", Role.dark),
        ("DBJ_data_1.flat", Role.flat),
        ("DBJ_data_line_grid", Role.linegrid),
        ("DBJ_data_dotgrid", Role.dotgrid),
        ("DBJ_data_AFtarget", Role.target),
        ("DBJ_data_pinhole", Role.pinhole),
        ("DBJ_data", Role.unknown),
        ("", Role.unknown),
    ],
)
def test_names(name, role):
    assert role_of_name(name) is role
