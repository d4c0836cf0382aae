"""
Pixels of the frames in a FITS file that ``fpack`` compressed.

What is coded after Rice in whole rows, as ``fpack`` does unless told otherwise, is decoded here; what is
tiled or coded otherwise (GZIP, HCOMPRESS, PLIO) by astropy in a process of its own, which is slower: some
damaged files make its library abort.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from stillsun.core._threads import over_blocks
from stillsun.core.backend import get_backend
from stillsun.core.batch import SIGN_BIT
from stillsun.errors import InputError
from stillsun.io._checksums import ones_sum, same_sum
from stillsun.io._fitspacked import Packing
from stillsun.io._slowdecoder import decode_elsewhere
from stillsun.io.foreign import REMEDY, open_regular


def read_packed(
    path: Path, offsets: np.ndarray, sizes: np.ndarray, packing: Packing, sums: np.ndarray | None = None
) -> np.ndarray:
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
    sums : numpy.ndarray, optional
        (frames,) int64: sums that these bytes must have.

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
    with open_regular(path) as file:
        descriptor = file.fileno()

        def work(begin: int, end: int) -> None:
            for frame in range(begin, end):
                data = np.frombuffer(os.pread(descriptor, sizes[frame], offsets[frame]), dtype=np.uint8)
                whole = data.size == sizes[frame] and (
                    sums is None or same_sum(ones_sum(data), int(sums[frame]))
                )
                decode = _decode if packing.direct else _decode_slowly
                if not whole or not decode(data, packing, frames[frame]):
                    raise InputError(
                        "a compressed frame is damaged",
                        file=path,
                        expected="an image" if whole else "bytes with the sum that the header states",
                        found=f"none in the {sizes[frame]} bytes at byte {offsets[frame]}",
                        remedy=REMEDY,
                    )

        over_blocks(work, len(frames), get_backend("numpy"), 1)
    return frames


@cache
def _decoder() -> Callable[..., int]:
    """Loaded when it is first needed: it is compiled."""
    from stillsun.core.rice import decode_rice

    return decode_rice


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
        if count and _decoder()(data, starts[chosen], ends[chosen], packing.block, pixels) >= 0:
            return False
        first += count * height
    return True


def _decode_slowly(data: np.ndarray, packing: Packing, out: np.ndarray) -> bool:
    pixels = decode_elsewhere(data.tobytes(), packing.shape)
    if pixels is None:
        return False
    # PLIO cannot hold negative numbers: cfitsio codes them with BZERO added, and astropy adds it again.
    np.bitwise_xor(pixels, np.uint16(0 if packing.coding == "PLIO_1" else SIGN_BIT), out=out)
    return True
