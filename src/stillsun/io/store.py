"""
HDF5 stores that survive a kill.

A store is written as ``NAME.h5.part``: all its datasets are created and allocated before the first
value is written, so that the file's structure never changes afterwards and a killed run leaves a
readable file. Each row of the stacks is marked when it is complete; a run that finds the part file
of the same digest goes on with the first row that is not. A finished store gets its final name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storefile import DIGEST, DONE, NOTES, NOTES_LENGTH, Field, Layout, allocate, resumable
from stillsun.io._storereader import DAMAGE, StoreReader, damaged, part_progress, stored_digest
from stillsun.io.atomic import part_of

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
        dataset[() if row is None else row] = value

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
        self._file[NOTES][()] = text.decode(errors="ignore").encode()


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
        What the store is made from; see `stillsun.pipeline.digest`.

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
    resumed = resumable(part, layout, digest)
    if not resumed:
        allocate(part, layout, digest)
    file = h5py.File(part, "r+", locking=False)
    try:
        yield StoreWriter(path, file, resumed)
        file.flush()
    finally:
        file.close()


def _finish(path: Path) -> None:
    """Give a complete part file its name."""
    part = part_of(path)
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
    with h5py.File(part_of(path), "w", libver=("earliest", "v108")) as file:
        _copy_others(path, group, file)
        with h5py.File(part, "r") as section:
            section.copy("/", file, name=group)
    part.unlink()
    _finish(path)


def _copy_others(path: Path, group: str, file: h5py.File) -> None:
    try:
        old = h5py.File(path, "r")
    except DAMAGE:
        # Nothing there, or nothing that can be read: its sections count as not made, too.
        return
    with old:
        try:
            for name in old:
                if name != group:
                    old.copy(name, file)
        except DAMAGE as error:
            raise damaged(path, error) from error
