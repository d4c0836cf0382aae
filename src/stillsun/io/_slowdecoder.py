"""
Decoding of one packed image by astropy, in a process of its own.

Bytes of a damaged file may make a decoder of astropy abort, hang or take all memory. The process is kept for
the next image; it is ended where it dies or does not answer in time, and then the image is damaged.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import queue
import selectors
import subprocess
import sys
import warnings
from pathlib import Path
from typing import IO

import numpy as np

from stillsun.io._fitscards import BLOCK
from stillsun.io.foreign import LARGEST_FRAME

# An image of the largest chip takes seconds.
_SECONDS = 60.0
_MEMORY = 3 * 2**30
_LENGTH = 8
# Bytes of the name of a data type.
_NAME = 16

_idle: queue.LifoQueue[subprocess.Popen[bytes]] = queue.LifoQueue()
if hasattr(os, "register_at_fork"):
    # A pipe that two processes write to garbles what goes through.
    os.register_at_fork(after_in_child=lambda: globals().update(_idle=queue.LifoQueue()))


@atexit.register
def _end() -> None:
    while not _idle.empty():
        worker = _idle.get_nowait()
        worker.communicate()


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
    try:
        worker = _idle.get_nowait()
    except queue.Empty:
        worker = _start()
    assert worker.stdin is not None
    assert worker.stdout is not None
    answer = None
    with contextlib.suppress(OSError):
        worker.stdin.write(len(unit).to_bytes(_LENGTH, "little") + bytes([scale]) + unit)
        worker.stdin.flush()
        answer = _receive(worker.stdout)
    if answer is None:
        worker.kill()
        worker.communicate()
        return None
    _idle.put(worker)
    name, pixels = answer[:_NAME].decode().strip(), answer[_NAME:]
    if name != dtype or len(pixels) != np.dtype(dtype).itemsize * shape[0] * shape[1]:
        return None
    return np.frombuffer(pixels, dtype=dtype).reshape(shape)


def _command() -> list[str]:
    return [sys.executable, "-m", __name__]


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # Threads reserve memory, which is limited.
            "OPENBLAS_NUM_THREADS": "1",
        },
    )


def _receive(pipe: IO[bytes]) -> bytes | None:
    """What the process answers; None if it died, or does not answer."""
    descriptor = pipe.fileno()
    parts: list[bytes] = []
    missing = _LENGTH
    counted = False
    with selectors.DefaultSelector() as ready:
        ready.register(descriptor, selectors.EVENT_READ)
        while missing:
            if not ready.select(_SECONDS):
                return None
            part = os.read(descriptor, missing)
            if not part:
                return None
            parts.append(part)
            missing -= len(part)
            if not missing and not counted:
                missing, counted = int.from_bytes(b"".join(parts), "little"), True
                parts = []
                if missing > 8 * LARGEST_FRAME + _NAME:
                    return None
    return b"".join(parts)


def _serve() -> None:
    import resource

    from astropy.io import fits

    warnings.simplefilter("ignore")
    empty = fits.PrimaryHDU().header.tostring().encode()
    # What a library prints must not get between the answers.
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, most))
    while head := source.read(_LENGTH):
        raw = source.read(1) == b"\0"
        unit = source.read(int.from_bytes(head, "little"))
        answer = b""
        # Anything may be raised; the answer then is no image.
        with contextlib.suppress(Exception):
            content = io.BytesIO(empty + unit + bytes(-len(unit) % BLOCK))
            with fits.open(content, do_not_scale_image_data=raw) as units:
                pixels = np.asarray(units[1].data)
            native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            answer = native.dtype.name.ljust(_NAME).encode() + native.tobytes()
        sink.write(len(answer).to_bytes(_LENGTH, "little") + answer)
        sink.flush()


if __name__ == "__main__":
    _serve()
