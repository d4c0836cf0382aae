"""
Sums of the values in a store, one for each row, by which damage is found.

A sum is of 64 bits: that of the 32-bit words and that of the words times their odd places, so that any word
that changes, a page of zeros and exchanged parts are found. It is made in a small fraction of the time that
the file system takes (see docs/benchmarks.md).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

GROUP = "sums"
UNKNOWN = 0
"""Sum of what has not been written."""


# Few values are summed by NumPy: the status of a run, which reads no images, needs no compiled kernel.
_FEW_WORDS = 2**16


@cache
def _kernel() -> Any:
    from stillsun.io._sumkernel import row_sums

    return row_sums


def _numpy_sums(table: np.ndarray) -> np.ndarray:
    words = table.astype(np.uint64)
    weights = (2 * np.arange(table.shape[1], dtype=np.uint32) + np.uint32(1)).astype(np.uint64)
    weighted = (words * weights).sum(axis=1, dtype=np.uint64)
    shift = np.uint64(32)
    sums = words.sum(axis=1, dtype=np.uint64) ^ (weighted << shift) ^ (weighted >> shift)
    return np.where(sums == 0, np.uint64(1), sums)


def sums_of(values: Any, rows: int) -> np.ndarray:
    """
    Make sums.

    Parameters
    ----------
    values : array_like
        Values in the data type in which they are stored.
    rows : int
        Rows along the leading axis, each with a sum; 1 for all together.

    Returns
    -------
    numpy.ndarray
        (rows,) uint64, none of them `UNKNOWN`.
    """
    table = np.ascontiguousarray(values).reshape(rows, -1).view(np.uint8)
    if table.shape[1] % 4:
        table = np.pad(table, ((0, 0), (0, -table.shape[1] % 4)))
    words = table.view(np.uint32)
    result: np.ndarray = _numpy_sums(words) if words.size <= _FEW_WORDS else _kernel()(words)
    return result
