"""
HDF5 stores that survive a kill.

A store is written as ``NAME.h5.part``: all its datasets are created and allocated before the first
value is written, so that the file's structure never changes afterwards and a killed run leaves a
readable file. Each row of the stacks is marked when it is complete; a run that finds the part file
of the same digest goes on with the first row that is not. A finished store gets its final name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storeblock import BLOCK_BYTES, check_block, write_block
from stillsun.io._storefile import (
    DAMAGE,
    DIGEST,
    DONE,
    NOTES,
    NOTES_LENGTH,
    SEAL,
    Field,
    Layout,
    allocate,
    resumable,
    seal,
    summed,
)
from stillsun.io._storereader import StoreReader, damaged
from stillsun.io._storestate import part_progress, sign_time, stored_digest
from stillsun.io._storesums import GROUP, UNKNOWN, sums_of
from stillsun.io.atomic import part_of

_LOG = logging.getLogger(__name__)

__all__ = [
    "Field",
    "Layout",
    "StoreReader",
    "StoreWriter",
    "create_section",
    "create_store",
    "part_progress",
    "stored_digest",
]


class StoreWriter(StoreReader):
    """
    An unfinished store; made by `create_store`.

    Parameters
    ----------
    path : Path
        Final path; what is open is the part file.
    file : h5py.File
        The open part file.
    resumed : bool
        The part file of an earlier run was taken over.
    """

    def __init__(self, path: Path, file: h5py.File, resumed: bool) -> None:
        self.path = path
        self._handle = self._file = file
        self.digest = str(file.attrs[DIGEST])
        self.resumed = resumed

    def write(self, name: str, value: Any, row: int | None = None) -> None:
        """
        Write a dataset, or one row of a stack.

        Parameters
        ----------
        name : str
            Dataset, declared in the layout.
        value : array_like
            Values; text as str.
        row : int, optional
            Row of a stack; the whole dataset by default.
        """
        dataset = self._file[name]
        if dataset.dtype.kind == "S":
            value = np.char.encode(np.asarray(value).astype(str), "utf-8")
            if value.dtype.itemsize > dataset.dtype.itemsize:
                raise ValueError(f"{name}: text longer than {dataset.dtype.itemsize} bytes: {value}")
        stack = row is None and dataset.ndim > 0
        shape = dataset.shape if row is None else dataset.shape[1:]
        stored = np.broadcast_to(np.asarray(value).astype(dataset.dtype, copy=False), shape)
        sums = self._file.get(f"{GROUP}/{name}")
        if sums is not None:
            # Unknown until the values are in the file, for a kill between the two.
            sums[() if row is None else row] = UNKNOWN
        dataset[() if row is None else row] = stored
        if sums is not None:
            made = sums_of(stored, len(stored) if stack and sums.ndim else 1)
            sums[() if row is None else row] = made if stack and sums.ndim else made[0]

    def mark(self, row: int | slice | tuple[()], name: str = DONE) -> None:
        """
        Mark rows as complete; their values reach the file first.

        Parameters
        ----------
        row : int or slice or tuple
            Rows; ``()`` for a mark of the whole store.
        name : str, optional
            Declared dataset that keeps the marks of a step, where a row is complete after several.
        """
        self._handle.flush()
        self._file[name][row] = 1
        self._handle.flush()

    def write_notes(self, notes: Sequence[str]) -> None:
        """
        Keep what the stage assumed, dropped, retried or refused.

        Parameters
        ----------
        notes : sequence of str
            One line each; what goes beyond 64 kB is cut.
        """
        kept = [*self.notes, *(n for n in notes if n not in self.notes)]
        text = "\n".join(kept).encode()[:NOTES_LENGTH]
        # A letter of several bytes may have been cut too.
        value = np.array(text.decode(errors="ignore").encode(), dtype=self._file[NOTES].dtype)
        self._file[f"{GROUP}/{NOTES}"][()] = UNKNOWN
        self._file[NOTES][()] = value
        self._file[f"{GROUP}/{NOTES}"][()] = sums_of(value, 1)[0]


@contextmanager
def create_store(path: Path, layout: Layout, digest: str) -> Iterator[StoreWriter]:
    """
    Write a store: under a part name first, under its own name when the block ends without error.

    A part file with the same digest and layout is taken over, with the rows marked in it.

    Parameters
    ----------
    path : Path
        Final path.
    layout : Layout
        Everything the store will hold.
    digest : str
        What the store is made from; see `stillsun.pipeline.plan`.

    Yields
    ------
    StoreWriter
        The open store.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(path, layout, digest) as store:
        yield store
    _finish(path)


