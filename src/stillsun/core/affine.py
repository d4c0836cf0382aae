"""Where the pixels of one image lie in another one, and displacements carried over by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core._solve import Field
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.orient import Orientation
from stillsun.core.tiles import check_kernels, lattice
from stillsun.errors import InputError


@dataclass(frozen=True)
class PixelMap:
    """
    Where the pixels of one channel's frame lie in another one's: ``source = matrix @ target + offset``.

    Attributes
    ----------
    matrix : numpy.ndarray
        (2, 2) float64, order y, x.
    offset : numpy.ndarray
        (2,) float64, order y, x; pixels are counted from 0.
    """

    matrix: np.ndarray
    offset: np.ndarray


def pixels_at(x: Any, y: Any, scale: Sequence[float], shape: Sequence[int], angle: float) -> tuple[Any, Any]:
    """
    Find the pixels of an image that show points around its centre.

    Parameters
    ----------
    x, y : array
        Points, arcsec from the image's centre; they broadcast.
    scale : sequence of float
        Plate scales of the image along (x, y), arcsec per pixel.
    shape : sequence of int
        Rows and columns of the image.
    angle : float
        The image's +y points so far counter-clockwise of the points' y, radians.

    Returns
    -------
    row, column : array
        Pixels, counted from 0; they need not be in the image.
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    rows, columns = shape
    row = (-sin * x + cos * y) / float(scale[1]) + (rows - 1) / 2
    return row, (cos * x + sin * y) / float(scale[0]) + (columns - 1) / 2


def pixel_map(
    shape: tuple[int, int],
    plate_scale: Sequence[float],
    source_shape: tuple[int, int],
    source_scale: Sequence[float],
    translation: Sequence[float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    orientation: Orientation | None = None,
) -> PixelMap:
    """
    Relate a channel's pixels to those of the channel in which a displacement was measured.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of this channel's frames.
    plate_scale : sequence of float
        Plate scales along (x, y) of this channel's oriented frames, arcsec per pixel.
    source_shape : tuple of int
        Rows and columns of the oriented source frames.
    source_scale : sequence of float
        Plate scales along (x, y) of the oriented source frames, arcsec per pixel.
    translation : sequence of float, optional
        Where this channel's centre lies on the source, (x, y) arcsec from its centre; as in
        `stillsun.core.registration.similarity.Similarity`, of which the source is the reference.
    rotation_deg : float, optional
        This channel's +y points so many degrees counter-clockwise of the source's; as there.
    orientation : Orientation, optional
        Turn that this channel's frames still need; none: they are oriented.

    Returns
    -------
    PixelMap
        The relation.

    Raises
    ------
    InputError
        If a plate scale is not positive.
    """
    ours, theirs = (np.asarray(s, np.float64) for s in (plate_scale, source_scale))
    if not (ours.shape == theirs.shape == (2,) and (ours > 0).all() and (theirs > 0).all()):
        raise InputError(
            "plate scales are two positive numbers, arcsec per pixel", found=(plate_scale, source_scale)
        )
    angle = np.radians(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.diag(1 / theirs) @ turn @ np.diag(ours)
    if orientation is not None:
        matrix = matrix @ np.array(orientation.matrix, np.float64)
    # From here on in the order y, x.
    matrix = matrix[::-1, ::-1]
    middle = np.array(source_shape) / 2 - 0.5 + np.asarray(translation, np.float64)[::-1] / theirs[::-1]
    return PixelMap(matrix, middle - matrix @ (np.array(shape) / 2 - 0.5))


def carry_displacement(
    displacement: Any, pixels: PixelMap, shape: tuple[int, int], backend: Backend | str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Bring a displacement field to the pixels of another channel.

    Parameters
    ----------
    displacement : array_like
        (2, rows, columns): ``out(y, x) = image(y - d[0], x - d[1])``, in pixels of the source.
    pixels : PixelMap
        Where this channel's pixels lie in the source.
    shape : tuple of int
        Rows and columns of this channel's frames.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    displacement : numpy.ndarray
        (2, rows, columns) float32 of this channel, in its pixels: to be applied with
        `stillsun.core.series.apply_field`. Beyond the source's frame the value at its edge is held. For
        equal pixels the very same values.
    covered : numpy.ndarray
        (rows, columns) bool: the pixel lies in the source's frame.

    Notes
    -----
    With source pixels ``q = A p + b``, content that moves by d in the source moves by ``A**-1 d`` here,
    looked up at q. Linear interpolation is enough: a field is smooth over half of its finest kernel.
    """
    backend = get_backend(backend)
    xp = backend.xp
    field = backend.asarray(displacement, dtype=np.float32)
    if field.ndim != 3 or field.shape[0] != 2:
        raise InputError("not a displacement field", expected="(2, rows, columns)", found=field.shape)
    matrix, offset = backend.asarray(pixels.matrix), backend.asarray(pixels.offset)
    looked_up = xp.stack(
        [
            backend.ndimage.affine_transform(
                part, matrix, offset, output_shape=tuple(shape), order=1, mode="nearest"
            )
            for part in field
        ]
    )
    inverse = np.linalg.inv(pixels.matrix)
    carried = xp.stack([sum(float(inverse[k, n]) * looked_up[n] for n in range(2)) for k in range(2)])
    y, x = xp.ogrid[: shape[0], : shape[1]]
    covered = xp.ones(tuple(shape), bool)
    for axis, size in enumerate(field.shape[1:]):
        at = pixels.matrix[axis, 0] * y + pixels.matrix[axis, 1] * x + pixels.offset[axis]
        covered &= (at >= -0.5) & (at <= size - 0.5)
    return to_host(carried.astype(np.float32)), to_host(covered)


def shifts_of_field(
    displacement: Any, kernels: Sequence[int], backend: Backend | str | None = None
) -> list[np.ndarray]:
    """
    Express a displacement field by shifts of kernels, as if it had been measured with them.

    Parameters
    ----------
    displacement : array_like
        (2, rows, columns): ``out(y, x) = image(y - d[0], x - d[1])``.
    kernels : sequence of int
        As for `stillsun.core.destretch.destretch`.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    list of numpy.ndarray
        One array a kernel, float32, pixels, order y, x, as in `stillsun.core.destretch.DestretchResult`: for
        `stillsun.core.destretch.apply_shifts`. Each kernel takes what the larger ones leave, at the centres
        of its tiles; detail below half of the last one's tiles is lost.
    """
    backend = get_backend(backend)
    kernels = check_kernels(kernels)
    wanted = backend.asarray(displacement, dtype=np.float32)
    shape = (int(wanted.shape[1]), int(wanted.shape[2]))
    composed = Field(shape, 1, backend)
    shifts: list[np.ndarray] = []
    for kernel in kernels:
        left = wanted - composed.values
        if kernel == 0:
            shifts.append(to_host(left.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)))
        else:
            points = lattice(shape, kernel)
            at = backend.xp.stack(
                backend.xp.meshgrid(
                    backend.asarray(points.y.centres), backend.asarray(points.x.centres), indexing="ij"
                )
            )
            found = [backend.ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in left]
            shifts.append(to_host(backend.xp.stack(found).astype(np.float32)))
        composed.add(shifts, kernels)
    return shifts
