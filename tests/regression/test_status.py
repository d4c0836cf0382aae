"""The verbs `status` and `report`: after a run, during it, after a kill and after a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.regression.conftest import products, reduce

from stillsun.cli import main
from stillsun.errors import InputError
from stillsun.io.store import part_progress
from stillsun.pipeline.places import Places
from stillsun.products.base import FilesProduct
from stillsun.stages import registry

STAGES = ("calibrate", "assemble", "speckle", "destretch", "register", "align", "export")


@pytest.fixture
def status(capsys):
    """The status of a work directory as `stillsun status --json` gives it, tasks by name."""

    def read(work):
        capsys.readouterr()
        assert main(["status", str(work), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        said["tasks"] = {
            f"{t['channel']}/{t['stage']}" if t["channel"] else t["stage"]: t for t in said["tasks"]
        }
        return said

    return read


def _states(said):
    return {name: task["state"] for name, task in said["tasks"].items()}


def test_a_finished_run(reduced, status, capsys):
    before = products(reduced)
    said = status(reduced)
    assert said["state"] == "done"
    assert set(_states(said).values()) == {"done"}
    assert len(said["tasks"]) == 2 * len(STAGES) + 2
    assert all(task["seconds"] >= 0 for task in said["tasks"].values())
    assert said["remaining_s"] is None
    assert {c["stage"] for c in said["checks"]["ROSA_GBAND"]} >= {"calibrate", "speckle", "destretch"}
    assert main(["status", str(reduced)]) == 0
    text = capsys.readouterr().out
    assert "next: " in text.splitlines()[-1]
    assert "index.html" in text.splitlines()[-1]
    assert products(reduced) == before


def test_what_is_missing_or_stale(work, status):
    (work / "HARDCAM" / "splineDestretch").rename(work / "elsewhere")
    (work / "ROSA_GBAND" / "destretch.h5").unlink()
    said = status(work)
    states = _states(said)
    assert said["state"] == "unfinished"
    assert states["HARDCAM/export"] == "missing"
    assert states["ROSA_GBAND/destretch"] == "missing"
    # Made from what is missing, so it will be made again.
    assert states["ROSA_GBAND/export"] == "stale"
    assert states["ROSA_GBAND/speckle"] == "done"
    assert said["remaining_s"] > 0
    # The directory is a copy: the next run works here, not where the last one did.
    assert said["command"] not in said["next"]
    again = said["next"].rpartition("stillsun run ")[2]
    assert again.count("observation.work_dir=") == 1
    assert f"observation.work_dir={work}" in again


def test_what_a_run_left_out_is_not_left_out_again(simulated, work, status):
    (work / "ROSA_GBAND" / "destretch.h5").unlink()
    assert reduce(simulated, work, "stages=[calibrate,destretch]", "force=[calibrate]") == 0
    (work / "report" / "index.html").unlink()
    said = status(work)
    assert said["state"] == "unfinished"
    assert "stages=" in said["command"]
    again = said["next"].rpartition("stillsun run ")[2]
    assert f"observation.work_dir={work}" in again
    assert "stages=" not in again
    assert "force=" not in again


def test_without_the_raw_files_the_record_is_believed(work, simulated, status, tmp_path, monkeypatch):
    record = json.loads((work / ".stillsun" / "manifest.json").read_text())
    record["configuration"]["observation"]["raw_dir"] = str(tmp_path / "archived")
    (work / ".stillsun" / "manifest.json").write_text(json.dumps(record))
    said = status(work)
    assert set(_states(said).values()) == {"done"}
    assert said["findings"]


def test_a_failure_says_what_to_do(simulated, reduced, work, status, monkeypatch, capsys):
    def fail(ctx):
        raise InputError("a cable came loose", remedy="Plug it in")

    with monkeypatch.context() as patch:
        patch.setitem(registry.STAGES, "destretch", replace(registry.STAGES["destretch"], run=fail))
        assert (
            reduce(
                simulated, work, "channels=[ROSA_GBAND]", "destretch.window=3", "stages=[destretch,export]"
            )
            == 1
        )
        said = status(work)
    states = _states(said)
    assert said["state"] == "failed"
    assert states["ROSA_GBAND/destretch"] == "failed"
    assert states["ROSA_GBAND/calibrate"] == "done"
    assert "a cable came loose" in said["tasks"]["ROSA_GBAND/destretch"]["error"]
    assert "put right" in said["next"]
    capsys.readouterr()
    main(["status", str(work)])
    text = capsys.readouterr().out
    assert "ROSA_GBAND/destretch failed: a cable came loose. Plug it in" in text
    assert "made again" not in text
    assert "stale: it is there, but what it depends on has changed since" in text
    assert "then the same command goes on from there: stillsun run " in text.splitlines()[-1]
    # The log ends with it too.
    *_, last = (line for line in (work / "stillsun.log").read_text().splitlines() if " ERROR " in line)
    assert "put right what made these fail: ROSA_GBAND/destretch; then the same command" in last
    # The report made afterwards says so too, although the old frames are still there.
    assert main(["report", str(work)]) == 0
    page = (work / "report" / "index.html").read_text()
    assert "a cable came loose" in page


def test_the_report_is_made_again_without_raw_files(work, tmp_path, capsys):
    record = work / ".stillsun" / "manifest.json"
    before = record.read_text()
    shutil.rmtree(work / "report")
    moved = tmp_path / "moved"
    work.rename(moved)
    capsys.readouterr()
    assert main(["report", str(moved)]) == 0
    assert capsys.readouterr().out.strip() == str(moved / "report" / "index.html")
    page = (moved / "report" / "index.html").read_text()
    assert "Quality checklist" in page
    assert (moved / ".stillsun" / "manifest.json").read_text() == before
    assert sum(1 for _ in (moved / "report").iterdir()) > 1


def test_a_directory_without_a_run(tmp_path, capsys):
    def refused(path):
        assert main(["status", str(path)]) == 2
        return capsys.readouterr().err

    assert "no run has been here" in refused(tmp_path)
    assert "no such directory" in refused(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "a file, not a directory" in refused(tmp_path / "file")
    (tmp_path / "work" / ".stillsun").mkdir(parents=True)
    (tmp_path / "work" / ".stillsun" / "manifest.json").write_text("{}")
    assert f"found those in {tmp_path / 'work'}. Give one of them" in refused(tmp_path)
    (tmp_path / "work").rename(tmp_path / "job")
    (tmp_path / "multirun").mkdir()
    (tmp_path / "job").rename(tmp_path / "multirun" / "job")
    assert f"found those in {tmp_path / 'multirun' / 'job'}. Give one of them" in refused(tmp_path)


def test_what_cannot_be_made_here_does_not_hide_that_the_rest_is_done(work, status):
    manifest = Places(work).manifest
    record = json.loads(manifest.read_text())
    record["tasks"]["movie"] |= {"state": "empty", "notes": ["no encoder"]}
    manifest.write_text(json.dumps(record))
    FilesProduct(work, "", "movie").remove()
    said = status(work)
    assert said["state"] == "unfinished"
    assert said["tasks"]["movie"]["notes"] == ["no encoder"]
    assert said["next"].startswith(f"look at {work / 'report' / 'index.html'}; all is done but movie: ")


def test_the_next_command_is_given_where_the_run_was_started(work, status, tmp_path, monkeypatch):
    (work / "ROSA_GBAND" / "destretch.h5").unlink()
    assert " && " not in status(work)["next"]
    started = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert f"cd {started} && stillsun run" in status(work)["next"]


HELD = """
import sys, time
from stillsun.cli import main
from stillsun.io.store import StoreWriter

