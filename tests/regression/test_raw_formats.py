"""Every oddity of raw files in one observation, against the truth; and bad input, refused by name."""

from __future__ import annotations

import dataclasses
import shutil

import h5py
import numpy as np
import pytest
import yaml
from astropy.io import fits
from tests import _channels
from tests.regression.conftest import reduce

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.io.store import StoreReader
from stillsun.synth.observation import simulate
from stillsun.synth.rawfiles import spool_name
from stillsun.synth.settings import SimulationSettings

BURST = 8
CHANNELS = ("ROSA_GBAND", "ROSA_CAK", "HARDCAM")
WINDOW = (128, 144)
# Rows and columns of dead pixels at the edge: read as overscan they would cost the image its size.
DEAD_EDGE = (slice(-1, None), slice(40, 100))
STAGES = "stages=[calibrate,assemble]"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Three channels: a clock that is an hour ahead, a windowed read-out; files of 12 frames."""
    out = tmp_path_factory.mktemp("odd") / "observation"
    settings = SimulationSettings.preset(
        "tiny", CHANNELS, bursts=7, frames_per_burst=BURST, frames_per_file=12, flat_frames=24, seed=9
    )
    channels = tuple(
        dataclasses.replace(
            c,
            clock_offset_hours=1.0 if c.name == "ROSA_CAK" else 0.0,
            shape=WINDOW if c.name == "HARDCAM" else c.shape,
        )
        for c in settings.channels
    )
    simulate(out, dataclasses.replace(settings, channels=channels))
    return out


def _files(out, channel, role):
    text = yaml.safe_load((out / "observation.yaml").read_text())
    files = text["channels"][channel][role]
    return sorted((out / "level0" / files["directory"]).glob(files["pattern"]))


def _change(path, number, change):
    """Change one extension of a ROSA file."""
    with fits.open(path, mode="update") as units:
        change(units[number].data)


def _pack(path):
    with fits.open(path) as units:
        packed = [fits.PrimaryHDU()]
        for unit in units[1:]:
            packed.append(fits.CompImageHDU(unit.data, compression_type="RICE_1"))
            for name in ("DATE", "EXPOSURE"):
                packed[-1].header[name] = unit.header[name]
        fits.HDUList(packed).writeto(path.with_name(path.name + ".fz"))
    path.unlink()


@pytest.fixture(scope="module")
def odd(good, tmp_path_factory):
    """The same night as it may come from the archive; where frames are lost, and what must be said."""
    out = tmp_path_factory.mktemp("spoiled") / "observation"
    shutil.copytree(good, out)
    data = _files(out, "ROSA_GBAND", "data")
    # Frames 12 to 23 are lost; the others are compressed, but for one file; the last one is short.
    data[1].unlink()
    _pack(data[0])
    _pack(data[4])
    # One is there twice.
    kept = data[3].read_bytes()
    _pack(data[3])
    data[3].write_bytes(kept)
    _change(_files(out, "ROSA_GBAND", "dark")[0], 5, lambda image: image.__iadd__(300))
    _change(_files(out, "ROSA_CAK", "flat")[1], 3, lambda image: image.fill(16383))
    for role in ("data", "dark", "flat"):
        for path in _files(out, "HARDCAM", role):
            words = np.fromfile(path, np.uint16).reshape(WINDOW[0] + 2, WINDOW[1] + 12)
            words[: WINDOW[0], : WINDOW[1]][DEAD_EDGE] = 0
            words.tofile(path)
    spool = _files(out, "HARDCAM", "data")[0].parent
    for number in (9, 30, 31):
        (spool / spool_name(number)).unlink()
    short = spool / spool_name(44)
    short.write_bytes(short.read_bytes()[:-1000])
    log = next((out / "level0").glob("dcss_*.txt"))
    lines = log.read_text().splitlines()
    lines[20] = lines[20][:11] + "????" + lines[20][15:]
    lines[110:121], lines[121:132] = lines[121:132], lines[110:121]
    log.write_text("\n".join([*lines, *lines[:11]]) + "\n")
    text = (
        (out / "observation.yaml")
        .read_text()
        .replace(str(good), str(out))
        .replace("14.21.52_*.fit", "14.21.52_*.fit*")
    )
    (out / "observation.yaml").write_text(text)
    assert reduce(out, out / "work", STAGES) == 0
    refused = {("ROSA_GBAND", "dark"): [4], ("ROSA_CAK", "flat"): [14]}
    lost = {"ROSA_GBAND": range(12, 24), "ROSA_CAK": (), "HARDCAM": (9, 30, 31, 44)}
    said = {
        "ROSA_GBAND": [
            "missing files",
            "numbers 1 (1 in all)",
            "interrupted before frame 12",
            "do not fill a burst of 8",
            "1 files are there compressed too",
            "dark: frames 4 ",
        ],
        "ROSA_CAK": ["less 1 h", "flat: frames 14 (1 in all) are left out, for they are saturated"],
        "HARDCAM": [
            "frames 9, 30-31 (3 in all)",
            f"wrong size left out: {short}",
            "interrupted before frame 9",
            "62 dead, ",
        ],
    }
    telescope = ["1 damaged", "records out of order", "repeated records"]
    return out, lost, refused, {channel: texts + telescope for channel, texts in said.items()}


def _reader(out, channel):
    settings = load_settings(
        [f"observation_file={out / 'observation.yaml'}", f"observation.work_dir={out / 'work'}"]
    )
    calibration = StoreReader(out / "work" / channel / "calibration.h5")
    bursts = StoreReader(out / "work" / channel / "bursts.h5")
    stores = {"calibration": calibration, "bursts": bursts}
    observation = settings.run.observation
    opened = _channels.channel(
        channel, out, stores, settings=observation.channels[channel], observation=observation
    )
    return opened.open_bursts(), calibration, bursts


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_oddity_is_read_right_and_said(odd, good, channel):
    out, lost, refused, said = odd
    reader, calibration, bursts = _reader(out, channel)
    with h5py.File(good / "truth.h5") as file:
        start = np.datetime64(file.attrs["start"], "us").astype(np.int64) / 1e6
        truth = file[channel]
        middles = start + truth["time"][...]
        detector = {name: truth[name][...] for name in ("dark", "gain", "dead", "hot")}
    kept = np.setdiff1d(np.arange(middles.size), list(lost[channel]))
    members = kept[bursts.read("first_frame")[:, None] + np.arange(BURST)]
    # Bursts hold frames that follow each other, and as many as there can be.
    assert (np.diff(members, axis=1) == 1).all()
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
    assert len(members) == sum(run.size // BURST for run in runs)
    exposure = bursts.attributes["exposure_s"]
    for name, expected in (
        ("time_beg", middles[members[:, 0]] - exposure / 2),
        ("time_end", middles[members[:, -1]] + exposure / 2),
        ("time_avg", middles[members].mean(axis=1)),
    ):
        assert np.abs(bursts.read(name) - expected).max() < 1e-3, name
    assert np.isfinite(bursts.read("latitude")).all()
    notes = "\n".join([*calibration.notes, *bursts.notes])
    log = (out / "work" / "stillsun.log").read_text()
    for text in said[channel]:
        assert text in notes
        assert text in log
    # The pixels are those of the night without faults: the plain formula, and the truth within the noise.
    raw = _raw(good, channel, "data")
    dark, flat = (
        np.delete(_raw(good, channel, role), refused.get((channel, role), ()), axis=0).mean(axis=0)
        for role in ("dark", "flat")
    )
    fine = calibration.read("bad_pixels") == 0
    broken = (detector["dead"] | detector["hot"]).astype(bool)
    if channel == "HARDCAM":
        broken[DEAD_EDGE] = True
    assert np.count_nonzero(~fine & ~broken) == 0
    assert reader.shape == (BURST, *broken.shape)
    gain = np.median(flat - dark) / (flat - dark)[fine]
    scale = np.median(detector["gain"]) / detector["gain"][fine]
    for burst, numbers in enumerate(members):
        frames = reader.read(burst)[:, fine]
        np.testing.assert_allclose(frames, (raw[numbers] - dark)[:, fine] * gain, rtol=3e-6, atol=1e-3)
        # 24 flats of the wandering, blurred Sun.
        ratio = frames / ((raw[numbers] - detector["dark"])[:, fine] * scale)
        assert np.std(ratio) < 0.012
        assert abs(np.mean(ratio) - 1) < 0.01


def test_a_filament_run_keeps_its_times_and_is_recognised(tmp_path, capsys):
    """HARDcam alone: twenty frames every three seconds, and a file lost."""
    out = tmp_path / "filament"
    settings = SimulationSettings.preset(
        "tiny",
        ["HARDCAM"],
        bursts=7,
        frames_per_burst=BURST,
        hardcam_groups=(20, 3.0),
        flat_frames=12,
        seed=5,
    )
    simulate(out, settings)
    data = _files(out, "HARDCAM", "data")[0].parent
    (data / spool_name(25)).unlink()
    assert reduce(out, out / "work", STAGES) == 0
    _, _, bursts = _reader(out, "HARDCAM")
    with h5py.File(out / "truth.h5") as file:
        start = np.datetime64(file.attrs["start"], "us").astype(np.int64) / 1e6
        middles = start + file["HARDCAM/time"][...]
    # By groups: 20 frames make two bursts; of 20 without the sixth one burst; 16 frames make two.
    members = np.array([0, 8, 26, 40, 48])[:, None] + np.arange(BURST)
    for name, expected in (
        ("time_beg", middles[members[:, 0]] - 0.0147),
        ("time_end", middles[members[:, -1]] + 0.0147),
        ("time_avg", middles[members].mean(axis=1)),
    ):
        np.testing.assert_allclose(bursts.read(name), expected, rtol=0, atol=1e-3)
    assert (bursts.read("time_end") - bursts.read("time_beg") < 0.3).all()
    assert np.isfinite(bursts.read("latitude")).all()
    assert any("interrupted before frame 39: 2.4" in note for note in bursts.notes)
    capsys.readouterr()
    assert main(["sort", str(out / "level0"), "-o", str(tmp_path / "draft.yaml")]) == 0
    assert "3 groups of 20 frames every 3.0 s" in capsys.readouterr().out
    draft = (tmp_path / "draft.yaml").read_text()
    assert "CHECK: 3 groups of 20 frames" in draft
    channel = yaml.safe_load(draft)["channels"]["HARDCAM"]
    assert (channel["group_frames"], channel["group_interval_s"]) == (20, 3.0)


def _raw(out, channel, role):
    """All raw frames of a role, read without the package."""
    frames = []
    for file in sorted(_files(out, channel, role), key=lambda file: file.name[9::-1] + file.name[10:]):
        if channel == "HARDCAM":
            frames.append(np.fromfile(file, np.uint16).reshape(1, 130, 156)[:, :128, :144])
        else:
            with fits.open(file) as units:
                frames.append(np.array([unit.data for unit in units[1:]]))
    return np.concatenate(frames).astype(float)


def _truncate(out):
    path = _files(out, "ROSA_GBAND", "data")[-1]
    path.write_bytes(path.read_bytes()[:-30000])
    return [path.name, "truncated", "fetch it again"]


def _reshape(out):
    path = _files(out, "ROSA_GBAND", "flat")[1]
    units = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((100, 160), np.uint16))]
    units[1].header["DATE"] = "2025-09-03T13:58:00.000"
    fits.HDUList(units).writeto(path, overwrite=True)
    return [path.name, "100 rows x 160 columns", "camera.shape"]


def _shrink(out):
    files = _files(out, "HARDCAM", "data")
    for path in files:
        path.write_bytes(path.read_bytes()[: 2 * 122 * 132])
    return [files[0].parent.name, "120 x 120 pixels", "camera.shape"]


def _swap(out):
    text = (out / "observation.yaml").read_text()
    dark, flat = (f"rosa_{name}_2025-09-03_13.{time}" for name, time in (("dark", "49"), ("flat", "57")))
    text = text.replace(dark, "?").replace(flat, dark).replace("?", flat)
    (out / "observation.yaml").write_text(text)
    return ["flats are not brighter than the darks", "swapped"]


def _other_day(out):
    log = next((out / "level0").glob("dcss_*.txt"))
    log.write_text(log.read_text().replace("2025-09-03", "2025-09-02"))
    return [log.name, "another time", "telescope_log", "null"]


def _no_darks(out):
    for path in _files(out, "ROSA_GBAND", "dark"):
        path.unlink()
    return ["ROSA_GBAND.dark.pattern", "no file matches", "das1"]


def _mix(out):
    for path in _files(out, "ROSA_CAK", "data"):
        shutil.copy(path, out / "level0" / "das1")
    text = (out / "observation.yaml").read_text()
    (out / "observation.yaml").write_text(
        text.replace("das1_rosa_2025-09-03_14.21.52_*", "das?_rosa_2025-09-03_1?.21.52_*")
    )
    return ["several cameras", "das1, das3", "Narrow the file pattern"]


@pytest.mark.parametrize(
    ("spoil", "status", "made"),
    [
        (_truncate, 1, {"calibration.h5"}),
        (_reshape, 1, set()),
        (_shrink, 1, {"calibration.h5"}),
        (_swap, 1, set()),
        (_other_day, 1, {"calibration.h5"}),
        (_no_darks, 2, set()),
        (_mix, 1, {"calibration.h5"}),
    ],
)
def test_bad_input_is_refused_by_name(good, tmp_path, capsys, spoil, status, made):
    out = tmp_path / "observation"
    shutil.copytree(good, out)
    text = (out / "observation.yaml").read_text().replace(str(good), str(out))
    (out / "observation.yaml").write_text(text)
    expected = spoil(out)
    channel = "HARDCAM" if spoil is _shrink else "ROSA_GBAND"
    assert reduce(out, out / "work", STAGES, f"channels=[{channel}]") == status
    told = capsys.readouterr().err
    for part in expected:
        assert part in told
    assert "Traceback" not in told
    assert {path.name for path in (out / "work").rglob("*.h5*")} == made


def test_an_unreadable_directory_is_refused_by_name(good, tmp_path, capsys, monkeypatch):
    import os

    place, access = good / "level0" / "das1", os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(place) and access(path, mode))
    assert reduce(good, tmp_path / "work", STAGES, "channels=[ROSA_GBAND]") == 2
    told = capsys.readouterr().err
    assert f"not readable: {place}" in told
    assert "ask for the right to read it" in told
    assert not (tmp_path / "work").exists()
