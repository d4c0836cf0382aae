"""The destretch's CUDA kernels, a thread a pixel or a tile, and constants that stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from stillsun.core.backend import Backend

_SOURCE = "stillsun.core", "kernels.cu"
_BLOCK = (32, 8)


def run_kernel(
    name: str, shape: tuple[int, ...], arrays: tuple[Any, ...], numbers: tuple[Any, ...], backend: Backend
) -> None:
    """
    Run a kernel of ``kernels.cu`` with one thread for each place.

    Parameters
    ----------
    name : str
        The kernel.
    shape : tuple of int
        Rows and columns of the places; layers before them, if any.
    arrays : tuple of array
        As the kernel is declared, contiguous and of its types.
    numbers : tuple
        What follows them: whole numbers as they are, all else as a NumPy scalar.
    backend : Backend
        The device.
    """
    *layers, rows, columns = shape
    grid = (-(-columns // _BLOCK[0]), -(-rows // _BLOCK[1]), *(layers or (1,)))
    given = (np.int32(number) if isinstance(number, int) else number for number in numbers)
    backend.launch(*_SOURCE, name, grid, _BLOCK, (*arrays, *given))


@lru_cache(maxsize=128)
def kept(make: Callable[..., tuple[np.ndarray, ...]], backend: Backend, *key: Any) -> tuple[Any, ...]:
    """
    Arrays that are the same for every frame, brought to the device once.

    Parameters
    ----------
    make : callable
        Makes them, from the key.
    backend : Backend
        The device.
    *key
        What they depend on, hashable.

    Returns
    -------
    tuple of array
        On the device; not to be changed.
    """
    return tuple(backend.asarray(array) for array in make(*key))
