"""
HARDcam: headerless spool files of the Andor Solis program, one frame a file.

The name is the frame's number with its least significant digit first, ``0100000000spool.dat`` for
frame 10; the file is (rows + 2) x (columns + 12) unsigned 16-bit integers in native byte order with
the image in the first rows and columns (SSOSoft manual, 2025-10-14, section 2.2.2).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io._filesource import FileSource
from stillsun.io.andor import OVERSCAN, spool_form
from stillsun.io.foreign import reading
from stillsun.io.source import WORD, frame_bytes, missing_text

# Files that are named one by one.
_NAMED = 8

# The camera writes ten digits; with eighteen the number still fits into 64 bits.
_NAME = re.compile(r"(\d{1,18})spool\.dat", re.ASCII)


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


def directory_time(directory: Path) -> np.datetime64:
    """
    When a sequence was taken, by the name that the observers gave its directory.

    Parameters
    ----------
    directory : Path
        For instance ``250903_ZYLA/DBJ_data_141613_observation``: the time in its own name, the date in
        that of a directory above it.

    Returns
    -------
    numpy.datetime64
        When its first file was written, a few seconds late, by the clock of the camera's computer; NaT
        where the names tell no time.
    """
    clock = re.search(r"(?<!\d)([01]\d|2[0-3])([0-5]\d)([0-5]\d)(?!\d)", directory.name)
    for part in [above.name for above in directory.parents] if clock else []:
        date = re.search(r"(?<!\d)(?:20)?(\d\d)(0[1-9]|1[0-2])([0-3]\d)(?!\d)", part)
        if clock and date:
            try:
                return np.datetime64(
                    f"20{date[1]}-{date[2]}-{date[3]}T{clock[1]}:{clock[2]}:{clock[3]}", "us"
                )
            except ValueError:
                continue
    return np.datetime64("NaT", "us")


def open_hardcam(
    files: Sequence[Path],
    shape: tuple[int, int] | None = None,
    *,
    file_shape: tuple[int, int] | None = None,
    start: np.datetime64 | None = None,
    interval_s: float = float("nan"),
    exposure_s: float = float("nan"),
    group_frames: int | None = None,
    group_interval_s: float = float("nan"),
) -> FileSource:
    """
    Open a sequence of spool files.

    Files of a wrong size are left out and named; so are missing numbers. The time of a frame follows
    from its own number, ``start + number * interval``, so that frames after a gap keep their time.
    Where the camera was triggered in groups (filament runs: 64 frames, then a pause), each group starts
    ``group_interval_s`` after the one before. Where ``acquisitionmetadata.ini`` is beside the files, it
    states how the images lie in them.

    Parameters
    ----------
    files : sequence of Path
        Spool files in any order.
    shape : tuple of int, optional
        (rows, columns) of the image; by default as ``acquisitionmetadata.ini`` states, or as the overscan
        of the first file shows.
    file_shape : tuple of int, optional
        (rows, columns) of the file; the image and the camera's overscan by default.
    start : numpy.datetime64, optional
        UTC start of frame 0.
    interval_s : float, optional
        Seconds from frame to frame.
    exposure_s : float, optional
        Exposure of a frame, seconds.
    group_frames : int, optional
        Frames taken in one go; all by default.
    group_interval_s : float, optional
        Seconds from the start of one group to the start of the next.

    Returns
    -------
    FileSource
        The frames in order; without a start, as darks and flats have none, those of several directories
        follow each other.

    Raises
    ------
    InputError
        If no file has the right size, two have one number, or frames with times lie in several
        directories; if ``acquisitionmetadata.ini`` contradicts the shape that is given.
    """
    if not files:
        raise InputError("no spool files", remedy="Check the directory and the file pattern")
    # By directory and number: names sort by the least significant digit.
    keyed = sorted((str(file.parent), spool_number(file), file) for file in map(Path, files))
    ordered = [file for _, _, file in keyed]
    numbers = np.array([number for _, number, _ in keyed], dtype=np.int64)
    places = np.array([place for place, _, _ in keyed])
    _refuse_mixed(keyed, several=start is None)
    form = spool_form(ordered, shape, file_shape)
    sizes = np.array([_size(file) for file in ordered], dtype=np.int64)
    good = sizes == form.file_bytes
    if not good.any():
        lines = form.image_bytes // WORD // form.row_words
        raise InputError(
            "spool files of another size",
            file=ordered[0],
            expected=f"{form.file_bytes} bytes ({lines} x {form.row_words} pixels"
            f"{f', {form.images} times' if form.images > 1 else ''})",
            found=f"{sizes[0]} bytes{_square(int(sizes[0]))}",
            remedy="Set camera.shape and camera.file_shape to the read-out",
        )
    findings = [
        f"spool file of a wrong size left out: {ordered[k]} (frame {numbers[k]}): expected {form.file_bytes} "
        f"bytes, found {sizes[k]}"
        for k in np.flatnonzero(~good)[:_NAMED]
    ]
    if (more := int((~good).sum()) - len(findings)) > 0:
        findings.append(f"{more} more spool files of a wrong size left out")
    findings += [
        f"missing spool files in {place}: frames {missing}"
        for place in np.unique(places)
        if (missing := missing_text(numbers[places == place]))
    ]
    within = np.arange(form.images, dtype=np.int64)
    each = (numbers[good][:, None] * form.images + within).ravel()
    count = int(good.sum())
    return FileSource(
        files=tuple(file for file, use in zip(ordered, good, strict=True) if use),
        file_index=np.repeat(np.arange(count, dtype=np.int32), form.images),
        offsets=np.tile(within * form.image_bytes, count),
        frame_shape=form.shape,
        row_words=form.row_words,
        swapped=sys.byteorder != "little",
        flip=0,
        start_times=_times(each, start, interval_s, group_frames, group_interval_s),
        exposure_s=exposure_s,
        findings=tuple(findings),
    )


def _refuse_mixed(keyed: list[tuple[str, int, Path]], *, several: bool) -> None:
    """One sequence is one directory, and a number comes up once in it."""
    if not several and keyed[0][0] != keyed[-1][0]:
        raise InputError(
            "the frames of one sequence lie in several directories",
            file=keyed[0][0],
            found=keyed[-1][0],
            remedy="One sequence is one directory: give each an observation of its own",
        )
    for (place, number, file), (next_place, next_number, other) in pairwise(keyed):
        if (place, number) == (next_place, next_number):
            raise InputError(
                f"two files with the number {number}",
                file=file,
                found=other,
                remedy="One sequence is one directory; narrow the file pattern",
            )


def _size(file: Path) -> int:
    with reading(file):
        return file.stat().st_size


def _square(size: int) -> str:
    """What square image with the camera's overscan a file of this size would hold."""
    side = math.isqrt(size // WORD)
    for rows in range(max(1, side - sum(OVERSCAN)), side + 1):
        if frame_bytes((rows + OVERSCAN[0], rows + OVERSCAN[1])) == size:
            return f", those of {rows} x {rows} pixels with overscan"
    return ""


def _times(
    numbers: np.ndarray,
    start: np.datetime64 | None,
    interval_s: float,
    group_frames: int | None,
    group_interval_s: float,
) -> np.ndarray:
    if start is None:
        return np.full(numbers.shape, np.datetime64("NaT"), dtype="datetime64[us]")
    seconds = numbers * interval_s
    if group_frames is not None:
        group, within = np.divmod(numbers, group_frames)
        seconds = group * group_interval_s + within * interval_s
    return start.astype("datetime64[us]") + np.rint(seconds * 1e6).astype("timedelta64[us]")
