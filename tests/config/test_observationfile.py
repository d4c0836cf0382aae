"""Observation files are data: whatever stands in one sets keys of the observation, and nothing acts."""

from __future__ import annotations

import sys

import pytest

from stillsun.cli import main
from stillsun.config.compose import config_directory, hydra_settings, load_settings
from stillsun.config.observationfile import read_observation
from stillsun.config.plainyaml import read_mapping
from stillsun.errors import ConfigError

GOOD = """\
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
CALLBACK = """\
# @package _global_
hydra:
  callbacks:
    mine: {_target_: evil.Evil}
"""
_ANCHORS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "a way out of conf": (
        GOOD.replace("rosa_gband", "../../evil"),
        "no '../../evil'; allowed: evil, hardcam",
    ),
    "a way out of conf, in the other form": (
        GOOD.replace("/channel@channels.ROSA_GBAND: rosa_gband", "/channel/../../evil@channels.ROSA_GBAND"),
        "only lines such as",
    ),
    "another group": (
        GOOD.replace("  - _self_", "  - /evil@_global_: evil\n  - _self_"),
        "only lines such as",
    ),
    "a package": (GOOD.replace("channels.ROSA_GBAND", "_global_"), "only lines such as"),
    "keys of hydra": (GOOD + "hydra: {run: {dir: /tmp}}\n", "hydra: unknown key"),
    "a target": (GOOD + "    destretch: {_target_: evil.Evil}\n", "destretch._target_: unknown key"),
    "the environment": (GOOD.replace("name: test", "name: ${oc.env:SECRET}"), "a reference names a key"),
    "the environment, in parts": (
        GOOD.replace("name: test", "author: oc.env\nname: ${${observation.author}:SECRET}"),
        "a reference names a key",
    ),
    "a file of hydra's": (GOOD.replace("name: test", "name: ${hydra.runtime.cwd}"), "nothing of hydra"),
    "an object": (GOOD.replace("name: test", "name: !!python/object/apply:os.system [ls]"), "a tag"),
    "a program": (
        GOOD + "    speckle: {engine: kisip, kisip: {bin: evil, mpirun: mpirun}}\n",
        "give speckle=kisip on the command line",
    ),
    "a program, by reference": (
        GOOD.replace("name: test", "name: kisip")
        + '    speckle: {engine: "${observation.name}", kisip: {bin: evil}}\n',
        "no references",
    ),
    "another program": (GOOD + "    speckle: {kisip: {executable: ../evil}}\n", "expected a name without /"),
    "anchors that multiply": (GOOD + _ANCHORS, "more than 5000 values"),
    "an anchor in itself": (GOOD + "a: &a [*a]\n", "not defined above"),
    "many keys": (GOOD + "".join(f"key{n}: 1\n" for n in range(15_000)), "more than 5000 values"),
    "an escaped reference": (GOOD + "    plate_scale: '\\${observation.name}'\n", "a reference names a key"),
    "a text for the channels": (GOOD[: GOOD.index("channels:\n")] + "channels: 5\n", "expected a mapping"),
    "many channels": (GOOD + "".join(f"  C{n}: {{}}\n" for n in range(1000)), "at most 50, found 1001"),
    "a large file": (GOOD + "# x\n" * 60_000, "larger than 200000 bytes"),
    "deep lists": (GOOD + f"a: {'[' * 50_000}", "nested deeper than 16 levels"),
    "a long text": (GOOD.replace("test", "x" * 9_000), "more than 2000 letters"),
    "references that multiply": (
        GOOD.replace("name: test", "name: test" + "x" * 90)
        .replace("raw_dir: raw", "author: " + "${observation.name}" * 20)
        .replace("work_dir: work", "object: " + "${observation.author}" * 20),
        "object: references",
    ),
    "a reference to itself": (GOOD.replace("name: test", "name: ${.origin}\norigin: ${.name}"), "in circles"),
    "a channel in another directory": (GOOD.replace("ROSA_GBAND", "../up"), "only lines such as"),
    "a channel called as a directory": (GOOD.replace("ROSA_GBAND", "report"), "no channel can be called so"),
    "a pattern of another place": (GOOD.replace("das1*.fit", "/etc/pass*"), "stays below its directory"),
    "a pattern that leaves": (GOOD.replace("das1*.fit", "../../*"), "stays below its directory"),
    "a NUL": (GOOD.replace("directory: rosa", 'directory: "ro\\0sa"', 1), "control characters"),
    "nobody's home": (GOOD.replace("raw_dir: raw", "raw_dir: ~nosuchuser/x"), "no user 'nosuchuser'"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a hostile module, a hostile second file, and a secret in the environment."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SECRET", "tell nobody")
    monkeypatch.chdir(tmp_path)
    for path in ("evil.yaml", "channel/evil.yaml", "evil/evil.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(CALLBACK)
    for role in ("", "_dark", "_flat"):
        (tmp_path / "raw" / "rosa").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "rosa" / f"das1{role}.fit").touch()
    return tmp_path


@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence_and_nothing_acts(place, capsys, form):
    text, expected = HOSTILE[form]
    (place / "night.yaml").write_text(text)
    assert main(["run", f"observation_file={place / 'night.yaml'}"]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "night.yaml" in said
    assert len(said) < 1000
    assert "tell nobody" not in said
    assert not (place / "ran").exists()
    assert "evil" not in sys.modules
    assert not (place / "work").exists()


def test_the_same_holds_for_a_file_that_is_chosen_by_its_name(place, capsys):
    (place / "observation").mkdir()
    (place / "observation" / "night.yaml").write_text(CALLBACK + GOOD)
    assert main(["run", "--config-dir", str(place), "observation=night"]) == 2
    assert "hydra: unknown key" in capsys.readouterr().err
    (place / "observation" / "night.yaml").write_text(GOOD.replace("rosa_gband", "evil"))
    assert main(["run", "--config-dir", str(place), "observation=night"]) == 2
    assert "hydra: unknown key" in capsys.readouterr().err
    assert not (place / "ran").exists()


def test_a_known_channel_may_be_named_in_one_word(place):
    text = GOOD.replace("/channel@channels.ROSA_GBAND: rosa_gband", "/channel/rosa_gband@channels.ROSA_GBAND")
    (place / "night.yaml").write_text(text)
    (place / "usual.yaml").write_text(GOOD)
    settings = [load_settings([f"observation_file={place / name}.yaml"]) for name in ("night", "usual")]
    assert settings[0].run.observation == settings[1].run.observation


def test_a_second_file_cannot_be_a_link_that_leaves(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "theirs.yaml"
    elsewhere.write_text("wavelength_nm: 500\n")
    (place / "channel" / "mine.yaml").symlink_to(elsewhere)
    (place / "night.yaml").write_text(GOOD.replace("rosa_gband", "mine"))
    assert "no 'mine'" in str(read_observation(place / "night.yaml", [])[1])


def test_a_channel_beside_the_observation_file_is_known(place):
    (place / "channel" / "mine.yaml").write_text(
        "defaults: [{/camera@camera: rosa}, _self_]\nwavelength_nm: 500\nplate_scale: [0.1, 0.1]\n"
        "exposure_ms: 3\ncamera: {name: THEIRS}\n"
    )
    (place / "night.yaml").write_text(GOOD.replace("rosa_gband", "mine"))
    channel = load_settings([f"observation_file={place / 'night.yaml'}"]).channel("ROSA_GBAND")
    assert (channel.wavelength_nm, channel.camera.name, channel.camera.saturation) == (500, "THEIRS", 16383)


@pytest.mark.parametrize("first", [True, False])
def test_what_stands_last_in_the_defaults_wins(place, first):
    lines = ["  - _self_", "  - /channel@channels.ROSA_GBAND: rosa_gband"]
    text = GOOD.replace("\n".join(reversed(lines)), "\n".join(lines if first else reversed(lines)))
    (place / "night.yaml").write_text(text + "    exposure_ms: 3\n")
    settings = load_settings([f"observation_file={place / 'night.yaml'}"])
    assert settings.channel("ROSA_GBAND").exposure_ms == (10 if first else 3)


def test_references_to_keys_and_to_the_home_directory_are_resolved(place, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text = GOOD.replace("work_dir: work", "work_dir: ${home:${.name}}").replace(
        "name: test", "name: ${.origin}_1"
    )
    (place / "night.yaml").write_text(text + "origin: ~/here\n")
    chosen = [f"observation_file={place / 'night.yaml'}"]
    assert load_settings(chosen).run.observation.work_dir == "/home/me/here_1"
    assert load_settings([*chosen, "observation.origin=x"]).run.observation.name == "x_1"
    assert hydra_settings(chosen).run.dir == "/home/me/here_1"


def test_a_person_may_have_the_program_run_that_a_file_names(place):
    (place / "night.yaml").write_text(GOOD + "    speckle: {engine: kisip, kisip: {bin: /opt/x}}\n")
    settings = load_settings([f"observation_file={place / 'night.yaml'}", "speckle=kisip"])
    assert settings.stages["ROSA_GBAND"]["speckle"].kisip.bin == "/opt/x"


def test_values_are_those_of_the_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-3\nb: 2025-09-03T14:21:52\nc: [1, .5, yes]\nd: &d {e: 1}\nf: *d\n")
    assert read_mapping(path, "x") == {
        "a": 1e-3,
        "b": "2025-09-03T14:21:52",
        "c": [1, 0.5, True],
        "d": {"e": 1},
        "f": {"e": 1},
    }
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match="the key 'a' stands twice"):
        read_mapping(path, "x")


def test_known_channels_are_themselves_plain_data():
    for path in (*config_directory().glob("channel/*.yaml"), *config_directory().glob("camera/*.yaml")):
        assert read_mapping(path, "channel")


# The command line and the file.


@pytest.mark.parametrize(
    ("typed", "stage", "key", "expected"),
    [
        ([], "destretch", "kernels", [0, 64]),
        (["destretch.kernels=[0,32]"], "destretch", "kernels", [0, 32]),
        (["destretch={kernels: [0,32]}"], "destretch", "kernels", [0, 32]),
        (
            ["observation.channels.ROSA_GBAND.destretch.kernels=[0,16]", "destretch.kernels=[0,32]"],
            "destretch",
            "kernels",
            [0, 16],
        ),
        (["destretch.window=3"], "destretch", "kernels", [0, 64]),
        (["assemble.frames_per_burst=7"], "assemble", "frames_per_burst", 7),
        (["align=hmi"], "align", "engine", "hmi"),
        (["align=hmi"], "align", "search_arcsec", 90),
        ([], "align", "engine", "none"),
        (["--config-dir", "align=mine"], "align", "search_arcsec", 30),
    ],
)
def test_the_command_line_wins_over_the_file(place, typed, stage, key, expected):
    (place / "night.yaml").write_text(
        GOOD + "    destretch: {kernels: [0, 64]}\n    assemble: {frames_per_burst: 5}\n"
        "    align: {engine: none, search_arcsec: 90}\n"
    )
    (place / "align").mkdir()
    (place / "align" / "mine.yaml").write_text("engine: hmi\nsearch_arcsec: 30\n")
    own = str(place) if "--config-dir" in typed else None
    words = [word for word in typed if word != "--config-dir"]
    settings = load_settings([f"observation_file={place / 'night.yaml'}", *words], own)
    value = getattr(settings.stages["ROSA_GBAND"][stage], key)
    assert getattr(value, "name", value) == expected


@pytest.mark.parametrize("sweep", ["destretch.kernels=[0,64],[0,32]", "experiment=mine"])
def test_jobs_of_a_sweep_differ_where_the_file_sets_the_key(place, capsys, monkeypatch, sweep):
    (place / "night.yaml").write_text(GOOD + "    destretch: {kernels: [0, 16]}\n")
    (place / "experiment").mkdir()
    (place / "experiment" / "mine.yaml").write_text(
        '# @package _global_\nhydra: {sweeper: {params: {destretch.kernels: "[0,64],[0,32]"}}}\n'
    )
    seen = []

    def reduce(settings, *_, **__):
        seen.append(settings.stages["ROSA_GBAND"]["destretch"].kernels)

    monkeypatch.setattr("stillsun.pipeline.session.reduce", reduce)
    monkeypatch.setattr("stillsun.pipeline.session.prepare", lambda settings: None)
    chosen = ["--config-dir", str(place), f"observation_file={place / 'night.yaml'}"]
    assert main(["run", *chosen, "-m", sweep]) == 0, capsys.readouterr().err
    assert seen == [[0, 64], [0, 32]]


# Values.


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1" + "0" * 400])
@pytest.mark.parametrize("key", ["exposure_ms", "clock_offset_h", "plate_scale"])
def test_no_number_is_not_finite(place, key, value):
    written = f"[{value}, 1]" if key == "plate_scale" else value
    (place / "night.yaml").write_text(GOOD + f"    {key}: {written}\n")
    with pytest.raises(ConfigError, match="expected a finite number"):
        load_settings([f"observation_file={place / 'night.yaml'}"])


def test_the_same_on_the_command_line(place):
    (place / "night.yaml").write_text(GOOD)
    for word in ("destretch.repair_tolerance=nan", "speckle.timeout=inf", "align.pointing=[nan,0]"):
        with pytest.raises(ConfigError, match="expected a finite number"):
            load_settings([f"observation_file={place / 'night.yaml'}", word])


@pytest.mark.parametrize("pattern", ["", " ", ".", "a**b", "**/**/x", "x/../y", "/x", "x" * 300])
def test_patterns_that_are_none(place, pattern):
    (place / "night.yaml").write_text(GOOD.replace("das1*.fit", pattern))
    with pytest.raises(ConfigError, match=r"data\.pattern: "):
        load_settings([f"observation_file={place / 'night.yaml'}"])


@pytest.mark.parametrize("words", [["observation_file=~nosuchuser/x"], ["observation_file=a\0b"]])
def test_paths_that_are_none_on_the_command_line(capsys, words):
    assert main(["run", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_to_be_filled_in_is_asked_for_and_none_is_an_answer(place):
    text = GOOD + "    orientation: FILL IN\n"
    (place / "night.yaml").write_text(text)
    chosen = f"observation_file={place / 'night.yaml'}"
    with pytest.raises(ConfigError, match=r"ROSA_GBAND\.orientation: to be filled in; none or \[\] for none"):
        load_settings([chosen])
    assert load_settings([chosen, "observation.channels.ROSA_GBAND.orientation=none"])
    (place / "night.yaml").write_text(text.replace("FILL IN", "none") + "telescope_log: none\n")
    observation = load_settings([chosen]).run.observation
    assert (observation.channels["ROSA_GBAND"].orientation, observation.telescope_log) == ([], None)
