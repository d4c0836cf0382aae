"""What a newcomer and a shell get from the command without running anything."""

from __future__ import annotations

import re

import pytest

from stillsun.cli import main
from stillsun.config.compose import config_directory

VERBS = ("run", "simulate", "sort", "import-ini", "status", "report")


@pytest.fixture
def complete(monkeypatch, capsys):
    """Words that the shell offers for an unfinished command line."""

    def ask(line):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        assert main(["-sc", "query=bash"]) == 0
        return capsys.readouterr().out.split()

    return ask


@pytest.mark.parametrize("line", ["stillsun ", "stillsun st"])
def test_verbs_are_offered(complete, line):
    assert complete(line) == list(VERBS)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("destretch.reference=", ["running", "fixed", "two_pass"]),
        ("destretch.reference=f", ["fixed"]),
        ("observation.channels.ROSA_CAK.destretch.interpolation=bi", ["bilinear", "bicubic"]),
        ("align.verify=", ["true", "false"]),
    ],
)
def test_values_of_a_key_are_offered_as_they_are_written(complete, word, values):
    key = word.partition("=")[0]
    assert complete(f"stillsun run {word}") == [f"{key}={value}" for value in values]


def test_keys_and_choices_are_offered_behind_run_only(complete):
    assert complete("stillsun run destretch.k") == ["destretch.kernels."]
    engines = ("masking", "kisip", "none", "fits")
    assert set(complete("stillsun run speckle=")) == {f"speckle={engine}" for engine in engines}
    assert complete("stillsun status ") == []


def _status(arguments):
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_examples(capsys, verb):
    assert _status([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count(f"  stillsun {verb} ") >= 1


def test_the_help_on_a_run_explains_every_group_and_key(capsys):
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    said = " ".join(text.split())
    for group in sorted(p for p in config_directory().iterdir() if p.is_dir()):
        assert re.search(rf"^{group.name}: .*\S", text, flags=re.M)
    for key, meaning in (
        ("destretch.window=10", "[whole number, frames] frames in the running mean"),
        ("observation.channels.NAME.exposure_ms=???", "[number, ms] exposure of one frame (above 0)"),
        ("align.pointing=null", "[list of number or none, arcsec] helioprojective (x, y)"),
        ("destretch.reference=running", "[running, fixed, two_pass] running: mean of the last frames"),
    ):
        assert f"{key} {meaning}" in said


def test_help_on_some_keys_only(capsys):
    assert main(["run", "--help", "movie", "align.verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "movie: default  (movies)" in lines
    keys = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith(" ")]
    assert "movie.size" in keys
    assert keys.count("align.verify") == 1
    assert all(key == "align.verify" or key.startswith("movie.") for key in keys)
    assert main(["run", "--help", "movi"]) == 2
    assert "no key movi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("kernels", "destretch.kernels=[0,128,64,32,12]"),
        ("plate_scale", "observation.channels.NAME.plate_scale="),
        ("experiment", "experiment: kernel_sweep"),
        ("speckle", "speckle: fits, kisip, masking, none"),
    ],
)
def test_help_on_a_group_or_the_last_part_of_a_key(capsys, word, expected):
    assert main(["run", "--help", word]) == 0
    assert capsys.readouterr().out.startswith(expected)


def test_no_verb_at_all_shows_the_help(capsys):
    assert main([]) == 2
    assert "  stillsun sort RAW " in capsys.readouterr().err


def test_a_simulation_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("stillsun.synth.observation.simulate", lambda out, settings, progress: None)
    assert main(["simulate", str(tmp_path / "my sun")]) == 0
    command = f"stillsun run 'observation_file={tmp_path / 'my sun'}/observation.yaml'"
    assert capsys.readouterr().out.strip().endswith(command)


def test_the_help_names_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  stillsun {verb} " in text for verb in VERBS)
