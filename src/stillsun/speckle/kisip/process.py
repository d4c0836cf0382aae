"""One run of an external program: streamed output, a watch on its progress, and its certain end."""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

_TAIL = 40
_POLL = 0.1
_GRACE = 5.0
# Is told a group of processes; ends it when nobody holds the other end of its input any more.
_GUARD = """read -r group || exit
read -r _
kill -s TERM -- "-$group" || exit
for _ in 1 2 3 4 5; do sleep 1; kill -s 0 -- "-$group" || exit; done
kill -s KILL -- "-$group"
"""
_SIGNALLED = re.compile(r"signal:?\s+(?:[a-z ]*\()?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ProcessEnd:
    """
    How a run ended.

    Attributes
    ----------
    status : int
        Exit status; negative: the signal that ended the program.
    stopped : bool
        It was stopped because it made no progress.
    marks : int
        Lines that ended a burst.
    tail : tuple of str
        Last lines of its output.
    seconds : float
        Time it took.
    """

    status: int
    stopped: bool
    marks: int
    tail: tuple[str, ...]
    seconds: float

    @property
    def signal(self) -> int:
        """Signal that ended the program or one of its processes, 0 for none."""
        if self.status < 0:
            return -self.status
        if 128 < self.status < 128 + signal.NSIG:
            return self.status - 128
        told = [int(m.group(1)) for m in map(_SIGNALLED.search, self.tail) if m]
        return told[-1] if told and self.status else 0

    def describe(self) -> str:
        """
        Say in words how the run ended.

        Returns
        -------
        str
            A few words.
        """
        if self.stopped:
            return f"stopped after {self.seconds:.3g} s: it made no progress"
        if self.signal:
            try:
                return f"it was ended by {signal.Signals(self.signal).name}"
            except ValueError:
                return f"it was ended by signal {self.signal}"
        return f"it ended with exit status {self.status}"


def run_process(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    *,
    mark: str,
    timeout: float,
    watch: Callable[[], object],
    on_mark: Callable[[int], None],
) -> ProcessEnd:
    """
    Run a program to its end, or until it makes no more progress.

    The program runs in a session of its own; whatever happens here, nothing of it is left behind: a
    small shell beside it sees when this process is killed, and ends the program then.

    Parameters
    ----------
    arguments : sequence of str
        Command line.
    directory : Path
        Where it is started.
    environment : mapping
        Its environment.
    mark : str
        A line of its output that holds this is progress.
    timeout : float
        Seconds without progress after which it is stopped.
    watch : callable
        What it returns is looked at now and then; a change is progress too. (A program whose
        output goes to a pipe may hold its lines back for long.)
    on_mark : callable
        Called with the number of marks so far.

    Returns
    -------
    ProcessEnd
        How it ended.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    started = time.monotonic()
    guard = _start_guard()
    try:
        process = subprocess.Popen(
            arguments,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError:
        _dismiss(guard)
        raise
    assert process.stdout is not None
    assert guard.stdin is not None
    guard.stdin.write(b"%d\n" % process.pid)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True)
    reader.start()
    tail: deque[str] = deque(maxlen=_TAIL)
    marks = 0
    stopped = False
    try:
        last, token = started, watch()
        while True:
            line, waiting = _next_line(lines)
            if line:
                log.info("%s", line)
                tail.append(line)
                if mark in line:
                    marks += 1
                    last = time.monotonic()
                    on_mark(marks)
            elif not waiting and _has_ended(process):
                break
            now = time.monotonic()
            if (seen := watch()) != token:
                last, token = now, seen
            if now - last > timeout:
                stopped = True
                break
    finally:
        status = _end(process, guard)
        reader.join(1.0)
        # A process that left the group may still hold the pipe; its reader is left to itself then.
        if not reader.is_alive():
            process.stdout.close()
    return ProcessEnd(status, stopped, marks, tuple(tail), time.monotonic() - started)


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    for raw in iter(stream.readline, b""):
        lines.put(raw.decode("utf-8", errors="replace").rstrip())
    lines.put(None)


def _next_line(lines: queue.SimpleQueue[str | None]) -> tuple[str | None, bool]:
    try:
        line = lines.get(timeout=_POLL)
    except queue.Empty:
        return None, False
    if line is None:
        # The output is closed; the program may run on.
        time.sleep(_POLL / 10)
        lines.put(None)
        return None, False
    return line, True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # Without reaping it: its number must stay taken until the last signal to its group is sent.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _start_guard() -> subprocess.Popen[bytes]:
    """Start what ends the program if this process is killed and cannot do it."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()
    guard.communicate()


def _end(process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> int:
    if not _has_ended(process):
        # mpirun passes this on to its processes, which may live in groups of their own.
        _signal_group(process, signal.SIGTERM)
        limit = time.monotonic() + _GRACE
        while not _has_ended(process) and time.monotonic() < limit:
            time.sleep(0.02)
    _signal_group(process, signal.SIGKILL)
    # Before the program's number can be another's.
    _dismiss(guard)
    return process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
