"""Composition: every combination of conf/ is valid; every fault is found, all at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from stillsun.config.compose import config_directory, load_settings
from stillsun.config.schema import BackendName, ReferenceKind, SpeckleEngine, StageName, Turn
from stillsun.errors import ConfigError

OBSERVATION = """
name: test
raw_dir: {raw}
work_dir: {work}
reference_channel: ROSA_GBAND
defaults:
  - /channel@channels.ROSA_GBAND: rosa_gband
  - /channel@channels.HARDCAM: hardcam
  - _self_
channels:
  ROSA_GBAND:
    orientation: [rot90, fliplr]
    data: {{directory: rosa, pattern: "das1*.fit"}}
    destretch: {{kernels: [0, 64]}}
  HARDCAM:
    data: {{directory: hardcam, pattern: "*spool.dat"}}
    start: 2025-09-03T14:21:52.456
"""
OPTIONS = {
    "backend": ["auto", "numpy", "cupy"],
    "executor": ["serial", "dask"],
    "speckle": ["masking", "none"],
    "align": ["none", "hmi"],
}


@pytest.fixture
def observation(tmp_path):
    path = tmp_path / "observation.yaml"
    path.write_text(OBSERVATION.format(raw=tmp_path / "raw", work=tmp_path / "work"))
    return path


def _faults(*overrides, config_dir=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(list(overrides), config_dir)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_every_combination_of_the_groups_composes(observation):
    for choice in itertools.product(*OPTIONS.values()):
        overrides = [f"{k}={v}" for k, v in zip(OPTIONS, choice, strict=True)]
        settings = load_settings([f"observation_file={observation}", *overrides])
        assert settings.run.backend.name.name == choice[0]
        assert settings.run.speckle.engine.name == choice[2]


def test_every_file_of_the_groups_is_used_above_or_here(observation):
    for group in config_directory().iterdir():
        if group.is_dir() and group.name not in ("channel", "camera", "observation", "experiment"):
            names = {p.stem for p in group.glob("*.yaml")}
            assert names <= {"default", "kisip", "fits", *OPTIONS.get(group.name, [])}, group
    for path in (config_directory() / "channel").glob("*.yaml"):
        settings = load_settings(
            [
                f"+channel@observation.channels.NEW={path.stem}",
                "observation.channels.NEW.data.pattern=x",
                "observation.name=y",
            ]
        )
        assert settings.channel("NEW").wavelength_nm > 0
    for path in (config_directory() / "experiment").glob("*.yaml"):
        assert load_settings([f"observation_file={observation}", f"experiment={path.stem}"])


def test_frames_of_an_earlier_system_need_their_pattern_and_no_raw_ones(observation):
    chosen = [f"observation_file={observation}", "speckle=fits"]
    with pytest.raises(ConfigError) as caught:
        load_settings(chosen)
    assert "observation.channels.ROSA_GBAND.reconstructed.pattern: must be given" in str(caught.value)
    names = load_settings([f"observation_file={observation}"]).run.observation.channels
    given = [f"observation.channels.{name}.reconstructed.pattern=x" for name in names]
    raw = [f"observation.channels.{name}.data.pattern=null" for name in names]
    settings = load_settings([*chosen, *given, *raw])
    assert settings.stages["ROSA_GBAND"]["speckle"].engine is SpeckleEngine.fits
    assert settings.channel("ROSA_GBAND").reconstructed.turned is None


def test_values_arrive_as_plain_objects(observation):
    settings = load_settings(
        [f"observation_file={observation}", "destretch.reference=fixed", "stages=[export]"]
    )
    assert settings.run.backend.name is BackendName.auto
    assert settings.run.speckle.engine is SpeckleEngine.masking
    assert settings.run.destretch.reference is ReferenceKind.fixed
    assert settings.run.stages == [StageName.export]
    channel = settings.channel("ROSA_GBAND")
    assert channel.orientation == [Turn.rot90, Turn.fliplr]
    assert channel.camera.shape == [1002, 1004]
    assert settings.channel("HARDCAM").camera.file_shape == [2050, 2060]
    assert settings.channels == ["ROSA_GBAND", "HARDCAM"]


def test_a_channel_overrides_keys_of_a_stage(observation):
    settings = load_settings([f"observation_file={observation}", "destretch.window=7"])
    assert settings.stages["ROSA_GBAND"]["destretch"].kernels == [0, 64]
    assert settings.stages["HARDCAM"]["destretch"].kernels == [0, 128, 64, 32, 12]
    assert settings.stages["ROSA_GBAND"]["destretch"].window == 7


def test_observation_by_name_from_a_directory(observation, tmp_path):
    (tmp_path / "conf" / "observation").mkdir(parents=True)
    observation.rename(tmp_path / "conf" / "observation" / "night.yaml")
    settings = load_settings(["observation=night"], str(tmp_path / "conf"))
    assert settings.run.observation.name == "test"


def test_subset_of_channels_keeps_the_order(observation):
    settings = load_settings([f"observation_file={observation}", "channels=[HARDCAM]"])
    assert settings.channels == ["HARDCAM"]
    assert settings.reference == "ROSA_GBAND"


def test_all_faults_of_one_command_line_at_once(observation):
    text = _faults(
        f"observation_file={observation}",
        "destretch.kernel=[0,32]",
        "backend=nump",
        "stages=[calib]",
        "destretch.window=abc",
        "speckle.timeout=-1",
        "channels=[X]",
    )
    for expected in (
        "6 faults",
        "destretch.kernel: unknown key; did you mean kernels?",
        "backend=nump: no such choice; allowed: auto, cupy, numpy",
        "stages[0]: 'calib' is not a choice; allowed: calibrate, assemble",
        "destretch.window: expected a whole number (frames), found 'abc'",
        "speckle.timeout: must be above 0 (s), found -1",
        "channels: no channel 'X'; allowed: ROSA_GBAND, HARDCAM",
    ):
        assert expected in text


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_a_channels_stage_keys_on_the_command_line(observation, sign):
    # Whether the observation has an entry for the stage (destretch) or not (export).
    settings = load_settings(
        [
            f"observation_file={observation}",
            "observation.channels.ROSA_GBAND.destretch.window=4",
            f"{sign}observation.channels.ROSA_GBAND.export.calibration=false",
            "observation.channels.ROSA_GBAND.movie={size: 640}",
        ]
    )
    stages = settings.stages["ROSA_GBAND"]
    assert stages["destretch"].window == 4
    assert not stages["export"].calibration
    assert stages["movie"].size == 640
    assert settings.stages["HARDCAM"]["export"].calibration


def test_all_faults_of_an_observation_file_at_once(observation):
    text = observation.read_text().replace("kernels", "kernells").replace("name: test", "nam: test")
    observation.write_text(text.replace("rot90", "rot45"))
    text = _faults(f"observation_file={observation}")
    assert f"{observation}: nam: unknown key; did you mean name?" in text
    assert "channels.ROSA_GBAND.destretch.kernells: unknown key; did you mean kernels?" in text
    assert "orientation[0]: 'rot45' is not a choice; allowed: rot90, flipud, fliplr, flip" in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("+foo=1", "foo: unknown key"),
        ("+destretch.foo=1", "destretch.foo: unknown key"),
        (
            "+observation.channels.HARDCAM.destretch.foo=1",
            "observation.channels.HARDCAM.destretch.foo: unknown key",
        ),
        ("destretch.kernels=[64,0]", "0 (the whole frame) can only come first"),
        ("destretch.kernels=[0,32,64]", "must not grow"),
        ("destretch.kernels=[]", "must not be empty"),
        ("destretch.repair_tolerance=1.5", "must be at most 1"),
        ("observation.channels.HARDCAM.plate_scale=[0.1]", "expected 2 entries, found 1"),
        ("observation.channels.HARDCAM.exposure_ms=0", "must be above 0 (ms)"),
        ("observation.channels.HARDCAM.data.pattern=null", "HARDCAM.data.pattern: must be given"),
        ("observation.reference_channel=X", "observation.reference_channel: no channel 'X'"),
        ("progress=maybe", "progress: expected true or false"),
        ("speckle=kisip", "speckle.kisip.bin"),
        ("align.pointing=[1]", "align.pointing: expected 2 entries"),
        ("~destretch.window", "keys cannot be removed"),
        ("destretch.window=[", "destretch.window=["),
    ],
)
def test_faults(observation, override, expected):
    assert expected in _faults(f"observation_file={observation}", override)


def test_what_is_only_of_use_with_a_full_disk_image(observation):
    text = _faults(f"observation_file={observation}", "align=none", "align.verify=true")
    assert "only used with align=hmi" in text


def test_subfields_that_the_external_program_cannot_take(observation):
    text = _faults(
        f"observation_file={observation}",
        "speckle=kisip",
        "speckle.kisip.bin=/x",
        "speckle.subfield_arcsec=11",
    )
    assert "fails above 10 arcsec" in text


def test_missing_required_key(observation):
    text = observation.read_text().replace("  - /channel@channels.HARDCAM: hardcam\n", "")
    observation.write_text(text)
    text = _faults(f"observation_file={observation}")
    for key in ("wavelength_nm", "plate_scale", "exposure_ms"):
        assert f"observation.channels.HARDCAM.{key}: must be given" in text


def test_files_that_are_missing_or_no_yaml(tmp_path):
    assert "no such file" in _faults(f"observation_file={tmp_path / 'none.yaml'}")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1")
    assert "not readable as YAML" in _faults(f"observation_file={bad}")
    bad.write_text("- 1")
    assert "mapping" in _faults(f"observation_file={bad}")
    assert "no such directory" in _faults("observation=x", config_dir=str(tmp_path / "nowhere"))


def test_no_observation_says_how_to_give_one():
    assert "observation_file=PATH" in _faults()


def test_exposure_with_a_fraction_is_kept(observation):
    settings = load_settings(
        [f"observation_file={observation}", "observation.channels.HARDCAM.exposure_ms=29.4"]
    )
    assert settings.channel("HARDCAM").exposure_ms == 29.4


def test_conf_is_found_in_the_checkout():
    assert (Path(config_directory()) / "config.yaml").is_file()
