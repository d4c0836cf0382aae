"""The subfields of a burst on the CPU, one a thread; `masking.device` does the same on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from stillsun.core.backend import Backend, get_backend
from stillsun.speckle.masking.assembly import subfield_image
from stillsun.speckle.masking.methods import phase_method
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult, Worker

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class HostWorker:
    """
    Reduces the subfields of one burst on the threads of the CPU.

    Parameters
    ----------
    frames : numpy.ndarray
        (n, rows, columns) float32.
    scale : numpy.ndarray
        Factor of each, (n,) float32.
    surface : numpy.ndarray
        What is subtracted from the scaled frames, (rows, columns) float32.
    shifts : numpy.ndarray
        Shift of each, (n, 2) int64.
    geometry : Geometry
        What the subfields share.
    backend : Backend
        Tells the number of threads.
    method : str
        Way to the phases, one of `stillsun.speckle.masking.methods.METHODS`.
    snr_keep, weight_exponent, sweeps
        As for `stillsun.speckle.masking.methods.phase_method`.
    """

    def __init__(
        self,
        frames: np.ndarray,
        scale: np.ndarray,
        surface: np.ndarray,
        shifts: np.ndarray,
        geometry: Geometry,
        backend: Backend,
        method: str,
        *,
        snr_keep: float,
        weight_exponent: float,
        sweeps: int,
    ) -> None:
        way = phase_method(
            method, geometry, snr_keep=snr_keep, weight_exponent=weight_exponent, sweeps=sweeps
        )
        self._worker = Worker(frames, scale, surface, shifts, geometry, way)
        self._geometry = geometry
        self._backend = backend

    def reduce(self, corners: Sequence[tuple[int, int]], phases: bool = True) -> Iterator[SubfieldResult]:
        """
        All statistics of subfields.

        Parameters
        ----------
        corners : sequence of tuple of int
            First row and column of each, which may lie outside the frame.
        phases : bool, optional
            Solve for the phases; if not, those of the mean stand for them.

        Yields
        ------
        SubfieldResult
            In order.
        """
        yield from on_threads(lambda corner: self._worker.reduce(*corner, phases), corners, self._backend)

    def images(
        self, spectrum: Callable[[int], np.ndarray], results: Sequence[SubfieldResult]
    ) -> Iterator[np.ndarray]:
        """
        Images of subfields.

        Parameters
        ----------
        spectrum : callable
            Fourier transform of the object, (m,), in the subfield of a number.
        results : sequence of SubfieldResult
            What is left of the tracking.

        Yields
        ------
        numpy.ndarray
            (size, size) float32, windowed, without its mean.
        """

        def image(number: int) -> np.ndarray:
            return subfield_image(spectrum(number), results[number], self._geometry)

        yield from on_threads(image, range(len(results)), self._backend)


def on_threads(
    work: Callable[[_Item], _Result], items: Iterable[_Item], backend: Backend
) -> Iterator[_Result]:
    """
    Results in the order of the items, at most a few in flight.

    Parameters
    ----------
    work : callable
        Takes an item.
    items : iterable
        The items.
    backend : Backend
        Tells the number of threads; a device leaves all to its host.

    Yields
    ------
    object
        What the work returns.
    """
    threads = get_backend("numpy").threads if backend.is_gpu else backend.threads
    with ThreadPoolExecutor(threads) as pool:
        pending: list[Any] = []
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 4 * threads:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
