"""The full-disk image nearest in time: from a directory of earlier downloads, or from the archive."""

from __future__ import annotations

import importlib.util
import logging
import os
import time as clock
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.sky.observer import offline

_LOG = logging.getLogger(__name__)

# An image a cadence away is as good as any.
_NEAR_SECONDS = 45.0
_WINDOW_SECONDS = 180.0
_TRIES = 3
_PAUSE_SECONDS = 5.0
_TIMEOUT_SECONDS = 120.0
_NEEDED = ("bs4", "drms", "zeep", "parfive")


def default_cache() -> Path:
    """
    Where downloads are kept.

    Returns
    -------
    Path
        ``stillsun`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "stillsun"


def fulldisk_near(
    time: float,
    cache: Path,
    *,
    fetch: Callable[[float, Path], Path] | None = None,
    tries: int = _TRIES,
    pause: float = _PAUSE_SECONDS,
) -> Path:
    """
    Continuum image of HMI nearest to a time.

    Parameters
    ----------
    time : float
        Unix seconds, UTC.
    cache : Path
        Directory of earlier downloads, and where a new one goes.
    fetch : callable, optional
        ``fetch(time, cache)`` downloads one image; by default with sunpy's Fido.
    tries : int, optional
        Attempts.
    pause : float, optional
        Between attempts, seconds.

    Returns
    -------
    Path
        A file in `cache`.

    Raises
    ------
    InputError
        If there is none in the cache and none can be downloaded.
    """
    found = _cached(time, cache)
    if found is not None:
        return found
    when = _text(time)
    last: Exception | None = None
    for attempt in range(tries):
        if attempt:
            clock.sleep(pause)
        try:
            path = (fetch or _fetch)(time, cache)
        except InputError:
            raise
        except Exception as error:  # a network fails in more ways than any library declares
            last = error
            _LOG.info("download of the full-disk image for %s, attempt %d: %s", when, attempt + 1, error)
        else:
            return path
    raise InputError(
        f"no full-disk image for {when} could be downloaded ({type(last).__name__}: {last})",
        expected="network access to the archive of HMI",
        remedy=f"Give an image with align.file=PATH, or put one within {_NEAR_SECONDS:.0f} s into {cache}",
    )


def _cached(time: float, cache: Path) -> Path | None:
    from stillsun.sky.fulldisk import fulldisk_time

    best: tuple[float, Path] | None = None
    for path in sorted(Path(cache).glob("*.fits")) if Path(cache).is_dir() else []:
        try:
            away = abs(fulldisk_time(path) - time)
        except InputError:
            continue
        if away <= _NEAR_SECONDS and (best is None or away < best[0]):
            best = (away, path)
    return None if best is None else best[1]


def _fetch(time: float, cache: Path) -> Path:
    """One attempt by sunpy's Fido at the Virtual Solar Observatory."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            "full-disk images cannot be downloaded, because sunpy's network support is not installed",
            expected="sunpy[net]",
            found=f"no {', '.join(missing)}",
            remedy="pip install 'stillsun[hmi]', or give an image with align.file=PATH",
        )
    import socket

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        with offline(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from astropy import units as u
            from astropy.time import Time
            from sunpy.net import Fido
            from sunpy.net import attrs as a

            when = Time(time, format="unix", scale="utc")
            half = _WINDOW_SECONDS / 2 * u.s
            answer = Fido.search(a.Time(when - half, when + half), a.Instrument.hmi, a.Physobs.intensity)
            if answer.file_num == 0:
                raise OSError(f"the archive has no image within {_WINDOW_SECONDS / 2:.0f} s")
            table = answer[0]
            away = np.abs(np.array([(t - when).sec for t in table["Start Time"]]))
            row = int(np.argmin(away))
            cache.mkdir(parents=True, exist_ok=True)
            files: Any = Fido.fetch(
                table[row : row + 1], path=str(cache / "{file}"), progress=False, max_conn=1, overwrite=False
            )
    finally:
        socket.setdefaulttimeout(before)
    if getattr(files, "errors", None) or len(files) == 0:
        raise OSError("; ".join(str(e) for e in getattr(files, "errors", [])) or "nothing was transferred")
    return Path(str(files[0]))


def _text(time: float) -> str:
    from stillsun.sky.times import iso

    return str(iso(time))[:19]
