"""
HDF5 stores that survive a kill.

A store is written as ``NAME.h5.part``: all its datasets are created and allocated before the first
value is written, so that the file's structure never changes afterwards and a killed run leaves a
readable file. Each row of the stacks is marked when it is complete; a run that finds the part file
of the same digest goes on with the first row that is not. A finished store gets its final name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storefile import (
    DIGEST,
    DONE,
    LAYOUT,
    NOTES,
    NOTES_LENGTH,
    Field,
    Layout,
    allocate,
    resumable,
)
from stillsun.io.whole import PART

# What h5py raises, depending on which bytes of a file are wrong.
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError)


class StoreReader:
    """
    A finished (or, with ``partial=True``, an unfinished) store, open for reading.

    Parameters
    ----------
    path : Path
        File to read.
    group : str
        Section of a file that several stages share.

    Raises
    ------
    InputError
        If the file is missing or no store.
    """

    def __init__(self, path: Path, group: str = "/") -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError("product not found", file=self.path, remedy="Run the stage that makes it")
        try:
            # Not locked: an unfinished store may be looked at while it is written.
            self._handle = h5py.File(self.path, "r", locking=False)
            self._file = self._handle[group]
            self.digest = str(self._file.attrs[DIGEST])
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def __contains__(self, name: str) -> bool:
        return name in self._file

    @property
    def rows(self) -> int:
        """Rows of the stacks."""
        return int(json.loads(self._file.attrs[LAYOUT])["rows"])

    @property
    def attributes(self) -> dict[str, Any]:
        """Values that describe the store."""
        return {k: v for k, v in self._file.attrs.items() if k not in (DIGEST, LAYOUT)}

    def names(self) -> list[str]:
        """Names of all datasets."""
        found: list[str] = []
        self._file.visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
        return [n for n in found if n not in (DONE, NOTES)]

    @property
    def notes(self) -> list[str]:
        """What the stage assumed, dropped, retried or refused."""
        return [line for line in self._file[NOTES][()].decode().splitlines() if line]

    def shape(self, name: str) -> tuple[int, ...]:
        """
        Shape of a dataset.

        Parameters
        ----------
        name : str
            Dataset.

        Returns
        -------
        tuple of int
            Its shape.
        """
        return tuple(self._file[name].shape)

    def unit(self, name: str) -> str:
        """
        Unit of a dataset.

        Parameters
        ----------
        name : str
            Dataset.

        Returns
        -------
        str
            Its unit; empty for none.
        """
        return str(self._file[name].attrs.get("unit", ""))

    def describe(self, name: str) -> Field:
        """
        What a dataset is.

        Parameters
        ----------
        name : str
            Dataset.

        Returns
        -------
        Field
            As it was declared.
        """
        dataset = self._file[name]
        kept = json.loads(self._file.attrs[LAYOUT])["fields"][name]
        shape = dataset.shape[1:] if kept[2] else dataset.shape
        text = dataset.dtype.kind == "S"
        return Field(
            shape=tuple(shape),
            dtype="str" if text else dataset.dtype.name,
            unit=str(dataset.attrs["unit"]),
            meaning=str(dataset.attrs["meaning"]),
            stack=bool(kept[2]),
            length=dataset.dtype.itemsize if text else 64,
        )

    def done(self) -> np.ndarray:
        """Which rows are complete, (rows,) bool."""
        return self._file[DONE][()].astype(bool)

    def read(self, name: str, row: int | slice | None = None) -> Any:
        """
        Read a dataset, or some rows of it.

        Parameters
        ----------
        name : str
            Dataset.
        row : int or slice, optional
            Rows of a stack; everything by default.

        Returns
        -------
        numpy.ndarray or scalar
            Values; text as str.
        """
        dataset = self._file[name]
        value = dataset[()] if row is None else dataset[row]
        if dataset.dtype.kind == "S":
            return value.decode() if isinstance(value, bytes) else np.char.decode(value, "utf-8")
        return value


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
        self._file[NOTES][()] = "\n".join(kept).encode()[:NOTES_LENGTH]


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
    part = path.with_name(path.name + PART)
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
    part = path.with_name(path.name + PART)
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
    part = own.with_name(own.name + PART)
    with h5py.File(path.with_name(path.name + PART), "w", libver=("earliest", "v108")) as file:
        _copy_others(path, group, file)
        with h5py.File(part, "r") as section:
            section.copy("/", file, name=group)
    part.unlink()
    _finish(path)


def _copy_others(path: Path, group: str, file: h5py.File) -> None:
    try:
        old = h5py.File(path, "r")
    except _DAMAGE:
        # Nothing there, or nothing that can be read: its sections count as not made, too.
        return
    with old:
        try:
            for name in old:
                if name != group:
                    old.copy(name, file)
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        "not a store of this program, or damaged",
        file=path,
        found=error,
        remedy="Delete it and run again",
    )


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
        None where there is no readable store.
    """
    try:
        with StoreReader(path, group) as store:
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
    part = Path(path).with_name(Path(path).name + PART)
    try:
        with StoreReader(part) as store:
            done = store.done()
            return (int(done.sum()), done.size) if digest in (None, store.digest) else None
    except InputError:
        return None
