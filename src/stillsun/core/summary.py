"""Range, mean, median and scatter of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from stillsun.core.backend import Backend, get_backend
from stillsun.errors import InputError

_BINS = 1 << 14


@dataclass(frozen=True)
class Summary:
    """
    What the pixels of an image amount to.

    Attributes
    ----------
    minimum, maximum, median : float
        Exact.
    mean, rms : float
        Mean and standard deviation (divided by the number of pixels), from float64 sums.
    """

    minimum: float
    maximum: float
    mean: float
    median: float
    rms: float


def summarise(image: Any, backend: Backend | str | None = None) -> Summary:
    """
    Range, mean, median and scatter of an image.

    Parameters
    ----------
    image : array, shape (y, x)
        Pixels, float32.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    Summary
        The numbers.

    Raises
    ------
    InputError
        If the image is empty or holds values that are not finite.
    """
    backend = get_backend(backend)
    pixels = backend.asarray(image, dtype=np.float32).ravel()
    if pixels.size == 0:
        raise InputError("an empty image has no median")
    function = _summarise_arrays if backend.is_gpu else _summarise_compiled
    values = function(pixels, backend)
    if not np.isfinite(values).all():
        raise InputError("image holds values that are not finite")
    return Summary(*values)


def _summarise_arrays(pixels: Any, backend: Backend) -> tuple[float, ...]:
    xp = backend.xp
    mean = float(xp.mean(pixels, dtype=np.float64))
    rms = float(xp.sqrt(xp.mean((pixels - mean) ** 2, dtype=np.float64)))
    return float(pixels.min()), float(pixels.max()), mean, float(xp.median(pixels)), rms


def _summarise_compiled(pixels: np.ndarray, backend: Backend) -> tuple[float, ...]:
    low, high, mean, rms = _moments(pixels)
    if not np.isfinite(mean) or low == high:
        return low, high, mean, low, rms
    return low, high, mean, _median(pixels, low, high), rms


@njit(cache=True, nogil=True)
def _moments(pixels):  # type: ignore[no-untyped-def]
    low = high = pixels[0]
    total = 0.0
    for value in pixels:
        total += value
        low = min(low, value)
        high = max(high, value)
    mean = total / pixels.size
    squares = 0.0
    for value in pixels:
        squares += (value - mean) ** 2
    return low, high, mean, np.sqrt(squares / pixels.size)


@njit(cache=True, nogil=True)
def _rank(pixels, low, scale, counts, rank):  # type: ignore[no-untyped-def]
    """Value of that rank: a histogram finds its bin, and the bin's few values are sorted."""
    bin_number, before = 0, 0
    while before + counts[bin_number] <= rank:
        before += counts[bin_number]
        bin_number += 1
    inside = np.empty(counts[bin_number], np.float32)
    k = 0
    for value in pixels:
        if int((np.float64(value) - low) * scale) == bin_number:
            inside[k] = value
            k += 1
    inside.sort()
    return inside[rank - before]


@njit(cache=True, nogil=True)
def _median(pixels, low, high):  # type: ignore[no-untyped-def]
    counts = np.zeros(_BINS + 1, np.int64)
    low = np.float64(low)
    scale = _BINS / (np.float64(high) - low)
    for value in pixels:
        counts[int((np.float64(value) - low) * scale)] += 1
    upper = _rank(pixels, low, scale, counts, pixels.size // 2)
    if pixels.size % 2:
        return np.float64(upper)
    return 0.5 * (np.float64(upper) + np.float64(_rank(pixels, low, scale, counts, pixels.size // 2 - 1)))
