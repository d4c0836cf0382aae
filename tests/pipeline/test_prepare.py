"""What is missing is found before any work, once, and told by the key to change."""

from __future__ import annotations

import pytest

from stillsun.config.compose import load_settings
from stillsun.errors import ConfigError, InputError
from stillsun.pipeline import executors, session
from stillsun.pipeline.session import prepare

OBSERVATION = """
name: test
raw_dir: {raw}
work_dir: {work}
defaults:
  - /channel@channels.ROSA_GBAND: rosa_gband
  - /channel@channels.ROSA_CAK: rosa_cak
  - _self_
channels:
  ROSA_GBAND: &files
    data: {{directory: rosa, pattern: "data*"}}
    dark: {{directory: rosa, pattern: "dark*"}}
    flat: {{directory: rosa, pattern: "flat*"}}
  ROSA_CAK: *files
"""


@pytest.fixture
def findings(tmp_path):
    """What `prepare` finds, with raw files whose content nobody looks at."""
    (tmp_path / "raw" / "rosa").mkdir(parents=True)
    for role in ("data", "dark", "flat"):
        (tmp_path / "raw" / "rosa" / f"{role}.fit").touch()
    path = tmp_path / "observation.yaml"
    path.write_text(OBSERVATION.format(raw=tmp_path / "raw", work=tmp_path / "work"))

    def find(*overrides):
        try:
            prepare(load_settings([f"observation_file={path}", "backend=numpy", *overrides]))
        except ConfigError as error:
            return list(error.findings)
        return []

    return find


def test_nothing_is_missing(findings):
    assert findings() == []


def test_the_raw_directory_is_named_once(findings, tmp_path):
    (found,) = findings(f"observation.raw_dir={tmp_path}/nowhere")
    assert found.startswith(f"observation.raw_dir: no such directory: {tmp_path}/nowhere")


def test_results_need_a_place(findings, tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        (found,) = findings(f"observation.work_dir={tmp_path}/{place}")
        assert found == f"observation.work_dir: {tmp_path}/file is a file, not a directory"


def test_a_place_that_cannot_be_written(findings, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    (found,) = findings()
    assert found.startswith(f"observation.work_dir: {tmp_path} cannot be written to")
    # A plan writes nothing.
    assert findings("plan=true") == []


def test_the_external_program_is_looked_for(findings, tmp_path):
    chosen = ("speckle=kisip", f"speckle.kisip.bin={tmp_path}/nowhere")
    (found,) = findings(*chosen)
    assert "speckle program not found" in found
    assert findings(*chosen, "stages=[calibrate,assemble]") == []


def test_dask_is_looked_for(findings, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    (found,) = findings("executor=dask")
    assert found.startswith("executor=dask: Dask is not installed; pip install")


def test_an_error_is_told_once():
    same = InputError("no room", remedy="Make room")
    failed = {"A/export": same, "B/export": InputError("no room", remedy="Make room"), "movie": KeyError("x")}
    assert session._once(failed) == "A/export, B/export: no room. Make room; movie: 'x'"
