"""
Places and dates of the frames in a multi-extension FITS file of 16-bit images.

The headers of a file nearly always have one length, so that they lie at a regular distance: the first
is parsed, the others are compared with it byte by byte where they describe the data, and only their
``DATE`` and their sums are read. Where a file is not so, its headers are parsed one by one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io._checksums import NAMES, expected_sum, names_in
from stillsun.io._fitscards import (
    CARD,
    card_number,
    card_place,
    exposure_seconds,
    only_zeros,
    padded,
    plain_values,
    read_header,
)
from stillsun.io.foreign import REMEDY, chip_size, open_regular, reading
from stillsun.io.source import frame_bytes

# Cards that say where the pixels are and what they mean: equal in all extensions of a regular file.
_STRUCTURE = (
    *("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "BZERO", "BSCALE", "EXPOSURE"),
    "END",
)
# Of these the name and the opening quote, so that a value in free format is left to astropy.
_QUOTED = CARD - 69
_WANTED = {"XTENSION": "IMAGE", "BITPIX": 16, "NAXIS": 2, "BZERO": SIGN_BIT}
_READ = (*_WANTED, "BSCALE", "NAXIS1", "NAXIS2", "PCOUNT", "EXPOSURE", "DATE")


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
    sums : numpy.ndarray or None
        (frames,) int64: sum that the data of each frame must have; None where the file carries none.
    notes : tuple of str
        Oddities.
    """

    offsets: np.ndarray
    dates: list[str]
    shape: tuple[int, int]
    exposure_s: float
    sums: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def scan_file(path: Path, *, verify: bool = True) -> FileScan:
    """
    Read the headers of one file.

    Parameters
    ----------
    path : Path
        File.
    verify : bool, optional
        Verify the headers by the sums that they carry.

    Returns
    -------
    FileScan
        Place and date of each frame.

    Raises
    ------
    InputError
        If the file is damaged or of another format.
    """
    with open_regular(path) as file, reading(path):
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        primary = read_primary(descriptor, path, verify=verify)
        template = read_header(descriptor, len(primary), path, "the first extension")
        return _regular(descriptor, size, primary, template, path, verify) or _walk(
            descriptor, size, primary, path, verify
        )


def unit_bytes(scan: FileScan, path: Path) -> np.ndarray:
    """
    Bytes of the data units of a file, padding included.

    Parameters
    ----------
    scan : FileScan
        Its headers.
    path : Path
        The file; the padding may be missing at its end.

    Returns
    -------
    numpy.ndarray
        (frames,) int64.
    """
    return np.minimum(padded(frame_bytes(scan.shape)), path.stat().st_size - scan.offsets)


def read_primary(descriptor: int, path: Path, *, verify: bool) -> bytes:
    """
    Read the header of the primary unit, which holds no image in ROSA's files.

    Parameters
    ----------
    descriptor : int
        Open file.
    path : Path
        File, for the message.
    verify : bool
        Verify it by the sums that it carries.

    Returns
    -------
    bytes
        The header.

    Raises
    ------
    InputError
        If it is damaged, or there is an image in the primary unit.
    """
    header = read_header(descriptor, 0, path, "the primary header")
    if card_number(header, "NAXIS", -1) != 0:
        raise InputError(
            "data in the primary unit",
            file=path,
            expected="exposures in extensions, as ROSA writes them",
            found=f"NAXIS = {card_number(header, 'NAXIS', -1)} in the primary unit",
            remedy="Exclude it by the file pattern; images that are reconstructed already are read with "
            "speckle=fits",
        )
    if verify:
        expected_sum(header, path, "the primary unit")
    return header


def check_carried(primary: bytes, carried: Sequence[tuple[str, ...]], path: Path) -> None:
    """
    Refuse a file in which a unit has lost its sums, for it was damaged there.

    Parameters
    ----------
    primary : bytes
        Header of the primary unit, which may carry none.
    carried : sequence of tuple of str
        Sums that each extension carries.
    path : Path
        File, for the message.

    Raises
    ------
    InputError
        If the units differ.
    """
    units = {0: names_in(primary), **dict(enumerate(carried, start=1))}
    first = units[1]
    odd = [k for k, names in units.items() if names != first and (k or names)]
    if odd:
        raise InputError(
            f"the header of {'the primary unit' if odd[0] == 0 else f'extension {odd[0]}'} is damaged",
            file=path,
            expected=f"{' and '.join(first) or 'no sums'}, as in extension 1",
            found=" and ".join(units[odd[0]]) or "neither",
            remedy=REMEDY,
        )


