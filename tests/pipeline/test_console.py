"""Logs and progress: everything in the file, little on the console, bars only where they belong."""

from __future__ import annotations

import errno
import io
import logging
import time
import warnings

import pytest

from stillsun.pipeline import bars, console
from stillsun.pipeline.console import ESSENTIAL, Progress, bars_wanted, logging_to


@pytest.mark.parametrize(
    ("progress", "terminal", "wanted"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_bars_need_a_terminal_and_the_configurations_consent(monkeypatch, progress, terminal, wanted):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    assert bars_wanted(progress) is wanted


def test_a_bar_shows_label_and_count(capsys):
    with Progress("ROSA_GBAND/speckle", bars=True) as progress:
        progress(3, 12)
        time.sleep(0.2)  # bars are not drawn more often than that
        progress(12, 12)
    text = capsys.readouterr().err
    assert "ROSA_GBAND/speckle" in text
    assert "12/12" in text


def test_without_bars_a_line_now_and_then(capsys, caplog, monkeypatch):
    monkeypatch.setattr(console, "_LINE_INTERVAL", -1.0)
    with caplog.at_level("INFO", logger="stillsun"), Progress("speckle", bars=False) as progress:
        progress(3, 12)
    assert capsys.readouterr().err == ""
    assert "speckle: 3 of 12" in caplog.text


@pytest.mark.parametrize("quiet", [True, False])
def test_the_file_has_everything_and_the_console_the_essential(tmp_path, capsys, quiet):
    log = logging.getLogger("stillsun.test")
    with logging_to(tmp_path / "work" / "stillsun.log", quiet=quiet):
        log.debug("a detail")
        log.info("a step")
        log.info("a result", extra=ESSENTIAL)
        log.warning("a warning")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of a library", stacklevel=1)
    log.warning("after the run")
    text = (tmp_path / "work" / "stillsun.log").read_text()
    for part in ("a detail", "a step", "a warning", "of a library"):
        assert part in text
    assert "after the run" not in text
    shown = capsys.readouterr().err
    assert "a warning" in shown
    assert "a result" in shown
    assert "a detail" not in shown
    assert ("a step" in shown) is not quiet
    assert "of a library" not in shown


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, capsys, monkeypatch):
    log = logging.getLogger("stillsun.test")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(console, "write_json", full)
    with logging_to(tmp_path / "stillsun.log", quiet=False):
        with monkeypatch.context() as patch:
            patch.setattr(logging.FileHandler, "format", full)
            log.info("one")
            log.info("two")
        log.info("three")
        with Progress("label", bars=False, file=tmp_path / "progress.json") as progress:
            progress(1, 2)
    shown = capsys.readouterr().err
    assert shown.count("the log cannot be written: [Errno 28] No space left on device") == 1
    assert "Traceback" not in shown
    assert "three" in (tmp_path / "stillsun.log").read_text()


def test_a_terminal_that_is_gone_stops_nothing(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stderr", Gone())
    with logging_to(tmp_path / "stillsun.log", quiet=False):
        logging.getLogger("stillsun.test").warning("nobody reads it")
        with Progress("label", bars=True) as progress:
            progress(1, 2)
    assert "nobody reads it" in (tmp_path / "stillsun.log").read_text()


def test_a_bar_broken_by_a_narrower_terminal_is_wiped(monkeypatch):
    columns = 100
    monkeypatch.setattr(bars, "_columns", lambda file: columns)
    file = io.StringIO()
    show = bars.Bar.status_printer(file)
    show("x" * 90)
    assert "\x1b[" in file.getvalue()
    assert "A" not in file.getvalue()
    columns = 40
    # 90 letters fill three lines of 40: up two, and wipe.
    show("y" * 30)
    assert file.getvalue().endswith("\r\x1b[2A\x1b[J" + "y" * 30)


def test_several_lines_are_wiped_together(monkeypatch):
    monkeypatch.setattr(bars, "_columns", lambda file: 40)
    file = io.StringIO()
    show = bars.Bar.status_printer(file)
    show(f"{'x' * 50}\nyy\nzz")
    # Two broken lines of x, one of y, one of z: up three.
    show("done")
    assert file.getvalue().endswith("\r\x1b[3A\x1b[Jdone")


def test_a_board_shows_what_other_processes_say_of_their_tasks(tmp_path, capsys):
    files = {name: tmp_path / f"{name[0]}.json" for name in ("A/speckle", "B/speckle", "C/speckle")}
    with Progress("A/speckle", bars=False, file=files["A/speckle"]) as progress:
        progress(2, 12)
        files["B/speckle"].write_text('{"task": "B/destretch", "done": 1, "total": 2}')
        with bars.Board() as board:
            capsys.readouterr()
            board.show(files)
            first, *others = capsys.readouterr().err.rpartition("\x1b[J")[2].splitlines()
            assert first.startswith("A/speckle:  17%|")
            assert "2/12" in first
            assert others == ["B/speckle: begins", "C/speckle: begins"]
            board.show({})
            assert capsys.readouterr().err.endswith("\x1b[2A\x1b[J")


def test_what_another_process_has_logged_goes_to_the_console_only(tmp_path, capsys):
    log = logging.getLogger("stillsun.test")
    with logging_to(tmp_path / "a.log", quiet=True):
        log.warning("a note", extra=console.CONSOLE_ONLY)
    assert "a note" in capsys.readouterr().err
    with logging_to(tmp_path / "b.log", quiet=True, console=False):
        log.warning("a note")
    assert capsys.readouterr().err == ""
    assert [(tmp_path / name).read_text().count("a note") for name in ("a.log", "b.log")] == [0, 1]
