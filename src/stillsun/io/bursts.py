"""Calibrated bursts: read into memory one at a time, or written to files for an external program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Lock, local
from typing import Any

import numpy as np

from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.core.backend import Backend, to_host
from stillsun.core.batch import frames_per_batch
from stillsun.core.bursts import unix_seconds
from stillsun.core.calibrate import Correction, correct_frames, make_correction
from stillsun.core.drifting import DriftingCorrection, make_drifting
from stillsun.errors import InputError
from stillsun.io.inventory import open_source
from stillsun.io.source import FrameSource
from stillsun.io.store import StoreReader

Progress = Callable[[int, int], None]

# A writer's buffer: two ROSA frames, which are still in the processor's cache when they are written.
_BUFFER_BYTES = 9 * 2**20


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
        correction = self.correction.at(self.middle(burst))
        return correct_frames(self.source.blocks(start, start + self.frames), correction, out)

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
        return correct_frames((block.window(self._rows, self._columns) for block in blocks), correction, out)


def stored_correction(
    calibration: StoreReader, *, backend: Backend | str | None = None
) -> Correction | DriftingCorrection:
    """
    The correction that a calibration product holds.

    Parameters
    ----------
    calibration : StoreReader
        Product of the stage calibrate.
    backend : Backend or str, optional
        Where to calibrate.

    Returns
    -------
    Correction or DriftingCorrection
        The latter where the sequences of darks and flats are interpolated in time.
    """
    bad = calibration.read("bad_pixels")
    if "dark_times" in calibration:
        return make_drifting(
            calibration.read("dark_sequences"),
            calibration.read("dark_times"),
            calibration.read("flat_responses"),
            calibration.read("flat_times"),
            bad,
            backend=backend,
        )
    return make_correction(calibration.read("dark"), calibration.read("gain"), bad, backend=backend)


def open_bursts(
    observation: ObservationConfig,
    settings: ChannelConfig,
    calibration: StoreReader,
    bursts: StoreReader,
    *,
    backend: Backend | str | None = None,
) -> BurstReader:
    """
    Open the bursts of a channel from its stored products.

    Parameters
    ----------
    observation : ObservationConfig
        The observation.
    settings : ChannelConfig
        The channel.
    calibration : StoreReader
        Product of the stage calibrate.
    bursts : StoreReader
        Product of the stage assemble.
    backend : Backend or str, optional
        Where to calibrate.

    Returns
    -------
    BurstReader
        The bursts.
    """
    return BurstReader(
        open_source(observation, settings, "data"),
        stored_correction(calibration, backend=backend),
        bursts.read("first_frame"),
        int(bursts.attributes["frames_per_burst"]),
    )


def write_bursts(
    reader: BurstReader, paths: Mapping[int, Path], *, offset: int = 0, progress: Progress | None = None
) -> None:
    """
    Write burst files: float32 in native byte order, frames x rows x columns.

    Each thread takes one burst after another through a small buffer: while one waits for the file
    system the others compute. A file has its name only when it is complete.

    Parameters
    ----------
    reader : BurstReader
        The bursts.
    paths : mapping of int to Path
        File for each burst to write.
    offset : int, optional
        Bytes (zeros) before the first pixel.
    progress : callable, optional
        ``progress(done, total)`` in bursts.

    Raises
    ------
    InputError
        If raw data cannot be read.
    """
    backend = reader.correction.backend
    serial = replace(reader.correction, backend=replace(backend, threads=1))
    threads = 2 if backend.is_gpu else backend.threads
    piece = min(reader.frames, frames_per_batch(reader.shape[1:], 4, _BUFFER_BYTES))
    own = local()
    done = 0
    counting = Lock()

    def work(burst: int, path: Path) -> None:
        nonlocal done
        if not hasattr(own, "buffer"):
            own.buffer = backend.xp.empty((piece, *reader.shape[1:]), dtype=np.float32)
        _write_burst(reader, burst, path, serial.at(reader.middle(burst)), own.buffer, offset)
        with counting:
            done += 1
            if progress is not None:
                progress(done, len(paths))

    with ThreadPoolExecutor(threads, thread_name_prefix="stillsun") as pool:
        jobs = [pool.submit(work, burst, Path(path)) for burst, path in paths.items()]
        wait(jobs, return_when=FIRST_EXCEPTION)
        for job in jobs:
            job.cancel()
    for job in jobs:
        if not job.cancelled():
            job.result()


def _write_burst(
    reader: BurstReader, burst: int, path: Path, correction: Correction, buffer: Any, offset: int
) -> None:
    start = int(reader.first[burst])
    part = path.with_name(path.name + ".part")
    reader.source.read_ahead(start, start + reader.frames)
    try:
        with part.open("wb", buffering=0) as file:
            file.write(bytes(offset))
            for block in reader.source.blocks(start, start + reader.frames):
                for frames in block.split(len(buffer)):
                    out = correct_frames([frames], correction, buffer[: frames.shape[0]])
                    _write_all(file, to_host(out))
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_all(file: Any, frames: np.ndarray) -> None:
    """Write all of an array: one system call writes at most 2 GiB."""
    rest = memoryview(frames.data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]
