"""What every product knows: its place, what it is made from, how far it is, what was noted, its datasets."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from stillsun.errors import InputError
from stillsun.io.atomic import write_whole
from stillsun.io.store import (
    Field,
    Layout,
    StoreReader,
    StoreWriter,
    create_section,
    create_store,
    part_progress,
    stored_digest,
)

#: Attribute of a store with the digest of what its frames are made from.
FRAMES = "frames_digest"
#: How the meaning of a time begins.
UNIX = "Unix time, UTC: "
#: Directory of the records in a work directory.
RECORDS = ".stillsun"


class Dataset:
    """
    One dataset of a store, declared as a class attribute of its product and read as an attribute.

    Shapes may name sizes, which `StoreProduct.fields` is given. A dataset with `when` is there only in
    products made with that part, and otherwise None.
    """

    stack = True

    def __init__(
        self,
        dtype: str,
        unit: str,
        meaning: str,
        shape: Sequence[int | str] = (),
        *,
        when: str = "",
        length: int = 64,
        ledger: bool = False,
    ) -> None:
        self.dtype, self.unit, self.meaning = dtype, unit, meaning
        self.shape, self.when, self.length, self.ledger = tuple(shape), when, length, ledger
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, product: StoreProduct | None, owner: type) -> Any:
        if product is None:
            return self
        if product.parts and self.name not in product.parts:
            raise RuntimeError(f"{self.name} of {product} is read, but not declared by the stage")
        if self.name in product.store:
            return self.read(product.store)
        if self.when:
            return None
        raise InputError(
            f"the product has no {self.name}",
            file=product.store.path,
            remedy="It was made by another version; delete it and run again",
        )

    def read(self, store: StoreReader) -> Any:
        """All of it."""
        return store.read(self.name)

    def field(self, sizes: Mapping[str, int]) -> Field:
        """The declaration for a store of the given sizes."""
        shape = tuple(sizes[n] if isinstance(n, str) else n for n in self.shape)
        return Field(shape, self.dtype, self.unit, self.meaning, self.stack, self.length, self.ledger)


class Column(Dataset):
    """A value for each row."""


class Value(Dataset):
    """One value, or one array, for the store."""

    stack = False


class Stack(Dataset):
    """Arrays that are read a row at a time: ``product.image(3)``."""

    def read(self, store: StoreReader) -> Rows:
        """What reads it."""
        return Rows(store, self.name)


class Rows:
    """Reads rows of a dataset: one by its number, several by a slice."""

    def __init__(self, store: StoreReader, name: str) -> None:
        self._store, self._name = store, name

    def __call__(self, row: int | slice) -> Any:
        """Read them."""
        return self._store.read(self._name, row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then the shape of one."""
        return self._store.shape(self._name)


class Product(ABC):
    """
    What a stage leaves for one channel below a work directory, or, without a channel, for the observation.
    """

    #: Name under which stages read it.
    name: ClassVar[str] = ""

    def __init__(self, work: Path, channel: str) -> None:
        self.work, self.channel = Path(work), channel

    @property
    @abstractmethod
    def digest(self) -> str | None:
        """What the finished product is made from; None if it is not there."""

    @property
    @abstractmethod
    def notes(self) -> list[str]:
        """What its stage noted."""

    @property
    def frames_digest(self) -> str | None:
        """What its frames are made from, where that is kept apart."""
        return None

    def progress(self, digest: str | None) -> tuple[int, int] | None:
        """Rows done and in all of an unfinished product with this digest."""
        return None

    def contents(self, names: Sequence[str]) -> str | None:
        """Digest of the values in some of its datasets; None if that is not kept."""
        return None


