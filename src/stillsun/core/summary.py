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


# The sums may be reordered, so that they vectorise; values that are not finite still show in them.
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _moments(pixels):  # type: ignore[no-untyped-def]
    total = 0.0
    for value in pixels:
        total += value
    mean = total / pixels.size
    low = high = pixels[0]
    squares = 0.0
    for value in pixels:
        squares += (value - mean) * (value - mean)
        low = low if low < value else value
        high = high if high > value else value
    return low, high, mean, np.sqrt(squares / pixels.size)


@njit(cache=True, nogil=True)
def _median(pixels, low, high):  # type: ignore[no-untyped-def]
    """A histogram finds the bins of the middle values, and the few values in them are sorted."""
    counts = np.zeros(_BINS + 1, np.int64)
    low = np.float64(low)
    scale = _BINS / (np.float64(high) - low)
    for value in pixels:
        counts[int((value - low) * scale)] += 1
    lower, upper = (pixels.size - 1) // 2, pixels.size // 2
    first = before = 0
    while before + counts[first] <= lower:
        before += counts[first]
        first += 1
    last, behind = first, before + counts[first]
    while behind <= upper:
        last += 1
        behind += counts[last]
    inside = np.empty(behind - before, np.float32)
    k = 0
    for value in pixels:
        if first <= int((value - low) * scale) <= last:
            inside[k] = value
            k += 1
    inside.sort()
    return 0.5 * (np.float64(inside[lower - before]) + np.float64(inside[upper - before]))
