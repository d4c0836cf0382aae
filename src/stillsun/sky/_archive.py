"""Files from the archives with sunpy's Fido: bounded attempts, quiet, each an error in words."""

from __future__ import annotations

import importlib.util
import logging
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from stillsun.errors import InputError
from stillsun.sky.observer import offline

_LOG = logging.getLogger(__name__)

# What sunpy's network support needs beyond sunpy.
NEEDED = ("bs4", "drms", "zeep", "parfive")
TRIES = 3
PAUSE_SECONDS = 5.0
T = TypeVar("T")


def persistently(fetch: Callable[[], T], what: str, tries: int = TRIES, pause: float = PAUSE_SECONDS) -> T:
    """Try again after an error of the network; an `InputError`, and the last error, come up."""
    for attempt in range(1, tries + 1):
        try:
            return fetch()
        except InputError:
            raise
        except Exception as error:  # a network fails in more ways than any library declares
            _LOG.info("download of %s, attempt %d: %s", what, attempt, error)
            if attempt == tries:
                raise
        time.sleep(pause)
    raise AssertionError("at least one attempt")


def fetch_with_fido(
    search: Callable[[Any, Any], Any],
    choose: Callable[[Any], int],
    directory: Path,
    *,
    needs: Callable[[str], InputError],
    timeout: float,
) -> Path:
    """
    Download one file.

    ``search(Fido, attrs)`` gives the archive's answer, ``choose(table)`` the row of its first table;
    ``needs(names)`` is the error where sunpy's network support is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise needs(", ".join(missing))
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)
    try:
        with offline(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sunpy.net import Fido, attrs

            answer = search(Fido, attrs)
            if answer.file_num == 0:
                raise OSError("the archive has none for that time")
            table = answer[0]
            row = choose(table)
            directory.mkdir(parents=True, exist_ok=True)
            files: Any = Fido.fetch(
                table[row : row + 1],
                path=str(directory / "{file}"),
                progress=False,
                max_conn=1,
                overwrite=False,
            )
    finally:
        socket.setdefaulttimeout(before)
    if getattr(files, "errors", None) or len(files) == 0:
        raise OSError("; ".join(str(e) for e in getattr(files, "errors", [])) or "nothing was transferred")
    return Path(str(files[0]))
