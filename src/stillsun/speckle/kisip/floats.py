"""Files of bare float32 numbers in native byte order, whose shape follows from their size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stillsun.errors import InputError

WORD = np.dtype(np.float32).itemsize
ShapeOf = Callable[[int], tuple[int, ...] | None]
"""Shape of a file of so many numbers, None if it cannot have as many."""


def exactly(shape: tuple[int, ...]) -> ShapeOf:
    """
    Accept one shape only.

    Parameters
    ----------
    shape : tuple of int
        The shape.

    Returns
    -------
    callable
        For `read_floats`.
    """
    return lambda count: shape if count == math.prod(shape) else None


def check_floats(path: Path, shape_of: ShapeOf, expected: str, offset: int = 0) -> tuple[int, ...]:
    """
    Find the shape of a file without reading it.

    Parameters
    ----------
    path : Path
        File.
    shape_of : callable
        Shapes that are accepted.
    expected : str
        The same in words.
    offset : int, optional
        Bytes before the first number.

    Returns
    -------
    tuple of int
        The shape.

    Raises
    ------
    InputError
        If the file is missing or of another size.
    """
    try:
        size = path.stat().st_size - offset
    except OSError as error:
        raise InputError("file of the speckle program not found", file=path, found=error.strerror) from error
    shape = shape_of(size // WORD) if size > 0 and size % WORD == 0 else None
    if shape is None:
        raise InputError(
            "file of the speckle program has a wrong size",
            file=path,
            expected=f"float32 {expected}" + (f" after {offset} bytes" if offset else ""),
            found=f"{size + offset} bytes",
            remedy="It is incomplete or of another observation: delete it and run again",
        )
    return shape


def read_floats(path: Path, shape_of: ShapeOf, expected: str, offset: int = 0) -> np.ndarray:
    """
    Read a file.

    Parameters
    ----------
    path : Path
        File.
    shape_of : callable
        Shapes that are accepted.
    expected : str
        The same in words.
    offset : int, optional
        Bytes before the first number.

    Returns
    -------
    numpy.ndarray
        float32.

    Raises
    ------
    InputError
        If the file is missing or of another size.
    """
    shape = check_floats(path, shape_of, expected, offset)
    return np.fromfile(path, dtype=np.float32, count=math.prod(shape), offset=offset).reshape(shape)
