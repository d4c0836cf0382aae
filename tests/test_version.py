"""One version number, wherever it is written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import stillsun

ROOT = Path(__file__).parents[1]


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGES.md").read_text(), flags=re.M)
    assert stillsun.__version__ == project["version"] == citation["version"] == newest
    assert citation["license"] == project["license"]
