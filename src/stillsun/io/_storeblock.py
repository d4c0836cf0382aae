"""
The first bytes of a store's file: a sum of HDF5's own structures, verified before HDF5 reads them.

From structures that are damaged, the HDF5 library may loop for ever or end the process. They never change
after a store is allocated, so that one sum of all bytes that hold no values is enough; it is kept with the
places of the values in the block that HDF5 leaves to its users at the beginning of a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import h5py

from stillsun.errors import InputError

BLOCK_BYTES = 32768
_MAGIC = b"stillsun store "
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SUM = 64


def write_block(path: Path) -> None:
    """
    Keep the sum of the structures of a file that was made with a user block of `BLOCK_BYTES`.

    Parameters
    ----------
    path : Path
        File, closed.
    """
    # HDF5 marks there that a file is open, and a kill leaves the mark.
    places: list[tuple[int, int]] = [(BLOCK_BYTES + 20, 4)]

    def collect(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            places.append((item.id.get_offset(), item.id.get_storage_size()))

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(collect)
    size = path.stat().st_size
    text = json.dumps({"size": size, "values": sorted(places)}).encode()
    if len(_MAGIC) + 2 * _SUM + len(text) > BLOCK_BYTES:
        return
    with path.open("r+b") as raw:
        structure = _sum(raw.fileno(), size, sorted(places))
        told = hashlib.sha256(text).hexdigest().encode()
        raw.seek(0)
        raw.write((_MAGIC + told + structure + text).ljust(BLOCK_BYTES, b" "))


def check_block(path: Path) -> None:
    """
    Verify the structures of a file before HDF5 opens it.

    Parameters
    ----------
    path : Path
        File; one of an earlier version, without a block, is not verified.

    Raises
    ------
    InputError
        If they are damaged.
    """
    with path.open("rb", buffering=0) as raw:
        block = os.pread(raw.fileno(), BLOCK_BYTES, 0)
        if block.startswith(_HDF5):
            return
        told, structure = (block[len(_MAGIC) + k * _SUM :][:_SUM] for k in (0, 1))
        text = block[len(_MAGIC) + 2 * _SUM :].rstrip(b" ")
        sound = block.startswith(_MAGIC) and hashlib.sha256(text).hexdigest().encode() == told
        if sound:
            kept = json.loads(text)
            size = os.fstat(raw.fileno()).st_size
            sound = kept["size"] == size and _sum(raw.fileno(), size, kept["values"]) == structure
    if not sound:
        raise InputError(
            "not a store of this program, or damaged",
            file=path,
            found="other structures than were written",
            remedy="Delete it and run again",
        )


def _sum(descriptor: int, size: int, places: list[tuple[int, int]]) -> bytes:
    """Sum of all that is neither the block nor values."""
    total = hashlib.sha256()
    at = BLOCK_BYTES
    for begin, length in [*places, (size, 0)]:
        while at < begin:
            part = os.pread(descriptor, min(begin - at, 2**20), at)
            if not part:
                return b""
            total.update(part)
            at += len(part)
        at = max(at, begin + length)
    return total.hexdigest().encode()
