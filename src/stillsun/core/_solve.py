"""Coarse-to-fine solution for one frame: shifts of every kernel, and the field that they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core._gradient import LARGEST_SHIFT, polish_tiles, refine_frame, refine_tiles
from stillsun.core._levels import Levels
from stillsun.core._repair import repair
from stillsun.core.backend import Backend, to_host
from stillsun.core.correlate import correlate_frames, correlate_tiles
from stillsun.core.tiles import lattice, whole
from stillsun.core.warp import add_control_points, resample
from stillsun.errors import InputError

_SEARCH = 0.25  # a tile's shift is looked for up to this share of its size
# How far a tile may differ from its neighbours, in pixels; and as a share of a kernel that smaller ones
# follow. They put a wrong shift right, but not the loss of a true one in a single tile.
_SLACK = 0.1
_ROUGH_SLACK = 0.05
_RESIDUAL_KERNEL = 32  # pixels, in which the remaining shift is measured
_LARGE = 48  # pixels of a tile from which binned frames are enough
_FRAME_PRECISION = 0.03  # (binned) pixels
_FRAME_STEPS = 4  # least-squares steps that refine the shift of the whole frame


@dataclass(frozen=True)
class Solution:
    """
    What was found of a frame.

    Attributes
    ----------
    field : array
        (2, rows, columns) float32 on the backend.
    shifts : list of numpy.ndarray
        One array a kernel.
    rms : list of float
        Rms length of the shifts of each kernel, pixels.
    repaired : list of float
        Share of replaced tiles of each kernel.
    residual : float
        Rms length of the shifts that remain, pixels; NaN without a measurement.
    likeness : float
        How much the moved frame is like the reference, see `likeness`; NaN without one.
    """

    field: Any
    shifts: list[np.ndarray]
    rms: list[float]
    repaired: list[float]
    residual: float
    likeness: float


class Field:
    """
    Displacement at the pixels of a (binned) frame, always summed in the same order.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame before binning.
    bins : int
        Binning.
    backend : Backend
        Where it is kept.

    Attributes
    ----------
    values : array
        (2, rows, columns) float32 of the binned frame, in its pixels.
    """

    def __init__(self, shape: tuple[int, int], bins: int, backend: Backend) -> None:
        self.values = backend.xp.zeros((2, -(-shape[0] // bins), -(-shape[1] // bins)), np.float32)
        self._shape, self._bins, self._backend = shape, bins, backend
        self._added = 0

    def add(self, shifts: Sequence[Any], kernels: Sequence[int]) -> None:
        """
        Add the shifts of those kernels that are not in it yet.

        Parameters
        ----------
        shifts : sequence of array_like
            One array a kernel, in pixels of the frame before binning.
        kernels : sequence of int
            All kernels; more than shifts are allowed.
        """
        new = list(zip(shifts, kernels, strict=False))[self._added :]
        parts = [
            (shift, lattice(self._shape, kernel))
            if kernel
            else (np.reshape(shift, (2, 1, 1)), whole(self._shape))
            for shift, kernel in new
        ]
        self._added = len(shifts)
        add_control_points(self.values, parts, self._bins, self._backend)


def solve(
    image: Levels, target: Levels, kernels: Sequence[int], tolerance: float, backend: Backend
) -> Solution:
    """
    Match a frame to a reference.

    Parameters
    ----------
    image, target : Levels
        Frame and reference, of one shape, both with contrast.
    kernels : sequence of int
        Checked kernels.
    tolerance : float
        Largest shift of a tile as a fraction of its size.
    backend : Backend
        Where to compute.

    Returns
    -------
    Solution
        Field, shifts and figures.
    """
    shifts: list[np.ndarray] = []
    rms, repaired = [], []
    fine = Field(image.shape, 1, backend)
    coarse = False  # a kernel has been matched by correlation
    for number, kernel in enumerate(kernels):
        share = 0.0
        if kernel == 0:
            shifts.append(_whole_frame(image, target, len(kernels) == 1, backend))
        else:
            # A gradient reaches a few pixels, correlation a quarter of the tile; both see enough
            # of large tiles in binned frames.
            by_gradient = coarse and kernel < _LARGE
            last = number == len(kernels) - 1
            bins = _bins(kernel, not last and (by_gradient or kernel >= _LARGE))
            field = fine if bins == 1 else Field(image.shape, bins, backend)
            field.add(shifts, kernels)
            moved = resample(image.level(bins), field.values, "bicubic", backend)
            points = lattice(image.shape, kernel)
            limit = tolerance * kernel
            if by_gradient:
                found, measured = refine_tiles(moved, target.level(bins), points, bins, backend)
                limit = min(limit, bins * LARGEST_SHIFT)
            else:
                radius = min(limit, _SEARCH * kernel)
                found, measured = correlate_tiles(moved, target.level(bins), points, radius, bins, backend)
                coarse = True
            slack = _SLACK if last else _ROUGH_SLACK * kernel
            found, share = repair(found, measured, limit, slack, backend)
            if by_gradient and last:
                finer = Field(image.shape, 1, backend)
                finer.add([*shifts, found], kernels)
                moved = resample(image.level(1), finer.values, "bicubic", backend)
                more, measured = polish_tiles(moved, target.level(1), points, backend)
                more, left = repair(more, measured, limit, slack, backend)
                found, share = found + more, max(share, left)
            shifts.append(to_host(found))
        repaired.append(share)
        rms.append(_rms(shifts[-1]))
    fine.add(shifts, kernels)
    return Solution(fine.values, shifts, rms, repaired, *_left(image, target, kernels, shifts, backend))


def replay(
    image: Levels, target: Levels | None, kernels: Sequence[int], shifts: Sequence[Any], backend: Backend
) -> Solution:
    """
    Take shifts as they are instead of measuring them.

    Parameters
    ----------
    image : Levels
        Frame, with contrast.
    target : Levels or None
        Reference to which the remaining shift is measured; None: it is not.
    kernels : sequence of int
        Checked kernels.
    shifts : sequence of array_like
        One array a kernel.
    backend : Backend
        Where to compute.

    Returns
    -------
    Solution
        Field, shifts and figures.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    field = stored_field(shifts, kernels, image.shape, backend)
    given = [np.asarray(shift, np.float32) for shift in shifts]
    left = (np.nan, np.nan) if target is None else _left(image, target, kernels, given, backend)
    return Solution(field, given, [_rms(shift) for shift in given], [0.0] * len(given), *left)


