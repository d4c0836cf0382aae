"""Progress bars on a terminal: loaded only where one is drawn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stillsun.pipeline.console import read_progress

_WIDEST = 160
# What a terminal that does not tell is taken to have.
_ROWS = 20


class Bar(tqdm):
    """One or more lines that leave nothing behind when the terminal becomes narrower and breaks them."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """See tqdm."""
        shown = [0]

        def print_status(text: str) -> None:
            nonlocal shown
            above = len(shown) - 1 + sum(max(0, length - 1) // _columns(file) for length in shown)
            # The terminal may be gone: the run is not.
            with suppress(OSError):
                file.write("\r" + (f"\x1b[{above}A" if above else "") + "\x1b[J" + text)
                file.flush()
            shown = [len(line) for line in text.split("\n")]

        return print_status

    def close(self) -> None:
        """See tqdm."""
        with suppress(OSError):
            super().close()


def _columns(file: Any) -> int:
    try:
        return max(1, os.get_terminal_size(file.fileno()).columns)
    except (OSError, ValueError):
        return sys.maxsize


class Board:
    """Bars of tasks that run in other processes, one below the other, from what they say of themselves."""

    def __init__(self) -> None:
        self._bar = Bar(total=0, bar_format="{desc}", nrows=_ROWS, leave=False, file=sys.stderr)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, files: Mapping[str, Path]) -> None:
        """
        Draw the bars anew.

        Parameters
        ----------
        files : mapping of str to Path
            Task to the file in which it says how far it is.
        """
        columns = min(_columns(sys.stderr), _WIDEST)
        lines = []
        for name, file in files.items():
            said = read_progress(file)
            if said is None or said["task"] != name:
                lines.append(f"{name}: begins")
                continue
            took = max(0.0, time.time() - said["since"])
            meter = tqdm.format_meter(
                said["done"], said["total"], took, ncols=columns - 1, prefix=name, initial=said["first"]
            )
            lines.append(meter)
        self._bar.set_description_str("\n".join(lines))
