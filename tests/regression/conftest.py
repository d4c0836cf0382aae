"""A small simulated observation, made once, and the command line in this process."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import shutil
from pathlib import Path

import pytest
from tests.regression.golden import simulate_night

from stillsun.cli import main

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def simulated(made_once):
    """Directory of a simulated observation that nobody reduces in place."""
    return made_once("observation", simulate_night)


@pytest.fixture(scope="session")
def reduced(simulated, made_once):
    """Work directory of the whole pipeline's run on the simulated observation; read only."""

    def make(work: Path) -> None:
        assert reduce(simulated, work) == 0

    return made_once("reduced", make)


@pytest.fixture
def work(reduced, tmp_path):
    """A copy of the reduced work directory that a test may change."""
    copy = tmp_path / "work"
    shutil.copytree(reduced, copy)
    return copy


@pytest.fixture(scope="session")
def truth_script():
    """The script that compares products with the truth."""
    loader = importlib.machinery.SourceFileLoader("compare_with_truth", str(SCRIPTS / "compare_with_truth"))
    spec = importlib.util.spec_from_loader("compare_with_truth", loader)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    import sys

    sys.modules["compare_with_truth"] = module
    loader.exec_module(module)
    return module


def reduce(simulated: Path, work: Path, *overrides: str) -> int:
    """Run `stillsun run` on an observation; returns the exit status."""
    return main(
        [
            "run",
            f"observation_file={simulated / 'observation.yaml'}",
            f"observation.work_dir={work}",
            "backend=numpy",
            "movie.goes_download=false",
            *overrides,
        ]
    )


def products(work: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of everything a run makes, but for its logs and records."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.is_file() and path.suffix in (".h5", ".fits", ".mp4", ".html", ".png"):
            found[name] = (hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    return found
