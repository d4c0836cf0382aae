"""
A sequence of raw frames: what its files are, by their names and what a look into some of them tells.

ROSA names its files ``das1_rosa_flat_2025-09-03_13.57.52_0000.fit``: camera computer, kind (for darks
and flats only), start of the sequence, number of the file. HARDcam keeps each sequence in a directory
of its own, named by the observers after kind and time, and tells nothing else (SSOSoft manual,
2025-10-14, section 2.2). Only the first and the last file of a ROSA sequence are read, and those whose
size is not that of the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io._fitspacked import scan_packed
from stillsun.io._fitsscan import scan_file
from stillsun.io.andor import FILE, SpoolForm, spool_form
from stillsun.io.cadence import Cadence, find_cadence
from stillsun.io.hardcam import directory_time, open_hardcam, spool_number
from stillsun.io.rosa import open_rosa
from stillsun.io.source import WORD
from stillsun.io.times import read_time

HARDCAM = "hardcam"
ROSA_NAME = re.compile(
    r"(?P<camera>[a-z]+\d*)_rosa_(?:(?P<kind>[a-z]+)_)?"
    r"(?P<date>\d{4}-\d\d-\d\d)_(?P<time>\d\d\.\d\d\.\d\d)_(?P<number>\d{1,18})\.fits?(?P<packed>\.fz)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RawSequence:
    """
    A sequence of raw frames.

    Attributes
    ----------
    name : str
        What its files, or its directory, have in common.
    camera : str
        Camera computer of ROSA (das1 to das6), or ``hardcam``.
    kind : str
        What the name says it is: for ROSA ``dark``, ``flat`` or nothing, for HARDcam the directory's name.
    directory : Path
        Where its files lie, relative to the directory that was looked through.
    pattern : str
        Shell pattern of its files there.
    files : tuple of Path
        Readable files in order.
    frames : int
        Frames in them.
    shape : tuple of int or None
        (rows, columns) of the image; None where it cannot be told.
    file_shape : tuple of int or None
        (rows, columns) of the file where it is larger.
    start, end : numpy.datetime64
        Start of the first and of the last exposure by the camera's clock; for HARDcam the time in the
        directory's name, when the first file was written, and NaT; NaT where unknown.
    exposure_s : float
        Exposure, seconds; NaN where unknown.
    notes : tuple of str
        Oddities.
    cadence : Cadence or None
        Groups of frames with pauses between them, of HARDcam.
    """

    name: str
    camera: str
    kind: str
    directory: Path
    pattern: str
    files: tuple[Path, ...]
    frames: int
    shape: tuple[int, int] | None
    file_shape: tuple[int, int] | None
    start: np.datetime64
    end: np.datetime64
    exposure_s: float
    notes: tuple[str, ...] = ()
    cadence: Cadence | None = None

    @property
    def seconds(self) -> float:
        """Length of the sequence; the number of frames where times are unknown."""
        if np.isnat(self.start) or np.isnat(self.end):
            return float(self.frames)
        return float((self.end - self.start) / np.timedelta64(1, "s"))

    def sample(self, count: int) -> np.ndarray:
        """
        Mean of the first frames.

        Parameters
        ----------
        count : int
            Frames at most.

        Returns
        -------
        numpy.ndarray
            (rows, columns) float32, DN.

        Raises
        ------
        InputError
            If the frames cannot be read.
        """
        if self.shape is None:
            raise InputError("the size of the frames is unknown", file=self.files[0])
        if self.camera == HARDCAM:
            source = open_hardcam(self.files[:count], self.shape, file_shape=self.file_shape)
        else:
            source = open_rosa(self.files[:1], self.shape)
        frames = source.read(0, min(count, source.shape[0]))
        return np.asarray(frames.mean(axis=0), dtype=np.float32)


def rosa_sequence(root: Path, files: list[Path], unreadable: list[tuple[Path, str]]) -> RawSequence | None:
    """
    Look into the files of a ROSA sequence.

    Parameters
    ----------
    root : Path
        Directory that is looked through.
    files : list of Path
        Files whose names match `ROSA_NAME` and differ in their number only.
    unreadable : list of (Path, str)
        Files that cannot be used are added, with the reason.

    Returns
    -------
    RawSequence or None
        None where no file can be used.
    """
    matches = {file: match for file in files if (match := ROSA_NAME.fullmatch(file.name))}
    # A packed file beside the plain one is not read.
    twice = [file for file in files if matches[file]["packed"] and file.with_suffix("") in matches]
    files = sorted(set(files) - set(twice), key=lambda f: int(matches[f]["number"]))
    match = matches[files[0]]
    counts: dict[Path, int] = {}
    dates: dict[Path, tuple[str, str]] = {}
    shape: tuple[int, int] | None = None
    exposure = float("nan")
    frames_of_size: dict[int, int] = {}
    for file in files:
        packed = bool(matches[file]["packed"])
        try:
            # The last file is read for its time, the others stand for each other where they are as long.
            size = file.stat().st_size
            if not packed and size in frames_of_size and file != files[-1]:
                counts[file] = frames_of_size[size]
                continue
            scan = scan_packed(file)[0] if packed else scan_file(file)
        except (InputError, OSError) as error:
            unreadable.append((file, _reason(error)))
            continue
        if shape not in (None, scan.shape):
            found = f"frames of {scan.shape[0]} x {scan.shape[1]} px in a sequence of {shape}"
            unreadable.append((file, found))
            continue
        if not counts:
            shape, exposure = scan.shape, scan.exposure_s
        if not packed:
            frames_of_size.setdefault(size, len(scan.dates))
        counts[file], dates[file] = len(scan.dates), (scan.dates[0], scan.dates[-1])
    if not counts:
        return None
    good = list(counts)
    numbers = np.array([int(matches[f]["number"]) for f in files])
    missing = int(numbers[-1]) + 1 - np.unique(numbers).size
    notes = [f"{missing} files are missing"] if missing else []
    if twice:
        notes.append(f"{len(twice)} files are there compressed too")
    stem = files[0].name[: match.start("number")]
    endings = {f.name[matches[f].end("number") :] for f in counts}
    start = read_time(dates[good[0]][0])
    if np.isnat(start):
        start = read_time(f"{match['date']}T{match['time'].replace('.', ':')}")
    return RawSequence(
        name=stem.rstrip("_"),
        camera=match["camera"].lower(),
        kind=(match["kind"] or "").lower(),
        directory=files[0].parent.relative_to(root),
        pattern=f"{stem}*{endings.pop() if len(endings) == 1 else '.[fF][iI][tT]*'}",
        files=tuple(good),
        frames=sum(counts.values()),
        shape=shape,
        file_shape=None,
        start=start,
        end=read_time(dates[list(dates)[-1]][1]),
        exposure_s=exposure,
        notes=tuple(notes),
    )


def hardcam_sequence(root: Path, files: list[Path], unreadable: list[tuple[Path, str]]) -> RawSequence:
    """
    Look into the files of a HARDcam sequence.

    Parameters
    ----------
    root : Path
        Directory that is looked through.
    files : list of Path
        Spool files of one directory.
    unreadable : list of (Path, str)
        Files that are not as long as most are added.

    Returns
    -------
    RawSequence
        What they hold.
    """
    files = sorted(files, key=spool_number)
    told = [file.stat() for file in files]
    sizes = np.array([entry.st_size for entry in told])
    values, counts = np.unique(sizes, return_counts=True)
    size = int(values[np.argmax(counts)])
    for file, found in zip(files, sizes, strict=True):
        if found != size:
            unreadable.append((file, f"{found} bytes in a sequence of {size} bytes a file"))
    good = [file for file, found in zip(files, sizes, strict=True) if found == size]
    form: SpoolForm | None = None
    unclear = ""
    try:
        form = spool_form(good[:1])
        if form.file_bytes != size:
            unclear = f"{form.file} states files of {form.file_bytes} bytes, they have {size}"
            form = None
    except InputError as error:
        unclear = str(error)
    numbers = np.array([spool_number(file) for file in good])
    cadence = find_cadence(numbers, [entry.st_mtime for entry in told if entry.st_size == size])
    missing = int(numbers[-1]) + 1 - len(good)
    directory = files[0].parent
    notes = [f"{missing} files are missing or of another size"] if missing else []
    if cadence is not None:
        notes.append(str(cadence))
    if unclear:
        notes.append(unclear)
    return RawSequence(
        name=directory.name if directory == root else str(directory.relative_to(root)),
        camera=HARDCAM,
        kind=directory.name,
        directory=directory.relative_to(root),
        pattern="*spool.dat",
        files=tuple(good),
        frames=len(good) * (form.images if form else 1),
        shape=form.shape if form else None,
        file_shape=None
        if form is None or form.file.name == FILE
        else (form.image_bytes // WORD // form.row_words, form.row_words),
        start=directory_time(directory),
        end=np.datetime64("NaT"),
        exposure_s=float("nan"),
        notes=tuple(notes),
        cadence=cadence,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return error.message if error.found is None else f"{error.message}; found {error.found}"
    return getattr(error, "strerror", None) or str(error)
