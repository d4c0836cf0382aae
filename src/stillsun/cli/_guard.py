"""How a command begins and ends: its streams, signals, and errors in one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stillsun.errors import StillsunError

#: Environment variable that asks for tracebacks, as of Hydra.
FULL_ERROR = "HYDRA_FULL_ERROR"


def open_streams() -> None:
    """Open nothing in the place of streams that the caller has closed: a product would get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def guarded(action: Callable[[], int], again: str = "begins again") -> int:
    """Turn errors into one short message and an exit status; `again`: what the same command does then."""
    try:
        with _ended_tidily():
            return action()
    except StillsunError as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        _complain(str(error))
        return error.exit_status
    except BrokenPipeError:
        # Whoever read it has seen enough; the rest of the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:
        from stillsun.pipeline.os_errors import in_words

        if os.environ.get(FULL_ERROR) == "1":
            raise
        _complain(str(in_words(error)))
        return 1
    except KeyboardInterrupt as error:
        _complain(f"{str(error) or 'interrupted'}; the same command {again}")
        return 1


def _complain(text: str) -> None:
    # The terminal may be gone.
    with suppress(OSError):
        print(f"stillsun: {text}", file=sys.stderr, flush=True)


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Let a polite kill and a closed terminal end the command as Ctrl-C does: with all that it started."""

    def end(number: int, _: object) -> None:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    # With nohup a closed terminal is ignored already.
    taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
