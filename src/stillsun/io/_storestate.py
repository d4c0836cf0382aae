"""What is known of a store without reading it: whether it is finished, changed since, or how far it is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from stillsun.errors import InputError
from stillsun.io._storereader import StoreReader
from stillsun.io.atomic import part_of

# Nanoseconds of each millisecond in the time of writing of a finished store: the time is never after the
# true one, so that who compares times of files is not misled.
_PERIOD, _SIGN = 10**6, 424_242


def sign_time(path: Path) -> None:
    """
    Give a finished file a time of writing that no later writing has.

    Parameters
    ----------
    path : Path
        File.
    """
    now = path.stat().st_mtime_ns
    signed = (now - _SIGN) // _PERIOD * _PERIOD + _SIGN
    os.utime(path, ns=(now, signed))


def unchanged(path: Path) -> bool:
    """
    Tell whether a file has the time of writing that `sign_time` gives.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    bool
        False also where a copy has lost it.
    """
    return path.stat().st_mtime_ns % _PERIOD == _SIGN


def stored_digest(path: Path, group: str = "/") -> str | None:
    """
    Digest of a finished store.

    Parameters
    ----------
    path : Path
        Final path.
    group : str
        Section of a shared file.

    Returns
    -------
    str or None
        None where there is no readable store, or a damaged one. One whose time of writing is not that which
        it was given when it was finished is verified.
    """
    try:
        with StoreReader(path, group) as store:
            if not unchanged(store.path):
                if not store.is_sound():
                    return None
                if group == "/":
                    with suppress(OSError):
                        sign_time(store.path)
            return store.digest
    except InputError:
        return None


def part_progress(path: Path, digest: str | None = None) -> tuple[int, int] | None:
    """
    How far an unfinished store is.

    Parameters
    ----------
    path : Path
        Final path of the store.
    digest : str, optional
        What it must be made from; anything by default.

    Returns
    -------
    tuple of int or None
        Rows done and rows in all; None where there is no such part file.
    """
    part = part_of(Path(path))
    try:
        with StoreReader(part) as store:
            done = store.done()
            return (int(done.sum()), done.size) if digest in (None, store.digest) else None
    except InputError:
        return None
