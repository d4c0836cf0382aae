"""
Work in a process of its own: bytes of a damaged file may make a library abort, hang or take all memory.

The process is kept for the next request; it is ended where it dies or does not answer in time, and then there
is no answer.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import selectors
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO

_LENGTH = 8
_every: weakref.WeakSet[Apart] = weakref.WeakSet()


class Apart:
    """
    Processes that answer requests, one each at a time; as many as there are threads that ask.

    Parameters
    ----------
    module : str
        Name of the module that calls `serve` when it is run.
    seconds : float
        How long to wait for a part of an answer.
    largest : int
        Bytes of the longest answer.
    """

    def __init__(self, module: str, seconds: float, largest: int) -> None:
        self.command = [sys.executable, "-m", module]
        self.seconds, self._largest = seconds, largest
        self._idle: queue.LifoQueue[subprocess.Popen[bytes]] = queue.LifoQueue()
        _every.add(self)

    def ask(self, *request: bytes) -> bytes | None:
        """
        Send a request.

        Parameters
        ----------
        *request : bytes
            Its parts.

        Returns
        -------
        bytes or None
            The answer; None if the process died or did not answer.
        """
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._start()
        assert worker.stdin is not None
        assert worker.stdout is not None
        answer = None
        with contextlib.suppress(OSError):
            worker.stdin.write(sum(map(len, request)).to_bytes(_LENGTH, "little"))
            for part in request:
                worker.stdin.write(part)
            worker.stdin.flush()
            answer = self._receive(worker.stdout)
        if answer is None:
            worker.kill()
            worker.communicate()
            return None
        self._idle.put(worker)
        return answer

    def forget(self) -> None:
        """Begin with new processes: a pipe that two processes write to garbles what goes through."""
        self._idle = queue.LifoQueue()

    def end(self) -> None:
        """End the processes."""
        while not self._idle.empty():
            self._idle.get_nowait().communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                # Threads reserve memory, which is limited.
                "OPENBLAS_NUM_THREADS": "1",
            },
        )

    def _receive(self, pipe: IO[bytes]) -> bytes | None:
        descriptor = pipe.fileno()
        parts: list[bytes] = []
        missing = _LENGTH
        counted = False
        with selectors.DefaultSelector() as ready:
            ready.register(descriptor, selectors.EVENT_READ)
            while missing:
                if not ready.select(self.seconds):
                    return None
                part = os.read(descriptor, missing)
                if not part:
                    return None
                parts.append(part)
                missing -= len(part)
                if not missing and not counted:
                    missing, counted = int.from_bytes(b"".join(parts), "little"), True
                    parts = []
                    if missing > self._largest:
                        return None
        return b"".join(parts)


def serve(answer: Callable[[bytes], bytes], memory: int) -> None:
    """
    Answer requests until there are no more.

    Parameters
    ----------
    answer : callable
        Gives the answer to a request.
    memory : int
        Bytes that the process may take beyond what it has.
    """
    import resource

    warnings.simplefilter("ignore")
    # What a library prints must not get between the answers.
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, most))
    while head := source.read(_LENGTH):
        found = answer(source.read(int.from_bytes(head, "little")))
        sink.write(len(found).to_bytes(_LENGTH, "little") + found)
        sink.flush()


@atexit.register
def _end() -> None:
    for apart in _every:
        apart.end()


def _forget() -> None:
    for apart in _every:
        apart.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
