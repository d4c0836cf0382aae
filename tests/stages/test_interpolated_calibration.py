"""Darks and flats that drift: what is calibrated with those of its own time is the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tests.io import _rawfiles
from tests.stages import _level0

from stillsun.config.schema import AssembleConfig, CalibrateConfig, Combine, FileSet
from stillsun.errors import InputError
from stillsun.io.burstwriter import write_bursts
from stillsun.stages.registry import STAGES

BURST = 8
# Minutes from the start of the data.
BEFORE, AFTER = -20, 60


@pytest.fixture(scope="module", params=["rosa", "hardcam"])
def night(request, tmp_path_factory):
    """Data with the dark and the response of their own time, a quarter of the way; light that sinks."""
    directory = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(6)
    known = _level0.truth()
    warmer = 40 * (1 + gaussian_filter(rng.normal(size=_level0.SHAPE), 2))
    y, x = np.indices(_level0.SHAPE)
    speck = {
        time: 0.2 * np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 20) * (time == AFTER)
        for time in (BEFORE, AFTER)
    }
    share = -BEFORE / (AFTER - BEFORE)
    response = known.response * (1 - share * speck[AFTER])
    data = _level0._digitise(known.scene * response, known.dark + share * warmer, rng)
    observation, _, _ = _level0.make_channel(directory, reader=request.param, data=data)
    channel = observation.channels["C"]
    for minutes, light, part in ((BEFORE, 9000, 0), (AFTER, 6000, 1)):
        time = _rawfiles.START + np.timedelta64(minutes, "m")
        clock = str(time)[11:19]
        dark = known.dark + part * warmer
        for role, image in (("dark", 0 * y), ("flat", light * known.response * (1 - speck[minutes]))):
            frames = _level0._digitise(np.broadcast_to(image, (16, *_level0.SHAPE)), dark, rng)
            if request.param == "rosa":
                place = directory / "around"
                place.mkdir(exist_ok=True)
                name = f"das1_rosa_{role}_2025-09-03_{clock.replace(':', '.')}_{{:04d}}.fit"
                _rawfiles.write_rosa(place, frames, start=time, name=name)
                setattr(channel, role, FileSet(directory="around", pattern=f"das1_rosa_{role}_*.fit"))
            else:
                place = directory / "250903_ZYLA" / f"DBJ_data_{clock.replace(':', '')}_{role}"
                place.mkdir(parents=True)
                _rawfiles.write_hardcam(place, frames)
                setattr(channel, role, FileSet(directory="250903_ZYLA", pattern=f"*_{role}/*spool.dat"))
    expected = known.scene * np.median(known.response)
    return directory, observation, expected, known


def _calibrated(night, combine, digest):
    directory, observation, expected, _ = night
    calibration, notes = _level0.run_stage(
        observation, directory, STAGES["calibrate"], CalibrateConfig(combine=combine), digest=digest
    )
    bursts, _ = _level0.run_stage(
        observation,
        directory,
        STAGES["assemble"],
        AssembleConfig(frames_per_burst=BURST),
        inputs={"calibration": calibration},
        digest=digest,
    )
    reader = _level0.open_bursts(observation, calibration, bursts)
    good = calibration.read("bad_pixels") == 0
    frames = np.concatenate([reader.read(burst) for burst in range(len(reader))])
    # The pattern that calibration leaves is what all frames share.
    left = np.mean(frames / expected, axis=0)[good]
    return calibration, notes, reader, bursts, float(np.std(left / left.mean()))


def test_interpolated_calibration_leaves_the_noise_only(night):
    _, notes, _, _, left = _calibrated(night, Combine.interpolate, "i")
    *_, mean = _calibrated(night, Combine.mean, "m")
    # 40 frames of 6000 DN and 9/16 + 1/16 of 16 flats, at 10 electrons a DN: 0.2 %.
    assert left < 0.003
    assert mean > 2 * left
    said = "\n".join(notes)
    for role in ("dark", "flat"):
        assert f"{role}: 2 sequences are interpolated in time" in said
    assert "DN at 2025-09-03T14:01:5" in said
    assert "DN at 2025-09-03T15:21:5" in said


def test_what_is_stored_gives_the_same_pixels_again(night, tmp_path):
    calibration, _, reader, bursts, _ = _calibrated(night, Combine.interpolate, "i")
    _, observation, _, known = night
    start = _rawfiles.START.astype(np.int64) / 1e6
    np.testing.assert_allclose((calibration.read("dark_times") - start) / 60, [BEFORE, AFTER], atol=0.02)
    assert calibration.read("dark_sequences").shape == (2, *_level0.SHAPE)
    assert calibration.read("bad_pixels")[known.dead]
    again = _level0.open_bursts(observation, calibration, bursts)
    write_bursts(again, {2: tmp_path / "burst"})
    burst = reader.read(2)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "burst", np.float32).reshape(burst.shape), burst)
    part = reader.window(slice(10, 40), slice(9, 50)).read(2)
    np.testing.assert_array_equal(part[:, 12:18, 5:20], burst[:, 22:28, 14:29])
    best = int(bursts.read("best_frame", 2))
    np.testing.assert_array_equal(bursts.read("sample_frame"), burst[best])
    # The noise is that of the first flats, even by the first sequence of flats.
    good = calibration.read("bad_pixels") == 0
    noise = calibration.read("noise").mean(axis=0)[good]
    assert np.std(noise / noise.mean()) < 0.003


def test_one_sequence_is_the_same_for_all_times(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    plain, _ = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], CalibrateConfig())
    gain = plain.read("gain")
    config = CalibrateConfig(combine=Combine.interpolate)
    store, notes = _level0.run_stage(observation, tmp_path, STAGES["calibrate"], config, digest="i")
    assert any("dark: one sequence only" in note for note in notes)
    response = store.read("flat_responses")[0]
    np.testing.assert_allclose(response[gain > 0] * gain[gain > 0], 1, rtol=1e-6)


def test_sequences_of_unknown_time_are_refused(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path, reader="hardcam")
    (tmp_path / "dark" / "later").mkdir()
    _rawfiles.write_hardcam(tmp_path / "dark" / "later", np.full((6, *_level0.SHAPE), 300, np.uint16))
    observation.channels["C"].dark.pattern = "**/*spool.dat"
    with pytest.raises(InputError, match="time of a sequence is not known") as caught:
        _level0.run_stage(
            observation, tmp_path, STAGES["calibrate"], CalibrateConfig(combine=Combine.interpolate)
        )
    assert "calibrate.combine=mean" in str(caught.value.remedy)
    assert caught.value.file == str(tmp_path / "dark")
