"""A sequence of raw frames, whatever files they lie in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from stillsun.core.batch import RawBlock, frames_per_batch, raw_block

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
        """
        Give raw frames as `FrameSource.blocks` does.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames.

        Yields
        ------
        RawBlock
            The frames in order.
        """
        chosen = self.frames[start:stop]
        if len(chosen):
            yield from raw_block(chosen).split(frames_per_batch(self.shape[1:], WORD))

    def read_ahead(self, start: int, stop: int) -> None:
        """
        Do nothing: the frames are in memory.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames.
        """

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """
        Read frames as `FrameSource.read` does.

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
        return read_blocks(self.blocks(start, stop), (stop - start, *self.shape[1:]), out)


def sequence_edges(source: FrameSource, pause_s: float = 60.0) -> list[int]:
    """
    Tell the sequences of a source apart, for instance darks from before and after the data.

    Parameters
    ----------
    source : FrameSource
        Frames.
    pause_s : float, optional
        A longer step between two frames separates sequences; another directory does too.

    Returns
    -------
    list of int
        First frame of each sequence, and the number of frames.
    """
    places = [str(file.parent) for file in source.files]
    steps = np.diff(source.start_times) / np.timedelta64(1, "s")
    moved = np.array([places[k] != places[k - 1] for k in source.file_index[1:]], dtype=bool)
    changed = moved & (np.diff(source.file_index) != 0)
    # A comparison with NaT is false.
    broken = np.flatnonzero(changed | (np.abs(steps) > pause_s)) + 1
    return [0, *broken.tolist(), source.shape[0]]


def ranges_text(numbers: Sequence[int] | np.ndarray, most: int = 12) -> str:
    """
    Put numbers into words, runs joined.

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


def missing_text(numbers: Sequence[int] | np.ndarray, first: int = 0, most: int = 12) -> str:
    """
    Put the numbers that are missing from a sequence into words, without listing them all.

    Parameters
    ----------
    numbers : sequence of int
        Ascending numbers that are there.
    first : int, optional
        Number with which the sequence should begin.
    most : int, optional
        Runs named before the rest is only counted.

    Returns
    -------
    str
        As `ranges_text`; empty where none is missing.
    """
    there = [first - 1, *map(int, numbers)]
    runs = [(a + 1, b - 1) for a, b in pairwise(there) if b - a > 1]
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:most]]
    more = ", …" if len(runs) > most else ""
    return f"{', '.join(texts)}{more} ({sum(b - a + 1 for a, b in runs)} in all)" if runs else ""


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
