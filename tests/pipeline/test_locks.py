"""Locks and logs of a work directory: what is no file is not opened, and what cannot be locked is said."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stillsun.config.schema import LockKind
from stillsun.errors import ConfigError, InputError
from stillsun.pipeline.console import logging_to
from stillsun.pipeline.locks import is_held, locked, open_own, present

ME = {"host": platform.node(), "pid": os.getpid()}


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "directory"])
def test_what_is_no_file_is_neither_locked_nor_logged_to(tmp_path, kind):
    path, target = tmp_path / "x", tmp_path / "precious"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(target)
    if kind == "link":
        target.write_text("mine\n")
    with pytest.raises(InputError, match="Remove it"):
        open_own(path)
    with pytest.raises(InputError, match="Remove it"), locked(path, LockKind.flock):
        pass
    with pytest.raises(InputError, match="Remove it"), logging_to(path, quiet=True):
        pass
    assert (
        not target.exists() if kind == "link to nothing" else kind != "link" or target.read_text() == "mine\n"
    )


def test_the_log_is_appended_to(tmp_path):
    for text in ("one", "two"):
        with logging_to(tmp_path / "log", quiet=True, console=False):
            logging.getLogger("stillsun.x").info(text)
    assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["one", "two"]


def test_a_file_system_without_locks_is_named_with_the_remedy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for hold in (locked(tmp_path / "a.lock", LockKind.flock), present(tmp_path / "b.lock", LockKind.flock)):
        with (
            pytest.raises(ConfigError, match=r"cannot be locked.*run\.lock=file, or run\.lock=off") as caught,
            hold,
        ):
            pass
        assert str(tmp_path) in str(caught.value)
    for kind in (LockKind.file, LockKind.off):
        with locked(tmp_path / "a.lock", kind) as waited, present(tmp_path / "run.lock", kind):
            assert not waited
            assert is_held(tmp_path / "run.lock", ME)
            assert not is_held(tmp_path / "run.lock", ME | {"pid": 2**22 + 1})
            assert is_held(tmp_path / "run.lock", {"host": "another", "pid": 1})


@pytest.mark.parametrize("kind", [LockKind.flock, LockKind.file])
def test_one_holder_at_a_time(tmp_path, kind):
    order: list[str] = []
    waiting = threading.Event()

    def other() -> None:
        with locked(tmp_path / "x.lock", kind, waiting.set) as waited:
            order.append(f"other {waited}")

    thread = threading.Thread(target=other)
    with locked(tmp_path / "x.lock", kind) as waited:
        thread.start()
        assert waiting.wait(20)
        order.append(f"first {waited}")
    thread.join()
    assert order == ["first False", "other True"]


def test_a_lock_file_of_a_dead_process_is_taken_over(tmp_path):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    (tmp_path / "x.held").write_text(f"{platform.node()} {int(gone.stdout)}")
    with locked(tmp_path / "x.lock", LockKind.file) as waited:
        assert not waited
    assert not list(Path(tmp_path).glob("*.held"))


def test_a_run_is_held_while_it_is_present(tmp_path):
    path = tmp_path / "run.lock"
    assert not is_held(path, ME)
    with present(path, LockKind.flock):
        assert is_held(path, ME)
    assert not is_held(path, ME)
