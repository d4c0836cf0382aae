"""Raw frames at known places in files, read through memory maps or decompressed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stillsun.core._threads import over_blocks
from stillsun.core.backend import get_backend
from stillsun.core.batch import PASS_BYTES, RawBlock, frames_per_batch, raw_block
from stillsun.errors import InputError
from stillsun.io._checksums import ones_sum, same_sum
from stillsun.io._fitsdecode import read_packed
from stillsun.io._fitspacked import Packing
from stillsun.io.foreign import REMEDY, open_regular
from stillsun.io.source import WORD, read_blocks

# Compressed frames decoded at a time.
_DECODED_BYTES = 32 * 2**20


@dataclass(frozen=True)
class FileSource:
    """
    Frames at known places in files, read through memory maps; compressed ones are decoded.

    Attributes
    ----------
    files : tuple of Path
        Files in order.
    file_index : numpy.ndarray
        (frames,) int32: file of each frame.
    offsets : numpy.ndarray
        (frames,) int64: byte of the first pixel of each frame in its file; even. Of a compressed
        frame: byte of its table.
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
    packings : tuple of Packing or None
        How the frames of each file are compressed; None for plain ones, empty where all are plain.
    sizes : numpy.ndarray or None
        (frames,) int64: bytes of each frame's data unit with its padding; None where they are not verified
        and not compressed.
    sums : numpy.ndarray or None
        (frames,) int64: sum that these bytes must have; -1 where the file states none.
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
    packings: tuple[Packing | None, ...] = ()
    sizes: np.ndarray | None = None
    sums: np.ndarray | None = None

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
        """Ranges of frames in one file: at one distance, or compressed; bounded in bytes."""
        runs: list[tuple[int, int]] = []
        step = 0
        most = frames_per_batch(self.frame_shape, WORD, PASS_BYTES)
        decoded = frames_per_batch(self.frame_shape, WORD, _DECODED_BYTES)
        for frame in range(start, stop):
            if runs and frame > start:
                begin, end = runs[-1]
                distance = int(self.offsets[frame] - self.offsets[frame - 1])
                same = self.file_index[frame] == self.file_index[frame - 1]
                if same and self._packing(frame):
                    if end - begin < decoded:
                        runs[-1] = (begin, frame + 1)
                        continue
                elif same and end - begin < most and (end - begin == 1 or distance == step) and distance > 0:
                    runs[-1] = (begin, frame + 1)
                    step = distance
                    continue
            runs.append((frame, frame + 1))
        return runs

    def _extent(self, begin: int, end: int) -> tuple[int, int]:
        rows, columns = self.frame_shape
        first = int(self.offsets[begin])
        if self.sizes is not None and (self._packing(begin) or self._stated(begin)):
            return first, int(self.offsets[end - 1] + self.sizes[end - 1]) - first
        return first, int(self.offsets[end - 1]) + WORD * ((rows - 1) * self.row_words + columns) - first

    def _stated(self, frame: int) -> bool:
        return self.sums is not None and self.sums[frame] >= 0

    def _packing(self, frame: int) -> Packing | None:
        return self.packings[self.file_index[frame]] if self.packings else None

    def _advise(self, begin: int, end: int) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        first, length = self._extent(begin, end)
        with open_regular(self.files[self.file_index[begin]]) as file:
            os.posix_fadvise(file.fileno(), first, length, os.POSIX_FADV_WILLNEED)

    def _map(self, begin: int, end: int) -> RawBlock:
        path = self.files[self.file_index[begin]]
        packing = self._packing(begin)
        if packing is not None and self.sizes is not None:
            sums = self.sums[begin:end] if self.sums is not None and self._stated(begin) else None
            frames = read_packed(path, self.offsets[begin:end], self.sizes[begin:end], packing, sums)
            decoded = replace(raw_block(frames), flip=self.flip)
            return decoded.window(slice(self.frame_shape[0]), slice(self.frame_shape[1]))
        first, length = self._extent(begin, end)
        with open_regular(path) as file:
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
            data = np.frombuffer(
                mmap.mmap(file.fileno(), length + page, access=mmap.ACCESS_READ, offset=first - page),
                dtype=np.uint8,
            )
        words = data[: data.size // WORD * WORD].view(np.uint16)
        if self._stated(begin):
            self._verify(data[page:], begin, end)
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

    def _verify(self, data: np.ndarray, begin: int, end: int) -> None:
        """Compare frames with the sums that their headers state."""
        assert self.sums is not None
        assert self.sizes is not None
        sums, sizes, starts = self.sums, self.sizes, self.offsets - self.offsets[begin]

        def work(first: int, last: int) -> None:
            for frame in range(begin + first, begin + last):
                unit = data[starts[frame] : starts[frame] + sizes[frame]]
                if not same_sum(ones_sum(unit), int(sums[frame])):
                    file = self.file_index[frame]
                    number = frame - int(np.searchsorted(self.file_index, file)) + 1
                    raise InputError(
                        f"the pixels of extension {number} are damaged",
                        file=self.files[file],
                        expected="the sum that its header states (DATASUM)",
                        found="another sum",
                        remedy=REMEDY,
                    )

        over_blocks(work, end - begin, get_backend("numpy"), 1)
