"""The destretch's CUDA kernels, a thread a pixel or a tile, and constants that stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from stillsun.core.backend import Backend

_SOURCE = "stillsun.core", "kernels.cu"
_BLOCK = (32, 8)
_THREADS = 256


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


def gather_on_device(images: tuple[Any, Any], starts: tuple[Any, Any], weights: Any, backend: Backend) -> Any:
    """
    Take tiles from two images; see `stillsun.core.tiles.gather`.

    Parameters
    ----------
    images : tuple of array
        Two of (rows, columns) float32.
    starts : tuple of numpy.ndarray
        First row and column of each tile, (n,) int.
    weights : array
        (size, size) float32.
    backend : Backend
        The device.

    Returns
    -------
    tiles : array
        (2, n, size, size) float32.
    share : array
        (n,) float32.
    """
    count, size = len(starts[0]), weights.shape[0]
    tiles = backend.xp.empty((2, count, size, size), np.float32)
    share = backend.xp.empty(count, np.float32)
    arrays = (
        *backend.contiguous(np.float32, *images),
        *(backend.asarray(start, dtype=np.int32) for start in starts),
        *backend.contiguous(np.float32, weights),
        *(tiles, share),
    )
    sizes = map(np.int32, (*images[0].shape, size))
    backend.launch(*_SOURCE, "gather_tiles", (count,), (_THREADS,), (*arrays, *sizes), 32 * _THREADS)
    return tiles, share


def peaks_on_device(surfaces: Any, reach: int, fit: np.ndarray, backend: Backend) -> tuple[Any, Any]:
    """
    Find the peak of each correlation; see `stillsun.core.correlate.correlate_tiles`.

    Parameters
    ----------
    surfaces : array
        (n, size, size) float32.
    reach : int
        Largest shift along an axis.
    fit : numpy.ndarray
        (6, 9) float64: least squares of a quadratic surface.
    backend : Backend
        The device.

    Returns
    -------
    shifts : array
        (2, n) float64, 0 where there is no peak.
    good : array
        (n,) bool.
    """
    count, size = len(surfaces), surfaces.shape[1]
    shifts, good = backend.xp.empty((2, count), np.float64), backend.xp.empty(count, bool)
    (values,) = backend.contiguous(np.float32, surfaces)
    arrays = values, backend.asarray(fit), shifts, good
    grid = (-(-count // _BLOCK[0]),)
    sizes = map(np.int32, (count, size, reach))
    backend.launch(*_SOURCE, "find_peaks", grid, _BLOCK[:1], (*arrays, *sizes))
    return shifts, good


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
