"""HARDcam triggered in groups, as on filaments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml

from stillsun.cli import main
from stillsun.errors import ConfigError
from stillsun.synth.rawfiles import spool_name
from stillsun.synth.settings import SimulationSettings


def test_frames_come_in_groups():
    settings = SimulationSettings.preset("tiny", hardcam_groups=(16, 5.0))
    rosa, hardcam = settings.channels
    found = [settings.frame_seconds(hardcam, number) for number in (0, 1, 15, 16, 33)]
    np.testing.assert_allclose(found, [0, 0.0294, 15 * 0.0294, 5, 10 + 0.0294])
    assert settings.frame_seconds(rosa, 33) == pytest.approx(33 * 0.033)
    steady = dataclasses.replace(settings, hardcam_groups=None)
    assert steady.frame_seconds(hardcam, 33) == pytest.approx(33 * 0.0294)


@pytest.mark.parametrize("groups", [(64, 1.0), (0, 60.0)])
def test_groups_that_do_not_fit_are_refused(groups):
    with pytest.raises(ConfigError, match="do not fit into the seconds"):
        SimulationSettings.preset("tiny", hardcam_groups=groups)


def test_command_line_files_and_observation_agree(tmp_path):
    options = ["--channels", "HARDCAM", "--bursts", "3", "--frames", "4", "--fulldisk-pixels", "128"]
    out = tmp_path / "night"
    assert main(["simulate", str(out), "--size", "tiny", "--hardcam-groups", "5,2", *options]) == 0
    channel = yaml.safe_load((out / "observation.yaml").read_text())["channels"]["HARDCAM"]
    assert (channel["group_frames"], channel["group_interval_s"]) == (5, 2.0)
    place = out / "level0" / channel["data"]["directory"]
    written = np.array([(place / spool_name(number)).stat().st_mtime for number in range(12)])
    np.testing.assert_allclose(
        np.diff(written)[[0, 4, 9]], [0.0294, 2 - 4 * 0.0294, 2 - 4 * 0.0294], atol=1e-3
    )
    # The log covers the pauses.
    (log,) = (out / "level0").glob("dcss_*.txt")
    assert log.read_text().count("DST_TIME") >= 120 + 4
