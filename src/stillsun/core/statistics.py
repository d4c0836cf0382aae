"""Mean and variance of raw frames, in one pass with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core import _rawkernels
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend
from stillsun.core.batch import RawBlock, decode, frames_per_batch, raw_block
from stillsun.errors import InputError

Progress = Callable[[int, int], None]

# More frames at once would overflow the 32-bit sum of a pixel at full scale.
_MOST_FRAMES = 2**15


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
    for block in _gathered(blocks):
        if total is None:
            total = backend.xp.zeros(block.shape[1:], dtype=np.float64)
            squares = backend.xp.zeros(block.shape[1:], dtype=np.float64)
        if block.shape[1:] != total.shape:
            raise InputError("frames of different shape", expected=total.shape, found=block.shape[1:])
        accumulate(block, total, squares, backend)
        done += block.shape[0]
        if progress is not None:
            progress(done, frames if frames is not None else done)
    if total is None:
        raise InputError("no frames to average", remedy="Check the directory and pattern of the files")
    mean = total / done
    variance = backend.xp.maximum(squares - total * mean, 0.0) / max(done - 1, 1)
    if backend.is_gpu:
        mean, variance = mean.get(), variance.get()
    return FrameStatistics(done, mean, variance)


def _gathered(blocks: Iterable[RawBlock]) -> Iterator[RawBlock]:
    """Split long blocks; copy runs of short ones into one buffer, so that a pass has many frames."""
    buffer: np.ndarray | None = None
    filled = 0
    for block in blocks:
        room = min(frames_per_batch(block.shape[1:], 2), _MOST_FRAMES)
        if block.shape[0] >= min(8, room):
            yield from block.split(room)
            continue
        group = min(8, room)
        if buffer is None or buffer.shape[1:] != block.shape[1:]:
            if buffer is not None and filled:
                yield raw_block(buffer[:filled])
            buffer, filled = np.empty((group, *block.shape[1:]), dtype=np.uint16), 0
            encoding = (block.swapped, block.flip)
        for piece in block.split(1):
            buffer[filled] = decode(piece)[0] if any(encoding) else piece.stored()[0]
            filled += 1
            if filled == len(buffer):
                yield raw_block(buffer)
                filled = 0
    if buffer is not None and filled:
        yield raw_block(buffer[:filled])


def _accumulate_compiled(block: RawBlock, total: np.ndarray, squares: np.ndarray, backend: Backend) -> None:
    def work(top: int, bottom: int) -> None:
        _rawkernels.accumulate(
            block.words,
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


def _accumulate_arrays(block: RawBlock, total: Any, squares: Any, backend: Backend) -> None:
    for piece in block.split(frames_per_batch(block.shape[1:], 12)):
        values = decode(piece, backend.xp).astype(np.float64)
        total += values.sum(axis=0)
        squares += (values * values).sum(axis=0)
