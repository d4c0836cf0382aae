"""
Places, dates and pixels of the frames in a FITS file that ``fpack`` compressed.

Each frame is a binary table of tiles (FITS standard 4.0, section 10): whole rows of the image, coded after
Rice, unless ``fpack`` was told otherwise. Those are decoded here; what is tiled or coded otherwise (GZIP,
HCOMPRESS, PLIO) goes through astropy, which is slower. The tables differ in length, so that the headers are
walked one by one; what describes the coding must be alike in all of them.
"""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.core._threads import over_blocks
from stillsun.core.backend import get_backend
from stillsun.core.batch import SIGN_BIT
from stillsun.core.rice import decode_rice
from stillsun.errors import InputError
from stillsun.io._fitsscan import (
    BLOCK,
    CARD,
    REMEDY,
    FileScan,
    card_place,
    exposure_seconds,
    padded,
    read_header,
)

SUFFIX = ".fz"
# Cards that describe the coding.
_STRUCTURE = (
    *("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "GCOUNT", "TFIELDS", "TTYPE1", "ZIMAGE", "ZBITPIX"),
    *("ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZCMPTYPE", "ZNAME1", "ZVAL1", "ZNAME2", "ZVAL2"),
    *("BZERO", "BSCALE", "EXPOSURE", "END"),
)
_DESCRIPTORS = {"P": ">i4", "Q": ">i8"}
# What stands before an extension that is read alone.
_EMPTY = fits.PrimaryHDU().header.tostring().encode()


@dataclass(frozen=True)
class Packing:
    """
    How the frames of a file are compressed.

    Attributes
    ----------
    shape : tuple of int
        (rows, columns) of a frame.
    tile_rows : int
        Rows of a tile.
    block : int
        Pixels coded together.
    row_bytes : int
        Bytes of a row of the table; the tile's descriptor comes first.
    descriptor : str
        Data type of the descriptor: length and place of a tile.
    heap : int
        Bytes from the table's begin to the tiles.
    coding : str
        Name of the compression.
    direct : bool
        It is decoded here; else each frame is handed to astropy with its header, which counts as part of it.
    """

    shape: tuple[int, int]
    tile_rows: int
    block: int
    row_bytes: int
    descriptor: str
    heap: int
    coding: str
    direct: bool


def scan_packed(path: Path) -> tuple[FileScan, np.ndarray, Packing]:
    """
    Read the headers of a compressed file.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    scan : FileScan
        Place (of the table, or of its header) and date of each frame.
    sizes : numpy.ndarray
        (frames,) int64: bytes of each from there to the end of its tiles.
    packing : Packing
        How the frames are compressed.

    Raises
    ------
    InputError
        If the file is damaged or holds no images of unsigned 16-bit integers.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _walk(file.fileno(), path)
    except OSError as error:
        raise InputError("cannot be read", file=path, found=error.strerror, remedy=REMEDY) from error


def read_packed(path: Path, offsets: np.ndarray, sizes: np.ndarray, packing: Packing) -> np.ndarray:
    """
    Decode frames, each in a thread of its own.

    Parameters
    ----------
    path : Path
        File.
    offsets, sizes : numpy.ndarray
        (frames,) int64: place and bytes of their tables.
    packing : Packing
        How they are compressed.

    Returns
    -------
    numpy.ndarray
        (frames, rows, columns) uint16: the bits of the stored signed integers.

    Raises
    ------
    InputError
        If a frame is damaged.
    """
    rows, columns = packing.shape
    frames = np.empty((len(offsets), rows, columns), dtype=np.uint16)
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()

        def work(begin: int, end: int) -> None:
            for frame in range(begin, end):
                data = np.frombuffer(os.pread(descriptor, sizes[frame], offsets[frame]), dtype=np.uint8)
                decode = _decode if packing.direct else _decode_slowly
                if data.size < sizes[frame] or not decode(data, packing, frames[frame]):
                    raise InputError(
                        "a compressed frame is damaged",
                        file=path,
                        found=f"no image in the {sizes[frame]} bytes at byte {offsets[frame]}",
                        remedy=REMEDY,
                    )

        over_blocks(work, len(frames), get_backend("numpy"), 1)
    return frames


def _decode(data: np.ndarray, packing: Packing, out: np.ndarray) -> bool:
    rows = packing.shape[0]
    tiles = -(-rows // packing.tile_rows)
    table = data[: tiles * packing.row_bytes].reshape(tiles, packing.row_bytes)
    width = 2 * np.dtype(packing.descriptor).itemsize
    places = np.ascontiguousarray(table[:, :width]).view(packing.descriptor).astype(np.int64)
    starts = packing.heap + places[:, 1]
    ends = starts + places[:, 0]
    whole = rows // packing.tile_rows
    parts = ((slice(0, whole), packing.tile_rows), (slice(whole, tiles), rows - whole * packing.tile_rows))
    first = 0
    for chosen, height in parts:
        count = chosen.stop - chosen.start
        pixels = out[first : first + count * height].reshape(count, -1) if count else out[:0]
        if count and decode_rice(data, starts[chosen], ends[chosen], packing.block, pixels) >= 0:
            return False
        first += count * height
    return True


def _decode_slowly(data: np.ndarray, packing: Packing, out: np.ndarray) -> bool:
    """Decode by astropy, from a file in memory that holds this frame only."""
    try:
        with fits.open(io.BytesIO(_EMPTY + data.tobytes() + bytes(-data.size % BLOCK))) as units:
            pixels = units[1].data
    except (OSError, ValueError, TypeError, KeyError, IndexError, zlib.error, fits.VerifyError):
        return False
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape != packing.shape:
        return False
    # PLIO cannot hold negative numbers: cfitsio codes them with BZERO added, and astropy adds it again.
    np.bitwise_xor(pixels, np.uint16(0 if packing.coding == "PLIO_1" else SIGN_BIT), out=out)
    return True


def _walk(file: int, path: Path) -> tuple[FileScan, np.ndarray, Packing]:
    size = os.fstat(file).st_size
    at = len(read_header(file, 0, path, "the primary header"))
    offsets: list[int] = []
    sizes: list[int] = []
    dates: list[str] = []
    exposures: list[float] = []
    first = b""
    fixed: list[slice] = []
    packing: Packing | None = None
    while at < size:
        number = len(offsets) + 1
        text = read_header(file, at, path, f"extension {number}")
        # A header that equals the first in what describes the coding needs no parsing.
        if packing is None or len(text) != len(first) or any(text[part] != first[part] for part in fixed):
            found, exposure = _meaning(text, path, number)
            packing = packing or found
            if found != packing:
                raise InputError(
                    f"extension {number} has another shape or compression than the first",
                    file=path,
                    expected=packing,
                    found=found,
                    remedy=REMEDY,
                )
            first, fixed = text, _fixed_cards(text)
        begin = at + len(text)
        length = packing.heap + _number(text, "PCOUNT")
        if begin + length > size:
            raise InputError(
                f"truncated within extension {number}",
                file=path,
                expected=f"{begin + padded(length)} bytes",
                found=f"{size} bytes",
                remedy=REMEDY,
            )
        offsets.append(begin if packing.direct else at)
        sizes.append(length if packing.direct else length + len(text))
        dates.append(_text(text, "DATE").removesuffix("Z"))
        exposures.append(exposure)
        at = begin + padded(length)
    if packing is None:
        raise InputError("no frames in the file", file=path, remedy=REMEDY)
    scan = FileScan(np.array(offsets, dtype=np.int64), dates, packing.shape, float(np.median(exposures)))
    return scan, np.array(sizes, dtype=np.int64), packing


def _fixed_cards(header: bytes) -> list[slice]:
    """Cards that must not change for the meaning to be the same; a descriptor's largest length may."""
    places = [card_place(header, name) for name in _STRUCTURE]
    cards = [slice(at, at + CARD) for at in places if at is not None]
    form = card_place(header, "TFORM1")
    return cards if form is None else [*cards, slice(form, form + 14)]


def _meaning(header: bytes, path: Path, number: int) -> tuple[Packing, float]:
    """Compression and exposure."""
    options = {_text(header, f"ZNAME{k}"): _number(header, f"ZVAL{k}") for k in range(1, 5)}
    rows, columns = _number(header, "ZNAXIS2"), _number(header, "ZNAXIS1")
    form = _text(header, "TFORM1")
    told: dict[str, object] = {
        "ZIMAGE": _text(header, "ZIMAGE"),
        "ZBITPIX": _number(header, "ZBITPIX"),
        "ZNAXIS": _number(header, "ZNAXIS"),
        "BZERO": _number(header, "BZERO"),
        "BSCALE": _number(header, "BSCALE", 1),
    }
    wanted = {"ZIMAGE": "T", "ZBITPIX": 16, "ZNAXIS": 2, "BZERO": SIGN_BIT, "BSCALE": 1}
    if told != wanted or min(rows, columns) < 1:
        raise InputError(
            f"extension {number} is no compressed image of unsigned 16-bit integers",
            file=path,
            expected=", ".join(f"{name}={value}" for name, value in wanted.items()),
            found=", ".join(f"{name}={value}" for name, value in told.items()),
            remedy="Exclude the file by the file pattern",
        )
    coding = _text(header, "ZCMPTYPE")
    kind = form[1:2] if form[:1] == "1" else form[:1]
    direct = (
        coding == "RICE_1"
        and kind in _DESCRIPTORS
        and _number(header, "ZTILE1", columns) == columns
        and _text(header, "TTYPE1") == "COMPRESSED_DATA"
        and options.get("BYTEPIX", 4) == 2
    )
    width, table_rows = _number(header, "NAXIS1"), _number(header, "NAXIS2")
    heap = _number(header, "THEAP", width * table_rows)
    packing = Packing(
        (rows, columns),
        max(1, _number(header, "ZTILE2", 1)),
        options.get("BLOCKSIZE", 32),
        width,
        _DESCRIPTORS.get(kind, ""),
        width * table_rows,
        coding,
        direct,
    )
    if not direct:
        return packing, exposure_seconds(_text(header, "EXPOSURE"))
    if table_rows != -(-rows // packing.tile_rows) or width * table_rows != heap:
        raise InputError(
            f"the header of extension {number} is damaged",
            file=path,
            expected=f"{-(-rows // packing.tile_rows)} tiles behind the table",
            found=f"{table_rows} at byte {heap}",
            remedy=REMEDY,
        )
    return packing, exposure_seconds(_text(header, "EXPOSURE"))


def _text(header: bytes, name: str) -> str:
    """Value of a card as text, without quotes; empty where there is none."""
    place = card_place(header, name)
    if place is None:
        return ""
    try:
        value = fits.Card.fromstring(header[place : place + CARD]).value
    except (fits.VerifyError, ValueError):
        return ""
    return "T" if value is True else str(value).strip()


def _number(header: bytes, name: str, default: int = 0) -> int:
    try:
        return int(float(_text(header, name)))
    except ValueError:
        return default
