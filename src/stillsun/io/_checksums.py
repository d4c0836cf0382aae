"""
Sums that FITS files carry: ``DATASUM`` of the data, and ``CHECKSUM`` of a whole unit.

Both are 32-bit sums in ones' complement (FITS standard 4.0, appendix J). With both in a header, the header
is verified without its data: its words and ``DATASUM`` add up to minus zero.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.io._fitscards import CARD, card_place, card_text
from stillsun.io.foreign import REMEDY

NAMES = ("CHECKSUM", "DATASUM")
_ONES = 0xFFFFFFFF


# Few words, as those of headers, are summed by NumPy: to look at a file needs no compiled kernel.
_FEW_WORDS = 2**14


@cache
def _kernel() -> Any:
    from stillsun.io._sumkernel import big_endian_total

    return big_endian_total


def _total(words: np.ndarray) -> int:
    if words.size <= _FEW_WORDS:
        return int(words.byteswap().sum(dtype=np.uint64))
    return int(_kernel()(words))


def ones_sum(data: np.ndarray) -> int:
    """
    Sum of bytes as FITS defines it.

    Parameters
    ----------
    data : numpy.ndarray
        (n,) uint8; what is missing of the last word counts as zero.

    Returns
    -------
    int
        32-bit sum in ones' complement.
    """
    whole = data.size // 4 * 4
    words = np.frombuffer(data[:whole], dtype="<u4").astype("=u4", copy=False)
    return add(_total(words), int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), "big"))


def add(first: int, second: int) -> int:
    """
    Add in ones' complement.

    Parameters
    ----------
    first, second : int
        Summands, not negative.

    Returns
    -------
    int
        Their sum, 32 bits; minus zero is all ones.
    """
    total = first + second
    while total >> 32:
        total = (total & _ONES) + (total >> 32)
    return total


def names_in(header: bytes) -> tuple[str, ...]:
    """
    Tell which sums a header carries.

    Parameters
    ----------
    header : bytes
        Header blocks.

    Returns
    -------
    tuple of str
        Some of `NAMES`; an empty value counts as none.
    """
    return tuple(name for name in NAMES if _value(header, name))


def expected_sum(header: bytes, path: Path, what: str) -> int | None:
    """
    Verify a header by its sums, and give the sum that its data must have.

    Parameters
    ----------
    header : bytes
        Header blocks.
    path : Path
        File, for the message.
    what : str
        Unit, for the message.

    Returns
    -------
    int or None
        None where the header carries no sum.

    Raises
    ------
    InputError
        If the header is damaged.
    """
    carried = names_in(header)
    if not carried:
        return None
    total = ones_sum(np.frombuffer(header, dtype=np.uint8))
    if "DATASUM" not in carried:
        return ~total & _ONES
    text = _value(header, "DATASUM")
    right = text.isascii() and text.isdigit() and len(text) < 11
    if not right or ("CHECKSUM" in carried and add(total, int(text)) not in (0, _ONES)):
        raise InputError(
            f"the header of {what} is damaged",
            file=path,
            expected="CHECKSUM of the header's bytes",
            found="another sum",
            remedy=REMEDY,
        )
    return int(text)


def same_sum(first: int, second: int) -> bool:
    """
    Compare two sums.

    Parameters
    ----------
    first, second : int
        Sums.

    Returns
    -------
    bool
        True where they are equal; plus and minus zero are.
    """
    return first % _ONES == second % _ONES


def _value(header: bytes, name: str) -> str:
    place = card_place(header, name)
    if place is None:
        return ""
    card = header[place : place + CARD]
    if card.startswith(b"= '", 8):
        # Many times faster than astropy; neither sum has a quote in it.
        return card[11:].split(b"'", 1)[0].strip().decode("ascii", "replace")
    # Not empty: there is a card, and no sum is equal to what cannot be read.
    return card_text(header, name) or "damaged"