class StoreProduct(Product):
    """
    A product in an HDF5 store; opened when it is first read.

    It travels to other processes closed. Where `parts` names datasets, only these can be read as attributes.
    """

    file: ClassVar[str] = ""
    #: Section of a file that several products share.
    group: ClassVar[str] = "/"

    def __init__(self, work: Path, channel: str, parts: Sequence[str] = ()) -> None:
        super().__init__(work, channel)
        self.parts = tuple(parts)
        self._store: StoreReader | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.file = cls.__dict__.get("file", f"{cls.name}.h5")

    @classmethod
    def on(cls, store: StoreReader) -> Self:
        """The product in a store that is open already, as while it is written."""
        product = cls(store.path.parent.parent, store.path.parent.name)
        product._store = store
        return product

    @classmethod
    def datasets(cls) -> dict[str, Dataset]:
        """Declared datasets in the order in which they are stored."""
        found = [vars(kind) for kind in reversed(cls.__mro__)]
        return {k: v for names in found for k, v in names.items() if isinstance(v, Dataset)}

    @classmethod
    def fields(cls, *parts: str, **sizes: int) -> dict[str, Field]:
        """Declarations of a store of these sizes, with those optional datasets that belong to `parts`."""
        chosen = {n: d for n, d in cls.datasets().items() if not d.when or d.when in parts}
        return {name: dataset.field(sizes) for name, dataset in chosen.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its file."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __contains__(self, dataset: Dataset) -> bool:
        return dataset.name in self.store

    @property
    def path(self) -> Path:
        """Its file."""
        return self.work / self.channel / self.file if self._store is None else self._store.path

    @property
    def store(self) -> StoreReader:
        """The open store."""
        if self._store is None:
            self._store = StoreReader(self.path, self.group)
        return self._store

    @property
    def digest(self) -> str | None:
        """See `Product`."""
        return stored_digest(self.path, self.group) if self._store is None else self._store.digest

    @property
    def frames_digest(self) -> str | None:
        """See `Product`."""
        with self._peek() as store:
            return store.attributes.get(FRAMES)

    @property
    def notes(self) -> list[str]:
        """See `Product`."""
        with self._peek() as store:
            return store.notes

    def contents(self, names: Sequence[str]) -> str | None:
        """See `Product`."""
        found: list[str | None] = []
        with suppress(InputError), self._peek() as store:
            found = [store.fingerprint(name) for name in sorted(names)]
        known = found and None not in found
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32] if known else None

    def _peek(self) -> AbstractContextManager[StoreReader]:
        """The store, left as open or closed as it was: its stage may make it again."""
        return StoreReader(self.path, self.group) if self._store is None else nullcontext(self._store)

    @property
    def rows(self) -> int:
        """Rows of its stacks: frames, for most products."""
        return self.store.rows

    @property
    def options(self) -> dict[str, Any]:
        """Options of the stage that made it."""
        return dict(json.loads(self.attributes.get("config", "{}")))

    @property
    def attributes(self) -> dict[str, Any]:
        """Values that describe the store."""
        return self.store.attributes

    def progress(self, digest: str | None) -> tuple[int, int] | None:
        """See `Product`."""
        own = self.path
        if self.group != "/":
            own = own.with_name(f"{own.stem}.{self.group}{own.suffix}")
        return part_progress(own, digest)

    def create(
        self, digest: str, rows: int, fields: Mapping[str, Field], attributes: Mapping[str, Any]
    ) -> AbstractContextManager[StoreWriter]:
        """Write it; an unfinished one with the same digest and datasets is taken over."""
        layout = Layout(rows, fields, attributes)
        if self.group == "/":
            return create_store(self.path, layout, digest)
        return create_section(self.path, self.group, layout, digest)

    def __str__(self) -> str:
        return str(self.path) if self.group == "/" else f"{self.path} ({self.group})"


class FilesProduct(Product):
    """A product that is files; a record lists them with their sizes."""

    def __init__(self, work: Path, channel: str, stage: str) -> None:
        super().__init__(work, channel)
        self.record = self.work / RECORDS / f"{channel or 'observation'}.{stage}.json"

    def read(self) -> dict[str, Any]:
        """The record; empty if there is none, or a file is missing or of another size."""
        try:
            record: dict[str, Any] = json.loads(self.record.read_text())
            intact = all((self.work / name).stat().st_size == size for name, size in record["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return record if intact else {}

    @property
    def digest(self) -> str | None:
        """See `Product`."""
        return self.read().get("digest")

    @property
    def notes(self) -> list[str]:
        """See `Product`."""
        return list(self.read().get("notes", []))

    @property
    def files(self) -> list[Path]:
        """Its files."""
        return [self.work / name for name in self.read().get("files", {})]

    def write(self, digest: str, files: Sequence[Path], notes: Sequence[str], told: str = "") -> None:
        """Record it as finished; `told`: digest of what the files say of other tasks."""
        names = {str(f.relative_to(self.work)): f.stat().st_size for f in files}
        record = {"digest": digest, "files": names, "notes": list(notes), "told": told}
        write_whole(self.record, json.dumps(record, indent=1) + "\n")

    def remove(self) -> None:
        """Forget that it is there."""
        self.record.unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"{self.work}: files"


def find(product: StoreProduct | None, dataset: Dataset) -> Any:
    """A dataset of a product that may not be there, or may lack it; then None."""
    return None if product is None or dataset not in product else dataset.read(product.store)


def series(product: StoreProduct | None, dataset: Dataset) -> np.ndarray | None:
    """One number a row, float64; None if it is not there, or nowhere finite."""
    found = find(product, dataset)
    values = None if found is None else np.asarray(found, np.float64)
    return values if values is not None and values.ndim == 1 and np.isfinite(values).any() else None
