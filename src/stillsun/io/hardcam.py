"""
HARDcam: headerless spool files of the Andor Solis program, one frame a file.

The name is the frame's number with its least significant digit first, ``0100000000spool.dat`` for
frame 10; the file is (rows + 2) x (columns + 12) unsigned 16-bit integers in native byte order with
the image in the first rows and columns (SSOSoft manual, 2025-10-14, section 2.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io._filesource import FileSource
from stillsun.io.source import frame_bytes, ranges_text

OVERSCAN = (2, 12)
"""Rows and columns of a spool file beyond the image."""

_NAME = re.compile(r"(\d+)spool\.dat")


def spool_number(path: Path) -> int:
    """
    Number of a frame from the name of its file.

    Parameters
    ----------
    path : Path
        Spool file.

    Returns
    -------
    int
        Number, from 0.

    Raises
    ------
    InputError
        If the name is not that of a spool file.
    """
    match = _NAME.fullmatch(Path(path).name)
    if match is None:
        raise InputError(
            "not the name of a spool file",
            file=path,
            expected="digits, least significant first, then spool.dat",
            remedy="Narrow the file pattern, e.g. *spool.dat",
        )
    return int(match[1][::-1])


def open_hardcam(
    files: Sequence[Path],
    shape: tuple[int, int],
    *,
    file_shape: tuple[int, int] | None = None,
    start: np.datetime64 | None = None,
    interval_s: float = float("nan"),
    exposure_s: float = float("nan"),
) -> FileSource:
    """
    Open a sequence of spool files.

    Files of a wrong size are left out and named; so are missing numbers. The time of a frame follows
    from its own number, ``start + number * interval``, so that frames after a gap keep their time.

    Parameters
    ----------
    files : sequence of Path
        Spool files in any order.
    shape : tuple of int
        (rows, columns) of the image.
    file_shape : tuple of int, optional
        (rows, columns) of the file; the image and the camera's overscan by default.
    start : numpy.datetime64, optional
        UTC start of frame 0.
    interval_s : float, optional
        Seconds from frame to frame.
    exposure_s : float, optional
        Exposure of a frame, seconds.

    Returns
    -------
    FileSource
        The frames in order.

    Raises
    ------
    InputError
        If no file has the right size, or two have one number.
    """
    rows, columns = shape
    size_of_file = file_shape or (rows + OVERSCAN[0], columns + OVERSCAN[1])
    if size_of_file[0] < rows or size_of_file[1] < columns:
        raise InputError(
            "camera.file_shape is smaller than camera.shape", expected=f"at least {shape}", found=size_of_file
        )
    if not files:
        raise InputError("no spool files", remedy="Check the directory and the file pattern")
    numbers = np.array([spool_number(file) for file in files], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    ordered = [Path(files[k]) for k in order]
    numbers = numbers[order]
    twice = np.flatnonzero(np.diff(numbers) == 0)
    if twice.size:
        raise InputError(
            f"two files with the number {numbers[twice[0]]}",
            file=ordered[twice[0]],
            found=ordered[twice[0] + 1],
            remedy="One sequence is one directory; narrow the file pattern",
        )
    expected = frame_bytes(size_of_file)
    sizes = np.array([file.stat().st_size for file in ordered], dtype=np.int64)
    good = sizes == expected
    if not good.any():
        raise InputError(
            "spool files of another size",
            file=ordered[0],
            expected=f"{expected} bytes ({size_of_file[0]} x {size_of_file[1]} pixels)",
            found=f"{sizes[0]} bytes",
            remedy="Set camera.shape and camera.file_shape to the read-out",
        )
    findings = [
        f"spool file of a wrong size left out: {ordered[k]} (frame {numbers[k]}): expected {expected} bytes, "
        f"found {sizes[k]}"
        for k in np.flatnonzero(~good)
    ]
    missing = np.setdiff1d(np.arange(numbers[-1] + 1), numbers)
    if missing.size:
        findings.append(f"missing spool files in {ordered[0].parent}: frames {ranges_text(missing)}")
    numbers = numbers[good]
    count = numbers.size
    return FileSource(
        files=tuple(file for file, use in zip(ordered, good, strict=True) if use),
        file_index=np.arange(count, dtype=np.int32),
        offsets=np.zeros(count, dtype=np.int64),
        frame_shape=(rows, columns),
        row_words=size_of_file[1],
        swapped=False,
        flip=0,
        start_times=_times(numbers, start, interval_s),
        exposure_s=exposure_s,
        findings=tuple(findings),
    )


def _times(numbers: np.ndarray, start: np.datetime64 | None, interval_s: float) -> np.ndarray:
    if start is None:
        return np.full(numbers.shape, np.datetime64("NaT"), dtype="datetime64[us]")
    steps = np.rint(numbers * (interval_s * 1e6)).astype("timedelta64[us]")
    return start.astype("datetime64[us]") + steps
