"""Figures of merit of one channel's frames, read from its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stillsun.products.destretched import Destretched
from stillsun.products.reconstructed import Reconstructed

# Share of a side that is left out all round: reconstruction and destretch leave a rim.
_RIM = 0.08
_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SeriesQuality:
    """
    What each frame of a stack is like, away from the rim of the field.

    Contrast and sharpness are those of the centre, as of raw frames.

    Attributes
    ----------
    mean : numpy.ndarray
        Mean intensity, (frames,) float64, in the stack's unit.
    contrast : numpy.ndarray
        Standard deviation over mean, (frames,) float64.
    sharpness : numpy.ndarray
        Rms gradient over mean, 1/pixel, (frames,) float64; see `stillsun.core.quality`.
    steadiness : numpy.ndarray
        Correlation of each frame with the one before it, (frames,) float64; NaN for the first.
    """

    mean: np.ndarray
    contrast: np.ndarray
    sharpness: np.ndarray
    steadiness: np.ndarray

    def worst(self) -> int:
        """
        Frame of lowest sharpness.

        Returns
        -------
        int
            Frame number.
        """
        return int(np.nanargmin(self.sharpness)) if np.isfinite(self.sharpness).any() else 0


def inner_field(image: np.ndarray) -> np.ndarray:
    """
    The field without its rim.

    Parameters
    ----------
    image : numpy.ndarray, shape (..., y, x)
        Image or stack of images.

    Returns
    -------
    numpy.ndarray
        View of the inner part.
    """
    rows, columns = (int(n * _RIM) for n in image.shape[-2:])
    return image[..., rows : image.shape[-2] - rows, columns : image.shape[-1] - columns]


def series_quality(
    product: Reconstructed | Destretched, progress: Callable[[int, int], None] | None = None
) -> SeriesQuality:
    """
    Mean, contrast, sharpness and steadiness of the frames of a product, a few frames at a time.

    Parameters
    ----------
    product : Reconstructed or Destretched
        The images.
    progress : callable, optional
        Called with (frames done, frames in all).

    Returns
    -------
    SeriesQuality
        One value a frame; NaN where a frame is not finite.
    """
    from stillsun.core.quality import centre_of, frame_quality  # compiled: not for those who only look

    frames, rows, columns = product.image.shape
    chunk = max(1, _CHUNK_BYTES // (4 * rows * columns))
    parts: list[np.ndarray] = []
    before: np.ndarray | None = None
    for start in range(0, frames, chunk):
        read = product.image(slice(start, start + chunk))
        quality = frame_quality(read[:, *centre_of((rows, columns))], backend="numpy")
        stack = np.ascontiguousarray(inner_field(read))
        mean = stack.mean(axis=(1, 2), dtype=np.float64)
        # A new level for each frame keeps float32 sums of products exact enough.
        levelled = stack - mean[:, None, None].astype(np.float32)
        steady = np.full(len(stack), np.nan)
        for number, frame in enumerate(levelled):
            if before is not None:
                steady[number] = _correlation(before, frame)
            before = frame
        parts.append(np.stack([mean, *quality, steady]))
        if progress is not None:
            progress(start + len(stack), frames)
    return SeriesQuality(*np.concatenate(parts, axis=1))


def dim_frames(mean: np.ndarray, fraction: float) -> np.ndarray:
    """
    Frames that are darker than the rest, as behind clouds.

    Parameters
    ----------
    mean : numpy.ndarray
        Mean intensity of each frame, (frames,).
    fraction : float
        Share of the series' median below which a frame counts as dim.

    Returns
    -------
    numpy.ndarray
        Frame numbers, ascending.
    """
    return (
        np.flatnonzero(mean < fraction * np.nanmedian(mean)) if np.isfinite(mean).any() else np.array([], int)
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    norm = np.sqrt(np.vdot(first, first).astype(np.float64) * np.vdot(second, second).astype(np.float64))
    return float(np.vdot(first, second) / norm) if norm > 0 else np.nan
