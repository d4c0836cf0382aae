"""The command itself: how it ends when it is stopped, or when the machine refuses something."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from stillsun.cli import main


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_command_with_all_that_it_started(monkeypatch, capsys, number):
    ended = []

    def run(arguments):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            ended.append(arguments)

    before = signal.getsignal(number)
    monkeypatch.setattr("stillsun.cli.run.run_words", run)
    assert main(["run", "x=1"]) == 1
    assert ended == [["x=1"]]
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert capsys.readouterr().err == f"stillsun: {said}; the same command goes on from here\n"
    assert signal.getsignal(number) is before


def test_a_closed_terminal_is_ignored_where_the_caller_wants_it(monkeypatch):
    monkeypatch.setattr("stillsun.cli.run.run_words", lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["run"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSED = """
import os, sys
from stillsun.cli import main

status = main(["status", "nothing"])
sys.exit(status if min(os.open("first", os.O_CREAT | os.O_WRONLY), 3) == 3 else 9)
"""


def test_streams_that_the_caller_has_closed(tmp_path):
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, CLOSED]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 2


def test_what_the_machine_refuses_is_one_line(monkeypatch, capsys):
    def run(arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "/no/work")

    monkeypatch.setattr("stillsun.cli.run.run_words", run)
    assert main(["run"]) == 1
    assert capsys.readouterr().err.startswith("stillsun: /no/work: not allowed; found Permission denied.")


def test_watching_a_run_that_has_just_been_started_waits_for_it(tmp_path, monkeypatch, capsys):
    from stillsun.pipeline.places import Places

    work = tmp_path / "work"
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            Places(work).manifest.parent.mkdir(parents=True)
            Places(work).manifest.write_text("damaged")

    monkeypatch.setattr("time.sleep", sleep)
    assert main(["status", str(work), "--watch"]) == 1
    assert len(looks) == 3
    said = capsys.readouterr().err
    assert f"waiting for a run in {work}" in said
    assert "manifest.json: the record of the runs is damaged" in said
    assert main(["status", str(tmp_path / "other"), "--watch"]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_question_without_a_terminal_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "night.yaml").write_text(
        "work_dir: work\ndefaults: [{/channel@channels.A: rosa_gband}]\nchannels: {A: {data: {pattern: x}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stillsun.pipeline.session.prepare", lambda settings: None)
    for more, said in (([], "no terminal to ask on"), (["executor=dask"], "executor=serial")):
        assert main(["run", "observation_file=night.yaml", "align.verify=true", *more]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
