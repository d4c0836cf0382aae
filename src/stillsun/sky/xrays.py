"""The Sun's soft X-ray flux of a day: from a directory of earlier downloads, or from the archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.io.goes import XrayFlux, read_goes
from stillsun.sky._archive import PAUSE_SECONDS, fetch_with_fido, persistently

_PATTERN = "sci_xrsf-l2-avg1m_g*_d{day}_*.nc"
_TIMEOUT_SECONDS = 20.0
_TRIES = 2


def xray_flux(
    times: np.ndarray,
    cache: Path,
    *,
    fetch: Callable[[str, Path], Path] | None = None,
    tries: int = _TRIES,
    pause: float = PAUSE_SECONDS,
) -> XrayFlux:
    """
    Flux from the minute averages of the GOES satellites over some times.

    Parameters
    ----------
    times : numpy.ndarray
        Unix seconds (UTC); the files of all their days are used.
    cache : Path
        Directory of earlier downloads, and where new ones go.
    fetch : callable, optional
        ``fetch(day, cache)`` downloads the file of a day (``"2025-09-03"``); by default with sunpy's Fido.
    tries : int, optional
        Attempts for each day.
    pause : float, optional
        Between attempts, seconds.

    Returns
    -------
    XrayFlux
        The flux of these days.

    Raises
    ------
    InputError
        If a day is not in the cache and cannot be downloaded, or its file cannot be read.
    """
    known = times[np.isfinite(times)]
    days = np.unique(known.astype("datetime64[s]").astype("datetime64[D]"))
    parts = [read_goes(_file(str(day), Path(cache), fetch or _fetch, tries, pause)) for day in days]
    if not parts:
        raise InputError("the times of the frames are not known")
    return XrayFlux(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("times", "short", "long"))
    )


def _file(day: str, cache: Path, fetch: Callable[[str, Path], Path], tries: int, pause: float) -> Path:
    # The archive makes better versions of a day's file; their names sort by satellite and version.
    found = sorted(cache.glob(_PATTERN.format(day=day.replace("-", ""))))
    if found:
        return found[-1]
    try:
        return persistently(lambda: fetch(day, cache), f"the X-ray flux of {day}", tries, pause)
    except InputError:
        raise
    except Exception as error:  # see persistently
        raise InputError(
            f"the GOES X-ray flux of {day} could not be downloaded ({type(error).__name__}: {error})",
            remedy=f"Give a file with movie.goes_file=PATH, or put {_PATTERN.format(day='DAY')} into {cache}",
        ) from error


def _fetch(day: str, cache: Path) -> Path:
    """One attempt, at NOAA's archive."""

    def search(fido: Any, attrs: Any) -> Any:
        span = attrs.Time(f"{day} 00:00", f"{day} 23:59")
        return fido.search(span, attrs.Instrument.xrs, attrs.Resolution("avg1m"))

    def choose(table: Any) -> int:
        return int(np.argmax(np.asarray(table["SatelliteNumber"], dtype=int)))

    def needs(names: str) -> InputError:
        return InputError(
            "the GOES X-ray flux cannot be downloaded, because sunpy's network support is not installed",
            found=f"no {names}",
            remedy="pip install 'stillsun[hmi]', or give a file with movie.goes_file=PATH",
        )

    return fetch_with_fido(search, choose, cache, needs=needs, timeout=_TIMEOUT_SECONDS)
