"""Stores that go to memory past the caches, for results too large to be found there when they are read."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

# A store of a whole cache line needs no line to be fetched first: half of the memory traffic of writing.
_LINE = 16


@intrinsic
def _store_line(_, target, at, source, begin):  # type: ignore[no-untyped-def]
    """``target[at : at + 16] = source[begin : begin + 16]``; the target is aligned to a cache line."""
    line = ir.VectorType(ir.FloatType(), _LINE)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def place(number):  # type: ignore[no-untyped-def]
            array = create_struct_proxy(signature.args[number])(context, builder, arguments[number])
            return builder.bitcast(builder.gep(array.data, [arguments[number + 1]]), line.as_pointer())

        stored = builder.store(builder.load(place(2), align=4), place(0), align=4 * _LINE)
        once = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        stored.set_metadata("nontemporal", once)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


@njit(nogil=True, cache=True)
def store_streamed(source: Any, target: Any) -> None:
    """
    Copy a vector to where it is not read soon.

    Parameters
    ----------
    source, target : numpy.ndarray
        (n,) float32, contiguous.
    """
    size = source.size
    lead = min(size, -(target.ctypes.data // 4) % _LINE)
    end = lead + (size - lead) // _LINE * _LINE
    target[:lead] = source[:lead]
    for at in range(lead, end, _LINE):
        _store_line(target, at, source, at)
    target[end:] = source[end:]
