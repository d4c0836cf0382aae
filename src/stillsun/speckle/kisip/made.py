"""Memory of a speckle program: which of its output files were made from what."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stillsun.speckle.kisip.outputs import output_fault


def fingerprint(*parts: str | Path) -> str:
    """
    Name a set of parameters and files by a short digest.

    Parameters
    ----------
    *parts : str or Path
        Texts; and files, which are told apart by size and time of change.

    Returns
    -------
    str
        Digest.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{_mark(part) if isinstance(part, Path) else part}\n".encode())
    return digest.hexdigest()[:16]


class Made:
    """
    What has been made, kept in a text file beside the output files: a line a burst, appended.

    Parameters
    ----------
    path : Path
        The file; need not exist.
    rows, columns : int
        Shape of a frame.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        self._path = path
        self._shape = rows, columns
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        # The last line of a program that was killed may be cut off; it will not compare.
        self._lines = {line.partition(" ")[0]: line for line in lines}

    def holds(self, base: Path, made_from: str) -> bool:
        """
        Say whether the outputs of a burst are complete and were made from this.

        Parameters
        ----------
        base : Path
            Output path of the burst without suffix.
        made_from : str
            Fingerprint of parameters and files.

        Returns
        -------
        bool
            They need not be made again.
        """
        if output_fault(base, *self._shape):
            return False
        return self._lines.get(base.name) == _line(base, made_from)

    def add(self, base: Path, made_from: str) -> None:
        """
        Remember that the outputs of a burst have been made.

        Parameters
        ----------
        base : Path
            Output path of the burst without suffix.
        made_from : str
            Fingerprint of parameters and files.
        """
        # A line break first: the line before may be cut off.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{_line(base, made_from)}\n")


def _line(base: Path, made_from: str) -> str:
    # An image that another program has put in the place of ours is not ours.
    return f"{base.name} {made_from} {_mark(base.with_name(base.name + '.final'))}"


def _mark(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
