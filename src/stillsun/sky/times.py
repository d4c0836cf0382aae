"""Times in headers: unix seconds to ISO text and Modified Julian Date, rounded once, to a millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np

_MJD_UNIX_EPOCH = 40587
_MS_PER_DAY = 86_400_000


def to_milliseconds(times: Any) -> np.ndarray:
    """
    Times rounded to a millisecond.

    Parameters
    ----------
    times : array_like
        Unix seconds, UTC.

    Returns
    -------
    numpy.ndarray of datetime64[ms]
        The same shape.
    """
    return np.rint(np.asarray(times, dtype=np.float64) * 1000.0).astype("datetime64[ms]")


def iso(times: Any) -> np.ndarray:
    """
    ISO 8601 text as in FITS headers.

    Parameters
    ----------
    times : array_like
        Unix seconds, UTC.

    Returns
    -------
    numpy.ndarray of str
        ``YYYY-MM-DDThh:mm:ss.sss``.
    """
    return np.datetime_as_string(to_milliseconds(times), unit="ms")


def mjd(times: Any) -> np.ndarray:
    """
    Modified Julian Date of the times as `iso` writes them.

    Parameters
    ----------
    times : array_like
        Unix seconds, UTC.

    Returns
    -------
    numpy.ndarray of float64
        Days, UTC; good to a tenth of a millisecond.
    """
    return to_milliseconds(times).astype(np.int64) / _MS_PER_DAY + _MJD_UNIX_EPOCH


def mjd_of_text(text: str) -> float:
    """
    Modified Julian Date of an ISO time.

    Parameters
    ----------
    text : str
        ISO 8601 time, UTC.

    Returns
    -------
    float
        Days.

    Raises
    ------
    ValueError
        If the text is no time.
    """
    return int(np.datetime64(text, "ms").astype(np.int64)) / _MS_PER_DAY + _MJD_UNIX_EPOCH