@contextmanager
def _unfinished(path: Path, layout: Layout, digest: str) -> Iterator[StoreWriter]:
    part = part_of(path)
    for place in (path, part):
        if place.is_dir():
            raise InputError("a directory is in the place of a file", file=place, remedy="Move it away")
    resumed = resumable(part, layout, digest) and _mend(part, layout)
    if not resumed:
        allocate(part, layout, digest)
    file = h5py.File(part, "r+", locking=False)
    try:
        yield StoreWriter(path, file, resumed)
        file.flush()
    finally:
        file.close()


def _mend(part: Path, layout: Layout) -> bool:
    """
    Verify a part file that is to be taken over; rows that are damaged are to be made again.

    Where rows are complete after several steps, one that is damaged may have gone into others: then, and
    where a dataset without rows is damaged, all is made again.
    """
    try:
        with h5py.File(part, "r+", locking=False) as file:
            if file.attrs.get(SEAL) != seal(file):
                return False
            store = StoreWriter(part, file, resumed=True)
            done = store.done()
            ledgers = [name for name, item in layout.fields.items() if item.ledger]
            marks = [done, *(file[name][()].astype(bool) for name in ledgers if layout.fields[name].stack)]
            # A kill may have left the row half written that each step was about to make.
            begun = {int(np.argmin(mark)) for mark in marks if not mark.all()}
            touched = np.logical_or.reduce(marks)
            wrong: set[int] = set()
            for name, item in summed(layout):
                rows = store.wrong_rows(name)
                if rows.size and not item.stack:
                    return False
                for row in map(int, rows):
                    if touched[row] and (done[row] or row not in begun):
                        wrong.add(row)
                    else:
                        file[f"{GROUP}/{name}"][row] = UNKNOWN
            if wrong and ledgers:
                return False
            for row in sorted(wrong):
                file[DONE][row] = 0
            if wrong:
                _LOG.warning("%s: %d damaged rows are made again", part, len(wrong))
    except (InputError, *DAMAGE):
        return False
    return True


def _finish(path: Path) -> None:
    """Give a complete part file its name."""
    part = part_of(path)
    sign_time(part)
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(path)


@contextmanager
def create_section(path: Path, group: str, layout: Layout, digest: str) -> Iterator[StoreWriter]:
    """
    Write one section of a file that several stages share; the other sections are kept.

    Parameters
    ----------
    path : Path
        The shared file.
    group : str
        Section.
    layout : Layout
        Everything the section will hold.
    digest : str
        What the section is made from.

    Yields
    ------
    StoreWriter
        The open section.
    """
    path = Path(path)
    own = path.with_name(f"{path.stem}.{group}{path.suffix}")
    own.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(own, layout, digest) as store:
        yield store
    part = part_of(own)
    whole = part_of(path)
    with h5py.File(whole, "w", libver=("earliest", "v108"), userblock_size=BLOCK_BYTES) as file:
        _copy_others(path, group, file)
        with h5py.File(part, "r") as section:
            section.copy("/", file, name=group)
    write_block(whole)
    part.unlink()
    _finish(path)


def _copy_others(path: Path, group: str, file: h5py.File) -> None:
    try:
        check_block(path)
        old = h5py.File(path, "r", locking=False)
    except (InputError, *DAMAGE):
        # Nothing there, or nothing that can be read: its sections count as not made, too.
        return
    with old:
        try:
            for name in old:
                if name != group and stored_digest(path, name) is not None:
                    old.copy(name, file)
        except DAMAGE as error:
            raise damaged(path, error) from error
