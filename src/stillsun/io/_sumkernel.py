"""The compiled parts of sums: those of a store, and those that FITS files carry."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def row_sums(table):  # type: ignore[no-untyped-def]
    """Sums of the rows of (rows, words) uint32, as (rows,) uint64, never zero."""
    rows, words = table.shape
    sums = np.empty(rows, np.uint64)
    for row in range(rows):
        plain = np.uint64(0)
        weighted = np.uint64(0)
        for place in range(words):
            word = np.uint64(table[row, place])
            plain += word
            weighted += word * np.uint64(np.uint32(2 * place + 1))
        total = plain ^ (weighted << np.uint64(32)) ^ (weighted >> np.uint64(32))
        sums[row] = total if total else np.uint64(1)
    return sums


@njit(nogil=True, cache=True)
def big_endian_total(words):  # type: ignore[no-untyped-def]
    """Sum of (n,) uint32 in little-endian order, read as big-endian, as uint64."""
    total = np.uint64(0)
    for word in words:
        total += np.uint64(
            (word >> np.uint32(24))
            | ((word >> np.uint32(8)) & np.uint32(0xFF00))
            | ((word & np.uint32(0xFF00)) << np.uint32(8))
            | ((word & np.uint32(0xFF)) << np.uint32(24))
        )
    return total
