"""
Destretch: coarse-to-fine measurement of the displacement of a frame, and its replay.

Seeing moves the parts of an image against each other. Tiles of decreasing size are matched to a
reference; the shifts of all sizes add up to one displacement field, and the frame is interpolated
once, from its original pixels.

See Rimmele & Marino (2011, Living Rev. Solar Phys. 8, 2, section 6.2) for the idea, and `November &
Simon (1988, ApJ 333, 427)` for the windowed correlation of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stillsun.core._gradient import LARGEST_SHIFT, refine_frame, refine_tiles
from stillsun.core._levels import Levels
from stillsun.core._repair import repair
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.correlate import correlate_frames, correlate_tiles
from stillsun.core.reference import FixedReference, Reference, RunningReference
from stillsun.core.tiles import SMALLEST_KERNEL, binning, lattice
from stillsun.core.warp import add_control_points, resample, resample_mask
from stillsun.errors import ConfigError, InputError

#: Kernels of the project: those of the superseded system.
DEFAULT_KERNELS = (0, 128, 64, 32, 12)

_SEARCH = 0.25  # a tile's shift is looked for up to this share of its size
_RESIDUAL_KERNEL = 32  # pixels, in which the remaining shift is measured
_FRAME_STEPS = 3  # least-squares steps that refine the shift of the whole frame


@dataclass(frozen=True)
class DestretchResult:
    """
    A destretched frame.

    Attributes
    ----------
    image : numpy.ndarray
        (rows, columns) float32, never NaN: where there is nothing to take, the nearest value is held.
    shifts : list of numpy.ndarray
        One array a kernel, float32, pixels, order y, x: (2,) for kernel 0, else (2, tiles_y, tiles_x).
        Content of the frame moves by +shift to match the reference.
    displacement : numpy.ndarray
        (2, rows, columns) float32: ``out(y, x) = image(y - d[0], x - d[1])``.
    valid : numpy.ndarray
        (rows, columns) bool: the pixel comes from inside the frame's valid part.
    rms : numpy.ndarray
        (kernels,) rms length of the shifts of each kernel, pixels.
    repaired : numpy.ndarray
        (kernels,) share of tiles replaced by their neighbours, of those that could be measured.
    residual : float
        Rms length of the shifts that remain against the reference, pixels, in windows of about 32
        pixels whatever the kernels; NaN where there was no reference.
    """

    image: np.ndarray
    shifts: list[np.ndarray]
    displacement: np.ndarray
    valid: np.ndarray
    rms: np.ndarray
    repaired: np.ndarray
    residual: float


@dataclass(frozen=True)
class SeriesResult:
    """
    A destretched sequence.

    Attributes
    ----------
    images : numpy.ndarray
        (n, rows, columns) float32.
    displacement : numpy.ndarray
        (n, 2, rows, columns) float32.
    shifts : list of list of numpy.ndarray
        For each frame as in `DestretchResult`.
    valid : numpy.ndarray
        (n, rows, columns) bool.
    """

    images: np.ndarray
    displacement: np.ndarray
    shifts: list[list[np.ndarray]]
    valid: np.ndarray


def destretch(
    image: Any,
    reference: Any,
    kernels: Sequence[int] = DEFAULT_KERNELS,
    repair_tolerance: float = 0.5,
    interpolation: str = "lanczos4",
    backend: Backend | str | None = None,
) -> DestretchResult:
    """
    Match a frame to a reference.

    Parameters
    ----------
    image, reference : array_like
        (rows, columns). A constant border and NaN do not count.
    kernels : sequence of int, optional
        Sizes of the tiles in pixels, from large to small; a leading 0 is the shift of the whole
        frame, found up to a quarter of the frame.
    repair_tolerance : float, optional
        Largest shift of a tile, as a fraction of its size, that is not replaced by its neighbours'.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        Quality of the one interpolation of the result, see `stillsun.core.warp.resample`.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    DestretchResult
        Image, shifts, displacement and mask, on the host.

    Raises
    ------
    InputError
        If the shapes differ, or the reference is constant. (A constant image is returned as it is,
        with no valid pixel.)
    ConfigError
        If the kernels or the interpolation cannot be used.
    """
    backend = get_backend(backend)
    target = backend.asarray(_checked(reference, "reference"), dtype=np.float32)
    stream = Destretcher(FixedReference(target, backend), kernels, repair_tolerance, interpolation, backend)
    return stream.push(image)


def apply_shifts(
    image: Any,
    shifts: Sequence[Any],
    kernels: Sequence[int] = DEFAULT_KERNELS,
    interpolation: str = "lanczos4",
    backend: Backend | str | None = None,
) -> np.ndarray:
    """
    Move a frame by measured shifts.

    Parameters
    ----------
    image : array_like
        (rows, columns), of the shape for which the shifts were measured.
    shifts : sequence of array_like
        As in `DestretchResult`, one array a kernel.
    kernels : sequence of int, optional
        The kernels with which the shifts were measured.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `destretch`.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32; the very bytes of `DestretchResult.image` for the frame from which
        the shifts come.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    backend = get_backend(backend)
    kernels = check_kernels(kernels)
    frame = Levels(backend.asarray(_checked(image, "image"), dtype=np.float32), backend)
    field = _dense(shifts, kernels, frame.shape, 1, backend)
    return to_host(resample(frame.filled, field, interpolation, backend))


