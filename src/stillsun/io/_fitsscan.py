"""
Places and dates of the frames in a multi-extension FITS file of 16-bit images.

The headers of a file nearly always have one length, so that they lie at a regular distance: the first
is parsed, the others are compared with it byte by byte where they describe the data, and only their
``DATE`` is read. Where a file is not so, its headers are parsed one by one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io.source import frame_bytes

BLOCK = 2880
CARD = 80
REMEDY = "Delete it or fetch it again from the archive, or exclude it by the file pattern"

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
_FIRST = (b"SIMPLE", b"XTENSION")


@dataclass(frozen=True)
class FileScan:
    """
    What the headers of one file say.

    Attributes
    ----------
    offsets : numpy.ndarray
        (frames,) int64: byte of the first pixel of each frame.
    dates : list of str
        ``DATE`` of each frame as written.
    shape : tuple of int
        (rows, columns).
    exposure_s : float
        Exposure of a frame, seconds; NaN where none is given.
    """

    offsets: np.ndarray
    dates: list[str]
    shape: tuple[int, int]
    exposure_s: float


def scan_file(path: Path) -> FileScan:
    """
    Read the headers of one file.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    FileScan
        Place and date of each frame.

    Raises
    ------
    InputError
        If the file is damaged or of another format.
    """
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            first = len(read_header(descriptor, 0, path, "the primary header"))
            template = read_header(descriptor, first, path, "the first extension")
            return _regular(descriptor, size, first, template, path) or _walk(descriptor, size, first, path)
    except OSError as error:
        raise InputError("cannot be read", file=path, found=error.strerror, remedy=REMEDY) from error


def read_header(descriptor: int, at: int, path: Path, what: str) -> bytes:
    """
    Read a header.

    Parameters
    ----------
    descriptor : int
        Open file.
    at : int
        Byte at which it begins.
    path : Path
        File, for the message.
    what : str
        What begins there, for the message.

    Returns
    -------
    bytes
        Its blocks, up to the one that holds the END card.

    Raises
    ------
    InputError
        If no header begins there, or it does not end.
    """
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
                remedy=REMEDY,
            )
        blocks += block
        if any(block[k : k + CARD] == _END for k in range(0, BLOCK, CARD)):
            return blocks


def _regular(descriptor: int, size: int, first: int, template: bytes, path: Path) -> FileScan | None:
    """Scan of a file whose extensions are all alike; None if they are not."""
    shape, exposure = _meaning(template, path, 1)
    stride = len(template) + padded(frame_bytes(shape))
    count, rest = divmod(size - first, stride)
    if rest or not count:
        return None
    places = [card_place(template, name) for name in _STRUCTURE]
    kept = [slice(at, at + CARD) for at in places if at is not None]
    date = card_place(template, "DATE")
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
    return FileScan(
        starts + len(template), [_date(text.decode("ascii", "replace")) for text in dates], shape, exposure
    )


def _walk(descriptor: int, size: int, first: int, path: Path) -> FileScan:
    """Scan of a file header by header."""
    at = first
    offsets: list[int] = []
    dates: list[str] = []
    exposures: list[float] = []
    shapes: list[tuple[int, int]] = []
    while at < size:
        number = len(offsets) + 1
        text = read_header(descriptor, at, path, f"extension {number}")
        shape, exposure = _meaning(text, path, number)
        end = at + len(text) + padded(frame_bytes(shape))
        # Some writers leave out the padding behind the last frame.
        if at + len(text) + frame_bytes(shape) > size:
            raise InputError(
                f"truncated within extension {number}",
                file=path,
                expected=f"{end} bytes",
                found=f"{size} bytes",
                remedy=REMEDY,
            )
        shapes.append(shape)
        if shape != shapes[0]:
            raise InputError(
                f"extension {number} has another shape than the first",
                file=path,
                expected=shapes[0],
                found=shape,
                remedy=REMEDY,
            )
        offsets.append(at + len(text))
        dates.append(_date(str(fits.Header.fromstring(text).get("DATE", ""))))
        exposures.append(exposure)
        at = end
    return FileScan(np.array(offsets, dtype=np.int64), dates, shapes[0], float(np.median(exposures)))


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
            f"the header of extension {number} is damaged", file=path, found=error, remedy=REMEDY
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
            remedy="A compressed file must end in .fz, or be unpacked; exclude other files by the pattern",
        )
    return shape, exposure_seconds(exposure)


def exposure_seconds(text: object) -> float:
    """
    Read an exposure.

    Parameters
    ----------
    text : object
        ``0.0060 Sec``, ``6 mSec`` or a number of seconds.

    Returns
    -------
    float
        Seconds; NaN where it is none.
    """
    parts = str(text).split()
    try:
        value = float(parts[0])
    except (IndexError, ValueError):
        return float("nan")
    return value * 1e-3 if len(parts) > 1 and parts[1].lower().startswith("ms") else value


def card_place(header: bytes, name: str) -> int | None:
    """
    Find a card.

    Parameters
    ----------
    header : bytes
        Header blocks.
    name : str
        Keyword.

    Returns
    -------
    int or None
        Byte at which the card begins.
    """
    want = name.ljust(8).encode() + (b"" if name == "END" else b"=")
    return next((at for at in range(0, len(header), CARD) if header.startswith(want, at)), None)


def _date(text: str) -> str:
    return text.strip().removesuffix("Z")


def padded(size: int) -> int:
    """
    Round up to whole FITS blocks.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    int
        Bytes with padding.
    """
    return -(-size // BLOCK) * BLOCK
