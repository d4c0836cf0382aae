"""Frames made to fit a picture: binned or enlarged, with limits for the grey scale."""

from __future__ import annotations

import numpy as np

from stillsun.qa.metrics import inner_field


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """
    Bin or enlarge an image by a whole number, so that it just fits.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Image.
    size : int
        Longest side to fit into, pixels.

    Returns
    -------
    numpy.ndarray
        Means of square blocks (at the rim, what does not fill a block is left out), or each pixel
        repeated.
    """
    factor = -(-max(image.shape) // size)
    if factor > 1:
        return binned(image, factor)
    times = size // max(image.shape)
    return image if times == 1 else image.repeat(times, axis=0).repeat(times, axis=1)


def binned(image: np.ndarray, factor: int) -> np.ndarray:
    """
    Means of square blocks of an image.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Image.
    factor : int
        Side of a block, pixels.

    Returns
    -------
    numpy.ndarray
        At the rim, what does not fill a block is left out, half of it on either side.
    """
    if factor == 1:
        return image
    rows, columns = (n // factor for n in image.shape)
    top, left = ((n % factor) // 2 for n in image.shape)
    blocks = image[top : top + rows * factor, left : left + columns * factor]
    return blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3))


def intensity_limits(image: np.ndarray, clip: float = 0.3) -> tuple[float, float]:
    """
    Limits of the grey scale from an image away from its rim.

    Parameters
    ----------
    image : numpy.ndarray, shape (..., y, x)
        Image or stack of images.
    clip : float
        Share of the pixels that is clipped at either end, per cent.

    Returns
    -------
    tuple of float
        Lower and upper limit; (0, 1) for an image without finite pixels.
    """
    values = inner_field(image)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, [clip, 100 - clip]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
