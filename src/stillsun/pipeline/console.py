"""Logging set-up and progress: a log file with everything, a quiet console, bars on a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from stillsun.pipeline.workspace import write_json

_LOG = logging.getLogger(__name__)
_LINE_INTERVAL = 30.0
_FILE_INTERVAL = 1.0


# Mark of a log record that a quiet console shows too: what a person wants to know at once.
ESSENTIAL = {"essential": True}


class _Bar(tqdm):
    """A bar that leaves nothing behind when the terminal becomes narrower and breaks its line."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """See tqdm."""
        shown = 0

        def print_status(text: str) -> None:
            nonlocal shown
            broken = max(0, shown - 1) // _columns(file)
            file.write("\r" + (f"\x1b[{broken}A" if broken else "") + "\x1b[J" + text)
            file.flush()
            shown = len(text)

        return print_status


def _columns(file: Any) -> int:
    try:
        return max(1, os.get_terminal_size(file.fileno()).columns)
    except (OSError, ValueError):
        return sys.maxsize


class _BarHandler(logging.StreamHandler):
    """Writes above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def logging_to(file: Path, *, quiet: bool) -> Iterator[None]:
    """
    Send everything to a log file and the essential to the console, while the block runs.

    Parameters
    ----------
    file : Path
        Log file; appended to.
    quiet : bool
        Only warnings and what is marked `ESSENTIAL` on the console, because bars show the rest.

    Yields
    ------
    None
        The block runs.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    to_console = _BarHandler(sys.stderr)
    to_console.setLevel(logging.INFO)
    to_console.setFormatter(logging.Formatter("%(message)s"))
    to_console.addFilter(logging.Filter("stillsun"))
    if quiet:
        to_console.addFilter(lambda r: r.levelno >= logging.WARNING or hasattr(r, "essential"))
    root, own = logging.getLogger(), logging.getLogger("stillsun")
    before = own.level, root.level
    root.addHandler(to_file)
    root.addHandler(to_console)
    root.setLevel(logging.WARNING)
    own.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(to_file)
        root.removeHandler(to_console)
        to_file.close()
        own.setLevel(before[0])
        root.setLevel(before[1])


class Progress:
    """
    Progress of one task: a bar on a terminal, a log line now and then elsewhere.

    Parameters
    ----------
    label : str
        What is under way.
    bars : bool
        Show a bar.
    file : Path, optional
        Where others can read how far the task is, see `stillsun.pipeline.taskstatus`; removed at the end.
    """

    def __init__(self, label: str, *, bars: bool, file: Path | None = None) -> None:
        self.label = label
        self._bars = bars
        self._file = file
        self._bar: tqdm | None = None
        self._last = time.monotonic()
        self._written = -_FILE_INTERVAL
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def __call__(self, done: int, total: int) -> None:
        """
        Show how far the task is.

        Parameters
        ----------
        done, total : int
            Units done, and in all.
        """
        if self._bars:
            if self._bar is None:
                self._bar = _Bar(
                    total=total, desc=self.label, dynamic_ncols=True, leave=False, file=sys.stderr
                )
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._last > _LINE_INTERVAL:
            self._last = time.monotonic()
            _LOG.info("%s: %d of %d", self.label, done, total)
        if self._file is not None:
            self._write(self._file, done, total)

    def _write(self, file: Path, done: int, total: int) -> None:
        if self._first is None:
            self._first = time.time(), int(done)
        now = time.monotonic()
        if now - self._written < _FILE_INTERVAL:
            return
        self._written = now
        since, first = self._first
        # Rows that an earlier run had done say nothing of the pace.
        write_json(
            file,
            {
                "task": self.label,
                "done": int(done),
                "total": int(total),
                "first": first,
                "since": since,
                "at": time.time(),
            },
        )


def bars_wanted(progress: bool) -> bool:
    """
    Decide whether bars are shown.

    Parameters
    ----------
    progress : bool
        The configuration's choice.

    Returns
    -------
    bool
        True only if standard error is a terminal too.
    """
    return progress and sys.stderr.isatty()
