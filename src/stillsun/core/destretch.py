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
from stillsun.core.tiles import SMALLEST_KERNEL, Lattice, lattice
from stillsun.core.warp import add_control_points, resample, resample_mask
from stillsun.errors import ConfigError, InputError

#: Kernels of the project: those of the superseded system.
DEFAULT_KERNELS = (0, 128, 64, 32, 12)

_SEARCH = 0.25  # a tile's shift is looked for up to this share of its size
_RESIDUAL_KERNEL = 32  # pixels, in which the remaining shift is measured
_LARGE = 48  # pixels of a tile from which binned frames are enough
_FRAME_PRECISION = 0.03  # pixels
_FRAME_STEPS = 4  # least-squares steps that refine the shift of the whole frame


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
    field = _dense(shifts, kernels, frame.shape, backend)
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
    return to_host(_dense(shifts, check_kernels(kernels), shape, get_backend(backend)))


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
            still = _Field(image.shape, 1, backend).values
            solved = _Solution(still, shifts, [0.0] * count, [0.0] * count, float("nan"))
        else:
            solved = self._solve(image, self._prepared(current, image.shape))
        corrected = resample(image.filled, solved.field, self._interpolation, backend)
        valid = resample_mask(image.valid, solved.field, backend)
        self.reference.update(corrected, valid)
        return DestretchResult(
            to_host(corrected),
            solved.shifts,
            to_host(solved.field),
            to_host(valid),
            np.asarray(solved.rms),
            np.asarray(solved.repaired),
            solved.residual,
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

    def _solve(self, image: Levels, target: Levels) -> _Solution:
        backend = self._backend
        shifts: list[np.ndarray] = []
        rms, repaired = [], []
        fine = _Field(image.shape, 1, backend)
        coarse = False  # a kernel has been matched by correlation
        for number, kernel in enumerate(self.kernels):
            share = 0.0
            if kernel == 0:
                shifts.append(_whole_frame(image, target, backend))
            else:
                # A gradient reaches a few pixels, correlation a quarter of the tile; both see enough
                # of large tiles in binned frames.
                by_gradient = coarse and kernel < _LARGE
                last = number == len(self.kernels) - 1
                bins = _bins(kernel, not last and (by_gradient or kernel >= _LARGE))
                field = fine if bins == 1 else _Field(image.shape, bins, backend)
                field.add(shifts, self.kernels)
                moved = resample(image.level(bins), field.values, "bicubic", backend)
                points = lattice(image.shape, kernel)
                limit = self._tolerance * kernel
                if by_gradient:
                    found, measured = refine_tiles(moved, target.level(bins), points, bins, backend)
                    limit = min(limit, bins * LARGEST_SHIFT)
                else:
                    radius = min(limit, _SEARCH * kernel)
                    found, measured = correlate_tiles(
                        moved, target.level(bins), points, radius, bins, backend
                    )
                    coarse = True
                found, share = repair(found, measured, limit, backend)
                shifts.append(to_host(found))
            repaired.append(share)
            rms.append(float(np.sqrt(np.mean(np.sum(shifts[-1].astype(np.float64) ** 2, axis=0)))))
        fine.add(shifts, self.kernels)
        return _Solution(fine.values, shifts, rms, repaired, self._residual(image, target, shifts))

    def _residual(self, image: Levels, target: Levels, shifts: list[np.ndarray]) -> float:
        bins = 2 if min(image.shape) >= 2 * _RESIDUAL_KERNEL else 1
        field = _Field(image.shape, bins, self._backend)
        field.add(shifts, self.kernels)
        moved = resample(image.level(bins), field.values, "bicubic", self._backend)
        points = lattice(image.shape, _RESIDUAL_KERNEL)
        left, measured = refine_tiles(moved, target.level(bins), points, bins, self._backend)
        if not bool(measured.any()):
            return float("nan")
        return float(self._backend.xp.sqrt((left[:, measured] ** 2).sum(axis=0).mean()))


@dataclass(frozen=True)
class _Solution:
    """What was found of a frame; the field on the backend."""

    field: Any
    shifts: list[np.ndarray]
    rms: list[float]
    repaired: list[float]
    residual: float


class _Field:
    """Displacement at the pixels of a (binned) frame, in its pixels; always summed in the same order."""

    def __init__(self, shape: tuple[int, int], bins: int, backend: Backend) -> None:
        self.values = backend.xp.zeros((2, -(-shape[0] // bins), -(-shape[1] // bins)), np.float32)
        self._shape, self._bins, self._backend = shape, bins, backend
        self._added = 0

    def add(self, shifts: Sequence[Any], kernels: Sequence[int]) -> None:
        """Add the shifts of those kernels that are not in it yet."""
        parts: list[tuple[Any, Lattice]] = []
        for shift, kernel in list(zip(shifts, kernels, strict=False))[self._added :]:
            if kernel == 0:
                whole = self._backend.asarray(shift, dtype=np.float32)[:, None, None]
                self.values += whole / np.float32(self._bins)
            else:
                parts.append((shift, lattice(self._shape, kernel)))
        self._added = len(shifts)
        add_control_points(self.values, parts, self._bins, self._backend)


def _bins(kernel: int, rough: bool) -> int:
    """How far frames are binned for a kernel; further where a finer one follows."""
    if kernel >= 2 * _LARGE or (rough and kernel >= _LARGE):
        return 4
    return 2 if kernel >= _LARGE or (rough and kernel >= _LARGE // 2) else 1


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
    radius = (max(1, rows // bins // 4 + 1), max(1, columns // bins // 4 + 1))
    shift = bins * correlate_frames(image.level(bins), target.level(bins), radius, backend)
    for level, name in ((bins, "bicubic"), (min(bins, 2), "lanczos4")):
        for _ in range(_FRAME_STEPS):
            field = _Field(image.shape, level, backend)
            field.add([shift], (0,))
            moved = resample(image.level(level), field.values, name, backend)
            step = level * refine_frame(moved, target.level(level), backend)
            shift = shift + step
            if np.hypot(*step) < _FRAME_PRECISION * level:
                break
    return shift.astype(np.float32)


def _dense(shifts: Sequence[Any], kernels: tuple[int, ...], shape: tuple[int, int], backend: Backend) -> Any:
    """Displacement at the pixels of a frame from stored shifts, (2, rows, columns) on the backend."""
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
    field = _Field(shape, 1, backend)
    field.add(shifts, kernels)
    return field.values


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
