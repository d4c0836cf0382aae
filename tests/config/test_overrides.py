"""What people type: texts that Hydra's grammar cannot read, no overrides at all, sweeps without -m."""

from __future__ import annotations

import pytest

from stillsun.cli import main
from stillsun.config.compose import hydra_settings, load_settings
from stillsun.errors import ConfigError

OBSERVATION = """
name: test
raw_dir: raw
work_dir: work
defaults:
  - /channel@channels.ROSA_GBAND: rosa_gband
  - _self_
channels:
  ROSA_GBAND:
    data: {directory: rosa, pattern: "das1*.fit"}
    dark: {directory: rosa, pattern: "das1*dark*.fit"}
    flat: {directory: rosa, pattern: "das1*flat*.fit"}
"""


@pytest.fixture
def observation(tmp_path):
    path = tmp_path / "observation.yaml"
    path.write_text(OBSERVATION)
    return path


@pytest.mark.parametrize("name", ["Nächte/my night.yaml", "a=b,(c) #1.yaml", "it's.yaml", "~.yaml"])
def test_any_path_is_taken_as_it_is(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(OBSERVATION)
    assert load_settings([f"observation_file={path}"]).run.observation.name == "test"
    assert load_settings([f'observation_file="{path}"']).run.observation.name == "test"


@pytest.mark.parametrize("text", ["Müller", "NOAA 14197, leading spot (β)", "it's", "${observation.author}"])
def test_any_text_is_taken_as_it_is(observation, text):
    chosen = [f"observation_file={observation}", "observation.author=me", f"observation.object={text}"]
    assert load_settings(chosen).run.observation.object == ("me" if "$" in text else text)


def test_the_home_directory_is_known_where_a_path_stands(observation, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    observation.write_text(OBSERVATION.replace("work_dir: work", "work_dir: ~/work"))
    chosen = [f"observation_file={observation}", "align.cache=~/cache", "observation.object=~ 5 deg"]
    run = load_settings(chosen).run
    assert (run.observation.work_dir, run.align.cache) == ("/home/me/work", "/home/me/cache")
    assert run.observation.object == "~ 5 deg"
    told = hydra_settings(chosen)
    assert (told.run.dir, told.sweep.dir) == ("/home/me/work", "/home/me/work/multirun")


def test_how_a_job_is_run_is_not_in_its_name(observation):
    chosen = [f"observation_file={observation}", "destretch.window=5", "align.min_significance=9"]
    how = ["backend=numpy", "backend.threads=2", "executor=dask", "executor.workers=2", "plan=true"]
    told = hydra_settings([*chosen, *how])
    assert told.sweep.subdir == "align.min_significance=9,destretch.window=5"


def _faults(*words):
    with pytest.raises(ConfigError) as caught:
        load_settings(list(words))
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plan", "plan: not KEY=VALUE"),
        (
            "destretch.kernels=0,64,32",
            "sweep, which needs -m; a list is written 'destretch.kernels=[0,64,32]'",
        ),
        ("destretch.window=5,7", "sweep, which needs -m"),
        ("speckle=masking,none", "sweep, which needs -m"),
        ("destretch.reference=[running]", "destretch.reference: ['running'] is not a choice"),
        ("channels.ROSA_GBAND.destretch.window=3", "did you mean observation.channels.ROSA_GBAND"),
        ("observation.channels.GBAND.start=3", "no channel 'GBAND' in the observation; allowed: ROSA_GBAND"),
        ("observation.channels.GBAND.destretch.window=3", "no channel 'GBAND' in the observation"),
        ("kernels=[0,64]", "did you mean destretch.kernels?"),
        ("+channel=rosa_gband", "+channel@observation.channels.NAME=rosa_gband"),
        ("channel=rosa_gband", "+channel@observation.channels.NAME=rosa_gband"),
        ("channels=ROSA_GBAND", "expected a list such as [ROSA_GBAND], found 'ROSA_GBAND'"),
    ],
)
def test_a_mistake_says_what_to_write(observation, word, expected):
    text = _faults(f"observation_file={observation}", word)
    assert expected in text
    assert len(text.splitlines()) == 1


