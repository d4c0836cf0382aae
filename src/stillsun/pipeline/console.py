"""Logging set-up and progress: a log file with everything, a quiet console, bars on a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from stillsun.pipeline.locks import open_own
from stillsun.pipeline.places import write_json

if TYPE_CHECKING:
    from stillsun.pipeline.bars import Bar

_LOG = logging.getLogger(__name__)
_LINE_INTERVAL = 30.0
_FILE_INTERVAL = 1.0


# Mark of a log record that a quiet console shows too: what a person wants to know at once.
ESSENTIAL = {"essential": True}
# Mark of a log record for those who read the log file later.
FILE_ONLY = {"file_only": True}
# Mark of a log record that another process has written to the log file already.
CONSOLE_ONLY = {"console_only": True}


class _BarHandler(logging.StreamHandler):
    """Writes above a progress bar instead of through it; nothing stops when nobody reads it any more."""

    def emit(self, record: logging.LogRecord) -> None:
        from stillsun.pipeline.bars import Bar

        with suppress(OSError):
            Bar.write(self.format(record), file=sys.stderr)


class _LogFile(logging.FileHandler):
    """A log that nothing fails for, and that goes on when a full disk has room again."""

    _complete = True

    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, open_own(Path(self.baseFilename), os.O_APPEND))

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the log has a gap."""
        if self._complete:
            self._complete = False
            _LOG.warning(
                "%s: the log cannot be written: %s", self.baseFilename, sys.exc_info()[1], extra=CONSOLE_ONLY
            )

    def close(self) -> None:
        """See logging; what could not be written is given up."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(file: Path, *, quiet: bool, console: bool = True) -> Iterator[None]:
    """
    Send everything to a log file and the essential to the console, while the block runs.

    Parameters
    ----------
    file : Path
        Log file; appended to.
    quiet : bool
        Only warnings and what is marked `ESSENTIAL` on the console, because bars show the rest.
    console : bool
        False: nothing on the console; another process tells what is to be told.

    Yields
    ------
    None
        The block runs.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = _LogFile(file, encoding="utf-8")
    to_file.addFilter(lambda record: not hasattr(record, "console_only"))
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    to_console = _BarHandler(sys.stderr)
    to_console.setLevel(logging.INFO)
    to_console.setFormatter(logging.Formatter("%(message)s"))
    to_console.addFilter(logging.Filter("stillsun"))
    to_console.addFilter(lambda record: not hasattr(record, "file_only"))
    if quiet:
        to_console.addFilter(lambda r: r.levelno >= logging.WARNING or hasattr(r, "essential"))
    root, own = logging.getLogger(), logging.getLogger("stillsun")
    before = own.level, root.level
    root.addHandler(to_file)
    if console:
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
        self._bar: Bar | None = None
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
                from stillsun.pipeline.bars import Bar

                self._bar = Bar(
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
        said = {
            "task": self.label,
            "done": int(done),
            "total": int(total),
            "first": first,
            "since": since,
            "at": time.time(),
        }
        # A task does not fail because it cannot say how far it is.
        with suppress(OSError):
            write_json(file, said)


def read_progress(file: Path) -> dict[str, Any] | None:
    """
    Read what a task says of itself.

    Parameters
    ----------
    file : Path
        File that its `Progress` writes.

    Returns
    -------
    dict or None
        ``task``, ``done``, ``total``, ``first`` (units done when it began), ``since`` and ``at``
        (Unix seconds); None where there is nothing.
    """
    try:
        said: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return said


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