def _regular(
    descriptor: int, size: int, primary: bytes, template: bytes, path: Path, verify: bool
) -> FileScan | None:
    """Scan of a file whose extensions are all alike; None if they are not."""
    shape, exposure, _ = _meaning(template, path, 1)
    first = len(primary)
    stride = len(template) + padded(frame_bytes(shape))
    count, rest = divmod(size - first, stride)
    date = card_place(template, "DATE")
    if rest or not count or date is None or template[date + 8 : date + _QUOTED] != b"= '":
        return None
    places = [card_place(template, name) for name in _STRUCTURE]
    kept = [slice(at, at + CARD) for at in places if at is not None]
    names = [card_place(template, name) for name in ("DATE", *NAMES)]
    kept += [slice(at, at + _QUOTED) for at in names if at is not None]
    starts = first + stride * np.arange(count, dtype=np.int64)
    headers = b"".join([os.pread(descriptor, len(template), int(start)) for start in starts])
    table = np.frombuffer(headers, dtype=np.uint8).reshape(count, len(template))
    if any((table[:, part] != table[0, part]).any() for part in kept):
        return None
    sums = None
    if verify and names_in(template):
        each = [headers[k * len(template) : (k + 1) * len(template)] for k in range(count)]
        check_carried(primary, [names_in(header) for header in each], path)
        sums = _sums(each, path)
    values = [
        headers[at : at + CARD - _QUOTED].partition(b"'")
        for at in range(date + _QUOTED, len(headers), len(template))
    ]
    if not all(quote for _, quote, _ in values):
        return None
    dates = [text.decode("ascii", "replace").strip() for text, _, _ in values]
    return FileScan(starts + len(template), dates, shape, exposure, sums)


def _sums(headers: Sequence[bytes], path: Path) -> np.ndarray | None:
    found = [expected_sum(header, path, f"extension {k}") for k, header in enumerate(headers, start=1)]
    return None if None in found else np.array(found, dtype=np.int64)


def _walk(descriptor: int, size: int, primary: bytes, path: Path, verify: bool) -> FileScan:
    """Scan of a file header by header."""
    at = len(primary)
    offsets: list[int] = []
    dates: list[str] = []
    exposures: list[float] = []
    headers: list[bytes] = []
    shapes: list[tuple[int, int]] = []
    notes: list[str] = []
    while at < size:
        number = len(offsets) + 1
        if offsets and only_zeros(descriptor, at, size):
            notes.append(f"{size - at} bytes of zeros behind the last extension are ignored: {path}")
            break
        text = read_header(descriptor, at, path, f"extension {number}")
        shape, exposure, date = _meaning(text, path, number)
        end = at + len(text) + padded(frame_bytes(shape))
        # Some writers leave out the padding behind the last frame; those that write sums do not.
        if (end if names_in(text) else at + len(text) + frame_bytes(shape)) > size:
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
        dates.append(date)
        exposures.append(exposure)
        headers.append(text)
        at = end
    if not offsets:
        raise InputError("no frames in the file", file=path, remedy=REMEDY)
    if verify:
        check_carried(primary, [names_in(header) for header in headers], path)
    return FileScan(
        np.array(offsets, dtype=np.int64),
        dates,
        shapes[0],
        float(np.median(exposures)),
        _sums(headers, path) if verify else None,
        tuple(notes),
    )


def _meaning(text: bytes, path: Path, number: int) -> tuple[tuple[int, int], float, str]:
    """Shape, exposure and date that an extension header gives; refuses what are no 16-bit images."""
    with (
        reading(path, f"the header of extension {number} is damaged"),
        warnings.catch_warnings(action="ignore"),
    ):
        header: Any = plain_values(text, _READ)
        if header is None:
            from astropy.io import fits

            header = fits.Header.fromstring(text)
        found = {name: header.get(name) for name in _WANTED}
        scale = header.get("BSCALE", 1)
        rows, columns = header.get("NAXIS2"), header.get("NAXIS1")
        exposure = exposure_seconds(header.get("EXPOSURE"))
        date = str(header.get("DATE", "")).strip()
    whole = isinstance(rows, int) and isinstance(columns, int) and chip_size(rows, columns)
    if found != _WANTED or scale != 1 or not whole or header.get("PCOUNT", 0) != 0:
        told = {**found, "BSCALE": scale, "NAXIS1": columns, "NAXIS2": rows}
        raise InputError(
            f"extension {number} is no image of unsigned 16-bit integers",
            file=path,
            expected="XTENSION='IMAGE', BITPIX=16, NAXIS=2, BZERO=32768, BSCALE=1 and the size of a chip",
            found=", ".join(f"{name}={value!r}" for name, value in told.items()),
            remedy="A compressed file must end in .fz, or be unpacked; exclude other files by the pattern",
        )
    return (rows, columns), exposure, date
