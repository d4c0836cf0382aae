"""The file of a store: what is in it, and how it is laid out before the first value is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storeblock import BLOCK_BYTES, check_block, write_block
from stillsun.io._storesums import GROUP

DONE = "row_done"
NOTES = "notes"
NOTES_LENGTH = 65536
SUMS = "sums by which damage is found; 0: not written"
DIGEST = "digest"
SEAL = "seal"
LAYOUT = "layout"
# What h5py raises, depending on which bytes of a file are wrong.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError)


@dataclass(frozen=True)
class Field:
    """
    One dataset of a store.

    Attributes
    ----------
    shape : tuple of int
        Shape; for a stack without the leading row axis.
    dtype : str
        NumPy data type; ``"str"`` for text (UTF-8, variable length is not used: see `length`).
    unit : str
        Physical unit, empty for none.
    meaning : str
        What it is, in a few words.
    stack : bool
        True: one entry a row (time), leading axis; False: one for the store.
    length : int
        Bytes of a text entry.
    ledger : bool
        Marks of a step, where a row is complete after several.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    unit: str = ""
    meaning: str = ""
    stack: bool = True
    length: int = 64
    ledger: bool = False

    @property
    def numpy_dtype(self) -> np.dtype:
        """Data type as stored."""
        return np.dtype(f"S{self.length}") if self.dtype == "str" else np.dtype(self.dtype)


@dataclass(frozen=True)
class Layout:
    """
    What a store holds, fixed before the first value is written.

    Attributes
    ----------
    rows : int
        Rows of the stacks.
    fields : mapping of str to Field
        The datasets by name; ``/`` makes groups.
    attributes : mapping
        Plain values that describe the store (provenance, configuration as JSON).
    """

    rows: int
    fields: Mapping[str, Field]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def signature(self) -> str:
        """Text that is equal for layouts with the same datasets."""
        items = {n: [list(f.shape), f.numpy_dtype.str, f.stack] for n, f in sorted(self.fields.items())}
        return json.dumps({"rows": self.rows, "fields": items})


_OWN_FIELDS = {
    DONE: Field(dtype="uint8", meaning="1: this row is complete"),
    NOTES: Field(
        dtype="str",
        length=NOTES_LENGTH,
        stack=False,
        meaning="what was assumed, dropped, retried or refused",
    ),
}


def resumable(part: Path, layout: Layout, digest: str) -> bool:
    """Tell whether a part file is there that holds the same datasets, made from the same."""
    if not part.is_file():
        return False
    try:
        check_block(part)
        with h5py.File(part, "r") as file:
            return str(file.attrs[DIGEST]) == digest and str(file.attrs[LAYOUT]) == layout.signature()
    except (InputError, *DAMAGE):
        return False


def allocate(part: Path, layout: Layout, digest: str) -> None:
    """Make a part file with all its datasets, allocated but for their values."""
    part.unlink(missing_ok=True)
    fresh = part.with_name(part.name + ".new")
    # The oldest file format has no "open for writing" mark that a kill would leave behind.
    with h5py.File(fresh, "w", libver=("earliest", "v108"), userblock_size=BLOCK_BYTES) as file:
        sums = {f"{GROUP}/{name}": Field((), "uint64", "", SUMS, item.stack) for name, item in summed(layout)}
        sums[f"{GROUP}/{NOTES}"] = Field((), "uint64", "", SUMS, stack=False)
        for name, item in {**layout.fields, **_OWN_FIELDS, **sums}.items():
            shape = (layout.rows, *item.shape) if item.stack else item.shape
            create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            create.set_layout(h5py.h5d.CONTIGUOUS)
            create.set_obj_track_times(False)
            links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            links.set_create_intermediate_group(True)
            dtype = h5py.h5t.py_create(item.numpy_dtype, logical=True)
            space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
            dataset = h5py.Dataset(
                h5py.h5d.create(file.id, name.encode(), dtype, space, dcpl=create, lcpl=links)
            )
            dataset.attrs["unit"] = item.unit
            dataset.attrs["meaning"] = item.meaning
        for name, value in layout.attributes.items():
            file.attrs[name] = value
        file.attrs[LAYOUT] = layout.signature()
        file.attrs[DIGEST] = digest
        file.attrs[SEAL] = seal(file)
    write_block(fresh)
    fresh.replace(part)


def summed(layout: Layout) -> list[tuple[str, Field]]:
    """Datasets of a layout that have sums: all but those that keep marks."""
    return [(name, item) for name, item in layout.fields.items() if not item.ledger]


def seal(group: Any) -> str:
    """Sum of all that describes a store: its attributes, and the names and shapes of its datasets."""
    told = {name: str(value) for name, value in group.attrs.items() if name != SEAL}
    group.visititems(
        lambda name, item: told.update(
            {name: f"{item.shape} {item.dtype} {dict(item.attrs)}"} if isinstance(item, h5py.Dataset) else {}
        )
    )
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
