"""
Places, dates and coding of the frames in a FITS file that ``fpack`` compressed.

Each frame is a binary table of tiles (FITS standard 4.0, section 10). The tables differ in length, so that
the headers are walked one by one; what describes the coding must be alike in all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io._checksums import add, expected_sum, names_in, ones_sum
from stillsun.io._fitscards import (
    CARD,
    card_number,
    card_place,
    card_text,
    exposure_seconds,
    only_zeros,
    padded,
    read_header,
)
from stillsun.io._fitsscan import FileScan, check_carried, read_primary
from stillsun.io.foreign import REMEDY, chip_size, open_regular, reading

SUFFIX = ".fz"
# Cards that describe the coding.
_STRUCTURE = (
    *("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "GCOUNT", "TFIELDS", "TTYPE1", "ZIMAGE", "ZBITPIX"),
    *("ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZCMPTYPE", "ZNAME1", "ZVAL1", "ZNAME2", "ZVAL2"),
    *("BZERO", "BSCALE", "EXPOSURE", "END"),
)
# The standard knows blocks of 16 and 32 pixels.
_LARGEST_BLOCK = 1024
_DESCRIPTORS = {"P": ">i4", "Q": ">i8"}


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


def scan_packed(path: Path, *, verify: bool = True) -> tuple[FileScan, np.ndarray, Packing]:
    """
    Read the headers of a compressed file.

    Parameters
    ----------
    path : Path
        File.
    verify : bool, optional
        Verify the headers by the sums that they carry.

    Returns
    -------
    scan : FileScan
        Place (of the table, or of its header) and date of each frame, and the sum of the bytes from there.
    sizes : numpy.ndarray
        (frames,) int64: bytes of each from there to the end of its unit.
    packing : Packing
        How the frames are compressed.

    Raises
    ------
    InputError
        If the file is damaged or holds no images of unsigned 16-bit integers.
    """
    with open_regular(path) as file, reading(path):
        return _walk(file.fileno(), path, verify)


def _walk(file: int, path: Path, verify: bool) -> tuple[FileScan, np.ndarray, Packing]:
    size = os.fstat(file).st_size
    primary = read_primary(file, path, verify=verify)
    at = len(primary)
    offsets: list[int] = []
    sizes: list[int] = []
    dates: list[str] = []
    exposures: list[float] = []
    sums: list[int | None] = []
    carried: list[tuple[str, ...]] = []
    notes: list[str] = []
    first = b""
    fixed: list[slice] = []
    packing: Packing | None = None
    while at < size:
        number = len(offsets) + 1
        if offsets and only_zeros(file, at, size):
            notes.append(f"{size - at} bytes of zeros behind the last extension are ignored: {path}")
            break
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
        heap = card_number(text, "PCOUNT")
        length = packing.heap + heap
        if heap < 0 or begin + (padded(length) if names_in(text) else length) > size:
            raise InputError(
                f"truncated within extension {number}, or its header is damaged",
                file=path,
                expected=f"{begin + padded(length)} bytes" if heap >= 0 else "PCOUNT from 0",
                found=f"{size} bytes" if heap >= 0 else "no such number",
                remedy=REMEDY,
            )
        place = begin if packing.direct else at
        offsets.append(place)
        sizes.append(min(begin + padded(length), size) - place)
        dates.append(card_text(text, "DATE"))
        exposures.append(exposure)
        if verify:
            carried.append(names_in(text))
            total = expected_sum(text, path, f"extension {number}")
            if total is not None and not packing.direct:
                total = add(total, ones_sum(np.frombuffer(text, dtype=np.uint8)))
            sums.append(total)
        at = begin + padded(length)
    if packing is None:
        raise InputError("no frames in the file", file=path, remedy=REMEDY)
    if verify:
        check_carried(primary, carried, path)
    scan = FileScan(
        np.array(offsets, dtype=np.int64),
        dates,
        packing.shape,
        float(np.median(exposures)),
        np.array(sums, dtype=np.int64) if verify and None not in sums else None,
        tuple(notes),
    )
    return scan, np.array(sizes, dtype=np.int64), packing


def _fixed_cards(header: bytes) -> list[slice]:
    """Cards that must not change for the meaning to be the same; a descriptor's largest length may."""
    places = [card_place(header, name) for name in _STRUCTURE]
    cards = [slice(at, at + CARD) for at in places if at is not None]
    form = card_place(header, "TFORM1")
    return cards if form is None else [*cards, slice(form, form + 14)]


def _meaning(header: bytes, path: Path, number: int) -> tuple[Packing, float]:
    """Compression and exposure."""
    options = {card_text(header, f"ZNAME{k}"): card_number(header, f"ZVAL{k}") for k in range(1, 5)}
    rows, columns = card_number(header, "ZNAXIS2"), card_number(header, "ZNAXIS1")
    form = card_text(header, "TFORM1")
    told: dict[str, object] = {
        "ZIMAGE": card_text(header, "ZIMAGE"),
        "ZBITPIX": card_number(header, "ZBITPIX"),
        "ZNAXIS": card_number(header, "ZNAXIS"),
        "BZERO": card_number(header, "BZERO"),
        "BSCALE": card_number(header, "BSCALE", 1),
    }
    told["size"] = f"{rows} x {columns}" if not chip_size(rows, columns) else "that of a chip"
    wanted = {
        "ZIMAGE": "T",
        "ZBITPIX": 16,
        "ZNAXIS": 2,
        "BZERO": SIGN_BIT,
        "BSCALE": 1,
        "size": "that of a chip",
    }
    if told != wanted:
        raise InputError(
            f"extension {number} is no compressed image of unsigned 16-bit integers",
            file=path,
            expected=", ".join(f"{name}={value}" for name, value in wanted.items()),
            found=", ".join(f"{name}={value}" for name, value in told.items()),
            remedy="Exclude the file by the file pattern",
        )
    coding = card_text(header, "ZCMPTYPE")
    kind = form[1:2] if form[:1] == "1" else form[:1]
    direct = (
        coding == "RICE_1"
        and kind in _DESCRIPTORS
        and card_number(header, "ZTILE1", columns) == columns
        and card_text(header, "TTYPE1") == "COMPRESSED_DATA"
        and options.get("BYTEPIX", 4) == 2
    )
    width, table_rows = card_number(header, "NAXIS1"), card_number(header, "NAXIS2")
    heap = card_number(header, "THEAP", width * table_rows)
    packing = Packing(
        (rows, columns),
        card_number(header, "ZTILE2", 1),
        options.get("BLOCKSIZE", 32),
        width,
        _DESCRIPTORS.get(kind, ""),
        width * table_rows,
        coding,
        direct,
    )
    tiles = -(-rows // max(packing.tile_rows, 1))
    sound = min(width, table_rows) >= 0 < packing.tile_rows and (
        not direct
        or (
            table_rows == tiles
            and packing.heap == heap
            and 0 < packing.block <= _LARGEST_BLOCK
            and width >= 2 * np.dtype(packing.descriptor).itemsize
        )
    )
    if not sound:
        raise InputError(
            f"the header of extension {number} is damaged",
            file=path,
            expected=f"{tiles} tiles behind the table, coded in blocks of 16 or 32 pixels",
            found=f"{table_rows} at byte {heap}, in rows of {width} bytes, blocks of {packing.block}",
            remedy=REMEDY,
        )
    return packing, exposure_seconds(card_text(header, "EXPOSURE"))
