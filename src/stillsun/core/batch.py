"""Raw frames as they lie in memory, and how many of them are taken at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SIGN_BIT = 0x8000
# Frames worked on at once by one pass over raw data: what is read ahead stays bounded.
PASS_BYTES = 128 * 2**20


@dataclass(frozen=True)
class RawBlock:
    """
    A run of raw 16-bit frames at a regular distance in one buffer, not yet decoded.

    Overscan, file headers between the frames and windows are expressed by the strides, so that a
    block is a view of a memory-mapped file and costs nothing until its pixels are read.

    Attributes
    ----------
    words : numpy.ndarray
        (m,) uint16, C-contiguous: the buffer in the machine's byte order.
    first : int
        Index of the first pixel of the first frame.
    frame_stride, row_stride : int
        Words from frame to frame and from row to row.
    shape : tuple of int
        (frames, rows, columns).
    swapped : bool
        The stored byte order is not the machine's.
    flip : int
        Bits inverted after byte order is put right: `SIGN_BIT` for signed integers with BZERO 32768.
    """

    words: np.ndarray
    first: int
    frame_stride: int
    row_stride: int
    shape: tuple[int, int, int]
    swapped: bool = False
    flip: int = 0

    def __post_init__(self) -> None:
        frames, rows, columns = self.shape
        if self.words.dtype != np.uint16 or self.words.ndim != 1 or not self.words.flags.c_contiguous:
            raise ValueError("words must be a contiguous vector of uint16")
        if frames < 1 or rows < 1 or columns < 1 or self.row_stride < columns:
            raise ValueError(f"no such frames: {self.shape} with a row stride of {self.row_stride}")
        last = self.first + (frames - 1) * self.frame_stride + (rows - 1) * self.row_stride + columns
        if self.first < 0 or last > self.words.size:
            raise ValueError(f"frames end at word {last} of {self.words.size}")

    def frames(self, start: int, stop: int) -> RawBlock:
        """
        Some of the frames.

        Parameters
        ----------
        start, stop : int
            Range within the block.

        Returns
        -------
        RawBlock
            Block on the same buffer.
        """
        count = min(stop, self.shape[0]) - start
        return replace(
            self, first=self.first + start * self.frame_stride, shape=(count, self.shape[1], self.shape[2])
        )

    def window(self, rows: slice, columns: slice) -> RawBlock:
        """
        A part of every frame.

        Parameters
        ----------
        rows, columns : slice
            Range of rows and columns, step 1.

        Returns
        -------
        RawBlock
            Block on the same buffer.
        """
        top, bottom, _ = rows.indices(self.shape[1])
        left, right, _ = columns.indices(self.shape[2])
        return replace(
            self,
            first=self.first + top * self.row_stride + left,
            shape=(self.shape[0], bottom - top, right - left),
        )

    def split(self, frames: int) -> Iterator[RawBlock]:
        """
        The block in pieces.

        Parameters
        ----------
        frames : int
            Most frames in a piece.

        Yields
        ------
        RawBlock
            Pieces in order.
        """
        for start in range(0, self.shape[0], frames):
            yield self.frames(start, start + frames)

    def stored(self) -> np.ndarray:
        """
        View of the frames as stored.

        Returns
        -------
        numpy.ndarray
            (frames, rows, columns) uint16, neither byte order nor offset applied.
        """
        size = self.words.itemsize
        return np.lib.stride_tricks.as_strided(
            self.words[self.first :],
            shape=self.shape,
            strides=(self.frame_stride * size, self.row_stride * size, size),
            writeable=False,
        )


def raw_block(frames: np.ndarray) -> RawBlock:
    """
    Present an array as a raw block.

    Parameters
    ----------
    frames : numpy.ndarray
        (frames, rows, columns) uint16 in the machine's byte order.

    Returns
    -------
    RawBlock
        Block on the array's own memory where it is contiguous.
    """
    frames = np.ascontiguousarray(frames, dtype=np.uint16)
    count, rows, columns = frames.shape
    return RawBlock(frames.reshape(-1), 0, rows * columns, columns, (count, rows, columns))


def decode(block: RawBlock, xp: Any = np) -> Any:
    """
    Pixel values of a raw block.

    Parameters
    ----------
    block : RawBlock
        Raw frames.
    xp : module
        Array namespace of the result; a device gets the stored bytes and decodes them itself.

    Returns
    -------
    array
        (frames, rows, columns) uint16 of `xp`, contiguous, not shared with the block.
    """
    words = xp.array(np.ascontiguousarray(block.stored()))
    if block.swapped:
        words = (words << np.uint16(8)) | (words >> np.uint16(8))
    return words ^ np.uint16(block.flip) if block.flip else words


def frames_per_batch(shape: tuple[int, int], bytes_per_pixel: float, budget: int = PASS_BYTES) -> int:
    """
    How many frames fit into a memory budget.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    bytes_per_pixel : float
        Memory that one pixel of one frame needs, all buffers together.
    budget : int
        Bytes.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, int(budget // (shape[0] * shape[1] * bytes_per_pixel)))


def grouped(blocks: Iterable[RawBlock], most: int, size: int) -> Iterator[list[RawBlock]]:
    """
    Arrange blocks so that a compiled loop gets several frames at a time.

    Long blocks are cut into pieces, each alone; blocks of one frame, as files of one frame give them,
    are put together in groups of one fixed size where they are laid out alike.

    Parameters
    ----------
    blocks : iterable of RawBlock
        Raw frames in order.
    most : int
        Most frames in a piece.
    size : int
        Single frames in a group; those left over come alone.

    Yields
    ------
    list of RawBlock
        One piece, or `size` single frames; all frames in order.
    """
    waiting: list[RawBlock] = []
    for block in blocks:
        for piece in block.split(most):
            if waiting and (piece.shape[0] > 1 or _layout(piece) != _layout(waiting[0])):
                yield from ([single] for single in waiting)
                waiting = []
            if piece.shape[0] > 1:
                yield [piece]
                continue
            waiting.append(piece)
            if len(waiting) == size:
                yield waiting
                waiting = []
    yield from ([single] for single in waiting)


def _layout(block: RawBlock) -> tuple[int, ...]:
    return block.first, block.row_stride, *block.shape, block.swapped, block.flip