def test_an_observation_that_is_not_given_rightly(observation, tmp_path):
    assert f"is given as observation_file={observation}" in _faults(str(observation))
    assert f"is given as observation_file={observation}" in _faults(f"observation={observation}")
    assert "without spaces" in _faults("observation_file", "=", str(observation))
    assert "without spaces" in _faults("observation_file=")
    assert "a directory, not a file" in _faults(f"observation_file={tmp_path}")
    assert "no DIR/observation/night.yaml; give DIR with --config-dir" in _faults("observation=night")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rosa_gband", "rosa_gbnd", "no 'rosa_gbnd'; allowed: hardcam, rosa_3500, rosa_4170"),
        ("/channel@", "channel@", "begins with /: /channel@channels.ROSA_GBAND: rosa_gband"),
        ("  ROSA_GBAND:", "  ROSA/GBAND:", "ROSA/GBAND: a name has letters, digits, _ and - only"),
        ("ROSA_GBAND", "ROSA.GBAND", "ROSA.GBAND: a name has letters, digits, _ and - only"),
        ("channels:\n", "destretch: {window: 4}\nchannels:\n", "below a channel, channels.NAME.destretch"),
        ("    data:", "    plate_scale: 0.06\n    data:", "such as [0.06,0.06], found 0.06"),
        (OBSERVATION, "# nothing yet", "an observation file without channels. stillsun sort drafts one"),
    ],
)
def test_mistakes_in_an_observation_file(observation, old, new, expected):
    observation.write_text(OBSERVATION.replace(old, new))
    text = _faults(f"observation_file={observation}")
    assert expected in text
    assert str(observation) in text or "a name has" in text


def _refused(capsys, *arguments):
    assert main(["run", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("stillsun: ")
    return text


def test_options_that_are_keys(capsys):
    assert "Write observation_file=x.yaml" in _refused(capsys, "--observation_file=x.yaml")
    assert "Write plan=VALUE" in _refused(capsys, "observation_file=x.yaml", "--plan")


def test_a_sweep_that_is_not_run_as_one(observation, capsys):
    chosen = f"observation_file={observation}"
    assert "needs -m" in _refused(capsys, chosen, "experiment=kernel_sweep")
    assert "needs -m" in _refused(capsys, chosen, "destretch.window=5,7")
    # Behind -m they are jobs, and only the files are missing.
    assert "observation.raw_dir: no such directory" in _refused(
        capsys, chosen, "-m", "experiment=kernel_sweep", "destretch.window=5,7"
    )


def test_faults_of_an_experiment_are_found_before_its_jobs_begin(observation, tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        '# @package _global_\nhydra: {sweeper: {params: {destretch.windw: "5,6"}}}\n'
    )
    chosen = ["--config-dir", str(tmp_path), f"observation_file={observation}"]
    assert "did you mean window?" in _refused(capsys, *chosen, "-m", "experiment=mine")


def test_an_optimising_sweeper_chooses_values_itself(observation, tmp_path, capsys):
    (tmp_path / "hydra" / "sweeper").mkdir(parents=True)
    (tmp_path / "hydra" / "sweeper" / "mine.yaml").write_text("_target_: some.where.Optimiser\n")
    chosen = ["--config-dir", str(tmp_path), f"observation_file={observation}", "hydra/sweeper=mine"]
    text = _refused(capsys, *chosen, "-m", "destretch.repair_tolerance=interval(0.2,0.8)")
    assert text.startswith("stillsun: observation.raw_dir: no such directory")
    assert "does not support" in _refused(capsys, *chosen[:3], "-m", "destretch.window=interval(2,8)")


def test_what_hydra_shows_is_checked_with_the_same_words(observation, capsys):
    text = _refused(capsys, f"observation_file={observation}", "--cfg", "job", "destretch.windo=3")
    assert "did you mean window?" in text


def test_the_version_is_that_of_the_program(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--version"])
    assert capsys.readouterr().out.startswith("stillsun ")
