"""The subfields of a burst on a device, many at once; the CPU takes them one by one (`subfield`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, to_host
from stillsun.errors import ReconstructionError
from stillsun.speckle.masking.device_methods import METHODS
from stillsun.speckle.masking.device_tracking import (
    coherent_means,
    half_planes,
    register_subfields,
    track_subfields,
)
from stillsun.speckle.masking.host import on_threads
from stillsun.speckle.masking.launch import cut_subfields
from stillsun.speckle.masking.subfield import PASSES, Geometry, SubfieldResult, tracking_plan

# Share of the device's memory that the subfields in work may take, beside the burst.
_MEMORY_SHARE = 0.4
# Transforms and grids of blocks are numbered with 32 and 16 bits.
_MOST_PIXELS, _MOST_BLOCKS = 2**30, 65_535


class DeviceWorker:
    """
    Reduces the subfields of one burst on a device.

    Parameters
    ----------
    frames : array
        (n, rows, columns) float32 on the device.
    scale : numpy.ndarray
        Factor of each, (n,) float32.
    surface : array
        What is subtracted from the scaled frames, (rows, columns) float32 on the device.
    shifts : numpy.ndarray
        Shift of each, (n, 2) int64.
    geometry : Geometry
        What the subfields share.
    backend : Backend
        The device.
    method : str
        Way to the phases, one of `stillsun.speckle.masking.methods.METHODS`.
    snr_keep, weight_exponent, sweeps
        As for `stillsun.speckle.masking.methods.phase_method`.

    Notes
    -----
    As many subfields as fit into 40 % of the device's memory are in work at a time, and half as many from
    then on where others leave less of it.
    """

    def __init__(
        self,
        frames: Any,
        scale: np.ndarray,
        surface: Any,
        shifts: np.ndarray,
        geometry: Geometry,
        backend: Backend,
        method: str,
        *,
        snr_keep: float,
        weight_exponent: float,
        sweeps: int,
    ) -> None:
        put = backend.asarray
        self._backend = backend
        self._frames, self._scale, self._surface = frames, put(scale), surface
        self._shifts = put(shifts)
        self._geometry = geometry
        self._method = METHODS[method](geometry, snr_keep, weight_exponent, sweeps, backend)
        self._window = put(geometry.window.astype(np.float32))
        plane = geometry.noise_plane()
        self._noise_plane, self._noise_total = put(plane), float(plane.sum())
        f = geometry.frequencies
        self._rows, self._columns = put(f.y), put(f.x)
        plan = tracking_plan(geometry)
        self._tracking = plan
        self._track_window = put(plan.window)
        self._turns_y, self._turns_x = (put(turn) for turn in plan.turns)
        self._low_rows = put(plan.rows % (geometry.size // plan.binning))[:, None]
        self._low_columns = put(plan.columns)[None, :]
        self._most = self._fitting()

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
            In order, on the host.

        Raises
        ------
        ReconstructionError
            If the device has no memory for a single one.
        """
        yield from self._in_batches(partial(self._reduce, phases=phases), corners, len(corners))

    def images(
        self, spectrum: Callable[[int], np.ndarray], results: Sequence[SubfieldResult]
    ) -> Iterator[Any]:
        """
        Images of subfields; see `stillsun.speckle.masking.assembly.subfield_image`.

        Parameters
        ----------
        spectrum : callable
            Fourier transform of the object, (m,), in the subfield of a number.
        results : sequence of SubfieldResult
            What is left of the tracking.

        Yields
        ------
        array
            (size, size) float32 on the device, windowed, without its mean.
        """
        spectra = on_threads(spectrum, range(len(results)), self._backend)
        yield from self._in_batches(self._images, zip(spectra, results, strict=True), len(results))

    def _images(self, part: Sequence[tuple[np.ndarray, SubfieldResult]]) -> Iterable[Any]:
        xp, size = self._backend.xp, self._geometry.size
        values = self._backend.asarray(np.stack([spectrum for spectrum, _ in part]))
        offset = self._backend.asarray(np.stack([result.offset for _, result in part]))
        wave = xp.stack([self._rows, self._columns]).astype(np.float64)
        values = (values * xp.exp((2j * np.pi / size) * (offset @ wave))).astype(np.complex64)
        planes = half_planes(values, self._rows, self._columns, size, xp)
        return self._backend.fft.irfft2(planes, s=(size, size), norm="ortho")

    def _in_batches(
        self, work: Callable[[list[Any]], Iterable[Any]], items: Iterable[Any], count: int
    ) -> Iterator[Any]:
        """Results of all items, taken in batches of one size: plans of transforms are made for it."""
        rest = iter(items)
        waiting: list[Any] = []
        while waiting := waiting or list(islice(rest, -(-count // -(-count // self._most)))):
            part = waiting[: self._most]
            results = self._attempt(work, part)
            if results is not None:
                del waiting[: len(part)]
                yield from results

    def _attempt(self, work: Callable[[list[Any]], Iterable[Any]], part: list[Any]) -> list[Any] | None:
        """Results; None, and smaller batches from now on, where the device is too full for so many."""
        try:
            return list(work(part))
        except MemoryError as error:
            if len(part) == 1:
                raise ReconstructionError(
                    "the GPU has no memory for a single subfield",
                    found=str(error),
                    remedy="See with nvidia-smi who uses it; fewer channels at a time, or a smaller "
                    "speckle.subfield_arcsec",
                ) from error
            self._most = (len(part) + 1) // 2
        return None

    def _fitting(self) -> int:
        """Subfields in work at a time."""
        frames, size, count = len(self._frames), self._geometry.size, len(self._geometry.frequencies)
        # Pixels, spectra, their squares and the work of the transform; spectra in use and turned copies.
        pixels = frames * (4 * size**2 + 28 * size * (size // 2 + 1))
        own = pixels + 48 * frames * count + self._method.bytes_per_subfield
        fitting = int(_MEMORY_SHARE * self._backend.memory / own)
        return max(1, min(fitting, _MOST_PIXELS // (frames * size**2), _MOST_BLOCKS))

    def _reduce(self, part: Sequence[tuple[int, int]], phases: bool) -> Iterator[SubfieldResult]:
        xp, size = self._backend.xp, self._geometry.size
        first = np.array(part, dtype=np.int32)
        corners = self._backend.asarray(first)
        shifts, offset = self._track(corners)
        tiles, levels = cut_subfields(
            self._frames,
            self._scale,
            self._surface,
            corners,
            shifts,
            self._window,
            1,
            self._backend,
        )
        planes = self._backend.fft.rfft2(tiles, norm="ortho")
        noise = xp.full(len(first), np.nan)
        if self._noise_total:
            outside = (planes.real**2 + planes.imag**2) * self._noise_plane
            noise = outside.sum(axis=(1, 2, 3), dtype=np.float64) / (len(self._frames) * self._noise_total)
        spectra = xp.ascontiguousarray(planes[:, :, self._rows, self._columns].transpose(0, 2, 1))
        power = (spectra.real**2 + spectra.imag**2).sum(axis=2) / np.float32(len(self._frames))
        residual, mean = coherent_means(
            spectra, self._rows, self._columns, size, self._tracking.used, PASSES, xp
        )
        length = xp.abs(mean)
        start = xp.where(length > 0, mean / xp.where(length > 0, length, np.float32(1)), np.complex64(1))
        phasors, change = start.astype(np.complex64), xp.zeros(len(first))
        if phases:
            phasors, change = self._method(spectra, phasors, residual, noise)
            phasors = register_subfields(phasors, mean, self._rows, self._columns, size, self._backend)
        found = {
            "power": power,
            "mean": mean,
            "noise": noise,
            "phases": phasors,
            "change": change,
            "shifts": shifts,
            "offset": offset,
            "residual": residual,
            "level": levels.mean(axis=1),
        }
        found = {name: to_host(values) for name, values in found.items()}
        for number in range(len(first)):
            own: dict[str, Any] = {
                name: values[number] if values.ndim > 1 else float(values[number])
                for name, values in found.items()
            }
            yield SubfieldResult(**own)

    def _track(self, corners: Any) -> tuple[Any, Any]:
        """Total shifts of the frames for each subfield, their mean over the burst removed."""
        xp = self._backend.xp
        tiles, _ = cut_subfields(
            self._frames,
            self._scale,
            None,
            corners,
            self._shifts,
            self._track_window,
            self._tracking.binning,
            self._backend,
        )
        spectra = self._backend.fft.rfft2(tiles)
        low = spectra[:, :, self._low_rows, self._low_columns]
        own = track_subfields(low, self._turns_y, self._turns_x, PASSES, xp)
        total = self._shifts + own
        mean = total.mean(axis=1)
        whole = xp.rint(mean)
        return total - whole.astype(np.int64)[:, None], mean - whole
