"""Locks of the runs in one work directory, and files in it that are opened for writing."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from stillsun.config.schema import LockKind
from stillsun.errors import ConfigError, InputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_POLL_S = 0.5
# What stands in a lock file that no system call locks.
_UNLOCKED = "run.lock="


def open_own(path: Path, flags: int = 0) -> TextIO:
    """Open a file of a run for reading and writing; made if missing, no link followed, no pipe opened."""
    flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise _not_a_file(path) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _not_a_file(path)
    return os.fdopen(number, "a" if flags & os.O_APPEND else "r+", encoding="utf-8")


def _not_a_file(path: Path) -> InputError:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a directory"}
    found = kinds.get(stat.S_IFMT(os.lstat(path).st_mode), "a special file")
    return InputError(
        "a run writes no such file",
        file=path,
        found=found,
        remedy="Remove it and run again",
    )


@contextmanager
def locked(path: Path, kind: LockKind, waits: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a lock alone; `waits` is called before another holder is waited for. Yields whether one was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind is LockKind.off:
        yield False
        return
    if kind is LockKind.file:
        waited = _take(path.with_suffix(".held"), waits)
        try:
            yield waited
        finally:
            path.with_suffix(".held").unlink(missing_ok=True)
        return
    with open_own(path) as handle:
        waited = not _flock(path, handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if waited:
            waits()
            _flock(path, handle, fcntl.LOCK_EX)
        yield waited


@contextmanager
def present(path: Path, kind: LockKind) -> Iterator[None]:
    """Show other processes, while the block runs, that a run goes on, see `is_held`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_own(path) as handle:
        if kind is LockKind.flock:
            _flock(path, handle, fcntl.LOCK_SH)
        handle.truncate(0)
        if kind is not LockKind.flock:
            handle.write(f"{_UNLOCKED}{kind.name}")
            handle.flush()
        yield


def is_held(path: Path, process: Mapping[str, Any]) -> bool:
    """
    Tell whether a run goes on.

    Parameters
    ----------
    path : Path
        The file that runs hold, see `present`.
    process : mapping
        The record, or a task's entry in it: ``pid`` and ``host``.

    Returns
    -------
    bool
        False if no run holds the directory, or the process is gone (seen on its own machine only).
    """
    if not path.is_file():
        return False
    try:
        # Some file systems lock only what may be written.
        with path.open("r+" if os.access(path, os.W_OK) else "r") as handle:
            if not handle.read(len(_UNLOCKED)):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
    except BlockingIOError:
        pass
    except (OSError, ValueError):
        return False
    return process.get("host") != platform.node() or _exists(process.get("pid"))


def _flock(path: Path, handle: TextIO, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise ConfigError(
            f"files cannot be locked in this directory ({os.strerror(error.errno or 0)})",
            file=path.parent,
            remedy="Give run.lock=file, or run.lock=off where no other run works here at the same time, or "
            "choose an observation.work_dir on a disk of this machine",
        ) from error
    return True


def _take(held: Path, waits: Callable[[], None]) -> bool:
    """Make a file that no other run has made; that of a dead process of this machine is removed."""
    waited = False
    while True:
        try:
            number = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            host, _, pid = _content(held).rpartition(" ")
            if host == platform.node() and not _exists(pid):
                held.unlink(missing_ok=True)
                continue
            if not waited:
                waits()
                waited = True
            time.sleep(_POLL_S)
            continue
        with os.fdopen(number, "w") as file:
            file.write(f"{platform.node()} {os.getpid()}")
        return waited


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _exists(pid: Any) -> bool:
    try:
        os.kill(int(pid or 0), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
