"""A sequence of raw frames, whatever files they lie in."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from stillsun.core.batch import PASS_BYTES, RawBlock, frames_per_batch, raw_block
from stillsun.errors import InputError

WORD = 2
"""Bytes of a raw pixel."""


class FrameSource(Protocol):
    """
    Raw frames of one camera in the order of time; nothing is loaded until it is asked for.

    Attributes
    ----------
    shape : tuple of int
        (frames, rows, columns).
    start_times : numpy.ndarray
        (frames,) datetime64[us] UTC: start of each exposure; NaT where the files tell no time and
        none was declared.
    exposure_s : float
        Exposure of one frame, seconds; NaN where unknown.
    files : tuple of Path
        Files in order.
    file_index : numpy.ndarray
        (frames,) int32: in which of the files each frame lies.
    findings : tuple of str
        Oddities in words: frames missing, files left out, clocks that step back.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""

    @property
    def start_times(self) -> np.ndarray:
        """Start of each exposure."""

    @property
    def exposure_s(self) -> float:
        """Exposure of one frame."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files in order."""

    @property
    def file_index(self) -> np.ndarray:
        """File of each frame."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Oddities."""

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[RawBlock]:
        """
        Raw frames as they lie in memory, for code that decodes them in the same pass.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames; all by default.

        Yields
        ------
        RawBlock
            The frames in order, in blocks of at most about 128 MiB; what follows is read ahead.
        """

    def read_ahead(self, start: int, stop: int) -> None:
        """
        Have the system fetch frames from disk in the background.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames.
        """

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """
        Read raw frames.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames.
        out : numpy.ndarray, optional
            (stop - start, rows, columns) uint16, written.

        Returns
        -------
        numpy.ndarray
            (stop - start, rows, columns) uint16, DN.
        """


def read_blocks(
    blocks: Iterator[RawBlock], shape: tuple[int, int, int], out: np.ndarray | None
) -> np.ndarray:
    """
    Decode blocks into one array.

    Parameters
    ----------
    blocks : iterator of RawBlock
        Frames in order.
    shape : tuple of int
        (frames, rows, columns) of them all.
    out : numpy.ndarray or None
        uint16 array of that shape, written; a new one by default.

    Returns
    -------
    numpy.ndarray
        `out`, or the new array.
    """
    out = np.empty(shape, dtype=np.uint16) if out is None else out
    if out.shape != shape or out.dtype != np.uint16:
        raise ValueError(f"out must be uint16 {shape}, not {out.dtype} {out.shape}")
    filled = 0
    for block in blocks:
        part = out[filled : filled + block.shape[0]]
        part[...] = block.stored()
        if block.swapped:
            part.byteswap(inplace=True)
        if block.flip:
            part ^= np.uint16(block.flip)
        filled += block.shape[0]
    return out


