"""FITS headers as bytes: where they end, where a card is, and what it says."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stillsun.errors import InputError
from stillsun.io.foreign import REMEDY

BLOCK = 2880
CARD = 80
# A header of 9,000 cards; one that does not end before is damaged.
_MOST_BLOCKS = 256
_END = b"END".ljust(CARD)
_FIRST = (b"SIMPLE", b"XTENSION")
_TEXT = bytes(range(32, 127))
# Text without quotes, whole numbers and T in the usual form; all else is left to astropy.
_PLAIN = re.compile(
    rb"[A-Z0-9_-]{1,8} *= (?:'(?P<text>[ -&(-~]{1,68})'|(?P<word> *(?:T|(?P<digits>[+-]?[0-9]{1,18}))))"
    rb" *(?:/[ -~]*)?"
)
_GZIP = b"\x1f\x8b"


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
    blocks: list[bytes] = []
    while len(blocks) < _MOST_BLOCKS:
        block = os.pread(descriptor, BLOCK, at + BLOCK * len(blocks))
        if not blocks and at == 0 and block.startswith(_GZIP):
            raise InputError("compressed with gzip", file=path, remedy="Unpack it with gunzip first")
        if not blocks and (len(block) < BLOCK or block[:CARD].split(b"=")[0].strip() not in _FIRST):
            raise InputError(
                f"no FITS header where {what} should begin",
                file=path,
                expected=f"SIMPLE or XTENSION at byte {at}",
                found=f"{len(block)} bytes"
                if len(block) < BLOCK
                else repr(block[:20].decode("ascii", "replace")),
                remedy=REMEDY,
            )
        # Pixels, or another header: the END card before them is damaged.
        strange = len(block.translate(None, _TEXT)) > BLOCK // 10
        if len(block) < BLOCK or strange or (blocks and card_place(block, "XTENSION") is not None):
            break
        blocks.append(block)
        if any(block[k : k + CARD] == _END for k in range(0, BLOCK, CARD)):
            return b"".join(blocks)
    raise InputError(
        f"the header of {what} does not end",
        file=path,
        expected=f"an END card behind byte {at}",
        found=f"none in {len(blocks)} blocks of {BLOCK} bytes",
        remedy=REMEDY,
    )


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


def card_text(header: bytes, name: str) -> str:
    """
    Read a value as text, as astropy reads it.

    Parameters
    ----------
    header : bytes
        Header blocks.
    name : str
        Keyword.

    Returns
    -------
    str
        Without quotes; ``T`` for true, empty where there is no value that can be read.
    """
    place = card_place(header, name)
    if place is None:
        return ""
    plain = plain_values(header, [name])
    if plain is None:
        from astropy.io import fits

        try:
            value = fits.Card.fromstring(header[place : place + CARD]).value
        except (fits.VerifyError, ValueError):
            return ""
    else:
        value = plain[name]
    return "T" if value is True else str(value).strip()


def plain_values(header: bytes, names: Iterable[str]) -> dict[str, Any] | None:
    """
    Read values without a library, as astropy would read them.

    Parameters
    ----------
    header : bytes
        Header blocks.
    names : iterable of str
        Keywords.

    Returns
    -------
    dict or None
        Those that are there: text without quotes, whole numbers, T in the usual form; None where one is
        written otherwise.
    """
    found: dict[str, Any] = {}
    for name in names:
        place = card_place(header, name)
        if place is None:
            continue
        plain = _PLAIN.fullmatch(header[place : place + CARD])
        if plain is None:
            return None
        if plain["digits"]:
            found[name] = int(plain["digits"])
        else:
            found[name] = plain["text"].decode().rstrip() if plain["text"] else True
    return found


def card_number(header: bytes, name: str, default: int = 0) -> int:
    """
    Read a whole number.

    Parameters
    ----------
    header : bytes
        Header blocks.
    name : str
        Keyword.
    default : int, optional
        Value where there is no card.

    Returns
    -------
    int
        The number; -1 for what is none.
    """
    if card_place(header, name) is None:
        return default
    try:
        value = float(card_text(header, name))
    except ValueError:
        return -1
    return int(value) if math.isfinite(value) and value == int(value) else -1


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
    value *= 1e-3 if len(parts) > 1 and parts[1].lower().startswith("ms") else 1.0
    return value if 0 < value < math.inf else float("nan")


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


def only_zeros(descriptor: int, at: int, size: int) -> bool:
    """
    Tell whether nothing but zeros follows.

    Parameters
    ----------
    descriptor : int
        Open file.
    at, size : int
        First byte looked at, and bytes of the file.

    Returns
    -------
    bool
        True where all bytes from there to the end are zero.
    """
    step = CARD
    while at < size:
        part = os.pread(descriptor, step, at)
        if not part or part.strip(b"\0"):
            return False
        at += len(part)
        step = 2**20
    return True
