"""Burst files for an external program, made from raw files by all threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Lock, local
from typing import Any

import numpy as np

from stillsun.core.backend import to_host
from stillsun.core.batch import frames_per_batch
from stillsun.core.calibrate import Correction
from stillsun.core.exposures import Judgement, judge_surveyed, survey_exposures
from stillsun.io.atomic import replacing
from stillsun.io.bursts import BurstReader, corrected

Progress = Callable[[int, int], None]

# A writer's buffer: two ROSA frames, which are still in the processor's cache when they are written.
_BUFFER_BYTES = 9 * 2**20


def write_bursts(
    reader: BurstReader, paths: Mapping[int, Path], *, offset: int = 0, progress: Progress | None = None
) -> dict[int, Judgement]:
    """
    Write burst files: float32 in native byte order, frames x rows x columns.

    Each thread takes one burst after another through a small buffer: while one waits for the file
    system the others compute. A file has its name only when it is complete. An exposure that is none
    (`stillsun.core.exposures`) is replaced by the nearest one that counts: the program takes them all.

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

    Returns
    -------
    dict
        Number of each burst in which exposures were replaced, and which.

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
    replaced: dict[int, Judgement] = {}
    counting = Lock()

    def work(burst: int, path: Path) -> None:
        nonlocal done
        if not hasattr(own, "buffer"):
            own.buffer = backend.xp.empty((piece, *reader.shape[1:]), dtype=np.float32)
        judged = _write_burst(reader, burst, path, serial.at(reader.middle(burst)), own.buffer, offset)
        with counting:
            done += 1
            if judged.reasons:
                replaced[burst] = judged
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
    return replaced


def _write_burst(
    reader: BurstReader, burst: int, path: Path, correction: Correction, buffer: Any, offset: int
) -> Judgement:
    start = int(reader.first[burst])
    reader.source.read_ahead(start, start + reader.frames)
    seen = []
    with replacing(path) as part, part.open("w+b", buffering=0) as file:
        file.write(bytes(offset))
        for block in reader.source.blocks(start, start + reader.frames):
            for frames in block.split(len(buffer)):
                out = corrected(iter([frames]), correction, buffer[: frames.shape[0]])
                seen.append(survey_exposures(out, correction.backend))
                _write_all(file, to_host(out))
        judged = judge_surveyed(np.concatenate(seen, axis=1))
        each = 4 * math.prod(reader.shape[1:])
        for number in judged.reasons if len(judged.used) else ():
            content = os.pread(file.fileno(), each, offset + each * judged.nearest(number))
            os.pwrite(file.fileno(), content, offset + each * number)
    return judged


def _write_all(file: Any, frames: np.ndarray) -> None:
    """Write all of an array: one system call writes at most 2 GiB."""
    rest = memoryview(frames.data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]
