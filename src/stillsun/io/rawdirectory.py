"""The sequences of raw frames, the telescope logs and all other files below a directory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stillsun.errors import InputError
from stillsun.io.rawsequence import HARDCAM, ROSA_NAME, RawSequence, hardcam_sequence, rosa_sequence

_SPOOL_NAME = re.compile(r"\d{1,18}spool\.dat", re.ASCII)
_LOG_WORDS = (b"DST_", b"VTT ")


@dataclass(frozen=True)
class RawDirectory:
    """
    What lies below a directory of raw files.

    Attributes
    ----------
    path : Path
        The directory.
    sequences : tuple of RawSequence
        By camera and time.
    logs : tuple of Path
        Telescope logs.
    unreadable : tuple of (Path, str)
        Files and directories that cannot be used, and why.
    others : tuple of Path
        Files that are none of these.
    """

    path: Path
    sequences: tuple[RawSequence, ...]
    logs: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]


def find_sequences(path: Path, progress: Callable[[int, int], None] | None = None) -> RawDirectory:
    """
    Look through a directory.

    Parameters
    ----------
    path : Path
        Directory; everything below it is looked at, links to directories are not followed.
    progress : callable, optional
        Called with (sequences read, sequences found).

    Returns
    -------
    RawDirectory
        What lies there.

    Raises
    ------
    InputError
        If it is no directory that can be read.
    """
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise InputError(
            "no directory that can be read", file=path, remedy="Give the directory of the raw files"
        )
    unreadable: list[tuple[Path, str]] = []
    rosa: dict[tuple[Path, str], list[Path]] = {}
    spools: dict[Path, list[Path]] = {}
    logs, others = [], []
    for file in _walk(path, unreadable):
        if file.suffix.lower() == ".gz" and ROSA_NAME.fullmatch(file.stem):
            unreadable.append((file, "compressed with gzip; unpack it with gunzip"))
            continue
        match = ROSA_NAME.fullmatch(file.name)
        if match:
            rosa.setdefault((file.parent, file.name[: match.start("number")]), []).append(file)
        elif _SPOOL_NAME.fullmatch(file.name):
            spools.setdefault(file.parent, []).append(file)
        elif _is_log(file):
            logs.append(file)
        else:
            others.append(file)
    sequences: list[RawSequence | None] = []
    for files in (*rosa.values(), *spools.values()):
        if progress is not None:
            progress(len(sequences), len(rosa) + len(spools))
        reader = hardcam_sequence if _SPOOL_NAME.fullmatch(files[0].name) else rosa_sequence
        sequences.append(reader(path, files, unreadable))
    if progress is not None:
        progress(len(sequences), len(sequences))
    found = [s for s in sequences if s is not None]
    found.sort(key=lambda s: (s.camera == HARDCAM, s.camera, str(s.start), s.name))
    return RawDirectory(path, tuple(found), tuple(logs), tuple(unreadable), tuple(others))


def _walk(path: Path, unreadable: list[tuple[Path, str]]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        unreadable.append((Path(error.filename), error.strerror or "cannot be read"))

    for directory, directories, names in os.walk(path, onerror=refused):
        directories.sort()
        for file in (Path(directory, name) for name in sorted(names)):
            try:
                regular = stat.S_ISREG(file.stat().st_mode)
            except OSError as error:
                unreadable.append((file, error.strerror or "cannot be read"))
                continue
            if regular:
                yield file
            else:
                unreadable.append((file, "not a regular file"))


def _is_log(file: Path) -> bool:
    if not re.search(r"dcss|log|\.txt$", file.name, re.IGNORECASE):
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(65536)
    except OSError:
        return False
    return any(word in head for word in _LOG_WORDS)