def stored_field(
    shifts: Sequence[Any], kernels: Sequence[int], shape: tuple[int, int], backend: Backend
) -> Any:
    """
    Compose stored shifts into the displacement at the pixels of a frame.

    Parameters
    ----------
    shifts : sequence of array_like
        One array a kernel.
    kernels : sequence of int
        Checked kernels.
    shape : tuple of int
        Rows and columns of the frame.
    backend : Backend
        Where to compute.

    Returns
    -------
    array
        (2, rows, columns) float32 on the backend; the same bytes as in the solution.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    if len(shifts) != len(kernels):
        raise InputError("one array of shifts a kernel is needed", expected=len(kernels), found=len(shifts))
    for shift, kernel in zip(shifts, kernels, strict=True):
        expected = shift_shape(kernel, shape)
        if np.shape(shift) != expected:
            raise InputError(
                f"shifts of kernel {kernel} do not fit a frame of {shape[0]} x {shape[1]} pixels",
                expected=expected,
                found=np.shape(shift),
            )
    field = Field(shape, 1, backend)
    field.add(shifts, kernels)
    return field.values


def shift_shape(kernel: int, shape: tuple[int, int]) -> tuple[int, ...]:
    """
    Shape of the shifts of a kernel.

    Parameters
    ----------
    kernel : int
        Pixels of a tile, or 0.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    tuple of int
        (2,) for the whole frame, else (2, tiles_y, tiles_x).
    """
    return (2,) if kernel == 0 else (2, *lattice(shape, kernel).count)


def no_shifts(kernels: Sequence[int], shape: tuple[int, int]) -> list[np.ndarray]:
    """
    Shifts of a frame that stays as it is.

    Parameters
    ----------
    kernels : sequence of int
        Checked kernels.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    list of numpy.ndarray
        One array of zeros a kernel.
    """
    return [np.zeros(shift_shape(kernel, shape), np.float32) for kernel in kernels]


def _rms(shifts: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(shifts.astype(np.float64) ** 2, axis=0))))


def _left(
    image: Levels, target: Levels, kernels: Sequence[int], shifts: list[np.ndarray], backend: Backend
) -> tuple[float, float]:
    """Rms shift that remains, and how like the reference the moved frame is."""
    bins = 2 if min(image.shape) >= 2 * _RESIDUAL_KERNEL else 1
    field = Field(image.shape, bins, backend)
    field.add(shifts, kernels)
    moved = resample(image.level(bins), field.values, "bicubic", backend)
    alike = likeness(moved, target.level(bins), image.detail(bins), target.detail(bins), backend)
    points = lattice(image.shape, _RESIDUAL_KERNEL)
    left, measured = refine_tiles(moved, target.level(bins), points, bins, backend)
    if not bool(measured.any()):
        return float("nan"), alike
    return float(backend.xp.sqrt((left[:, measured] ** 2).sum(axis=0).mean())), alike


def likeness(image: Any, reference: Any, detail: float, other: float, backend: Backend) -> float:
    """
    How much one image is like another: their correlation, less where one has more detail than the other.

    It is Lin's coefficient of concordance (1989, Biometrics 45, 255) of the fine structure,
    ``2 <a b> / (<a^2> + <b^2>)``: noise has no correlation, and a blurred image no detail.

    Parameters
    ----------
    image, reference : array
        Without background, NaN where invalid.
    detail, other : float
        Contrast of either.
    backend : Backend
        Where they are.

    Returns
    -------
    float
        1 for the same image, 0 for unrelated ones.
    """
    xp = backend.xp
    product = image * reference
    there = xp.isfinite(product)
    one, two = xp.where(there, image, np.float32(0)), xp.where(there, reference, np.float32(0))
    both, first, second = (
        float(xp.einsum("ij,ij->i", a, b).sum(dtype=np.float64))
        for a, b in ((one, two), (one, one), (two, two))
    )
    if not (first > 0 and second > 0 and detail > 0 and other > 0):
        return 0.0
    return both / np.sqrt(first * second) * 2 * detail * other / (detail**2 + other**2)


def _whole_frame(image: Levels, target: Levels, last: bool, backend: Backend) -> np.ndarray:
    """Shift of the whole frame: correlation of binned frames, then least squares; finer without tiles."""
    rows, columns = image.shape
    bins = next((b for b in (4, 2) if min(rows, columns) >= 64 * b), 1)
    radius = (max(1, rows // bins // 4 + 1), max(1, columns // bins // 4 + 1))
    shift = bins * correlate_frames(image.level(bins), target.level(bins), radius, backend)
    for level, name in ((bins, "bicubic"), (min(bins, 2), "lanczos4"))[: 1 + last]:
        for _ in range(_FRAME_STEPS):
            field = Field(image.shape, level, backend)
            field.add([shift], (0,))
            moved = resample(image.level(level), field.values, name, backend)
            step = level * refine_frame(moved, target.level(level), backend)
            shift = shift + step
            if np.hypot(*step) < _FRAME_PRECISION * level:
                break
    return shift.astype(np.float32)


def _bins(kernel: int, rough: bool) -> int:
    """How far frames are binned for a kernel; further where a finer one follows."""
    if kernel >= 2 * _LARGE or (rough and kernel >= _LARGE):
        return 4
    return 2 if kernel >= _LARGE or (rough and kernel >= _LARGE // 2) else 1
