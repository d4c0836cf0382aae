"""Calibrated bursts, read into memory one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stillsun.core.batch import RawBlock
from stillsun.core.bursts import unix_seconds
from stillsun.core.calibrate import Correction, correct_frames
from stillsun.core.calibrate_in_time import DriftingCorrection
from stillsun.errors import InputError
from stillsun.io.source import FrameSource

# Every so many rows and columns are looked at first, to see whether a frame is one value throughout.
_SAMPLED = 32


class BurstReader:
    """
    Calibrated bursts of a source; nothing is read before it is asked for.

    Parameters
    ----------
    source : FrameSource
        Raw frames.
    correction : Correction or DriftingCorrection
        Dark, gain and bad pixels, on the backend that computes; where it changes in time, that of the
        burst's middle is taken.
    first : numpy.ndarray
        (bursts,) first frame of each burst.
    frames : int
        Frames in a burst.

    Raises
    ------
    InputError
        If the frames do not fit the calibration, or the bursts reach behind the frames.
    """

    def __init__(
        self,
        source: FrameSource,
        correction: Correction | DriftingCorrection,
        first: np.ndarray,
        frames: int,
    ) -> None:
        if source.shape[1:] != correction.shape:
            raise InputError(
                "frames and calibration differ in shape",
                file=source.files[0] if source.files else None,
                expected=f"{correction.shape} (calibration)",
                found=source.shape[1:],
                remedy="Use darks and flats of the same camera and read-out",
            )
        last = int(np.max(first, initial=-1)) + frames if len(first) else 0
        if last > source.shape[0]:
            raise InputError(
                "the bursts reach behind the raw frames",
                file=source.files[-1] if source.files else None,
                expected=f"{last} frames",
                found=source.shape[0],
                remedy="The raw files have changed: run assemble again",
            )
        self.source = source
        self.correction = correction
        self.first = np.asarray(first, dtype=np.int64)
        self.frames = int(frames)

    def __len__(self) -> int:
        return int(self.first.size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of a burst."""
        return (self.frames, *self.correction.shape)

    def read(self, burst: int, out: Any = None) -> Any:
        """
        Read and calibrate one burst; the next is read ahead from disk meanwhile.

        Parameters
        ----------
        burst : int
            Number of the burst.
        out : array, optional
            (frames, rows, columns) float32 of the correction's backend, written.

        Returns
        -------
        array
            `out`, or a new array; DN above the dark, on the scale of the flat's median.
        """
        start = int(self.first[burst])
        if burst + 1 < len(self):
            following = int(self.first[burst + 1])
            self.source.read_ahead(following, following + self.frames)
        blocks = self.source.blocks(start, start + self.frames)
        return corrected(blocks, self.correction.at(self.middle(burst)), out)

    def middle(self, burst: int) -> float:
        """
        Time for which a burst is calibrated.

        Parameters
        ----------
        burst : int
            Number of the burst.

        Returns
        -------
        float
            Middle between the start of its first and of its last frame, Unix seconds UTC.
        """
        start = int(self.first[burst])
        return float(unix_seconds(self.source.start_times[[start, start + self.frames - 1]]).mean())

    def window(self, rows: slice, columns: slice) -> WindowReader:
        """
        The same bursts, of a part of the field only.

        Parameters
        ----------
        rows, columns : slice
            The part.

        Returns
        -------
        WindowReader
            Reads no more of the files than the rows of the part.
        """
        return WindowReader(self, rows, columns)


class WindowReader:
    """
    Calibrated bursts of a part of the field.

    Parameters
    ----------
    reader : BurstReader
        Of the whole field.
    rows, columns : slice
        The part.
    """

    def __init__(self, reader: BurstReader, rows: slice, columns: slice) -> None:
        self._reader = reader
        self._rows = rows
        self._columns = columns
        self._correction = reader.correction.crop(rows, columns)

    def read(self, burst: int, out: Any = None) -> Any:
        """
        Read and calibrate the part of one burst.

        Parameters
        ----------
        burst : int
            Number of the burst.
        out : array, optional
            float32 array of the part's shape, written.

        Returns
        -------
        array
            (frames, rows, columns) float32.
        """
        start = int(self._reader.first[burst])
        blocks = self._reader.source.blocks(start, start + self._reader.frames)
        correction = self._correction.at(self._reader.middle(burst))
        return corrected((block.window(self._rows, self._columns) for block in blocks), correction, out)


def corrected(blocks: Iterator[RawBlock], correction: Correction, out: Any) -> Any:
    """
    Calibrate frames; a raw frame that is one value throughout stays so.

    Dark and gain would give it structure, and it would pass for an exposure (`stillsun.core.exposures`).

    Parameters
    ----------
    blocks : iterator of RawBlock
        Raw frames.
    correction : Correction
        What calibrates them.
    out : array
        (n, rows, columns) float32, written; None for a new one.

    Returns
    -------
    array
        Calibrated frames.
    """
    constant: list[int] = []

    def watched() -> Iterator[RawBlock]:
        seen = 0
        for block in blocks:
            stored = block.stored()
            sample = stored[:, ::_SAMPLED, ::_SAMPLED]
            alike = (sample == sample[:, :1, :1]).all(axis=(1, 2))
            constant.extend(
                seen + int(k) for k in np.flatnonzero(alike) if (stored[k] == stored[k, 0, 0]).all()
            )
            seen += len(stored)
            yield block

    frames = correct_frames(watched(), correction, out)
    for number in constant:
        frames[number] = max(float(frames[number].mean()), 0.0)
    return frames
