"""The compiled part of the sums of a store."""

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
