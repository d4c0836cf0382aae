"""
ROSA: multi-extension FITS files, one frame an extension, each with its time.

A file has an empty primary unit and up to 256 image extensions of unsigned 16-bit integers
(``BITPIX 16``, ``BZERO 32768``); ``DATE`` of an extension is the start of its exposure; the sequence
number at the end of the file name orders the files (SSOSoft manual, 2025-10-14, section 2.2.1). Many
are compressed with ``fpack`` (``.fit.fz``); both kinds may be mixed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io._filesource import FileSource
from stillsun.io._fitspacked import SUFFIX, Packing, scan_packed
from stillsun.io._fitsscan import FileScan, scan_file, unit_bytes
from stillsun.io.source import missing_text, ranges_text
from stillsun.io.times import exposure_times

_NAME = re.compile(
    r"(?P<camera>.+?)_(?P<date>\d{4}-\d\d-\d\d)_(?P<time>\d\d\.\d\d\.\d\d)_(?P<number>\d{1,18})"
    r"\.fits?(\.fz)?",
    re.IGNORECASE,
)
# Files that are named one by one.
_NAMED = 8
_TRAILING = re.compile(r"(\d{1,18})\.\w+(\.fz)?$")


def open_rosa(
    files: Sequence[Path],
    shape: tuple[int, int] | None = None,
    *,
    file_shape: tuple[int, int] | None = None,
    exposure_s: float = float("nan"),
    clock_offset_h: float = 0.0,
    verify: bool = True,
) -> FileSource:
    """
    Open a sequence of ROSA files.

    Parameters
    ----------
    files : sequence of Path
        Files in any order; they are taken by the start of their sequence and their number in it.
    shape : tuple of int, optional
        (rows, columns) of the image; by default that of the files, which must be alike.
    file_shape : tuple of int, optional
        (rows, columns) in the file, where it is larger; the image is its first rows and columns.
    exposure_s : float, optional
        Declared exposure, seconds; used where the files tell none, and compared where they do.
    clock_offset_h : float, optional
        By how much the clock of the camera's computer is ahead of UTC, hours.
    verify : bool, optional
        Verify headers and pixels by the sums that the files carry (``CHECKSUM``, ``DATASUM``).

    Returns
    -------
    FileSource
        The frames in order.

    Raises
    ------
    InputError
        If a file is damaged, of another shape or format, or the files are of several cameras.
    """
    if not files:
        raise InputError("no ROSA files", remedy="Check the directory and the file pattern")
    ordered, findings = _order([Path(file) for file in files])
    expected = file_shape or shape
    scans: list[FileScan] = []
    sizes: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    packings: list[Packing | None] = []
    for file in ordered:
        packing = None
        if file.suffix.lower() == SUFFIX:
            scan, bytes_of_frames, packing = scan_packed(file, verify=verify)
        else:
            scan = scan_file(file, verify=verify)
            bytes_of_frames = unit_bytes(scan, file)
        if expected is None:
            expected = scan.shape
        if scan.shape != expected:
            raise InputError(
                "frames of another shape",
                file=file,
                expected=f"{expected[0]} rows x {expected[1]} columns"
                + ("" if file_shape or shape else f", as in {ordered[0].name}"),
                found=f"{scan.shape[0]} rows x {scan.shape[1]} columns",
                remedy="Set camera.shape of the channel to the read-out, or exclude the file by its pattern",
            )
        scans.append(scan)
        sizes.append(bytes_of_frames)
        sums.append(np.full(len(scan.dates), -1) if scan.sums is None else scan.sums)
        packings.append(packing)
        findings += scan.notes
    assert expected is not None
    times = np.concatenate(
        [exposure_times(scan.dates, file) for scan, file in zip(scans, ordered, strict=True)]
    )
    if times.size > 1 and (np.diff(times) == np.timedelta64(0, "us")).mean() > 0.5:
        findings.append(
            f"most exposures have the same time as the one before, as times without fractions of a second: "
            f"DATE = {scans[0].dates[0]!r}"
        )
    back = np.flatnonzero(np.diff(times) < np.timedelta64(0, "us")) + 1
    if back.size:
        findings.append(f"the camera's clock steps back before frames {ranges_text(back)}")
    if clock_offset_h:
        times = times - np.timedelta64(round(clock_offset_h * 3.6e9), "us")
        findings.append(f"times are the files' less {clock_offset_h:g} h, the clock's offset from UTC")
    slow = sorted({packing.coding for packing in packings if packing is not None and not packing.direct})
    if slow:
        findings.append(
            f"files compressed in an unusual way ({', '.join(slow)}) are read slowly; funpack helps"
        )
    counts = [len(scan.dates) for scan in scans]
    short = [file.name for file, count in zip(ordered[:-1], counts, strict=False) if count < max(counts)]
    if short:
        names = ", ".join(short[:_NAMED]) + (", …" if len(short) > _NAMED else "")
        findings.append(f"{len(short)} files hold fewer exposures than others ({max(counts)}): {names}")
    return FileSource(
        files=tuple(ordered),
        file_index=np.repeat(np.arange(len(ordered), dtype=np.int32), counts),
        offsets=np.concatenate([scan.offsets for scan in scans]),
        frame_shape=shape or expected,
        row_words=expected[1],
        swapped=sys.byteorder == "little",
        flip=SIGN_BIT,
        start_times=times,
        exposure_s=_exposure([scan.exposure_s for scan in scans], exposure_s, findings),
        findings=tuple(findings),
        packings=tuple(packings),
        sizes=np.concatenate(sizes),
        sums=np.concatenate(sums) if any(scan.sums is not None for scan in scans) else None,
    )


def _order(files: list[Path]) -> tuple[list[Path], list[str]]:
    """Files by sequence start and number; cameras must not be mixed; missing numbers are findings."""
    matches = {file: _NAME.fullmatch(file.name) for file in files}
    cameras = sorted({match["camera"].split("_")[0] for match in matches.values() if match})
    if len(cameras) > 1:
        raise InputError(
            "files of several cameras",
            file=files[0].parent,
            expected="one camera a channel",
            found=", ".join(cameras),
            remedy="Narrow the file pattern, e.g. das1_rosa_*.fit",
        )

    def key(file: Path) -> tuple[str, int, str]:
        match = matches[file]
        if match:
            return f"{match['date']} {match['time']}", int(match["number"]), file.name
        trailing = _TRAILING.search(file.name)
        return "", int(trailing[1]) if trailing else -1, file.name

    findings = []
    # fpack leaves the plain files where they are unless told otherwise.
    plain = {file for file in files if file.suffix.lower() != SUFFIX}
    twice = [file for file in files if file not in plain and file.with_suffix("") in plain]
    if twice:
        findings.append(f"{len(twice)} files are there compressed too; the plain ones are read")
    ordered = sorted(set(files) - set(twice), key=key)
    sequences: dict[str, list[int]] = {}
    for file in ordered:
        start, number, _ = key(file)
        if matches[file]:
            sequences.setdefault(start, []).append(number)
        else:
            findings.append(f"not a name of a ROSA file, taken in the order of its number: {file}")
    for start, numbers in sequences.items():
        if missing := missing_text(numbers, numbers[0]):
            findings.append(f"missing files of the sequence of {start}: numbers {missing}")
    return ordered, findings


def _exposure(found: list[float], declared: float, findings: list[str]) -> float:
    told = [value for value in found if np.isfinite(value)]
    if not told:
        return declared
    if max(told) - min(told) > 1e-6:
        findings.append(
            f"exposures from {min(told) * 1e3:.4g} to {max(told) * 1e3:.4g} ms in one sequence; "
            "the median is used"
        )
    exposure = float(np.median(told))
    if np.isfinite(declared) and abs(exposure - declared) > 0.01 * declared:
        findings.append(
            f"the files give an exposure of {exposure * 1e3:.4g} ms, the configuration "
            f"{declared * 1e3:.4g} ms; that of the files is used"
        )
    return exposure
