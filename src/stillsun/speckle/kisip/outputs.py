"""
Output files of the external speckle program.

Layouts are those of the SSOSoft manual (2025-10-14), section 4: float32 in native byte order, x before
y in the order of the subfields. The number of subfields is stated nowhere; it follows from the size of
``.subalpha``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.speckle.engine import Reconstruction
from stillsun.speckle.kisip.floats import ShapeOf, check_floats, exactly, read_floats

SUFFIXES = (".final", ".subalpha", ".ct", ".subrec", ".subamp", ".subrsr")
"""Files that the program writes for a burst."""

_MAPS = "(2, subfields_x, subfields_y), as the frame's sides are to each other"
# Rounding two counts of subfields changes their ratio by less than a factor of three.
_ELONGATED = math.log(3.0)


def read_final(path: Path, rows: int, columns: int) -> np.ndarray:
    """
    Read a reconstructed frame (``.final``).

    Parameters
    ----------
    path : Path
        File to read.
    rows, columns : int
        Shape of the frame.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32.

    Raises
    ------
    InputError
        If the file is missing or of another size.
    """
    shape = (rows, columns)
    return read_floats(path, exactly(shape), str(shape))


def subfield_grid(count: int, rows: int, columns: int) -> tuple[int, int]:
    """
    Arrangement of the program's subfields, which no file states.

    Parameters
    ----------
    count : int
        Number of subfields.
    rows, columns : int
        Shape of the frame.

    Returns
    -------
    tuple of int
        Subfields along x and along y: the two factors of `count` whose ratio is nearest to that of
        the frame's sides.
    """
    small = [n for n in range(1, math.isqrt(count) + 1) if count % n == 0]
    pairs = [pair for n in small for pair in ((n, count // n), (count // n, n))]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] * rows / (pair[1] * columns))))


def read_subalpha(path: Path, rows: int, columns: int) -> np.ndarray:
    """
    Read the Fried parameters in units of the telescope's diameter (``.subalpha``).

    Parameters
    ----------
    path : Path
        File to read.
    rows, columns : int
        Shape of the frame.

    Returns
    -------
    numpy.ndarray
        (2, subfields_x, subfields_y) float32: [0] that of the whole frame, [1] that of each subfield.

    Raises
    ------
    InputError
        If the file is missing, empty or not made of two equal maps.
    """

    return read_floats(path, _pair_of_maps(rows, columns), _MAPS)


def read_shifts(path: Path, frames: int, grid: tuple[int, int]) -> np.ndarray:
    """
    Read the shifts that registered each subfield of each frame (``.ct``).

    Parameters
    ----------
    path : Path
        File to read.
    frames : int
        Frames of the burst.
    grid : tuple of int
        Subfields along x and y.

    Returns
    -------
    numpy.ndarray
        (frames, 2, subfields_x, subfields_y) float32, pixels in x and y.

    Raises
    ------
    InputError
        If the file is missing or of another size.
    """
    shape = (frames, 2, *grid)
    return read_floats(path, exactly(shape), str(shape))


def read_subfields(path: Path, grid: tuple[int, int]) -> np.ndarray:
    """
    Read square images of each subfield (``.subrec``: reconstruction, ``.subamp``: Fourier amplitudes).

    Parameters
    ----------
    path : Path
        File to read.
    grid : tuple of int
        Subfields along x and y.

    Returns
    -------
    numpy.ndarray
        (subfields_x, subfields_y, pixels, pixels) float32.

    Raises
    ------
    InputError
        If the file is missing or does not hold one square a subfield.
    """

    def shape(count: int) -> tuple[int, ...] | None:
        side = math.isqrt(count // math.prod(grid))
        return (*grid, side, side) if side and count == math.prod(grid) * side * side else None

    return read_floats(path, shape, f"({grid[0]}, {grid[1]}, pixels, pixels)")


def read_ratios(path: Path, grid: tuple[int, int]) -> np.ndarray:
    """
    Read the mean spectral ratio of each subfield (``.subrsr``).

    Parameters
    ----------
    path : Path
        File to read.
    grid : tuple of int
        Subfields along x and y.

    Returns
    -------
    numpy.ndarray
        (subfields_x, subfields_y, radii) float32.

    Raises
    ------
    InputError
        If the file is missing or does not hold the same number of values for each subfield.
    """

    def shape(count: int) -> tuple[int, ...] | None:
        radii, rest = divmod(count, math.prod(grid))
        return (*grid, radii) if radii and not rest else None

    return read_floats(path, shape, f"({grid[0]}, {grid[1]}, radii)")


def output_fault(base: Path, rows: int, columns: int) -> str | None:
    """
    Say why a burst does not count as reconstructed.

    Parameters
    ----------
    base : Path
        Output path of the burst without suffix.
    rows, columns : int
        Shape of the frame.

    Returns
    -------
    str or None
        What is wrong with its ``.final`` or ``.subalpha``; None if both are as they should be.
    """
    try:
        check_floats(base.with_name(base.name + ".final"), exactly((rows, columns)), str((rows, columns)))
        check_floats(base.with_name(base.name + ".subalpha"), _pair_of_maps(rows, columns), _MAPS)
    except InputError as error:
        return str(error)
    return None


def remove_outputs(base: Path) -> None:
    """
    Delete whatever the program wrote for a burst.

    Parameters
    ----------
    base : Path
        Output path of the burst without suffix.
    """
    for suffix in SUFFIXES:
        base.with_name(base.name + suffix).unlink(missing_ok=True)


def _pair_of_maps(rows: int, columns: int) -> ShapeOf:
    def shape(count: int) -> tuple[int, ...] | None:
        # Each subfield has at least a pixel of its own.
        if not 0 < count <= 2 * rows * columns or count % 2:
            return None
        nx, ny = subfield_grid(count // 2, rows, columns)
        return (2, nx, ny) if abs(math.log(nx * rows / (ny * columns))) < _ELONGATED else None

    return shape


def write_results(base: Path, result: Reconstruction, diameter: float) -> None:
    """
    Write the output files of a burst; each has its name only when it is complete, ``.final`` last.

    Parameters
    ----------
    base : Path
        Output path of the burst without suffix.
    result : Reconstruction
        Its image, Fried parameters, tracking and subfields.
    diameter : float
        Telescope diameter, metres: the unit of the Fried parameters in ``.subalpha``.

    Notes
    -----
    Native float32, x before y in the order of subfields (SSOSoft manual, 2025-10-14, section 4); the
    subfields themselves are stored like the image, row by row.
    """
    assert result.r0_map is not None
    assert result.shifts is not None
    assert result.subfields is not None
    local = result.r0_map.T / diameter
    _write(base, ".ct", result.shifts[:, ::-1].transpose(0, 1, 3, 2))
    _write(base, ".subalpha", np.stack([np.full_like(local, result.r0 / diameter), local]))
    _write(base, ".subrec", result.subfields.images.swapaxes(0, 1))
    _write(base, ".subamp", result.subfields.amplitudes.swapaxes(0, 1))
    _write(base, ".subrsr", result.subfields.ratio.swapaxes(0, 1))
    _write(base, ".final", result.image)


def _write(base: Path, suffix: str, values: np.ndarray) -> None:
    path = base.with_name(base.name + suffix)
    part = path.with_name(path.name + ".part")
    part.write_bytes(np.ascontiguousarray(values, dtype=np.float32).data)
    part.replace(path)
