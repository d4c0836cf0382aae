"""The documentation: links, keys and commands are those of the code, nothing is left out, the site builds."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from stillsun import cli
from stillsun.cli import main
from stillsun.config.checks import check_key
from stillsun.config.compose import load_settings
from stillsun.config.schema import StageName

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = {p.name: {f.stem for f in p.glob("*.yaml")} for p in (ROOT / "conf").iterdir() if p.is_dir()}
KEY = re.compile(rf"({'|'.join(sorted(GROUPS))})\.[a-z0-9_.]+")


def _prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


def _spans(page: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", _prose(page))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings}


def _faults(text: str) -> list[str]:
    """What is wrong with an override, or with a key without a value; keys may be those of a channel."""
    key, given, value = text.strip("'\"").partition("=")
    if key in GROUPS and key != "observation":
        known = GROUPS[key]
        return [] if not given or value in known or not value.islower() else [f"{text}: of {sorted(known)}"]
    # No value, or one that stands for others, or a sweep's list: the key alone.
    alone = not given or value[:1] in ("", "…", "[")
    found = []
    for prefix in ("", "observation.channels.NAME."):
        faults = list(check_key(prefix + key, yaml.safe_load(value or "null") if given else None))
        found.append([f for f in faults if "unknown key" in f] if alone else faults)
    return min(found, key=len)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_resolve(page):
    links = re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_keys_and_choices_exist(page):
    wrong = []
    for span in _spans(page):
        is_key = KEY.fullmatch(span.partition("=")[0]) and not span.endswith((".h5", ".py", ".part", ".png"))
        is_choice = re.fullmatch(rf"({'|'.join(GROUPS)})=[a-z_]+", span)
        if is_key or is_choice:
            wrong += _faults(span)
    assert not wrong


def _shell_lines(page: Path) -> list[str]:
    """Lines of the fenced blocks that are commands, continued ones joined, without comments."""
    # Every fence is taken, or the end of one would pass for the beginning of the next.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    shell = [text for language, text in blocks if language in ("", "bash", "text", "sh")]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines]


def _arguments(verb: str | None = None) -> list[list[str]]:
    """Words behind `stillsun` in every command of all pages, each once."""
    found = [
        re.search(r"(?:^|\s)stillsun ([a-z-]+ .*?)(?: &&.*| >.*)?$", line)
        for p in PAGES
        for line in _shell_lines(p)
    ]
    words = {tuple(shlex.split(match[1])) for match in found if match}
    return [list(w) for w in sorted(words) if (w[0] == verb if verb else w[0] != "run")]


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A directory with the observation file that the guide shows."""
    guide = (ROOT / "docs" / "run_a_night.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", guide, flags=re.S | re.M)
    for name in ("night.yaml", "142152.yaml"):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", _arguments("run"), ids=" ".join)
def test_every_run_of_the_documentation_composes(night, words):
    overrides = OverridesParser.create().parse_overrides([w for w in words[1:] if w != "-m"])
    for job in BasicSweeper.split_arguments(overrides, None)[0]:
        assert load_settings(job).run.observation.name == "20250903_142152"


@pytest.mark.parametrize("words", _arguments(), ids=" ".join)
def test_every_other_verb_of_the_documentation_is_understood(monkeypatch, words):
    asked = []
    monkeypatch.setattr(cli, "guarded", lambda action: asked.append(action) or 0)
    assert main(words) == 0
    assert len(asked) == 1


def test_scripts_of_the_documentation_exist():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?<![\w/])scripts/[\w/]+(?:\.py)?", text))
    assert {"scripts/demo", "scripts/test"} <= named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_commands_are_found():
    assert len(_arguments("run")) > 15
    assert {words[0] for words in _arguments()} >= {"sort", "import-ini", "status"}
    assert _faults("destretch.windw=3")
    assert _faults("destretch.windw")
    assert _faults("backend=cuda")
    assert not _faults("'destretch.kernels=[0,64]'")


def test_every_stage_group_and_choice_is_mentioned():
    text = "\n".join(page.read_text() for page in PAGES)
    index = (ROOT / "docs" / "index.md").read_text()
    assert not [s for s in StageName.__members__ if f"| `{s}` |" not in index]
    assert not [g for g in GROUPS if f"`{g}`" not in index]
    choices = [f"{g}={c}" for g, names in GROUPS.items() for c in names if c != "default"]
    unmentioned = [c for c in choices if c not in text and f"`{c.partition('=')[2]}`" not in text]
    assert not unmentioned


def test_every_verb_is_mentioned(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    verbs = re.findall(r"^    ([a-z][a-z-]+)(?:  |$)", capsys.readouterr().out, flags=re.M)
    assert {"run", "simulate"} <= set(verbs)
    text = "\n".join(page.read_text() for page in PAGES)
    assert not [verb for verb in verbs if f"stillsun {verb}" not in text]


def test_papers_that_are_cited_are_listed_and_papers_listed_are_cited():
    text, _, listed = (ROOT / "docs" / "algorithms.md").read_text().partition("## References")
    text = re.sub(r"\s+", " ", text)
    papers = re.findall(r"^- (?:von der )?(\w+), .*?\b(\d{4}), ", listed, flags=re.M)
    assert len(papers) == listed.count("\n- ") > 20
    assert not [(a, year) for a, year in papers if not re.search(rf"\b{a}\b[^.;]{{0,60}}?\b{year}\b", text)]
    cited = set(re.findall(r"\b((?:19|20)\d\d)\)", text))
    assert cited <= {year for _, year in papers}


def test_symptoms_are_messages_of_the_program():
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # literals that go on in the next line
    shells = {"no matches found"}
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.M)
    said = [s for row in rows for s in re.findall(r"`([^`]+ [^`]+)`", row) if s not in shells]
    assert len(said) > 20
    pieces = [p.strip(" :") for s in said for p in re.split(r"[…;()\d'=]|%", s)]
    assert not [p for p in pieces if len(p) > 3 and p not in source]


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = re.findall(
        r"^(\w+)$", "".join(re.findall(r"```{toctree}(.*?)```", index, flags=re.S)), flags=re.M
    )
    assert sorted([*listed, "index"]) == sorted(page.stem for page in PAGES if page.parent.name == "docs")


def test_the_site_builds_without_a_warning(tmp_path):
    needed = ("sphinx", "myst_parser", "furo", "sphinx-mathjax-offline")
    missing = [m for m in needed if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (extra docs)")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Equations and all else are read without network.
    html = tmp_path / "html"
    pages = "\n".join(path.read_text() for path in html.glob("*.html"))
    assert not re.findall(r"<(?:script|img|link)[^>]* (?:src|href)=\"(?:https?:)?//[^\"]*", pages)
    (mathjax,) = set(re.findall(r"_static/(mathjax/[\w.-]+\.js)", pages))
    assert (html / "_static" / mathjax).is_file()
    # Every public function is really there, with its parameters.
    page = (html / "api.html").read_text()
    for name in (
        "get_backend",
        "destretch",
        "destretch_series",
        "apply_shifts",
        "reconstruct",
        "reconstruct_series",
    ):
        assert f'id="stillsun.{name}"' in page
    assert "repair_tolerance" in page
