"""Mean and variance of raw frames, in one pass with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core import _rawkernels
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend
from stillsun.core.batch import RawBlock, decode, frames_per_batch, grouped
from stillsun.errors import InputError

Progress = Callable[[int, int], None]

# More frames at once would overflow the 32-bit sum of a pixel at full scale.
_MOST_FRAMES = 2**15
# Files of one frame are taken so many at a time: the sums of a few rows stay in the cache meanwhile.
_GROUP = 8


@dataclass(frozen=True)
class FrameStatistics:
    """
    Mean and variance over frames.

    Attributes
    ----------
    frames : int
        Number of frames.
    mean : numpy.ndarray
        (rows, columns) float64, DN.
    variance : numpy.ndarray
        (rows, columns) float64, unbiased, DN squared; zero for a single frame.
    """

    frames: int
    mean: np.ndarray
    variance: np.ndarray


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
    backend = get_backend(backend)
    accumulate = _accumulate_arrays if backend.is_gpu else _accumulate_compiled
    total: Any = None
    squares: Any = None
    done = 0
    for group in grouped(blocks, _MOST_FRAMES, _GROUP):
        shape = group[0].shape[1:]
        if total is None:
            total = backend.xp.zeros(shape, dtype=np.float64)
            squares = backend.xp.zeros(shape, dtype=np.float64)
        if shape != total.shape:
            raise InputError("frames of different shape", expected=total.shape, found=shape)
        accumulate(group, total, squares, backend)
        done += sum(block.shape[0] for block in group)
        if progress is not None:
            progress(done, frames if frames is not None else done)
    if total is None:
        raise InputError("no frames to average", remedy="Check the directory and pattern of the files")
    mean = total / done
    # In place: the arrays of a large chip are not worth a second copy.
    total *= mean
    squares -= total
    variance = backend.xp.maximum(squares, 0.0, out=squares)
    variance /= max(done - 1, 1)
    if backend.is_gpu:
        mean, variance = mean.get(), variance.get()
    return FrameStatistics(done, mean, variance)


def _accumulate_compiled(
    group: list[RawBlock], total: np.ndarray, squares: np.ndarray, backend: Backend
) -> None:
    block = group[0]
    buffers = tuple(member.words for member in group)

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
            total,
            squares,
        )

    over_blocks(work, block.shape[1], backend, -(-block.shape[1] // (2 * backend.threads)))


def _accumulate_arrays(group: list[RawBlock], total: Any, squares: Any, backend: Backend) -> None:
    for block in group:
        for piece in block.split(frames_per_batch(block.shape[1:], 12)):
            values = decode(piece, backend.xp).astype(np.float64)
            total += values.sum(axis=0)
            squares += (values * values).sum(axis=0)
