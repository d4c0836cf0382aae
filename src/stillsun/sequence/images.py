"""Where the images of a sequence come from, and a cube of them that is read when it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits

from stillsun.errors import InputError

#: Rows and columns of a part of an image.
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))
_HEADERS = 256


class ImageSource(Protocol):
    """What gives the images of a sequence, NaN where there is nothing, and their headers."""

    shape: tuple[int, int]

    def image(self, number: int, window: Window = WHOLE) -> np.ndarray:
        """(rows, columns) float32."""

    def header(self, number: int) -> fits.Header:
        """Header of an image, with its coordinates."""


class FileImages:
    """Images in FITS files, one each."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._header = lru_cache(_HEADERS)(self._read)
        first = self.header(0)
        if first.get("NAXIS") != 2:
            raise InputError("no image", file=self.files[0], expected="NAXIS = 2", found=first.get("NAXIS"))
        self.shape = int(first["NAXIS2"]), int(first["NAXIS1"])

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["files"])  # type: ignore[misc]

    def _read(self, number: int) -> fits.Header:
        return fits.getheader(self.files[number])

    def header(self, number: int) -> fits.Header:
        """See `ImageSource`."""
        return self._header(number).copy()

    def image(self, number: int, window: Window = WHOLE) -> np.ndarray:
        """See `ImageSource`."""
        path = self.files[number]
        with fits.open(path, memmap=True) as hdus:
            found = hdus[0].data
            if found is None or found.shape != self.shape:
                found_shape = None if found is None else found.shape
                raise InputError(
                    "an image of another size", file=path, expected=self.shape, found=found_shape
                )
            return np.array(found[window], np.float32)


class PartImages:
    """Some of the images of a source."""

    def __init__(self, source: ImageSource, numbers: Sequence[int]) -> None:
        self._source, self._numbers, self.shape = source, list(numbers), source.shape

    def image(self, number: int, window: Window = WHOLE) -> np.ndarray:
        """See `ImageSource`."""
        return self._source.image(self._numbers[number], window)

    def header(self, number: int) -> fits.Header:
        """See `ImageSource`."""
        return self._source.header(self._numbers[number])


class LazyCube:
    """
    Images one upon the other, (time, y, x), each read when it is looked at.

    It is indexed like an array; what is asked for is read and given as one.

    Parameters
    ----------
    source : ImageSource
        The images.
    count : int
        How many.
    made : callable, optional
        Applied to what was read.
    dtype : dtype, optional
        Type of what that gives.
    """

    def __init__(
        self,
        source: ImageSource,
        count: int,
        made: Callable[[np.ndarray], np.ndarray] | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self._source, self._made = source, made
        self.shape = (count, *source.shape)
        self.ndim, self.dtype = 3, np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        parts = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [p for p in parts if p is Ellipsis]:
            place = next(n for n, p in enumerate(parts) if p is Ellipsis)
            parts = (*parts[:place], *[slice(None)] * (4 - len(parts)), *parts[place + 1 :])
        if len(parts) > 3:
            raise IndexError(f"too many indices: a cube has 3 axes, {len(parts)} were given")
        numbers = np.arange(self.shape[0])[parts[0]] if parts else np.arange(self.shape[0])
        inside = [*parts[1:], slice(None), slice(None)][:2]
        # What is no slice is cut out of what was read.
        window = tuple(p if isinstance(p, slice) else slice(None) for p in inside)
        rest = tuple(slice(None) if isinstance(p, slice) else p for p in inside)
        read = [self._image(int(n), (window[0], window[1]))[rest] for n in np.atleast_1d(numbers)]
        if np.ndim(numbers) == 0:
            return read[0]
        if not read:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *inside)]
        return np.stack(read)

    def _image(self, number: int, window: Window) -> np.ndarray:
        image = self._source.image(number, window)
        return image if self._made is None else self._made(image)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<cube (time, y, x) {self.shape} {self.dtype}, read when it is looked at>"


def cube_of(
    source: ImageSource,
    count: int,
    made: Callable[[np.ndarray], np.ndarray] | None = None,
    dtype: Any = np.float32,
) -> Any:
    """The images as a dask array, one chunk each, or without dask as a `LazyCube`."""
    cube = LazyCube(source, count, made, dtype)
    try:
        import dask.array
    except ImportError:
        return cube
    return dask.array.from_array(cube, chunks=(1, *source.shape), name=False, asarray=True)
