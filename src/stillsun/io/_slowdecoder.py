"""Decoding of one packed image by astropy, in a process of its own."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from stillsun.io._apart import Apart, serve
from stillsun.io._fitscards import BLOCK
from stillsun.io.foreign import LARGEST_FRAME

_MEMORY = 3 * 2**30
# Bytes of the name of a data type.
_NAME = 16
# An image of the largest chip takes seconds.
_decoder = Apart(__name__, 60.0, 8 * LARGEST_FRAME + _NAME)


def decode_elsewhere(
    unit: bytes, shape: tuple[int, int], dtype: str = "uint16", *, scale: bool = True
) -> np.ndarray | None:
    """
    Decode one image.

    Parameters
    ----------
    unit : bytes
        Header and data of the unit that holds it.
    shape : tuple of int
        (rows, columns) that it must have.
    dtype : str, optional
        Name of the data type that its pixels must have.
    scale : bool, optional
        Apply BZERO and BSCALE.

    Returns
    -------
    numpy.ndarray or None
        (rows, columns) in the machine's byte order; None where it cannot be decoded.
    """
    answer = _decoder.ask(bytes([scale]), unit)
    if answer is None:
        return None
    name, pixels = answer[:_NAME].decode().strip(), answer[_NAME:]
    if name != dtype or len(pixels) != np.dtype(dtype).itemsize * shape[0] * shape[1]:
        return None
    return np.frombuffer(pixels, dtype=dtype).reshape(shape)


def _decode(request: bytes) -> bytes:
    from astropy.io import fits

    raw, unit = request[:1] == b"\0", request[1:]
    empty = fits.PrimaryHDU().header.tostring().encode()
    # Anything may be raised; the answer then is no image.
    with contextlib.suppress(Exception):
        content = io.BytesIO(empty + unit + bytes(-len(unit) % BLOCK))
        with fits.open(content, do_not_scale_image_data=raw) as units:
            pixels = np.asarray(units[1].data)
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return native.dtype.name.ljust(_NAME).encode() + native.tobytes()
    return b""


if __name__ == "__main__":
    import astropy.io.fits  # noqa: F401  # before memory is limited

    serve(_decode, _MEMORY)
