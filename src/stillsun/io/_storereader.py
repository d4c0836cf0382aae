"""Reading of stores, and what is known of them without reading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storefile import DIGEST, DONE, LAYOUT, NOTES, Field
from stillsun.io.atomic import part_of

# What h5py raises, depending on which bytes of a file are wrong.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError)


class StoreReader:
    """
    A store, finished or not, open for reading.

    Parameters
    ----------
    path : Path
        File to read; of an unfinished store its part file.
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
        except DAMAGE as error:
            raise damaged(self.path, error) from error

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
    part = part_of(Path(path))
    try:
        with StoreReader(part) as store:
            done = store.done()
            return (int(done.sum()), done.size) if digest in (None, store.digest) else None
    except InputError:
        return None


def damaged(path: Path, error: Exception) -> InputError:
    """
    Say that a store cannot be read.

    Parameters
    ----------
    path : Path
        File.
    error : Exception
        What h5py made of it, one of `DAMAGE`.

    Returns
    -------
    InputError
        To be raised.
    """
    return InputError(
        "not a store of this program, or damaged",
        file=path,
        found=error,
        remedy="Delete it and run again",
    )