mark = StoreWriter.mark

def holding(self, row, *args, **kwargs):
    mark(self, row, *args, **kwargs)
    if self.path.name == "speckle.h5" and self.done().sum() == 2:
        time.sleep(600)

StoreWriter.mark = holding
main(sys.argv[1:])
"""


def _text(work, capsys):
    assert main(["status", str(work)]) == 0
    return capsys.readouterr().out


def test_a_run_that_goes_on_and_one_that_was_killed(simulated, tmp_path, status, capsys):
    work = tmp_path / "work"
    command = [
        *(sys.executable, "-c", HELD, "run", f"observation_file={simulated / 'observation.yaml'}"),
        *(f"observation.work_dir={work}", "backend=numpy", "stages=[calibrate,assemble,speckle,destretch]"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    said = text = None
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (work / ".stillsun" / "manifest.json").is_file():
            said = status(work)
            if part_progress(work / "ROSA_GBAND" / "speckle.h5") == (2, 5):
                said, text = status(work), _text(work, capsys)
                break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert said is not None
    assert said["state"] == "running"
    assert said["pid"] == process.pid
    assert said["tasks"]["ROSA_GBAND/speckle"]["state"] == "running"
    assert said["tasks"]["ROSA_GBAND/speckle"]["total"] == 5
    assert said["tasks"]["ROSA_GBAND/destretch"]["state"] == "waits"
    assert said["tasks"]["ROSA_GBAND/calibrate"]["state"] == "done"
    assert f"running, started {time.strftime('%Y')}" in text.splitlines()[1]
    # It says how far it is once a second at most.
    assert re.search(r"running [012]/5, \d", text)
    assert text.splitlines()[-1].startswith(f"next: wait: stillsun status {work} --watch; the log is {work}")
    log = (work / "stillsun.log").read_text()
    assert f"how far it is: stillsun status {work} --watch" in log
    assert "the same command goes on where it was: stillsun run " in log
    said, text = status(work), _text(work, capsys)
    assert said["state"] == "stopped"
    states = _states(said)
    assert states["ROSA_GBAND/speckle"] == "stopped"
    assert said["tasks"]["ROSA_GBAND/speckle"]["done"] == 2
    assert states["ROSA_GBAND/destretch"] == "missing"
    assert "the same command goes on" in said["next"]
    assert f"observation.work_dir={work}" in said["next"]
    assert "stopped 2/5" in text
    assert "stopped: a run ended in the midst of it; the next one goes on there" in text
    assert text.splitlines()[-1] == f"next: {said['next']}"


def test_watching_where_a_run_has_ended_waits_for_the_next_one(work, monkeypatch, capsys):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            (work / ".stillsun" / "manifest.json").touch()

    monkeypatch.setattr("time.sleep", sleep)
    assert main(["status", str(work), "--watch"]) == 0
    said = capsys.readouterr()
    assert len(looks) == 3
    assert said.out.count("done, started") == 2
    assert "waiting 10 s for one" in said.err
