"""
The sequences of raw frames below a directory, by the names of their files.

ROSA names its files ``das1_rosa_flat_2025-09-03_13.57.52_0000.fit``: camera computer, kind (for darks
and flats only), start of the sequence, number of the file. HARDcam keeps each sequence in a directory
of its own, named by the observers after kind and time, and tells nothing else (SSOSoft manual,
2025-10-14, section 2.2). Only the first and the last file of a ROSA sequence are read, and those whose
size is not that of the first.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.errors import InputError
from stillsun.io._fitsscan import scan_file
from stillsun.io.cadence import Cadence, find_cadence
from stillsun.io.hardcam import OVERSCAN, directory_time, open_hardcam, spool_number
from stillsun.io.rosa import open_rosa
from stillsun.io.source import WORD

HARDCAM = "hardcam"
_ROSA_NAME = re.compile(
    r"(?P<camera>[a-z]+\d*)_rosa_(?:(?P<kind>[a-z]+)_)?"
    r"(?P<date>\d{4}-\d\d-\d\d)_(?P<time>\d\d\.\d\d\.\d\d)_(?P<number>\d+)\.fits?(?P<packed>\.fz)?",
    re.IGNORECASE,
)
_SPOOL_NAME = re.compile(r"\d+spool\.dat")
_FULL_CHIP = (2048, 2048)
_LOG_WORDS = (b"DST_", b"VTT ")


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
    packed : bool
        Compressed by fpack.
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
    packed: bool
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
        if self.packed:
            return _packed_sample(self.files[0], count)
        if self.camera == HARDCAM:
            source = open_hardcam(self.files[:count], self.shape, file_shape=self.file_shape)
        else:
            source = open_rosa(self.files[:1], self.shape)
        frames = source.read(0, min(count, source.shape[0]))
        return np.asarray(frames.mean(axis=0), dtype=np.float32)


@dataclass(frozen=True)
class RawDirectory:
    """
    What lies below a directory of raw files.

    Attributes
    ----------
    path : Path
        The directory.
    sequences : tuple of RawSequence
        By camera and time.
    logs : tuple of Path
        Telescope logs.
    unreadable : tuple of (Path, str)
        Files and directories that cannot be used, and why.
    others : tuple of Path
        Files that are none of these.
    """

    path: Path
    sequences: tuple[RawSequence, ...]
    logs: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]


def find_sequences(path: Path, progress: Callable[[int, int], None] | None = None) -> RawDirectory:
    """
    Look through a directory.

    Parameters
    ----------
    path : Path
        Directory; everything below it is looked at, links to directories are not followed.
    progress : callable, optional
        Called with (sequences read, sequences found).

    Returns
    -------
    RawDirectory
        What lies there.

    Raises
    ------
    InputError
        If it is no directory that can be read.
    """
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise InputError(
            "no directory that can be read", file=path, remedy="Give the directory of the raw files"
        )
    unreadable: list[tuple[Path, str]] = []
    rosa: dict[tuple[str, ...], list[Path]] = {}
    spools: dict[Path, list[Path]] = {}
    logs, others = [], []
    for file in _walk(path, unreadable):
        match = _ROSA_NAME.fullmatch(file.name)
        if match:
            stem = file.name[: match.start("number")]
            packed = match["packed"] or ""
            rosa.setdefault((str(file.parent), stem, packed), []).append(file)
        elif _SPOOL_NAME.fullmatch(file.name):
            spools.setdefault(file.parent, []).append(file)
        elif _is_log(file):
            logs.append(file)
        else:
            others.append(file)
    sequences: list[RawSequence | None] = []
    for files in (*rosa.values(), *spools.values()):
        if progress is not None:
            progress(len(sequences), len(rosa) + len(spools))
        reader = _hardcam if _SPOOL_NAME.fullmatch(files[0].name) else _rosa
        sequences.append(reader(path, files, unreadable))
    if progress is not None:
        progress(len(sequences), len(sequences))
    found = [s for s in sequences if s is not None]
    found.sort(key=lambda s: (s.camera == HARDCAM, s.camera, str(s.start), s.name))
    return RawDirectory(path, tuple(found), tuple(logs), tuple(unreadable), tuple(others))


def _walk(path: Path, unreadable: list[tuple[Path, str]]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        unreadable.append((Path(error.filename), error.strerror or "cannot be read"))

    for directory, directories, names in os.walk(path, onerror=refused):
        directories.sort()
        yield from (Path(directory, name) for name in sorted(names))


def _is_log(file: Path) -> bool:
    if not re.search(r"dcss|log|\.txt$", file.name, re.IGNORECASE):
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(65536)
    except OSError:
        return False
    return any(word in head for word in _LOG_WORDS)


def _rosa(root: Path, files: list[Path], unreadable: list[tuple[Path, str]]) -> RawSequence | None:
    matches = {file: _ROSA_NAME.fullmatch(file.name) for file in files}
    files = sorted(files, key=lambda f: int(matches[f]["number"]))  # type: ignore[index]
    match = matches[files[0]]
    assert match is not None
    scan = _packed_scan if match["packed"] else _plain_scan
    counts: dict[Path, int] = {}
    dates: dict[Path, tuple[str, str]] = {}
    shape: tuple[int, int] | None = None
    exposure, size = float("nan"), -1
    for file in files:
        try:
            # The last file is read for its time, the others stand for each other where they are as long.
            if counts and not match["packed"] and file.stat().st_size == size and file != files[-1]:
                counts[file] = counts[next(iter(counts))]
                continue
            count, first, last, found, exposure_here = scan(file)
        except (InputError, OSError) as error:
            unreadable.append((file, _reason(error)))
            continue
        if shape not in (None, found):
            unreadable.append((file, f"frames of {found[0]} x {found[1]} px in a sequence of {shape}"))
            continue
        if not counts:
            shape, exposure, size = found, exposure_here, file.stat().st_size
        counts[file], dates[file] = count, (first, last)
    if not counts:
        return None
    good = list(counts)
    numbers = np.array([int(matches[f]["number"]) for f in files])  # type: ignore[index]
    missing = np.setdiff1d(np.arange(numbers[-1] + 1), numbers)
    stem = files[0].name[: match.start("number")]
    start = _time(dates[good[0]][0])
    if np.isnat(start):
        start = _time(f"{match['date']}T{match['time'].replace('.', ':')}")
    return RawSequence(
        name=stem.rstrip("_"),
        camera=match["camera"].lower(),
        kind=(match["kind"] or "").lower(),
        directory=files[0].parent.relative_to(root),
        pattern=f"{stem}*{files[0].name[match.end('number') :]}",
        files=tuple(good),
        frames=sum(counts.values()),
        shape=shape,
        file_shape=None,
        start=start,
        end=_time(dates[list(dates)[-1]][1]),
        exposure_s=exposure,
        packed=bool(match["packed"]),
        notes=(f"{missing.size} files are missing",) if missing.size else (),
    )


def _plain_scan(file: Path) -> tuple[int, str, str, tuple[int, int], float]:
    found = scan_file(file)
    return len(found.dates), found.dates[0], found.dates[-1], found.shape, found.exposure_s


def _packed_scan(file: Path) -> tuple[int, str, str, tuple[int, int], float]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(file) as units:
                first, last = units[1], units[-1]
                exposure = str(first.header.get("EXPOSURE", "nan")).split()[0]
                shape = (int(first.shape[0]), int(first.shape[1]))
                dates = [str(unit.header.get("DATE", "")) for unit in (first, last)]
                return len(units) - 1, dates[0], dates[1], shape, float(exposure)
    except (OSError, ValueError, IndexError, TypeError, fits.VerifyError) as error:
        raise InputError(f"not readable as compressed FITS: {error}", file=file) from error


def _packed_sample(file: Path, count: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(file) as units:
            frames = [np.asarray(unit.data, dtype=np.float32) for unit in units[1 : count + 1]]
    return np.asarray(np.mean(frames, axis=0), dtype=np.float32)


def _hardcam(root: Path, files: list[Path], unreadable: list[tuple[Path, str]]) -> RawSequence | None:
    files = sorted(files, key=spool_number)
    told = [file.stat() for file in files]
    sizes = np.array([entry.st_size for entry in told])
    values, counts = np.unique(sizes, return_counts=True)
    size = int(values[np.argmax(counts)])
    for file, found in zip(files, sizes, strict=True):
        if found != size:
            unreadable.append((file, f"{found} bytes in a sequence of {size} bytes a file"))
    good = [file for file, found in zip(files, sizes, strict=True) if found == size]
    shapes = _spool_shapes(good[0], size)
    numbers = np.array([spool_number(file) for file in good])
    cadence = find_cadence(numbers, [entry.st_mtime for entry in told if entry.st_size == size])
    missing = int(numbers[-1]) + 1 - len(good)
    directory = files[0].parent
    notes = [f"{missing} files are missing or of another size"] if missing else []
    if cadence is not None:
        notes.append(str(cadence))
    if shapes is None:
        notes.append(f"the size of the frames cannot be told from {size} bytes")
    return RawSequence(
        name=str(directory.relative_to(root)),
        camera=HARDCAM,
        kind=directory.name if directory != root else "",
        directory=directory.relative_to(root),
        pattern="*spool.dat",
        files=tuple(good),
        frames=len(good),
        shape=None if shapes is None else shapes[0],
        file_shape=None if shapes is None else shapes[1],
        start=directory_time(directory),
        end=np.datetime64("NaT"),
        exposure_s=float("nan"),
        packed=False,
        notes=tuple(notes),
        cadence=cadence,
    )


def _spool_shapes(file: Path, size: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """
    Image and file size of a spool file.

    A windowed read-out is told by its overscan: the one way to lay out the pixels in rows so that the
    last rows and columns, and no more, are zero.
    """
    full = (_FULL_CHIP[0] + OVERSCAN[0], _FULL_CHIP[1] + OVERSCAN[1])
    if size == WORD * full[0] * full[1]:
        return _FULL_CHIP, full
    words = np.fromfile(file, dtype=np.uint16)
    if not words.size:
        return None
    found = []
    for columns in range(OVERSCAN[1] + 8, words.size // (OVERSCAN[0] + 8) + 1):
        rows = words.size // columns
        if rows * columns != words.size:
            continue
        frame = words.reshape(rows, columns)
        image = frame[: -OVERSCAN[0], : -OVERSCAN[1]]
        empty = not frame[-OVERSCAN[0] :].any() and not frame[:, -OVERSCAN[1] :].any()
        if empty and image[-1].any() and image[:, -1].any():
            found.append(((rows - OVERSCAN[0], columns - OVERSCAN[1]), (rows, columns)))
    return found[0] if len(found) == 1 else None


def _time(text: str) -> np.datetime64:
    try:
        return np.datetime64(text.strip().removesuffix("Z"), "us")
    except ValueError:
        return np.datetime64("NaT")


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return error.message if error.found is None else f"{error.message}; found {error.found}"
    return getattr(error, "strerror", None) or str(error)
