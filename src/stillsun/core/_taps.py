"""Inner loop of the interpolation on the CPU: weighted sums of small windows, in vector registers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

#: Interpolations by name, and how many samples each takes along an axis.
INTERPOLATIONS = {"bilinear": 2, "bicubic": 4, "lanczos4": 8}

#: Steps of a pixel for which weights are tabulated.
PHASES = 512


@lru_cache(maxsize=8)
def weight_table(interpolation: str) -> np.ndarray:
    """
    Weights of the samples around a position.

    Parameters
    ----------
    interpolation : str
        One of `INTERPOLATIONS`.

    Returns
    -------
    numpy.ndarray
        (PHASES + 1, taps) float32: for a position ``k / PHASES`` of a pixel behind the sample before it,
        which is number ``taps // 2 - 1``. They sum to 1.
    """
    taps = INTERPOLATIONS[interpolation]
    fraction = np.arange(PHASES + 1) / PHASES
    distance = np.abs(fraction[:, None] - (np.arange(taps) - (taps // 2 - 1)))
    if interpolation == "bilinear":
        weights = 1 - distance
    elif interpolation == "bicubic":
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, far)
    else:
        weights = np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)
    weights[np.abs(weights) < 1e-15] = 0  # sinc at whole numbers is 0 but for rounding
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


# Numba's vectoriser leaves loops of 4 or 8 steps scalar; written with vector types the sum takes less
# than half the time.
@intrinsic(prefer_literal=True)
def _window_sum(_, image, first, stride, table, ky, py, kx, px, taps):  # type: ignore[no-untyped-def]
    """Sum of taps x taps values from `image.flat[first]` on, rows `stride` apart, with the weights."""
    whole, real = types.int64, types.float32
    count = taps.literal_value
    vector = ir.VectorType(ir.FloatType(), count)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def load(data, at):  # type: ignore[no-untyped-def]
            return builder.load(builder.bitcast(builder.gep(data, [at]), vector.as_pointer()), align=4)

        def pick(values, places):  # type: ignore[no-untyped-def]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
            return builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), mask)

        def add_product(total, a, b):  # type: ignore[no-untyped-def]
            return builder.fadd(builder.fmul(a, b, flags=("contract",)), total, flags=("contract",))

        def weights(phase, part):  # type: ignore[no-untyped-def]
            here = builder.mul(phase, ir.Constant(ir.IntType(64), count))
            low, high = (load(entries, builder.add(here, ir.Constant(here.type, k))) for k in (0, count))
            share = builder.insert_element(ir.Constant(vector, ir.Undefined), part, zero)
            return add_product(low, pick(share, [0] * count), builder.fsub(high, low))

        image, at, stride, table, ky, py, kx, px, _ = arguments
        zero = ir.Constant(ir.IntType(32), 0)
        data, entries = (
            create_struct_proxy(kind)(context, builder, array).data
            for kind, array in ((signature.args[0], image), (signature.args[3], table))
        )
        along_y, along_x = weights(ky, py), weights(kx, px)
        total = ir.Constant(vector, [0.0] * count)
        for row in range(count):
            total = add_product(total, pick(along_y, [row] * count), load(data, at))
            at = builder.add(at, stride)
        total = builder.fmul(total, along_x)
        while total.type.count > 1:
            half = total.type.count // 2
            lower, upper = (pick(total, list(range(k, k + half))) for k in (0, half))
            total = builder.fadd(lower, upper)
        return builder.extract_element(total, zero)

    return real(image, whole, whole, table, whole, real, whole, real, taps), generate


@lru_cache(maxsize=4)
def row_kernel(taps: int) -> Any:
    """
    Compiled loop over rows of the result.

    Parameters
    ----------
    taps : int
        Samples along an axis, a power of two.

    Returns
    -------
    callable
        ``kernel(image, displacement, table, out, start, stop)`` fills rows `start` to `stop` of `out`;
        all arrays float32 in C order, the table as from `weight_table`. Beyond the edge of the image its
        value is held.
    """

    # "contract" allows multiply-add in one step and keeps NaN.
    @njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
    def kernel(image, displacement, table, out, start, stop):  # type: ignore[no-untyped-def]
        rows, columns = image.shape
        before = taps // 2 - 1
        phases = np.float32(table.shape[0] - 1)
        top = np.float32(table.shape[0] - 1.001)
        first = np.empty((2, columns), np.int32)
        phase = np.empty((2, columns), np.int32)
        part = np.empty((2, columns), np.float32)
        edge = np.empty((taps, taps), np.float32)
        for y in range(start, stop):
            for axis in range(2):
                for x in range(columns):
                    at = -displacement[axis, y, x]
                    whole = np.floor(at)
                    here = min((at - whole) * phases, top)
                    first[axis, x] = np.int32(whole) + np.int32((x if axis else y) - before)
                    phase[axis, x] = np.int32(here)
                    part[axis, x] = here - np.float32(np.int32(here))
            for x in range(columns):
                iy, ix = np.int64(first[0, x]), np.int64(first[1, x])
                ky, kx = np.int64(phase[0, x]), np.int64(phase[1, x])
                py, px = part[0, x], part[1, x]
                if iy >= 0 and ix >= 0 and iy + taps <= rows and ix + taps <= columns:
                    out[y, x] = _window_sum(image, iy * columns + ix, columns, table, ky, py, kx, px, taps)
                else:
                    for j in range(taps):
                        for i in range(taps):
                            row, column = min(max(iy + j, 0), rows - 1), min(max(ix + i, 0), columns - 1)
                            edge[j, i] = image[row, column]
                    out[y, x] = _window_sum(edge, 0, taps, table, ky, py, kx, px, taps)

    return kernel
