"""The calibration product against the truth of simulated raw frames."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from tests.io import _rawfiles
from tests.stages import _level0

from stillsun.config.schema import (
    CalibrateConfig,
    CameraConfig,
    ChannelConfig,
    FileSet,
    ObservationConfig,
    ReaderName,
)
from stillsun.core.badpixels import DEAD, HOT, UNSTABLE
from stillsun.errors import InputError
from stillsun.stages._averages import _middle
from stillsun.stages.registry import STAGES


@pytest.fixture(scope="module", params=["rosa", "hardcam"])
def product(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    observation, truth, _ = _level0.make_channel(directory, reader=request.param)
    seen = []
    store, notes = _level0.run_stage(
        observation, directory, STAGES["calibrate"], CalibrateConfig(), progress=lambda *p: seen.append(p)
    )
    return store, notes, truth, seen


def test_dark_and_gain_are_the_truth_within_the_noise(product):
    store, _, truth, _ = product
    good = store.read("bad_pixels") == 0
    # 20 darks of 0.2 DN read noise and the 0.29 DN of rounding.
    assert np.std((store.read("dark") - truth.dark)[good]) < 0.15
    expected = np.median(truth.response) / truth.response[good]
    # 24 flats of 8000 DN with 10 electrons a DN: 0.07 %.
    assert np.std(store.read("gain")[good] / expected - 1) < 0.001
    assert store.read("dark_frames") == 20
    assert store.read("flat_frames") == 24


def test_variances_are_photon_and_read_noise(product):
    store, _, _, _ = product
    good = store.read("bad_pixels") == 0
    assert np.median(store.read("flat_variance")[good]) == pytest.approx(800 + 0.04 + 1 / 12, rel=0.05)
    assert np.mean(store.read("dark_variance")[good]) == pytest.approx(0.04 + 1 / 12, rel=0.2)


def test_bad_pixels_are_found_and_said(product):
    store, notes, truth, _ = product
    bad = store.read("bad_pixels")
    assert bad[truth.dead] == DEAD
    assert bad[truth.hot] == HOT
    assert np.count_nonzero(bad) == 2
    assert any("1 dead, 1 hot and 0 unstable" in note for note in notes)


def test_target_is_flat_fielded_and_filled(product):
    store, _, truth, _ = product
    target = store.read("target")
    expected = truth.target * np.median(truth.response)
    good = store.read("bad_pixels") == 0
    assert np.std((target / expected)[good] - 1) < 0.003
    # 2 pixels of 2688 lie in a pattern of two levels: filled between them.
    assert 3500 < target[truth.dead] < 6500
    assert "linegrid" not in store


def test_noise_is_the_first_flats_from_several_files(product):
    store, _, truth, _ = product
    noise = store.read("noise")
    # More than one file's six.
    assert noise.shape == (16, *_level0.SHAPE)
    good = store.read("bad_pixels") == 0
    level = 8000 * np.median(truth.response)
    np.testing.assert_allclose(noise.mean(axis=0)[good], level, rtol=0.01)
    # Frames differ: not one frame repeated.
    assert np.std(noise[0] - noise[7]) > 10


def test_plate_scale_is_the_configured_one_and_says_so(product):
    store, _, _, _ = product
    np.testing.assert_allclose(store.read("plate_scale"), [0.06, 0.0605])
    assert store.read("plate_scale_source") == "configured"


def _with_grid(directory, scale, configured):
    """A channel of 100 x 110 pixels with a line grid of a given plate scale."""
    shape = (100, 110)
    rng = np.random.default_rng(4)
    y, x = np.indices(shape)
    light = np.ones(shape)
    for position in (x * scale[0] / 3.76 + 0.4, y * scale[1] / 3.76 + 0.3):
        light *= 1 - 0.9 * np.exp(-((((position + 0.5) % 1 - 0.5) / 0.05) ** 2))
    response = 1 + 0.1 * np.sin(x / 9) * np.cos(y / 7)
    sets = {"dark": np.zeros(shape), "flat": response, "linegrid": response * light, "data": response}
    files = {}
    for role, image in sets.items():
        (directory / role).mkdir(parents=True)
        frames = np.rint(300 + 8000 * image + rng.normal(0, 30, (6, *shape))).astype(np.uint16)
        _rawfiles.write_rosa(directory / role, frames)
        files[role] = FileSet(directory=role, pattern="das1_*.fit")
    channel = ChannelConfig(
        camera=CameraConfig(reader=ReaderName.rosa, shape=list(shape)),
        wavelength_nm=430.5,
        plate_scale=configured,
        exposure_ms=10.0,
        **files,
    )
    return ObservationConfig(raw_dir=str(directory), channels={"C": channel})


def test_plate_scale_is_that_of_the_line_grid(tmp_path):
    observation = _with_grid(tmp_path, (0.152, 0.149), [0.15, 0.15])
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    assert store.read("plate_scale_source") == "line grid"
    np.testing.assert_allclose(store.read("plate_scale"), (0.152, 0.149), rtol=1e-3)
    assert (store.read("plate_scale_scatter") < 0.01 * 0.15).all()
    assert not any("plate scale" in note for note in notes)
    off = CalibrateConfig(measure_plate_scale=False)
    store, _ = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], off, digest="e")
    np.testing.assert_array_equal(store.read("plate_scale"), 0.15)


@pytest.mark.parametrize(
    ("scale", "said"), [((0.167, 0.15), "differs by more than 10%"), ((0.03, 0.03), "no lines")]
)
def test_a_plate_scale_far_off_is_refused_and_said(tmp_path, scale, said):
    observation = _with_grid(tmp_path, scale, [0.15, 0.15])
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    np.testing.assert_array_equal(store.read("plate_scale"), 0.15)
    assert np.isnan(store.read("plate_scale_scatter")).all()
    assert store.read("plate_scale_source") == "configured"
    assert any(said in note and "configured" in note for note in notes)


def test_frames_that_are_off_are_left_out_and_said(tmp_path):
    """A flat with the shutter half open, one that is saturated, and a dark with light in it."""
    observation, _, _ = _level0.make_channel(tmp_path / "good")
    good, _ = _level0.run_stage(observation, tmp_path / "good", STAGES["calibrate"], CalibrateConfig())
    observation, _, _ = _level0.make_channel(tmp_path / "bad")
    for role, frame, value in (("flat", 7, 4000), ("flat", 20, 65535), ("dark", 3, 900)):
        per_file = 6 if role == "flat" else 16
        path = sorted((tmp_path / "bad" / role).glob("*.fit"))[frame // per_file]
        with fits.open(path, mode="update") as hdus:
            hdus[1 + frame % per_file].data[:] = value
    store, notes = _level0.run_stage(observation, tmp_path / "bad", STAGES["calibrate"], CalibrateConfig())
    assert store.read("flat_frames") == 22
    assert store.read("flat_rejected") == 2
    assert store.read("dark_rejected") == 1
    text = "\n".join(notes)
    assert "flat: frames 7 (1 in all) are left out, for their light lies off" in text
    assert "flat: frames 20 (1 in all) are left out, for they are saturated" in text
    assert "dark: frames 3 (1 in all)" in text
    ok = good.read("bad_pixels") == 0
    np.testing.assert_array_equal(store.read("bad_pixels"), good.read("bad_pixels"))
    np.testing.assert_allclose(store.read("gain")[ok], good.read("gain")[ok], rtol=0.006)
    # The noise frames are whole ones.
    assert (
        np.abs(store.read("noise")[:, ok].mean(axis=1) / store.read("noise")[:, ok].mean() - 1).max() < 0.01
    )


def test_before_and_after_are_combined_and_said(tmp_path):
    observation, truth, _ = _level0.make_channel(tmp_path)
    later = tmp_path / "flat" / "later"
    later.mkdir()
    frames = np.rint(truth.dark + 6000 * truth.response + np.zeros((12, *_level0.SHAPE))).astype(np.uint16)
    _rawfiles.write_rosa(
        later,
        frames,
        start=_rawfiles.START + np.timedelta64(90, "m"),
        name="das1_rosa_flat_2025-09-03_15.51.52_{:04d}.fit",
    )
    observation.channels["C"].flat.pattern = "**/das1_*.fit"
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    assert store.read("flat_frames") == 36
    assert store.read("flat_rejected") == 0
    assert any("flat: 2 sequences are combined" in note for note in notes)
    good = store.read("bad_pixels") == 0
    expected = np.median(truth.response) / truth.response[good]
    assert np.std(store.read("gain")[good] / expected - 1) < 0.001


def test_pixels_that_jump_are_bad(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    for path in sorted((tmp_path / "dark").glob("*.fit")):
        with fits.open(path, mode="update") as hdus:
            for number, hdu in enumerate(hdus[1:]):
                hdu.data[20, 33] += 6 * (number % 2)
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    assert store.read("bad_pixels")[20, 33] == UNSTABLE
    assert any("1 unstable" in note for note in notes)


def test_progress_runs_to_the_end(product):
    seen = product[3]
    assert seen[-1] == (52, 52)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_swapped_darks_and_flats_are_refused_and_leave_no_product(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    channel = observation.channels["C"]
    channel.dark, channel.flat = channel.flat, channel.dark
    with pytest.raises(InputError, match="swapped"):
        _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    assert not list(tmp_path.glob("*.h5*"))


def test_missing_targets_are_said_and_missing_darks_refused(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    observation.channels["C"].target.pattern = "nothing*.fit"
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    assert "target" not in store
    assert any("no target files" in note for note in notes)
    observation.channels["C"].dark.pattern = "nothing*.fit"
    with pytest.raises(InputError, match="no dark files"):
        _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig(), digest="e")


@pytest.mark.parametrize("named", [True, False])
def test_time_of_a_sequence_is_its_middle(named):
    first = np.datetime64("2025-09-03T15:02:54", "us")
    times = first - np.timedelta64(2, "h") + np.arange(300) * np.timedelta64(50, "ms")
    source = SimpleNamespace(
        start_times=np.full(300, np.datetime64("NaT"), "datetime64[us]") if named else times,
        files=[Path("250903_ZYLA/DBJ_data_150254_dark/0spool.dat")],
        file_index=np.zeros(300, int),
        exposure_s=0.05,
    )
    # The clock of the camera's computer is two hours ahead.
    ctx = SimpleNamespace(settings=SimpleNamespace(clock_offset_h=2.0))
    start = first.astype("int64") / 1e6 - 7200
    assert _middle(ctx, source, 0, 300) == pytest.approx(start + 7.5, abs=0.1)
    if not named:
        assert _middle(ctx, source, 100, 200) == pytest.approx(start + 7.5, abs=0.1)
    source.files = [Path("dark/0spool.dat")]
    assert np.isnan(_middle(ctx, source, 0, 300)) == named
