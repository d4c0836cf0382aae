"""The calibration product against the truth of simulated raw frames."""

from __future__ import annotations

import numpy as np
import pytest
from tests.stages import _level0

from stillsun.config.schema import CalibrateConfig
from stillsun.core.badpixels import DEAD, HOT
from stillsun.errors import InputError
from stillsun.stages.calibrate import STAGE


@pytest.fixture(scope="module", params=["rosa", "hardcam"])
def product(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    observation, truth, _ = _level0.make_channel(directory, reader=request.param)
    seen = []
    store, notes = _level0.run_stage(
        observation, directory, STAGE, CalibrateConfig(), progress=lambda *p: seen.append(p)
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
    assert any("1 dead and 1 hot" in note for note in notes)


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
    assert noise.shape == (24, *_level0.SHAPE)
    good = store.read("bad_pixels") == 0
    level = 8000 * np.median(truth.response)
    np.testing.assert_allclose(noise.mean(axis=0)[good], level, rtol=0.01)
    # Frames differ: not one frame repeated.
    assert np.std(noise[0] - noise[7]) > 10


def test_plate_scale_is_the_configured_one_and_says_so(product):
    store, _, _, _ = product
    np.testing.assert_allclose(store.read("plate_scale"), [0.06, 0.0605])
    assert store.read("plate_scale_source") == "configured"


def test_progress_runs_to_the_end(product):
    seen = product[3]
    assert seen[-1] == (52, 52)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_swapped_darks_and_flats_are_refused_and_leave_no_product(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    channel = observation.channels["C"]
    channel.dark, channel.flat = channel.flat, channel.dark
    with pytest.raises(InputError, match="swapped"):
        _level0.run_stage(observation, tmp_path, STAGE, CalibrateConfig())
    assert not list(tmp_path.glob("*.h5*"))


def test_missing_targets_are_said_and_missing_darks_refused(tmp_path):
    observation, _, _ = _level0.make_channel(tmp_path)
    observation.channels["C"].target.pattern = "nothing*.fit"
    store, notes = _level0.run_stage(observation, tmp_path, STAGE, CalibrateConfig())
    assert "target" not in store
    assert any("no target files" in note for note in notes)
    observation.channels["C"].dark.pattern = "nothing*.fit"
    with pytest.raises(InputError, match="no dark files"):
        _level0.run_stage(observation, tmp_path, STAGE, CalibrateConfig(), digest="e")
