"""Reading of stores, and what is known of them without reading them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.errors import InputError
from stillsun.io._storeblock import check_block
from stillsun.io._storefile import DAMAGE, DIGEST, DONE, LAYOUT, NOTES, SEAL, Field, seal
from stillsun.io._storesums import GROUP, UNKNOWN, sums_of

# Values are compared themselves up to this size: sums of few words say too little.
_FEW_BYTES = 4096
# Read at a time when all of a store is verified.
_VERIFIED_BYTES = 64 * 2**20


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
            check_block(self.path)
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
    def _layout(self) -> dict[str, Any]:
        with self._guarded():
            layout: dict[str, Any] = json.loads(self._file.attrs[LAYOUT])
            return layout

    @property
    def rows(self) -> int:
        """Rows of the stacks."""
        return int(self._layout["rows"])

    @property
    def attributes(self) -> dict[str, Any]:
        """Values that describe the store."""
        with self._guarded():
            return {k: v for k, v in self._file.attrs.items() if k not in (DIGEST, LAYOUT, SEAL)}

    def names(self) -> list[str]:
        """Names of all datasets."""
        found: list[str] = []
        with self._guarded():
            self._file.visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
        return [n for n in found if n not in (DONE, NOTES) and not n.startswith(f"{GROUP}/")]

    @property
    def notes(self) -> list[str]:
        """What the stage assumed, dropped, retried or refused."""
        with self._guarded():
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
        kept = self._layout["fields"][name]
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
        with self._guarded():
            return self._file[DONE][()].astype(bool)

    def read(self, name: str, row: int | slice | None = None) -> Any:
        """
        Read a dataset, or some rows of it, and verify it by its sums.

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

        Raises
        ------
        InputError
            If the values are not those that were written.
        """
        if name not in self._file:
            raise KeyError(name)
        with self._guarded():
            dataset = self._file[name]
            file = Path(self._handle.filename)
            if dataset.id.get_storage_size() > file.stat().st_size:
                raise ValueError(f"{name} is larger than the file")
            value = dataset[() if row is None else row]
            wrong = self._wrong(name, value, row)
            if wrong.size:
                # A file with another time of writing is verified as a whole before it is used again.
                with suppress(OSError):
                    file.touch()
                raise ValueError(f"{name}: other values than were written")
            if dataset.dtype.kind == "S":
                return value.decode() if isinstance(value, bytes) else np.char.decode(value, "utf-8")
        return value

    def fingerprint(self, name: str) -> str | None:
        """
        Say what stands in a dataset, so that two can be compared without reading them.

        Parameters
        ----------
        name : str
            Dataset, there or not.

        Returns
        -------
        str or None
            Type, shape, and the values, or their sums where they are many; None where these are not kept.
        """
        if name not in self._file:
            return "none"
        with self._guarded():
            dataset, place = self._file[name], f"{GROUP}/{name}"
            if dataset.size * dataset.dtype.itemsize <= _FEW_BYTES:
                said = np.asarray(dataset[()]).tobytes()
            elif place in self._file:
                sums = np.asarray(self._file[place][()])
                if (sums == UNKNOWN).any():
                    return None
                said = sums.tobytes()
            else:
                return None
            return f"{dataset.dtype.str} {dataset.shape} {said.hex()}"

    def wrong_rows(self, name: str) -> np.ndarray:
        """
        Find the rows of a dataset whose values are not those that were written.

        Parameters
        ----------
        name : str
            Dataset.

        Returns
        -------
        numpy.ndarray
            Their numbers, ascending; [0] for a dataset without rows.
        """
        with self._guarded():
            dataset = self._file[name]
            size = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
            count = dataset.shape[0] if self._stacked(name) else 1
            if count == 1 or not size:
                return self._wrong(name, dataset[()], None)
            step = max(1, _VERIFIED_BYTES // size)
            parts = [slice(k, min(k + step, count)) for k in range(0, count, step)]
            return np.concatenate([part.start + self._wrong(name, dataset[part], part) for part in parts])

    def _wrong(self, name: str, value: Any, row: int | slice | None) -> np.ndarray:
        """Rows of `value`, counted within it, that do not have their sums."""
        place = f"{GROUP}/{name}"
        if place not in self._file:
            # An earlier version wrote it, or it keeps marks.
            return np.zeros(0, dtype=np.int64)
        stated = np.atleast_1d(self._file[place][() if row is None else row])
        if not stated.size or not np.size(value):
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero((stated != UNKNOWN) & (stated != sums_of(value, stated.size)))

    def _stacked(self, name: str) -> bool:
        return bool(self._layout["fields"][name][2])

    def is_sound(self) -> bool:
        """
        Verify all of the store.

        Returns
        -------
        bool
            True where everything has its sum, or none are kept.
        """
        try:
            if SEAL not in self._file.attrs:
                return True
            return (
                self._file.attrs[SEAL] == seal(self._file)
                and not self._wrong(NOTES, self._file[NOTES][()], None).size
                and not any(self.wrong_rows(name).size for name in self.names())
            )
        except (InputError, *DAMAGE):
            return False

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise damaged(self.path, error) from error


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
