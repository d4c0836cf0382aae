"""Compiled loops over raw frames; every one releases the interpreter lock and is run in threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from stillsun.core._streamed import store_streamed

# Rows whose sums, dark, gain and result stay in the second-level cache while all frames pass.
ROWS = 32
# Of so many rows one is looked at to judge a frame as a whole.
SAMPLED = 8


@njit(nogil=True, cache=True)
def correct(
    buffers: Any,
    first: int,
    frame_stride: int,
    row_stride: int,
    swapped: bool,
    flip: int,
    dark: Any,
    gain: Any,
    out: Any,
    streamed: bool,
) -> None:
    """
    Raw words to ``(raw - dark) * gain``.

    Parameters
    ----------
    buffers : tuple of numpy.ndarray
        (m,) uint16 buffers, all laid out alike; it is compiled for each length of the tuple.
    first, frame_stride, row_stride, flip : int
        Place and encoding of the frames in each, as in `stillsun.core.batch.RawBlock`.
    swapped : bool
        The same.
    dark, gain : numpy.ndarray
        (rows, columns) float32.
    out : numpy.ndarray
        (frames of all buffers, rows, columns) float32, C-contiguous, written.
    streamed : bool
        The result is so large that it is not worth a place in the caches.
    """
    total, rows, columns = out.shape
    frames = total // len(buffers)
    space = np.empty((ROWS if streamed else 0, columns), dtype=np.float32)
    # 32-bit integers throughout: anything wider halves the vector width.
    mask = np.int32(flip)
    for begin in range(0, rows, ROWS):
        end = min(rows, begin + ROWS)
        for number in range(total):
            words = buffers[number // frames]
            for row in range(begin, end):
                start = first + number % frames * frame_stride + row * row_stride
                source = words[start : start + columns]
                target = space[row - begin] if streamed else out[number, row]
                offset = dark[row]
                factor = gain[row]
                if swapped:
                    for column in range(columns):
                        word = np.int32(source[column])
                        word = np.int32((np.int32(word << 8) & 0xFF00) | np.int32(word >> 8)) ^ mask
                        target[column] = (np.float32(np.int32(word)) - offset[column]) * factor[column]
                else:
                    for column in range(columns):
                        word = np.int32(source[column]) ^ mask
                        target[column] = (np.float32(np.int32(word)) - offset[column]) * factor[column]
            if streamed:
                store_streamed(space[: end - begin].reshape(-1), out[number, begin:end].reshape(-1))


@njit(nogil=True, cache=True)
def accumulate(
    buffers: Any,
    first: int,
    frame_stride: int,
    row_stride: int,
    swapped: bool,
    flip: int,
    frames: int,
    top: int,
    bottom: int,
    total: Any,
    squares: Any,
    saturation: int,
    levels: Any,
    saturated: Any,
) -> None:
    """
    Add frames and their squares to sums; exact while the sums stay below 2**53.

    Beside it each frame is judged by some of its rows, at no further cost in memory traffic.

    Parameters
    ----------
    buffers : tuple of numpy.ndarray
        (m,) uint16 buffers, all laid out alike; it is compiled for each length of the tuple.
    first, frame_stride, row_stride, flip : int
        Place and encoding of the frames in each, as in `stillsun.core.batch.RawBlock`.
    swapped : bool
        The same.
    frames : int
        Frames in each buffer; at most 65536 in all, so that 32 bits hold the sum of a pixel.
    top, bottom : int
        Rows to work on.
    total, squares : numpy.ndarray
        (rows, columns) float64, added to.
    saturation : int
        Raw value from which a pixel counts as saturated.
    levels, saturated : numpy.ndarray
        (frames of all buffers,) int64, added to: sum of the pixels of every `SAMPLED`-th row of the
        frame, and how many of them are saturated.
    """
    columns = total.shape[1]
    mask = np.uint16(flip)
    sums = np.empty((ROWS, columns), dtype=np.uint32)
    powers = np.empty((ROWS, columns), dtype=np.uint64)
    for begin in range(top, bottom, ROWS):
        height = min(ROWS, bottom - begin)
        sums[:] = 0
        powers[:] = 0
        for number in range(len(buffers) * frames):
            words = buffers[number // frames]
            for row in range(height):
                start = first + number % frames * frame_stride + (begin + row) * row_stride
                source = words[start : start + columns]
                line = sums[row]
                power = powers[row]
                if swapped:
                    for column in range(columns):
                        word = source[column]
                        word = np.uint16(np.uint16(word << 8) | np.uint16(word >> 8)) ^ mask
                        value = np.uint32(word)
                        line[column] += value
                        power[column] += np.uint64(np.uint32(value * value))
                else:
                    for column in range(columns):
                        value = np.uint32(source[column] ^ mask)
                        line[column] += value
                        power[column] += np.uint64(np.uint32(value * value))
                if (begin + row) % SAMPLED == 0:
                    light = np.uint32(0)
                    full = np.uint32(0)
                    for column in range(columns):
                        word = source[column]
                        if swapped:
                            word = np.uint16(np.uint16(word << 8) | np.uint16(word >> 8))
                        value = np.uint32(word ^ mask)
                        light += value
                        full += np.uint32(value >= saturation)
                    levels[number] += light
                    saturated[number] += full
        for row in range(height):
            for column in range(columns):
                total[begin + row, column] += np.float64(sums[row, column])
                squares[begin + row, column] += np.float64(powers[row, column])
