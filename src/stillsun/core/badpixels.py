"""Bad pixels: which they are, and what replaces them."""

from __future__ import annotations

import numpy as np

from stillsun.core.robust import centre_and_deviation
from stillsun.errors import InputError

DEAD = 1
HOT = 2
UNSTABLE = 4

# A pixel is not called unstable for noise of less than twice what is usual.
_USUAL_VARIANCE = 4.0
# Half the side of the neighbourhood that a pixel's noise is compared with; so many pixels at a time.
_NEAR = 7
_AT_ONCE = 4096

_STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def find_bad_pixels(
    dark: np.ndarray, flat: np.ndarray, *, dead_fraction: float = 0.2, hot_sigma: float = 12.0
) -> np.ndarray:
    """
    Flag pixels that calibration cannot mend.

    Dead: ``flat - dark`` below a share of its median. Hot: the dark lies far off the chip's
    distribution of darks, in robust standard deviations (1.4826 times the median absolute
    deviation; at least 1 DN, so that a chip of constant dark has no hot pixels by rounding).

    Parameters
    ----------
    dark, flat : numpy.ndarray
        (rows, columns) mean dark and mean flat, DN.
    dead_fraction : float, optional
        Share of the median signal below which a pixel is dead.
    hot_sigma : float, optional
        Robust standard deviations from which a dark is hot (or cold).

    Returns
    -------
    numpy.ndarray
        (rows, columns) uint8: sum of `DEAD` and `HOT`, 0 for a good pixel.
    """
    dark = np.asarray(dark, dtype=np.float64)
    signal = np.asarray(flat, dtype=np.float64) - dark
    flags = np.zeros(dark.shape, dtype=np.uint8)
    # A pixel without any signal is dead even where the share asked for is zero.
    flags[~(signal > max(dead_fraction * float(np.median(signal)), 0.0))] |= DEAD
    centre, spread = centre_and_deviation(dark)
    flags[~(np.abs(dark - centre) <= hot_sigma * max(spread, 1.0))] |= HOT
    return flags


def find_unstable_pixels(
    dark: np.ndarray,
    flat: np.ndarray,
    dark_variance: np.ndarray,
    flat_variance: np.ndarray,
    *,
    unstable_sigma: float = 12.0,
) -> np.ndarray:
    """
    Flag pixels that change more from frame to frame than photon and read noise explain.

    The variance of the darks, and that of the flats over their signal (photon noise grows with it), are
    compared with their medians over the chip. A pixel is unstable where either lies above by so many
    robust standard deviations, and is four times the median at least, over the chip and in the pixel's own
    neighbourhood: a pore or a cloud that went through the flats raises the noise of a whole patch, and no
    pixel of it is to blame. Pixels that jump between two levels show in the darks; those whose sensitivity
    changes show in the flats.

    Parameters
    ----------
    dark, flat : numpy.ndarray
        (rows, columns) mean dark and mean flat, DN.
    dark_variance, flat_variance : numpy.ndarray
        (rows, columns) variances over frames, DN squared; zero for single frames, which tell nothing.
    unstable_sigma : float, optional
        Robust standard deviations (1.4826 times the median absolute deviation).

    Returns
    -------
    numpy.ndarray
        (rows, columns) uint8: `UNSTABLE`, or 0 for a good pixel.
    """
    signal = np.asarray(flat, dtype=np.float64) - np.asarray(dark, dtype=np.float64)
    floor = max(0.1 * float(np.median(signal)), 1.0)
    flags = np.zeros(signal.shape, dtype=np.uint8)
    for noise in (np.asarray(dark_variance), np.asarray(flat_variance) / np.maximum(signal, floor)):
        usual, spread = centre_and_deviation(noise)
        if usual > 0:
            limit = max(usual + unstable_sigma * spread, _USUAL_VARIANCE * usual)
            y, x = np.nonzero(~(noise <= limit))
            alone = ~(noise[y, x] <= _USUAL_VARIANCE * _median_around(noise, y, x))
            flags[y[alone], x[alone]] |= UNSTABLE
    return flags


def _median_around(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Median of the square around some pixels; at the edge the square lies within the image."""
    rows, columns = image.shape
    steps = np.arange(-_NEAR, _NEAR + 1)
    result = np.empty(y.size)
    for start in range(0, y.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        down = _inside(y[part], rows)[:, None] + steps
        across = _inside(x[part], columns)[:, None] + steps
        square = image[np.clip(down, 0, rows - 1)[:, :, None], np.clip(across, 0, columns - 1)[:, None, :]]
        result[part] = np.median(square.reshape(len(square), -1), axis=1)
    return result


def _inside(places: np.ndarray, size: int) -> np.ndarray:
    return np.clip(places, min(_NEAR, size // 2), max(size - 1 - _NEAR, size // 2))


def fill_table(bad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find the neighbours and weights by which bad pixels are replaced.

    A bad pixel becomes the mean of the good ones among its eight neighbours, those beside it
    counting twice as much as the diagonal ones. Within a cluster the ring of neighbours is widened
    until it holds a good pixel.

    Parameters
    ----------
    bad : numpy.ndarray
        (rows, columns) bool.

    Returns
    -------
    index : numpy.ndarray
        (m,) int64: flat index of each bad pixel.
    neighbours : numpy.ndarray
        (m, 8) int64: flat indices; where there are fewer, any good one with weight zero.
    weights : numpy.ndarray
        (m, 8) float32: add up to one.

    Raises
    ------
    InputError
        If no pixel is good.
    """
    rows, columns = bad.shape
    index = np.flatnonzero(bad)
    neighbours = np.zeros((index.size, 8), dtype=np.int64)
    weights = np.zeros((index.size, 8), dtype=np.float32)
    if not index.size:
        return index.astype(np.int64), neighbours, weights
    good = np.flatnonzero(~bad)
    if not good.size:
        raise InputError("every pixel of the camera is bad", remedy="Check the darks and flats")
    neighbours[:] = good[0]
    y, x = np.divmod(index, columns)
    open_ = np.ones((index.size, 8), dtype=bool)
    for distance in range(1, max(rows, columns)):
        for way, (dy, dx) in enumerate(_STEPS):
            yy, xx = y + distance * dy, x + distance * dx
            inside = (yy >= 0) & (yy < rows) & (xx >= 0) & (xx < columns)
            open_[:, way] &= inside
            found = np.flatnonzero(open_[:, way])
            found = found[~bad[yy[found], xx[found]]]
            neighbours[found, way] = yy[found] * columns + xx[found]
            weights[found, way] = 1.0 / (distance**2 * (dy * dy + dx * dx))
            open_[found, way] = False
        # Nearest ones suffice: a direction that is open beyond them would only add a far pixel.
        open_[weights.any(axis=1)] = False
        if not open_.any():
            break
    lost = ~weights.any(axis=1)
    weights[lost, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return index.astype(np.int64), neighbours, weights
