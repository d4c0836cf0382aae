"""Reading what others wrote: whatever goes wrong becomes an error that names the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from stillsun.errors import InputError, StillsunError

REMEDY = "Exclude it by the file pattern, or fetch it again from the archive"
LARGEST_SIDE = 16384
"""Pixels along a side of the largest chip; a file that states more is damaged."""
LARGEST_FRAME = 2**26
"""Pixels of the largest chip."""


@contextmanager
def reading(path: Path, what: str = "cannot be read", *, remedy: str = REMEDY) -> Iterator[None]:
    """
    Turn whatever a reader raises into an `InputError` with the file's name.

    Libraries raise anything for bytes that they do not expect; this is the one place that catches it.

    Parameters
    ----------
    path : Path
        File that is read.
    what : str, optional
        What is wrong if the block fails.
    remedy : str, optional
        What to do about it.

    Yields
    ------
    None
        The block reads the file, and does nothing else.

    Raises
    ------
    InputError
        If the block raises any error.
    """
    try:
        yield
    except StillsunError:
        raise
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(what, file=path, found=found, remedy=remedy) from error
    except Exception as error:
        text = str(error).split("\n", 1)[0][:200]
        raise InputError(what, file=path, found=f"{type(error).__name__}: {text}", remedy=remedy) from error


def open_regular(path: Path, *, remedy: str = REMEDY) -> FileIO:
    """
    Open a file for reading, unbuffered, unless it is a pipe or a device, which could block for ever.

    Parameters
    ----------
    path : Path
        File.
    remedy : str, optional
        What to do if it cannot be opened.

    Returns
    -------
    FileIO
        Open file.

    Raises
    ------
    InputError
        If it is not a regular file or cannot be opened.
    """
    with reading(path, remedy=remedy):
        # A pipe that nobody writes to blocks when it is opened.
        file = FileIO(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise InputError("not a regular file", file=path, remedy="Exclude it by the file pattern")
        return file


def read_text(path: Path, largest: int, *, remedy: str = REMEDY) -> str:
    """
    Read a text file that should be small.

    Parameters
    ----------
    path : Path
        File, UTF-8; other bytes are replaced.
    largest : int
        Bytes from which it is refused.
    remedy : str, optional
        What to do if it is too large.

    Returns
    -------
    str
        Its text.

    Raises
    ------
    InputError
        If it cannot be read or is too large.
    """
    with open_regular(path, remedy=remedy) as file, reading(path, remedy=remedy):
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise InputError(
                "too large for a file of its kind",
                file=path,
                expected=f"at most {largest} bytes",
                found=f"{size} bytes",
                remedy=remedy,
            )
        # One call reads at most 2 GiB.
        parts = []
        while part := file.read(largest + 1):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")


def chip_size(rows: int, columns: int) -> bool:
    """
    Tell whether a chip can have so many pixels.

    Parameters
    ----------
    rows, columns : int
        Size that a file states.

    Returns
    -------
    bool
        True where both sides and their product are within bounds.
    """
    return 0 < rows <= LARGEST_SIDE and 0 < columns <= LARGEST_SIDE and rows * columns <= LARGEST_FRAME
