"""Mean and variance of raw frames, in one pass with bounded memory; frames that are off are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from stillsun.core import _rawkernels
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.batch import RawBlock, decode, frames_per_batch, grouped
from stillsun.core.robust import robust_deviation
from stillsun.errors import InputError

Progress = Callable[[int, int], None]
Read = Callable[[int, int], Iterable[RawBlock]]

# More frames at once would overflow the 32-bit sum of a pixel at full scale.
_MOST_FRAMES = 2**15
# Files of one frame are taken so many at a time: the sums of a few rows stay in the cache meanwhile.
_GROUP = 32
# Light that changes within so many frames is no fault of single frames.
_RUNNING = 63
# A frame that differs by less harms no mean.
_HARMLESS = 0.01
# Where more frames lie off, the light has changed, and no frame is to blame.
_MOST_OUTLIERS = 0.1
# Fewer frames do not tell what is usual.
_LEAST_FRAMES = 5


@dataclass(frozen=True)
class FrameStatistics:
    """
    Mean and variance over frames.

    Attributes
    ----------
    frames : int
        Number of frames in the mean.
    mean : numpy.ndarray
        (rows, columns) float64, DN.
    variance : numpy.ndarray
        (rows, columns) float64, unbiased, DN squared; zero for a single frame.
    levels : numpy.ndarray
        (all frames,) float64: mean of every eighth row, DN; of the frames left out too.
    outliers, saturated : tuple of int
        Frames left out, for their light lies off, or for they are saturated.
    """

    frames: int
    mean: np.ndarray
    variance: np.ndarray
    levels: np.ndarray
    outliers: tuple[int, ...] = ()
    saturated: tuple[int, ...] = ()


def pooled(parts: Sequence[FrameStatistics]) -> FrameStatistics:
    """
    Statistics of several sequences as one.

    Parameters
    ----------
    parts : sequence of FrameStatistics
        Of the sequences, in order.

    Returns
    -------
    FrameStatistics
        Mean over all frames; the variance is that within the sequences, so that what changed between them
        is no noise. Frames left out are counted over all.
    """
    if len(parts) == 1:
        return parts[0]
    frames = sum(part.frames for part in parts)
    mean = sum(part.frames / frames * part.mean for part in parts)
    within = max(sum(part.frames - 1 for part in parts), 1)
    variance = sum((part.frames - 1) / within * part.variance for part in parts)
    firsts = np.cumsum([0, *(part.levels.size for part in parts[:-1])]).tolist()
    outliers, saturated = (
        tuple(
            first + frame for first, part in zip(firsts, parts, strict=True) for frame in getattr(part, name)
        )
        for name in ("outliers", "saturated")
    )
    levels = np.concatenate([part.levels for part in parts])
    return FrameStatistics(frames, np.asarray(mean), np.asarray(variance), levels, outliers, saturated)


def frame_statistics(
    blocks: Iterable[RawBlock],
    *,
    frames: int | None = None,
    backend: Backend | str | None = None,
    progress: Progress | None = None,
) -> FrameStatistics:
    """
    Mean and variance of raw frames in one pass with bounded memory.

    Sums and sums of squares are integers held in float64, exact up to 2**53, so that the result
    depends neither on the order of the frames nor on the number of threads.

    Parameters
    ----------
    blocks : iterable of RawBlock
        Raw frames, all of one shape.
    frames : int, optional
        Frames to come, for `progress`.
    backend : Backend or str, optional
        Where to compute.
    progress : callable, optional
        ``progress(done, total)`` in frames.

    Returns
    -------
    FrameStatistics
        On the host.

    Raises
    ------
    InputError
        If there is no frame, or the shapes differ.
    """
    sums = _Sums(get_backend(backend), 2**16)
    sums.add(blocks, frames, progress)
    return sums.statistics()


def average_frames(
    read: Read,
    frames: int,
    *,
    saturation: int = 2**16,
    saturated_fraction: float = 0.01,
    outlier_sigma: float = 6.0,
    backend: Backend | str | None = None,
    progress: Progress | None = None,
) -> FrameStatistics:
    """
    Mean and variance of raw frames without those that are saturated or whose light lies off.

    All frames are added up in one pass, in which each is judged by every eighth of its rows. The few
    that are refused are read once more and taken out of the sums again, which is exact.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives the raw blocks of a range of frames.
    frames : int
        Number of frames.
    saturation : int, optional
        Raw value from which a pixel counts as saturated.
    saturated_fraction : float, optional
        A frame with a larger share of saturated pixels is left out.
    outlier_sigma : float, optional
        A frame is left out whose level lies so many robust standard deviations (1.4826 times the
        median absolute deviation) off the running median of the levels, and 1 % of it at least.
        Where a tenth of all lie off, the light has changed and all are kept.
    backend : Backend or str, optional
        Where to compute.
    progress : callable, optional
        ``progress(done, total)`` in frames.

    Returns
    -------
    FrameStatistics
        On the host.

    Raises
    ------
    InputError
        If there is no frame, all are saturated, or the shapes differ.
    """
    backend = get_backend(backend)
    sums = _Sums(backend, saturation)
    sums.add(read(0, frames), frames, progress)
    levels, share = sums.levels()
    full = share > saturated_fraction
    if full.all() and full.size:
        raise InputError(
            "all frames are saturated",
            expected=f"at most {saturated_fraction:.1%} of the pixels at {saturation} DN or above",
            found=f"{float(share.min()):.1%} at least",
            remedy="Check camera.saturation of the channel, or take other frames",
        )
    off = np.zeros_like(full)
    off[~full] = _outliers(levels[~full], outlier_sigma)
    refused = _Sums(backend, saturation)
    for frame in np.flatnonzero(full | off).tolist():
        refused.add(read(frame, frame + 1), None, None)
    return sums.statistics(refused, tuple(np.flatnonzero(off).tolist()), tuple(np.flatnonzero(full).tolist()))


def _outliers(levels: np.ndarray, sigma: float) -> np.ndarray:
    """Which levels lie off those around them."""
    if levels.size < _LEAST_FRAMES:
        return np.zeros(levels.shape, dtype=bool)
    usual = np.median(levels) if levels.size < _RUNNING else median_filter(levels, _RUNNING, mode="nearest")
    distance = np.abs(levels - usual)
    limit = np.maximum(sigma * robust_deviation(distance), np.maximum(_HARMLESS * np.abs(usual), 1.0))
    off = np.asarray(distance > limit)
    return off if off.mean() < _MOST_OUTLIERS else np.zeros_like(off)


class _Sums:
    """Sums over frames, and what each frame is like as a whole."""

    def __init__(self, backend: Backend, saturation: int) -> None:
        self._backend = backend
        self._saturation = saturation
        self._total: Any = None
        self._squares: Any = None
        self._levels: list[np.ndarray] = []
        self._saturated: list[np.ndarray] = []
        self._frames = 0

    def add(self, blocks: Iterable[RawBlock], frames: int | None, progress: Progress | None) -> None:
        """Add frames."""
        backend = self._backend
        accumulate = self._add_arrays if backend.is_gpu else self._add_compiled
        for group in grouped(blocks, _MOST_FRAMES, _GROUP):
            shape = group[0].shape[1:]
            if self._total is None:
                self._total = backend.xp.zeros(shape, dtype=np.float64)
                self._squares = backend.xp.zeros(shape, dtype=np.float64)
            if shape != self._total.shape:
                raise InputError("frames of different shape", expected=self._total.shape, found=shape)
            accumulate(group)
            self._frames += sum(block.shape[0] for block in group)
            if progress is not None:
                progress(self._frames, frames if frames is not None else self._frames)

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the sampled rows of each frame, and the share of their pixels that is saturated."""
        if self._total is None:
            raise InputError("no frames to average", remedy="Check the directory and pattern of the files")
        pixels = -(-self._total.shape[0] // _rawkernels.SAMPLED) * self._total.shape[1]
        return np.concatenate(self._levels) / pixels, np.concatenate(self._saturated) / pixels

    def statistics(
        self,
        refused: _Sums | None = None,
        outliers: tuple[int, ...] = (),
        saturated: tuple[int, ...] = (),
    ) -> FrameStatistics:
        """Mean and variance of what was added, but for what is refused; the sums are used up."""
        levels, _ = self.levels()
        total, squares, count = self._total, self._squares, self._frames
        if refused is not None and refused._total is not None:
            total -= refused._total
            squares -= refused._squares
            count -= refused._frames
        mean = total / count
        # In place: the arrays of a large chip are not worth a second copy.
        total *= mean
        squares -= total
        variance = self._backend.xp.maximum(squares, 0.0, out=squares)
        variance /= max(count - 1, 1)
        return FrameStatistics(count, to_host(mean), to_host(variance), levels, outliers, saturated)

    def _add_compiled(self, group: list[RawBlock]) -> None:
        block = group[0]
        buffers = tuple(member.words for member in group)
        rows = block.shape[1]
        size = -(-rows // (2 * self._backend.threads))
        # Each thread counts for itself.
        counts = np.zeros((2, -(-rows // size), len(group) * block.shape[0]), dtype=np.int64)

        def work(top: int, bottom: int) -> None:
            _rawkernels.accumulate(
                buffers,
                block.first,
                block.frame_stride,
                block.row_stride,
                block.swapped,
                block.flip,
                block.shape[0],
                top,
                bottom,
                self._total,
                self._squares,
                self._saturation,
                counts[0, top // size],
                counts[1, top // size],
            )

        over_blocks(work, rows, self._backend, size)
        levels, saturated = counts.sum(axis=1)
        self._levels.append(levels)
        self._saturated.append(saturated)

    def _add_arrays(self, group: list[RawBlock]) -> None:
        # A wider type: NumPy 2.0 and 2.1 may crash on a Python number that no pixel can have.
        limit = np.int64(self._saturation)
        for block in group:
            for piece in block.split(frames_per_batch(block.shape[1:], 12)):
                raw = decode(piece, self._backend.xp)
                sampled = raw[:, :: _rawkernels.SAMPLED]
                self._levels.append(to_host(sampled.sum(axis=(1, 2), dtype=np.int64)))
                full = sampled >= limit
                self._saturated.append(to_host(full.sum(axis=(1, 2), dtype=np.int64)))
                values = raw.astype(np.float64)
                self._total += values.sum(axis=0)
                self._squares += (values * values).sum(axis=0)
