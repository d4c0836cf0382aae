"""What the machine refuses, in words: a full disk, no permission, no memory."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillsun.errors import StillsunError

# HDF5 tells the name in its text only, and the number, too, when it closes a file.
_NAMED = re.compile(r"filename = '([^']*)'")
_NUMBERED = re.compile(r"errno = (\d+)")
_NUMBA_CACHE = "numba/core/caching.py"
# Bytes below which a disk counts as full.
_LEAST_FREE = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def told_in_words(place: Path) -> Iterator[None]:
    """
    Let errors of the operating system pass as ones that a user can act on.

    Parameters
    ----------
    place : Path
        Where the block works, for errors that do not say it themselves.

    Yields
    ------
    None
        The block.

    Raises
    ------
    StillsunError
        In place of what the block raises.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        raise in_words(error, place) from error
    except RuntimeError as error:
        if not (numbered := _NUMBERED.search(str(error))):
            raise
        raise in_words(OSError(int(numbered.group(1)), str(error)), place) from error
    except (EOFError, pickle.UnpicklingError) as error:
        if not (kernels := _kept_kernels(error)):
            raise
        raise StillsunError(
            "a compiled kernel that Numba keeps here is damaged",
            file=kernels,
            remedy="Delete this directory; kernels are compiled again",
        ) from error


def _kept_kernels(error: BaseException) -> str:
    """Directory that Numba was reading when the error came up; empty if it was not."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.endswith(_NUMBA_CACHE) and "self" in frame.f_locals:
            return str(frame.f_locals["self"]._cache_path)
    return ""


def _full_place(error: BaseException, place: Path | None) -> Path | None:
    """Where there is no room, for an error that does not say it: not every file is in the work directory."""
    if place is None or getattr(error, "errno", None) not in _FULL or _is_full(place):
        return place
    others = (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), Path("~"), Path(tempfile.gettempdir()))
    return next((p for p in (o.expanduser() for o in others) if _is_full(p)), place)


def _is_full(place: Path) -> bool:
    there = next(p for p in (place, *place.parents) if p.exists())
    return shutil.disk_usage(there).free < _LEAST_FREE


def in_words(error: OSError | MemoryError, place: Path | None = None) -> StillsunError:
    """
    Say what a user can do about an error of the operating system.

    Parameters
    ----------
    error : OSError or MemoryError
        The error.
    place : Path, optional
        What it is about, where it does not say so itself.

    Returns
    -------
    StillsunError
        File, what was found, and the remedy.
    """
    if isinstance(error, MemoryError):
        return StillsunError(
            "out of memory",
            file=place,
            found=str(error) or None,
            remedy="Free memory, or work on fewer channels at a time: channels=[...], executor.workers",
        )
    named = _NAMED.search(str(error))
    unnamed = place if error.filename or named else _kept_kernels(error) or _full_place(error, place)
    file = error.filename or (named.group(1) if named else unnamed)
    found = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        remedy = "Make room, or choose another observation.work_dir"
        if unnamed != place:
            remedy = "Make room there; NUMBA_CACHE_DIR, XDG_CACHE_HOME and TMPDIR name other directories"
        return StillsunError("no room to write", file=file, found=found, remedy=remedy)
    if error.errno in _REFUSED:
        return StillsunError(
            "not allowed", file=file, found=found, remedy="Give the user who runs this the permission"
        )
    return StillsunError(
        "cannot be read or written", file=file, found=found, remedy="Look after the file and its disk"
    )
