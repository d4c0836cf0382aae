"""Rice decoding of 16-bit images, as ``fpack`` compresses them (FITS standard 4.0, section 10.4.1)."""

from __future__ import annotations

import numpy as np
from numba import njit

# Bits of the code that tells a block's number of low bits, and its value for a block that is not coded.
_CODE_BITS = 4
_PLAIN = 14
_BITS = 16


def decode_rice(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, block: int, out: np.ndarray) -> int:
    """
    Decode Rice-coded tiles.

    Parameters
    ----------
    data : numpy.ndarray
        (m,) uint8: bytes that hold the tiles.
    starts, ends : numpy.ndarray
        (tiles,) int64: first byte of each tile, and the one behind its last.
    block : int
        Pixels coded together.
    out : numpy.ndarray
        (tiles, pixels of a tile) uint16, written: the bits of the signed integers that were coded.

    Returns
    -------
    int
        Number of the first damaged tile; -1 where all are whole.
    """
    return int(_decode(data, starts, ends, block, out))


@njit(nogil=True, cache=True)
def _decode(data, starts, ends, block, out):  # type: ignore[no-untyped-def]
    highest = np.zeros(256, np.int64)
    for value in range(1, 256):
        highest[value] = highest[value >> 1] + 1
    tiles, pixels = out.shape
    for tile in range(tiles):
        at, end = starts[tile], ends[tile]
        if at < 0 or end > data.size or end - at < 3:
            return tile
        last = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
        bits = np.int64(data[at + 2])
        count = 8
        at += 3
        for begin in range(0, pixels, block):
            stop = min(begin + block, pixels)
            count -= _CODE_BITS
            while count < 0:
                if at >= end:
                    return tile
                bits = (bits << 8) | np.int64(data[at])
                at += 1
                count += 8
            low = (bits >> count) - 1
            bits &= (1 << count) - 1
            if low < 0:
                out[tile, begin:stop] = np.uint16(last & 0xFFFF)
                continue
            for pixel in range(begin, stop):
                zeros = 0
                need = low
                if low == _PLAIN:
                    need = _BITS
                else:
                    # A run of zeros and the one behind it: the high bits of the difference.
                    while bits == 0:
                        if at >= end:
                            return tile
                        bits = np.int64(data[at])
                        at += 1
                        count += 8
                    zeros = count - highest[bits]
                    count -= zeros + 1
                    bits ^= 1 << count
                count -= need
                while count < 0:
                    if at >= end:
                        return tile
                    bits = (bits << 8) | np.int64(data[at])
                    at += 1
                    count += 8
                step = (zeros << need) | (bits >> count)
                bits &= (1 << count) - 1
                # Signed differences are folded: 0, -1, 1, -2, …
                last += ~(step >> 1) if step & 1 else step >> 1
                out[tile, pixel] = np.uint16(last & 0xFFFF)
    return -1
