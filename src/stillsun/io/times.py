"""Times as text: the forms that are accepted, and the years in which they are plausible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io.foreign import REMEDY

FORM = "YYYY-MM-DDThh:mm:ss.sss"
YEARS = (1990, 2099)
"""First and last year in which an observation can have been made."""

_TIME = re.compile(r"(\d{4})-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,12})?Z?", re.ASCII)

_USUAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?", re.ASCII)
_FIRST, _LAST = np.datetime64(f"{YEARS[0]}-01-01", "us"), np.datetime64(f"{YEARS[1]}-12-31", "us")


def read_time(text: object) -> np.datetime64:
    """
    Read a time.

    Parameters
    ----------
    text : object
        ``2025-09-03T14:21:52.456``, perhaps with a blank instead of the T, or a Z at the end.

    Returns
    -------
    numpy.datetime64
        UTC, microseconds; NaT for anything else, and for years outside `YEARS`.
    """
    match = _TIME.fullmatch(str(text).strip())
    if match is None or not YEARS[0] <= int(match[1]) <= YEARS[1]:
        return np.datetime64("NaT", "us")
    try:
        return np.datetime64(match[0].removesuffix("Z").replace(" ", "T")[:26], "us")
    except ValueError:
        return np.datetime64("NaT", "us")


def exposure_times(dates: Sequence[str], file: Path) -> np.ndarray:
    """
    Read the times of the exposures in a file.

    Parameters
    ----------
    dates : sequence of str
        ``DATE`` of each extension.
    file : Path
        The file.

    Returns
    -------
    numpy.ndarray
        (n,) datetime64[us].

    Raises
    ------
    InputError
        If an extension has no time.
    """
    try:
        # As nearly all files write them: together, which is much faster.
        usual = all(map(_USUAL.fullmatch, dates))
        times = np.array(dates if usual else [], dtype="datetime64[us]")
    except ValueError:
        usual = False
    if not usual or ((times < _FIRST) | (times > _LAST)).any():
        times = np.array([read_time(date) for date in dates], dtype="datetime64[us]")
    bad = np.flatnonzero(np.isnat(times))
    if bad.size:
        more = f", and {bad.size - 1} more like it" if bad.size > 1 else ""
        raise InputError(
            f"no time in extension {bad[0] + 1}{more}",
            file=file,
            expected=f"DATE = '{FORM}' of the years {YEARS[0]} to {YEARS[1]}",
            found=repr(dates[bad[0]][:80]),
            remedy=REMEDY,
        )
    return times
