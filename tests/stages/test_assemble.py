"""Bursts, their times, quality and telescope state against the truth; calibrated bursts too."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tests.io import _rawfiles
from tests.stages import _level0

from stillsun.config.schema import AssembleConfig, CalibrateConfig
from stillsun.core.backend import get_backend
from stillsun.core.calibrate import make_correction
from stillsun.errors import InputError
from stillsun.io.bursts import BurstReader
from stillsun.io.burstwriter import write_bursts
from stillsun.io.source import ArraySource
from stillsun.io.store import StoreReader
from stillsun.stages.registry import STAGES

BURST = 8


def _run(directory, *, reader="rosa", log=None, spoil=None, data=None, **options):
    observation, truth, times = _level0.make_channel(directory, reader=reader, data=data)
    observation.telescope_log = log
    if spoil is not None:
        spoil(directory / "data")
    calibration, _ = _level0.run_stage(observation, directory, STAGES["calibrate"], CalibrateConfig())
    bursts, notes = _level0.run_stage(
        observation,
        directory,
        STAGES["assemble"],
        AssembleConfig(frames_per_burst=BURST),
        inputs={"calibration": calibration},
        **options,
    )
    return observation, truth, times, calibration, bursts, notes


def _log(path, seconds, start=_rawfiles.START):
    lines = []
    for k, second in enumerate(seconds):
        time = np.datetime64(start + np.timedelta64(round(second * 1e6), "us"), "ms")
        lines += [f"DST_TIME= '{time}' / UTC", f"DST_SLAT= {10 + k} / deg", f"DST_SLNG= {20 + k} / deg"]
        lines += [f"DST_GDRN= {13.3 + k} / deg", "DST_SEE = 0.5 / x", "DST_LLVL= 4 / x", "DST_SDIM= 1900 / x"]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture(scope="module", params=["rosa", "hardcam"])
def result(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    return _run(directory, reader=request.param, log=_log(directory / "log.txt", [-1, 1, 3]))


def test_times_are_right_to_the_millisecond(result):
    _, _, times, _, bursts, _ = result
    seconds = times.astype("datetime64[us]").astype(np.int64) / 1e6
    first = np.arange(0, 40, BURST)
    np.testing.assert_array_equal(bursts.read("first_frame"), first)
    np.testing.assert_allclose(bursts.read("time_beg"), seconds[first], atol=1e-5)
    np.testing.assert_allclose(bursts.read("time_end"), seconds[first + BURST - 1] + 0.01, atol=1e-5)
    middle = seconds.reshape(-1, BURST).mean(axis=1) + 0.005
    np.testing.assert_allclose(bursts.read("time_avg"), middle, atol=1e-5)
    assert bursts.attributes["frames_per_burst"] == BURST


def test_files_of_each_burst_are_told(result):
    observation, _, _, _, bursts, _ = result
    first, last = bursts.read("first_file"), bursts.read("last_file")
    if observation.channels["C"].camera.reader.name == "rosa":
        assert list(first) == [f"das1_rosa_2025-09-03_14.21.52_{k:04d}.fit" for k in (0, 0, 1, 1, 2)]
        assert list(last) == list(first)
    else:
        assert first[1] == "8000000000spool.dat"
        assert last[1] == "5100000000spool.dat"


def test_telescope_state_is_that_of_the_middle(result):
    _, _, _, _, bursts, _ = result
    start = _rawfiles.START.astype(np.int64) / 1e6
    # Records two seconds apart, one degree a record, the first one second before the data.
    expected = (bursts.read("time_avg") - start + 1) / 2
    np.testing.assert_allclose(bursts.read("latitude"), 10 + expected, atol=1e-4)
    np.testing.assert_allclose(bursts.read("guider_angle"), 13.3 + expected, atol=1e-4)
    np.testing.assert_allclose(bursts.read("solar_radius"), 950.0)


def test_calibrated_bursts_equal_the_scene_within_the_noise(result):
    observation, truth, _, calibration, bursts, _ = result
    reader = _level0.open_bursts(observation, calibration, bursts)
    assert len(reader) == 5
    assert reader.shape == (BURST, *_level0.SHAPE)
    good = np.ones(_level0.SHAPE, dtype=bool)
    good[truth.dead] = good[truth.hot] = False
    scale = np.median(truth.response)
    for burst in range(5):
        frames = reader.read(burst)
        expected = truth.scene[burst * BURST : (burst + 1) * BURST] * scale
        residual = (frames - expected)[:, good]
        # Photon noise of 6000 DN at 10 electrons a DN, and 24 flats.
        assert np.std(residual) < 1.2 * np.sqrt(600 + 600 / 24 + 1)
        assert abs(np.mean(residual)) < 5
        # Bad pixels are as good as interpolation of the granules allows.
        for pixel in (truth.dead, truth.hot):
            assert np.abs(frames[(..., *pixel)] / expected[(..., *pixel)] - 1).max() < 0.1


def test_a_sample_of_the_middle_burst_is_kept(result):
    observation, _, _, calibration, bursts, _ = result
    reader = _level0.open_bursts(observation, calibration, bursts)
    frames = reader.read(2)
    assert bursts.read("sample_burst") == 2
    best = int(bursts.read("best_frame", 2))
    np.testing.assert_array_equal(bursts.read("sample_frame"), frames[best])
    np.testing.assert_allclose(bursts.read("sample_mean"), frames.mean(axis=0), rtol=1e-5)


def test_the_sample_is_the_mean_of_what_counts(tmp_path):
    known = _level0.truth()
    data = _level0._digitise(known.scene * known.response, known.dark, np.random.default_rng(3))
    # In the middle burst one exposure without light.
    data[2 * BURST + 3] = 0
    observation, _, _ = _level0.make_channel(tmp_path / "raw", data=data)
    calibration, _ = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    bursts, _ = _level0.run_stage(
        observation,
        tmp_path,
        STAGES["assemble"],
        AssembleConfig(frames_per_burst=BURST),
        inputs={"calibration": calibration},
    )
    frames = _level0.open_bursts(observation, calibration, bursts).read(2)
    counted = np.delete(frames, 3, axis=0)
    np.testing.assert_allclose(bursts.read("sample_mean"), counted.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(bursts.read("sample_frame"), frames[bursts.read("best_frame", 2)])


def test_burst_files_hold_the_same_pixels(result, tmp_path):
    observation, _, _, calibration, bursts, _ = result
    reader = _level0.open_bursts(observation, calibration, bursts)
    paths = {burst: tmp_path / f"burst.{burst:03d}" for burst in (0, 3, 4)}
    seen = []
    write_bursts(reader, paths, progress=lambda *p: seen.append(p))
    for burst, path in paths.items():
        written = np.fromfile(path, dtype=np.float32).reshape(reader.shape)
        np.testing.assert_array_equal(written, reader.read(burst))
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    assert seen == [(1, 3), (2, 3), (3, 3)]
    write_bursts(reader, {1: tmp_path / "with_header"}, offset=100)
    content = (tmp_path / "with_header").read_bytes()
    assert content[:100] == bytes(100)
    np.testing.assert_array_equal(np.frombuffer(content, np.float32, offset=100), reader.read(1).ravel())


def test_failed_burst_files_leave_nothing_behind(result, tmp_path):
    observation, _, _, calibration, bursts, _ = result
    reader = _level0.open_bursts(observation, calibration, bursts)
    with pytest.raises(FileNotFoundError):
        write_bursts(reader, {0: tmp_path / "no" / "burst"})

    class Broken:
        def __getattr__(self, name):
            return getattr(reader.source, name)

        def blocks(self, start, stop):
            yield from reader.source.blocks(start, stop - 3)
            raise OSError("disk gone")

    broken = _level0.open_bursts(observation, calibration, bursts)
    broken.source = Broken()
    with pytest.raises(OSError, match="disk gone"):
        write_bursts(broken, {0: tmp_path / "burst"})
    assert not list(tmp_path.iterdir())


def test_the_sharpest_frame_is_found(tmp_path):
    """One frame of each burst is not blurred."""
    truth = _level0.truth()
    scene = gaussian_filter(truth.scene, (0, 1.5, 1.5))
    sharp = np.array([3, 0, 7, 5, 1])
    chosen = np.arange(5) * BURST + sharp
    scene[chosen] = truth.scene[chosen]
    data = np.rint(scene * truth.response + truth.dark).astype(np.uint16)
    bursts = _run(tmp_path, data=data)[4]
    np.testing.assert_array_equal(bursts.read("best_frame"), sharp)
    np.testing.assert_array_equal(bursts.read("frame_sharpness").argmax(axis=1), sharp)
    centre = truth.scene[chosen][:, 12:36, 14:42]
    expected = centre.std(axis=(1, 2)) / centre.mean(axis=(1, 2))
    np.testing.assert_allclose(bursts.read("contrast"), expected, rtol=0.02)


def test_missing_spool_files_are_said_and_no_burst_reaches_across(tmp_path):
    def spoil(directory):
        for number in (11, 12):
            (directory / _rawfiles.spool_name(number)).unlink()

    _, _, times, _, bursts, notes = _run(tmp_path, reader="hardcam", spoil=spoil)
    kept = np.delete(np.arange(40), [11, 12])
    np.testing.assert_array_equal(bursts.read("first_frame"), [0, 11, 19, 27])
    begin = times[kept[[0, 11, 19, 27]]].astype("datetime64[us]").astype(np.int64) / 1e6
    np.testing.assert_allclose(bursts.read("time_beg"), begin, atol=1e-5)
    text = "\n".join(notes)
    assert "frames 11-12 (2 in all)" in text
    assert "before frame 11" in text
    assert "3 frames from frame 8" in text
    assert bursts.attributes["frames_dropped"] == 6


def test_no_log_and_a_log_of_another_hour_are_said(tmp_path):
    *_, bursts, notes = _run(tmp_path / "none")
    assert np.isnan(bursts.read("latitude")).all()
    assert any("no telescope log" in note for note in notes)
    (tmp_path / "other").mkdir()
    log = _log(tmp_path / "log.txt", [0, 1], _rawfiles.START - np.timedelta64(1, "h"))
    *_, bursts, notes = _run(tmp_path / "other", log=log)
    assert np.isnan(bursts.read("latitude")).all()
    assert any("says nothing of the time of the data" in note for note in notes)


def test_a_log_of_no_use_is_said_and_done_without(tmp_path):
    (tmp_path / "log.txt").write_text("DST_TIME= '2025-??-??' / UTC\nDST_SLAT= 1 / deg\n")
    *_, bursts, notes = _run(tmp_path / "data", log=str(tmp_path / "log.txt"))
    assert np.isnan(bursts.read("latitude")).all()
    assert bursts.done().all()
    said = "\n".join(notes)
    assert "1 damaged" in said
    assert "log.txt: no record" in said
    assert "of no use" in said
    assert "align.pointing" in said


def test_a_log_of_another_day_is_refused(tmp_path):
    log = _log(tmp_path / "log.txt", [0, 1], _rawfiles.START - np.timedelta64(1, "D"))
    with pytest.raises(InputError, match=r"log\.txt: the telescope log is of another time.*to null"):
        _run(tmp_path / "data", log=log)
    assert not (tmp_path / "data" / "bursts.h5").exists()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        _run(tmp_path, progress=stop)
    observation = _level0.make_channel(tmp_path / "again")[0]
    observation.raw_dir = str(tmp_path)
    seen = []
    bursts, _ = _level0.run_stage(
        observation,
        tmp_path,
        STAGES["assemble"],
        AssembleConfig(frames_per_burst=BURST),
        inputs={"calibration": StoreReader(tmp_path / "calibration.h5")},
        progress=lambda *p: seen.append(p),
    )
    assert seen == [(3, 5), (4, 5), (5, 5)]
    assert (bursts.read("contrast") > 0).all()


def test_calibration_of_another_camera_is_refused(result):
    source = ArraySource(np.zeros((8, 20, 20), np.uint16), np.arange(8).astype("datetime64[us]"), 0.01)
    good = make_correction(np.zeros((20, 20)), np.ones((20, 20)), backend=get_backend("numpy"))
    assert BurstReader(source, good, np.array([0]), 8).read(0).shape == (8, 20, 20)
    with pytest.raises(InputError, match="behind the raw frames"):
        BurstReader(source, good, np.array([0, 8]), 8)
    other = make_correction(np.zeros((20, 22)), np.ones((20, 22)), backend="numpy")
    with pytest.raises(InputError, match="differ in shape"):
        BurstReader(source, other, np.array([0]), 8)
