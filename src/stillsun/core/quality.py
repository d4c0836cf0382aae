"""How good a frame is: contrast and sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend


def centre_of(shape: Sequence[int]) -> tuple[slice, slice]:
    """
    Part of the field by which frames are judged, raw and reduced ones alike: the middle half of each side.

    Parameters
    ----------
    shape : sequence of int
        (rows, columns).

    Returns
    -------
    tuple of slice
        Rows and columns.
    """
    rows, columns = shape
    return slice(rows // 4, rows - rows // 4), slice(columns // 4, columns - columns // 4)


def frame_quality(frames: Any, *, backend: Backend | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """
    Contrast and sharpness of frames.

    Contrast is the standard deviation of the intensity over its mean. Sharpness is the root mean
    square of the intensity gradient (differences over two pixels, per pixel, both axes together)
    over the mean: it weighs small scales, where seeing takes most, and a brightness gradient over
    the field hardly counts.

    Parameters
    ----------
    frames : array
        (frames, rows, columns) float32, at least 3 x 3 pixels.
    backend : Backend or str, optional
        Where the frames are.

    Returns
    -------
    contrast, sharpness : numpy.ndarray
        (frames,) float64 on the host; sharpness in 1/pixel. NaN where the mean is not positive.
    """
    backend = get_backend(backend)
    frames = backend.asarray(frames, dtype=np.float32)
    if backend.is_gpu:
        sums = [_sums(frame) for frame in frames]
        moments = np.array([[float(value) for value in row] for row in sums])
    else:
        moments = np.empty((len(frames), 3))

        def work(begin: int, end: int) -> None:
            for number in range(begin, end):
                _moments(frames[number], moments[number])

        over_blocks(work, len(frames), backend)
    rows, columns = frames.shape[1:]
    mean = moments[:, 0] / (rows * columns)
    mean = np.where(mean > 0, mean, np.nan)
    variance = np.maximum(moments[:, 1] / (rows * columns) - mean**2, 0.0)
    gradient = moments[:, 2] / (4 * (rows - 2) * (columns - 2))
    return np.sqrt(variance) / mean, np.sqrt(gradient) / mean


def median_gradient_similarity(image: np.ndarray) -> float:
    """
    Median filter-gradient similarity (MFGS) of an image, the field's usual figure for granulation.

    With G the sum of the gradient's length over the image and M that over the image after a median filter of
    3 x 3 pixels: ``2 G M / (G^2 + M^2)``. The filter takes the noise and leaves structure that is sampled
    well: where seeing takes structure, noise weighs more, and the figure falls from 1. It compares images of
    one camera and one kind of target; without noise it says nothing of sharpness.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns) float32, at least 5 x 5 pixels; NaN where there is nothing.

    Returns
    -------
    float
        From 0 to 1; NaN for an image without structure.

    Notes
    -----
    Deng, H., Zhang, D., Wang, T., et al. (2015), Solar Physics 290, 1479; Denker, C., Dineva, E.,
    Balthasar, H., et al. (2018), Solar Physics 293, 44.
    """
    own, filtered = _gradients(np.ascontiguousarray(image, np.float32))
    power = own * own + filtered * filtered
    return float(2 * own * filtered / power) if power > 0 else float("nan")


def frame_change(before: np.ndarray, after: np.ndarray) -> float:
    """
    How far two frames of a sequence differ, as the displacement that would make such a difference.

    Parameters
    ----------
    before, after : numpy.ndarray
        (rows, columns) float32, at least 3 x 3 pixels.

    Returns
    -------
    float
        Pixels per axis: ``sqrt(2 (1 - c)) * contrast / sharpness`` with the correlation c, that is, the
        rms difference of the frames at equal mean and contrast over the rms gradient (of the second).
        Change of the Sun and noise are in it as well as what is left of the seeing. NaN where a frame
        has no contrast.
    """
    contrast, sharpness = (v[0] for v in frame_quality(after[None], backend="numpy"))
    correlation = _correlation(before, after)
    if not (np.isfinite(correlation) and sharpness > 0):
        return float("nan")
    return float(np.sqrt(2 * max(1 - correlation, 0.0)) * contrast / sharpness)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _correlation(first: Any, second: Any) -> float:
    # Relative to a value of the frames, so that little is lost when the mean is taken off.
    offset = np.float64(second[0, 0])
    a = b = aa = bb = ab = 0.0
    rows, columns = first.shape
    for row in range(rows):
        for column in range(columns):
            x, y = np.float64(first[row, column]) - offset, np.float64(second[row, column]) - offset
            a += x
            b += y
            aa += x * x
            bb += y * y
            ab += x * y
    count = rows * columns
    power = (aa - a * a / count) * (bb - b * b / count)
    return (ab - a * b / count) / np.sqrt(power) if power > 0 else np.nan


def _sums(frame: Any) -> tuple[Any, Any, Any]:
    """Sum, sum of squares, and sum of squared differences over two pixels inside the rim."""
    values = frame.astype(np.float64)
    across = values[1:-1, 2:] - values[1:-1, :-2]
    along = values[2:, 1:-1] - values[:-2, 1:-1]
    return values.sum(), (values * values).sum(), (across * across + along * along).sum()


# Sums may be reordered, so that they use vectors; NaN is still NaN.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _moments(frame: Any, out: Any) -> None:
    rows, columns = frame.shape
    total = 0.0
    power = 0.0
    gradient = 0.0
    for row in range(rows):
        line = frame[row]
        for column in range(columns):
            value = np.float64(line[column])
            total += value
            power += value * value
        if 0 < row < rows - 1:
            above = frame[row + 1]
            below = frame[row - 1]
            for column in range(1, columns - 1):
                across = line[column + 1] - line[column - 1]
                along = above[column] - below[column]
                gradient += np.float64(across * across + along * along)
    out[0] = total
    out[1] = power
    out[2] = gradient


@njit(nogil=True, cache=True, inline="always")
def _median_of_nine(a, b, c, d, e, f, g, h, i):  # type: ignore[no-untyped-def]
    # Rows sorted; then the largest of the lows, the middle of the middles, the smallest of the highs.
    a, b, c = min(a, b), max(a, b), c
    b, c = min(b, c), max(b, c)
    a, b = min(a, b), max(a, b)
    d, e = min(d, e), max(d, e)
    e, f = min(e, f), max(e, f)
    d, e = min(d, e), max(d, e)
    g, h = min(g, h), max(g, h)
    h, i = min(h, i), max(h, i)
    g, h = min(g, h), max(g, h)
    low, high = max(a, max(d, g)), min(c, min(f, i))
    middle = max(min(b, e), min(max(b, e), h))
    return max(min(low, middle), min(max(low, middle), high))


@njit(nogil=True, cache=True)
def _gradients(image: Any) -> tuple[float, float]:
    """Sums of the gradient's length, of the image and of its running median, where both are known."""
    rows, columns = image.shape
    kept = np.empty((3, columns), np.float32)
    own = filtered = 0.0
    for row in range(1, rows - 1):
        above, line, below = image[row - 1], image[row], image[row + 1]
        out = kept[row % 3]
        for x in range(1, columns - 1):
            out[x] = _median_of_nine(
                above[x - 1], above[x], above[x + 1],
                line[x - 1], line[x], line[x + 1],
                below[x - 1], below[x], below[x + 1],
            )  # fmt: skip
            # A median over NaN is none.
            total = above[x - 1] + above[x] + above[x + 1] + line[x - 1] + line[x] + line[x + 1]
            if not np.isfinite(total + below[x - 1] + below[x] + below[x + 1]):
                out[x] = np.nan
        if row < 3:
            continue
        # Central differences at the row before, inside of what is filtered.
        up, here, down = kept[(row - 2) % 3], kept[(row - 1) % 3], kept[row % 3]
        for x in range(2, columns - 2):
            smooth_x = np.float64(here[x + 1] - here[x - 1])
            smooth_y = np.float64(down[x] - up[x])
            smooth = smooth_x * smooth_x + smooth_y * smooth_y
            if not np.isfinite(smooth):
                continue
            across = np.float64(above[x + 1] - above[x - 1])
            along = np.float64(line[x] - image[row - 2, x])
            filtered += np.sqrt(smooth)
            own += np.sqrt(across * across + along * along)
    return own, filtered
