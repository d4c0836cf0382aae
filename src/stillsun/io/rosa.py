"""
ROSA: multi-extension FITS files, one frame an extension, each with its time.

A file has an empty primary unit and up to 256 image extensions of unsigned 16-bit integers
(``BITPIX 16``, ``BZERO 32768``); ``DATE`` of an extension is the start of its exposure; the sequence
number at the end of the file name orders the files (SSOSoft manual, 2025-10-14, section 2.2.1).

The headers of a file nearly always have one length, so that they lie at a regular distance: the first
is parsed, the others are compared with it byte by byte where they describe the data, and only their
``DATE`` is read. Where a file is not so, its headers are parsed one by one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io.source import FileSource, frame_bytes, ranges_text

BLOCK = 2880
CARD = 80

_NAME = re.compile(
    r"(?P<camera>.+?)_(?P<date>\d{4}-\d\d-\d\d)_(?P<time>\d\d\.\d\d\.\d\d)_(?P<number>\d+)\.fits?",
    re.IGNORECASE,
)
_TRAILING = re.compile(r"(\d+)\.\w+$")
# Cards that say where the pixels are and what they mean: equal in all extensions of a regular file.
_STRUCTURE = (
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "PCOUNT",
    "GCOUNT",
    "BZERO",
    "BSCALE",
    "EXPOSURE",
    "END",
)
_END = b"END".ljust(CARD)
_REMEDY = "Delete it or fetch it again from the archive, or exclude it by the file pattern"


@dataclass(frozen=True)
class _Scan:
    """What the headers of one file say."""

    offsets: np.ndarray
    dates: list[str]
    shape: tuple[int, int]
    exposure_s: float


def open_rosa(
    files: Sequence[Path],
    shape: tuple[int, int],
    *,
    file_shape: tuple[int, int] | None = None,
    exposure_s: float = float("nan"),
) -> FileSource:
    """
    Open a sequence of ROSA files.

    Parameters
    ----------
    files : sequence of Path
        Files in any order; they are taken by the start of their sequence and their number in it.
    shape : tuple of int
        (rows, columns) of the image.
    file_shape : tuple of int, optional
        (rows, columns) in the file, where it is larger; the image is its first rows and columns.
    exposure_s : float, optional
        Declared exposure, seconds; used where the files tell none, and compared where they do.

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
    scans = []
    for file in ordered:
        scan = _scan(file)
        if scan.shape != expected:
            raise InputError(
                "frames of another shape",
                file=file,
                expected=f"{expected[0]} rows x {expected[1]} columns",
                found=f"{scan.shape[0]} rows x {scan.shape[1]} columns",
                remedy="Set camera.shape of the channel to the read-out, or exclude the file by its pattern",
            )
        scans.append(scan)
    times = np.concatenate([_times(scan.dates, file) for scan, file in zip(scans, ordered, strict=True)])
    back = np.flatnonzero(np.diff(times) < np.timedelta64(0, "us")) + 1
    if back.size:
        findings.append(f"the camera's clock steps back before frames {ranges_text(back)}")
    counts = [len(scan.dates) for scan in scans]
    return FileSource(
        files=tuple(ordered),
        file_index=np.repeat(np.arange(len(ordered), dtype=np.int32), counts),
        offsets=np.concatenate([scan.offsets for scan in scans]),
        frame_shape=shape,
        row_words=expected[1],
        swapped=sys.byteorder == "little",
        flip=SIGN_BIT,
        start_times=times,
        exposure_s=_exposure([scan.exposure_s for scan in scans], exposure_s, findings),
        findings=tuple(findings),
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

    ordered = sorted(files, key=key)
    findings = []
    sequences: dict[str, list[int]] = {}
    for file in ordered:
        start, number, _ = key(file)
        if matches[file]:
            sequences.setdefault(start, []).append(number)
        else:
            findings.append(f"not a name of a ROSA file, taken in the order of its number: {file}")
    for start, numbers in sequences.items():
        missing = np.setdiff1d(np.arange(numbers[0], numbers[-1] + 1), numbers)
        if missing.size:
            findings.append(f"missing files of the sequence of {start}: numbers {ranges_text(missing)}")
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


def _times(dates: list[str], file: Path) -> np.ndarray:
    try:
        return np.array(dates, dtype="datetime64[us]")
    except ValueError:
        pass
    for number, date in enumerate(dates, start=1):
        try:
            np.datetime64(date, "us")
        except ValueError as error:
            raise InputError(
                f"no time in extension {number}",
                file=file,
                expected="DATE = 'YYYY-MM-DDThh:mm:ss.sss'",
                found=repr(date),
                remedy=_REMEDY,
            ) from error
    raise AssertionError("unreachable: every date is readable alone but not together")


def _scan(path: Path) -> _Scan:
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            first = len(_header(descriptor, 0, path, "the primary header"))
            template = _header(descriptor, first, path, "the first extension")
            return _regular(descriptor, size, first, template, path) or _walk(descriptor, size, first, path)
    except OSError as error:
        raise InputError("cannot be read", file=path, found=error.strerror, remedy=_REMEDY) from error


def _header(descriptor: int, at: int, path: Path, what: str) -> bytes:
    """Header blocks from `at` up to and with the one that holds the END card."""
    blocks = b""
    while True:
        block = os.pread(descriptor, BLOCK, at + len(blocks))
        if len(block) < BLOCK or (not blocks and block[:CARD].split(b"=")[0].strip() not in _FIRST):
            raise InputError(
                f"no FITS header where {what} should begin",
                file=path,
                expected=f"SIMPLE or XTENSION at byte {at}",
                found=f"{len(block)} bytes"
                if len(block) < BLOCK
                else repr(block[:20].decode("ascii", "replace")),
                remedy=_REMEDY,
            )
        blocks += block
        if any(block[k : k + CARD] == _END for k in range(0, BLOCK, CARD)):
            return blocks


_FIRST = (b"SIMPLE", b"XTENSION")


def _regular(descriptor: int, size: int, first: int, template: bytes, path: Path) -> _Scan | None:
    """Scan of a file whose extensions are all alike; None if they are not."""
    shape, exposure = _meaning(template, path, 1)
    stride = len(template) + _padded(frame_bytes(shape))
    count, rest = divmod(size - first, stride)
    if rest or not count:
        return None
    places = [_place(template, name) for name in _STRUCTURE]
    kept = [slice(at, at + CARD) for at in places if at is not None]
    date = _place(template, "DATE")
    if date is None:
        return None
    starts = first + stride * np.arange(count, dtype=np.int64)
    headers = b"".join([os.pread(descriptor, len(template), int(start)) for start in starts])
    table = np.frombuffer(headers, dtype=np.uint8).reshape(count, len(template))
    if any((table[:, part] != table[0, part]).any() for part in [*kept, slice(date, date + 11)]):
        return None
    dates = [
        headers[at : at + CARD - 11].split(b"'", 1)[0] for at in range(date + 11, len(headers), len(template))
    ]
    return _Scan(
        starts + len(template), [_date(text.decode("ascii", "replace")) for text in dates], shape, exposure
    )


def _walk(descriptor: int, size: int, first: int, path: Path) -> _Scan:
    """Scan of a file header by header."""
    at = first
    offsets: list[int] = []
    dates: list[str] = []
    exposures: list[float] = []
    shapes: list[tuple[int, int]] = []
    while at < size:
        number = len(offsets) + 1
        text = _header(descriptor, at, path, f"extension {number}")
        shape, exposure = _meaning(text, path, number)
        end = at + len(text) + _padded(frame_bytes(shape))
        # Some writers leave out the padding behind the last frame.
        if at + len(text) + frame_bytes(shape) > size:
            raise InputError(
                f"truncated within extension {number}",
                file=path,
                expected=f"{end} bytes",
                found=f"{size} bytes",
                remedy=_REMEDY,
            )
        shapes.append(shape)
        if shape != shapes[0]:
            raise InputError(
                f"extension {number} has another shape than the first",
                file=path,
                expected=shapes[0],
                found=shape,
                remedy=_REMEDY,
            )
        offsets.append(at + len(text))
        dates.append(_date(str(fits.Header.fromstring(text).get("DATE", ""))))
        exposures.append(exposure)
        at = end
    return _Scan(np.array(offsets, dtype=np.int64), dates, shapes[0], float(np.median(exposures)))


def _meaning(text: bytes, path: Path, number: int) -> tuple[tuple[int, int], float]:
    """Shape and exposure that an extension header gives; refuses what are no 16-bit images."""
    try:
        header = fits.Header.fromstring(text)
        found = {name: header.get(name) for name in ("XTENSION", "BITPIX", "NAXIS", "BZERO")}
        scale = header.get("BSCALE", 1)
        shape = (int(header.get("NAXIS2", 0)), int(header.get("NAXIS1", 0)))
        exposure = header.get("EXPOSURE")
    except (ValueError, TypeError, fits.VerifyError) as error:
        raise InputError(
            f"the header of extension {number} is damaged", file=path, found=error, remedy=_REMEDY
        ) from error
    if (
        found != {"XTENSION": "IMAGE", "BITPIX": 16, "NAXIS": 2, "BZERO": SIGN_BIT}
        or scale != 1
        or min(shape) < 1
    ):
        raise InputError(
            f"extension {number} is no image of unsigned 16-bit integers",
            file=path,
            expected="XTENSION='IMAGE', BITPIX=16, NAXIS=2, BZERO=32768, BSCALE=1",
            found=", ".join(f"{name}={value!r}" for name, value in {**found, "BSCALE": scale}.items()),
            remedy="Unpack compressed files with funpack, or exclude the file by its pattern",
        )
    return shape, _seconds(exposure)


def _seconds(text: object) -> float:
    """``0.0060 Sec``, ``6 mSec`` or a number, in seconds."""
    parts = str(text).split()
    try:
        value = float(parts[0])
    except (IndexError, ValueError):
        return float("nan")
    return value * 1e-3 if len(parts) > 1 and parts[1].lower().startswith("ms") else value


def _place(header: bytes, name: str) -> int | None:
    """Byte at which the card of a name begins."""
    want = name.ljust(8).encode() + (b"" if name == "END" else b"=")
    return next((at for at in range(0, len(header), CARD) if header.startswith(want, at)), None)


def _date(text: str) -> str:
    return text.strip().removesuffix("Z")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
