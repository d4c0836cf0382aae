"""A place for the kernels that Numba compiles where neither the code nor the home can be written."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def keep_kernels(package: Path) -> None:
    """
    See that Numba has a place for compiled kernels; without one it refuses to load them at all.

    Parameters
    ----------
    package : Path
        Directory of the code.

    Notes
    -----
    Nothing is changed where ``NUMBA_CACHE_DIR`` is set, or the package or the user's cache can be written.
    """
    if "NUMBA_CACHE_DIR" in os.environ or _writable(package):
        return
    with suppress(RuntimeError):  # there is no home
        if _writable(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()):
            return
    # Other processes of this one find it there, too.
    os.environ["NUMBA_CACHE_DIR"] = place = _private_directory()
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = place


def _writable(directory: Path) -> bool:
    """Whether a directory can be written, or made."""
    there = next((d for d in (directory, *directory.parents) if d.exists()), Path("/"))
    return os.access(there, os.W_OK | os.X_OK)


def _private_directory() -> str:
    """The same for all runs of a user; kernels that another could have put there are not loaded."""
    place = Path(tempfile.gettempdir()) / f"stillsun-kernels-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="stillsun-kernels-")
    if status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return str(place)
    return tempfile.mkdtemp(prefix="stillsun-kernels-")