@dataclass(frozen=True)
class ArraySource:
    """
    Frames in memory.

    Attributes
    ----------
    frames : numpy.ndarray
        (frames, rows, columns) uint16.
    start_times : numpy.ndarray
        (frames,) datetime64[us] UTC.
    exposure_s : float
        Exposure of one frame, seconds.
    files, findings : tuple
        As in `FrameSource`; empty.
    """

    frames: np.ndarray
    start_times: np.ndarray
    exposure_s: float
    files: tuple[Path, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""
        frames, rows, columns = self.frames.shape
        return frames, rows, columns

    @property
    def file_index(self) -> np.ndarray:
        """Zero for each frame."""
        return np.zeros(len(self.frames), dtype=np.int32)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[RawBlock]:
        """See `FrameSource.blocks`."""
        chosen = self.frames[start:stop]
        if len(chosen):
            yield from raw_block(chosen).split(frames_per_batch(self.shape[1:], WORD))

    def read_ahead(self, start: int, stop: int) -> None:
        """See `FrameSource.read_ahead`; there is nothing to do."""

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """See `FrameSource.read`."""
        return read_blocks(self.blocks(start, stop), (stop - start, *self.shape[1:]), out)


@dataclass(frozen=True)
class FileSource:
    """
    Frames at known places in files, read through memory maps.

    Attributes
    ----------
    files : tuple of Path
        Files in order.
    file_index : numpy.ndarray
        (frames,) int32: file of each frame.
    offsets : numpy.ndarray
        (frames,) int64: byte of the first pixel of each frame in its file; even.
    frame_shape : tuple of int
        (rows, columns) of the image.
    row_words : int
        Pixels from row to row in the file: more than the columns where there is overscan.
    swapped, flip
        Encoding, as in `RawBlock`.
    start_times : numpy.ndarray
        (frames,) datetime64[us] UTC.
    exposure_s : float
        Exposure of one frame, seconds.
    findings : tuple of str
        Oddities.
    """

    files: tuple[Path, ...]
    file_index: np.ndarray
    offsets: np.ndarray
    frame_shape: tuple[int, int]
    row_words: int
    swapped: bool
    flip: int
    start_times: np.ndarray
    exposure_s: float
    findings: tuple[str, ...] = field(default=())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""
        return (len(self.offsets), *self.frame_shape)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[RawBlock]:
        """See `FrameSource.blocks`."""
        runs = self._runs(start, self.shape[0] if stop is None else stop)
        for position, (begin, end) in enumerate(runs):
            if position + 1 < len(runs):
                self._advise(*runs[position + 1])
            yield self._map(begin, end)

    def read_ahead(self, start: int, stop: int) -> None:
        """See `FrameSource.read_ahead`."""
        for begin, end in self._runs(start, stop):
            self._advise(begin, end)

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """See `FrameSource.read`."""
        return read_blocks(self.blocks(start, stop), (stop - start, *self.frame_shape), out)

    def _runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges of frames at one distance in one file, of at most `PASS_BYTES`."""
        runs: list[tuple[int, int]] = []
        step = 0
        most = frames_per_batch(self.frame_shape, WORD, PASS_BYTES)
        for frame in range(start, stop):
            if runs and frame > start:
                begin, end = runs[-1]
                distance = int(self.offsets[frame] - self.offsets[frame - 1])
                same = self.file_index[frame] == self.file_index[frame - 1]
                if same and end - begin < most and (end - begin == 1 or distance == step) and distance > 0:
                    runs[-1] = (begin, frame + 1)
                    step = distance
                    continue
            runs.append((frame, frame + 1))
        return runs

    def _extent(self, begin: int, end: int) -> tuple[int, int]:
        rows, columns = self.frame_shape
        first = int(self.offsets[begin])
        return first, int(self.offsets[end - 1]) + WORD * ((rows - 1) * self.row_words + columns) - first

    def _advise(self, begin: int, end: int) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        first, length = self._extent(begin, end)
        with _open(self.files[self.file_index[begin]]) as file:
            os.posix_fadvise(file.fileno(), first, length, os.POSIX_FADV_WILLNEED)

    def _map(self, begin: int, end: int) -> RawBlock:
        path = self.files[self.file_index[begin]]
        first, length = self._extent(begin, end)
        with _open(path) as file:
            # Touching a map behind the end of its file would kill the process.
            size = os.fstat(file.fileno()).st_size
            if size < first + length:
                raise InputError(
                    "the file has become shorter since it was opened",
                    file=path,
                    expected=f"at least {first + length} bytes",
                    found=f"{size} bytes",
                    remedy="Wait until it is written or copied completely, and run again",
                )
            page = first % mmap.ALLOCATIONGRANULARITY
            words = np.frombuffer(
                mmap.mmap(file.fileno(), length + page, access=mmap.ACCESS_READ, offset=first - page),
                dtype=np.uint16,
            )
        stride = int(self.offsets[begin + 1] - self.offsets[begin]) // WORD if end - begin > 1 else 0
        return RawBlock(
            words,
            page // WORD,
            stride,
            self.row_words,
            (end - begin, *self.frame_shape),
            self.swapped,
            self.flip,
        )


def _open(path: Path):  # type: ignore[no-untyped-def]
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise InputError("cannot be read", file=path, found=error.strerror) from error


def ranges_text(numbers: Sequence[int] | np.ndarray, most: int = 12) -> str:
    """
    Numbers in words, runs joined.

    Parameters
    ----------
    numbers : sequence of int
        Ascending numbers.
    most : int, optional
        Runs named before the rest is only counted.

    Returns
    -------
    str
        For instance ``"3, 7-9 (4 in all)"``.
    """
    values = np.asarray(numbers, dtype=np.int64)
    edges = np.flatnonzero(np.diff(values) != 1) + 1
    runs = np.split(values, edges)
    texts = [str(run[0]) if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most] if run.size]
    more = ", …" if len(runs) > most else ""
    return f"{', '.join(texts)}{more} ({values.size} in all)"


def frame_bytes(shape: tuple[int, ...]) -> int:
    """
    Size of a raw frame.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).

    Returns
    -------
    int
        Bytes.
    """
    return WORD * math.prod(shape)
