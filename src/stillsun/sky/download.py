"""The full-disk image nearest in time: from a directory of earlier downloads, or from the archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.sky._archive import PAUSE_SECONDS, TRIES, fetch_with_fido, persistently

# An image a cadence away is as good as any.
_NEAR_SECONDS = 45.0
_WINDOW_SECONDS = 180.0
_TIMEOUT_SECONDS = 120.0


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
    tries: int = TRIES,
    pause: float = PAUSE_SECONDS,
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
    try:
        return persistently(
            lambda: (fetch or _fetch)(time, cache), f"the full-disk image for {when}", tries, pause
        )
    except InputError:
        raise
    except Exception as error:  # see persistently
        raise InputError(
            f"no full-disk image for {when} could be downloaded ({type(error).__name__}: {error})",
            expected="network access to the archive of HMI",
            remedy=f"Give an image with align.file=PATH, or put one within {_NEAR_SECONDS:.0f} s into "
            f"{cache}",
        ) from error


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
    """One attempt, at the Virtual Solar Observatory."""

    def search(fido: Any, attrs: Any) -> Any:
        from astropy import units as u

        half = _WINDOW_SECONDS / 2 * u.s
        span = attrs.Time(_when(time) - half, _when(time) + half)
        return fido.search(span, attrs.Instrument.hmi, attrs.Physobs.intensity)

    def choose(table: Any) -> int:
        return int(np.argmin(np.abs([(t - _when(time)).sec for t in table["Start Time"]])))

    def needs(names: str) -> InputError:
        return InputError(
            "full-disk images cannot be downloaded, because sunpy's network support is not installed",
            expected="sunpy[net]",
            found=f"no {names}",
            remedy="pip install 'stillsun[hmi]', or give an image with align.file=PATH",
        )

    return fetch_with_fido(search, choose, cache, needs=needs, timeout=_TIMEOUT_SECONDS)


def _when(time: float) -> Any:
    from astropy.time import Time

    return Time(time, format="unix", scale="utc")


def _text(time: float) -> str:
    from stillsun.sky.times import iso

    return str(iso(time))[:19]