def displacement_field(
    shifts: Sequence[Any],
    kernels: Sequence[int],
    shape: tuple[int, int],
    backend: Backend | str | None = None,
) -> np.ndarray:
    """
    Compose the shifts of all kernels into one displacement field.

    Parameters
    ----------
    shifts : sequence of array_like
        As in `DestretchResult`, one array a kernel.
    kernels : sequence of int
        The kernels with which they were measured.
    shape : tuple of int
        Rows and columns of the frame.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (2, rows, columns) float32: ``out(y, x) = image(y - d[0], x - d[1])``.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    return to_host(_dense(shifts, check_kernels(kernels), shape, 1, get_backend(backend)))


def destretch_series(
    frames: Iterable[Any],
    kernels: Sequence[int] = DEFAULT_KERNELS,
    reference: str | Any = "running",
    window: int = 10,
    reference_index: int = 0,
    repair_tolerance: float = 0.5,
    interpolation: str = "lanczos4",
    backend: Backend | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SeriesResult:
    """
    Hold a sequence still.

    Parameters
    ----------
    frames : iterable of array_like
        Each (rows, columns), in the order of time; taken one after the other.
    kernels : sequence of int, optional
        As for `destretch`.
    reference : {"running", "fixed"} or array_like, optional
        ``"running"``: the mean of the last `window` corrected frames, the first frame being its own
        reference; ``"fixed"``: the frame `reference_index`; or a reference frame.
    window : int, optional
        Frames in the running mean.
    reference_index : int, optional
        Which frame is the fixed reference; other than 0 keeps the frames in memory.
    repair_tolerance : float, optional
        As for `destretch`.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `destretch`.
    backend : Backend or str, optional
        Where to compute.
    progress : callable, optional
        Called with the number of frames done and of all (0 where the iterable does not tell).

    Returns
    -------
    SeriesResult
        Images, displacement, shifts and masks of all frames.

    Raises
    ------
    InputError
        If there is no frame, the frames differ in shape, or the fixed reference is missing or constant.
    ConfigError
        If kernels, reference or window cannot be used.
    """
    backend = get_backend(backend)
    total = len(frames) if isinstance(frames, Sized) else 0
    source: Reference
    if isinstance(reference, str) and reference == "running":
        source = RunningReference(window, backend)
    elif isinstance(reference, str) and reference == "fixed":
        if reference_index == 0:
            frames = iter(frames)
            first = next(frames, None)
            frames = [] if first is None else _chain(first, frames)
        else:
            frames = list(frames)
            inside = -len(frames) <= reference_index < len(frames)
            first = frames[reference_index] if inside else None
        if first is None:
            raise InputError("no such frame to be the reference", found=f"reference_index={reference_index}")
        source = FixedReference(_checked(first, "reference"), backend)
    elif isinstance(reference, str):
        raise ConfigError(
            "unknown reference", expected="'running', 'fixed' or an array", found=repr(reference)
        )
    else:
        source = FixedReference(_checked(reference, "reference"), backend)
    stream = Destretcher(source, kernels, repair_tolerance, interpolation, backend)
    results = []
    for frame in frames:
        results.append(stream.push(frame))
        if progress is not None:
            progress(len(results), total)
    if not results:
        raise InputError("no frames to destretch")
    return SeriesResult(
        np.stack([r.image for r in results]),
        np.stack([r.displacement for r in results]),
        [r.shifts for r in results],
        np.stack([r.valid for r in results]),
    )


class Destretcher:
    """
    Destretch of a sequence, frame by frame.

    Parameters
    ----------
    reference : Reference
        A `stillsun.core.reference.RunningReference`, `FixedReference` or the like.
    kernels : sequence of int, optional
        As for `destretch`.
    repair_tolerance : float, optional
        As for `destretch`.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `destretch`.
    backend : Backend or str, optional
        Where to compute.

    Raises
    ------
    ConfigError
        If the kernels or the tolerance cannot be used.

    Notes
    -----
    All that a sequence remembers is its reference: stored with ``reference.state()`` and given back
    with ``reference.restore(...)``, the sequence goes on with the same bytes.
    """

    def __init__(
        self,
        reference: Reference,
        kernels: Sequence[int] = DEFAULT_KERNELS,
        repair_tolerance: float = 0.5,
        interpolation: str = "lanczos4",
        backend: Backend | str | None = None,
    ) -> None:
        if not 0 < repair_tolerance <= 1:
            raise ConfigError(
                "repair_tolerance is a fraction of the tile",
                expected="above 0, at most 1",
                found=repair_tolerance,
            )
        self.reference = reference
        self.kernels = check_kernels(kernels)
        self._tolerance = repair_tolerance
        self._interpolation = interpolation
        self._backend = get_backend(backend)
        self._seen: tuple[Any, Levels] | None = None

    def push(self, frame: Any) -> DestretchResult:
        """
        Destretch the next frame.

        Parameters
        ----------
        frame : array_like
            (rows, columns).

        Returns
        -------
        DestretchResult
            On the host.

        Raises
        ------
        InputError
            If the frame has another shape than the reference, or the reference is constant.
        """
        backend = self._backend
        image = Levels(backend.asarray(_checked(frame, "frame"), dtype=np.float32), backend)
        current = self.reference.current()
        if current is None or image.empty:
            count = len(self.kernels)
            shifts = [np.zeros(_shift_shape(k, image.shape), np.float32) for k in self.kernels]
            rms, repaired, residual = [0.0] * count, [0.0] * count, float("nan")
        else:
            target = self._prepared(current, image.shape)
            shifts, rms, repaired = self._solve(image, target)
            residual = self._residual(image, target, shifts)
        field = _dense(shifts, self.kernels, image.shape, 1, backend)
        corrected = resample(image.filled, field, self._interpolation, backend)
        valid = resample_mask(image.valid, field, backend)
        self.reference.update(corrected, valid)
        return DestretchResult(
            to_host(corrected),
            shifts,
            to_host(field),
            to_host(valid),
            np.asarray(rms),
            np.asarray(repaired),
            residual,
        )

    def _prepared(self, current: Any, shape: tuple[int, int]) -> Levels:
        # A fixed reference is the same object every time, and prepared once.
        if self._seen is None or self._seen[0] is not current:
            if current.shape != shape:
                raise InputError("frame and reference differ in shape", expected=current.shape, found=shape)
            self._seen = (current, Levels(current, self._backend))
        if self._seen[1].shape != shape:
            raise InputError("frame and reference differ in shape", expected=self._seen[1].shape, found=shape)
        if self._seen[1].empty:
            raise InputError("the reference is constant", remedy="Choose a frame with contrast")
        return self._seen[1]

    def _solve(self, image: Levels, target: Levels) -> tuple[list[np.ndarray], list[float], list[float]]:
        backend = self._backend
        shifts: list[np.ndarray] = []
        rms, repaired = [], []
        coarse = False  # a kernel has been matched by correlation
        for number, kernel in enumerate(self.kernels):
            if kernel == 0:
                shifts.append(_whole_frame(image, target, backend))
                share = 0.0
            else:
                bins = binning(kernel)
                field = _dense(shifts, self.kernels[:number], image.shape, bins, backend)
                moved = resample(image.level(bins), field, "bicubic", backend)
                points = lattice(image.shape, kernel)
                limit = self._tolerance * kernel
                if coarse and bins == 1:
                    found, measured = refine_tiles(moved, target.level(bins), points, backend)
                    limit = min(limit, LARGEST_SHIFT)
                else:
                    radius = min(limit, _SEARCH * kernel)
                    found, measured = correlate_tiles(moved, target.level(bins), points, radius, backend)
                    coarse = True
                found, share = repair(found, measured, limit, backend)
                shifts.append(to_host(found))
            repaired.append(share)
            rms.append(float(np.sqrt(np.mean(np.sum(shifts[-1].astype(np.float64) ** 2, axis=0)))))
        return shifts, rms, repaired

    def _residual(self, image: Levels, target: Levels, shifts: list[np.ndarray]) -> float:
        bins = 2 if min(image.shape) >= 2 * _RESIDUAL_KERNEL else 1
        field = _dense(shifts, self.kernels, image.shape, bins, self._backend)
        moved = resample(image.level(bins), field, "bicubic", self._backend)
        points = lattice(moved.shape, _RESIDUAL_KERNEL // bins)
        left, measured = refine_tiles(moved, target.level(bins), points, self._backend)
        if not bool(measured.any()):
            return float("nan")
        return bins * float(self._backend.xp.sqrt((left[:, measured] ** 2).sum(axis=0).mean()))


def check_kernels(kernels: Sequence[int]) -> tuple[int, ...]:
    """
    Check the kernels of a destretch.

    Parameters
    ----------
    kernels : sequence of int
        Sizes of the tiles in pixels.

    Returns
    -------
    tuple of int
        The same.

    Raises
    ------
    ConfigError
        If there is none, one is too small, a 0 is not the first, or they grow.
    """
    checked = tuple(int(k) for k in kernels)
    tiles = checked[1:] if checked[:1] == (0,) else checked
    if not checked or any(k != float(given) for k, given in zip(checked, kernels, strict=True)):
        raise ConfigError("kernels are whole numbers, at least one", found=list(kernels))
    if any(k < SMALLEST_KERNEL for k in tiles) or any(a < b for a, b in pairwise(tiles)):
        raise ConfigError(
            "kernels go from large to small, a 0 for the whole frame first",
            expected=f"0, or {SMALLEST_KERNEL} pixels and more",
            found=list(checked),
        )
    return checked


def _whole_frame(image: Levels, target: Levels, backend: Backend) -> np.ndarray:
    """Shift of the whole frame: correlation of binned frames, then least squares on finer ones."""
    rows, columns = image.shape
    bins = next((b for b in (4, 2) if min(rows, columns) >= 64 * b), 1)
    level, wanted = image.level(bins), target.level(bins)
    radius = (max(1, rows // bins // 4 + 1), max(1, columns // bins // 4 + 1))
    shift = bins * correlate_frames(level, wanted, radius, backend)
    finer = min(bins, 2)
    for _ in range(_FRAME_STEPS):
        field = _dense([shift], (0,), image.shape, finer, backend)
        moved = resample(image.level(finer), field, "lanczos4", backend)
        step = finer * refine_frame(moved, target.level(finer), backend)
        shift = shift + step
    return shift.astype(np.float32)


def _dense(
    shifts: Sequence[Any], kernels: tuple[int, ...], shape: tuple[int, int], bins: int, backend: Backend
) -> Any:
    """Displacement at the pixels of a binned frame, in its pixels; always summed in the same order."""
    if len(shifts) != len(kernels):
        raise InputError("one array of shifts a kernel is needed", expected=len(kernels), found=len(shifts))
    for shift, kernel in zip(shifts, kernels, strict=True):
        expected = _shift_shape(kernel, shape)
        if np.shape(shift) != expected:
            raise InputError(
                f"shifts of kernel {kernel} do not fit a frame of {shape[0]} x {shape[1]} pixels",
                expected=expected,
                found=np.shape(shift),
            )
    field = backend.xp.zeros((2, -(-shape[0] // bins), -(-shape[1] // bins)), np.float32)
    for shift, kernel in zip(shifts, kernels, strict=True):
        if kernel == 0:
            field += backend.asarray(shift, dtype=np.float32)[:, None, None] / np.float32(bins)
        else:
            add_control_points(field, shift, lattice(shape, kernel), bins, backend)
    return field


def _shift_shape(kernel: int, shape: tuple[int, int]) -> tuple[int, ...]:
    return (2,) if kernel == 0 else (2, *lattice(shape, kernel).count)


def _checked(image: Any, what: str) -> Any:
    if getattr(image, "ndim", None) != 2:
        image = np.asarray(image)
    if image.ndim != 2 or min(image.shape) < SMALLEST_KERNEL:
        raise InputError(
            f"the {what} is no image",
            expected=f"(rows, columns), {SMALLEST_KERNEL} pixels or more along each",
            found=image.shape,
        )
    return image


def _chain(first: Any, rest: Iterable[Any]) -> Iterable[Any]:
    yield first
    yield from rest
