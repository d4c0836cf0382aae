"""Array backends: a name becomes one value that is passed to the functions that compute."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from stillsun.errors import ConfigError

log = logging.getLogger(__name__)

NAMES = ("auto", "numpy", "cupy")


@dataclass(frozen=True)
class Backend:
    """
    Where arrays live and which library computes with them.

    Attributes
    ----------
    name : str
        ``"numpy"`` or ``"cupy"``.
    xp : module
        Array namespace (NumPy or CuPy).
    fft : module
        FFT namespace with SciPy's interface; keeps float32.
    ndimage : module
        Namespace with the interface of `scipy.ndimage`.
    is_gpu : bool
        Arrays live on a device; Numba kernels cannot be used on them.
    device : str
        Device in words, for logs and provenance.
    threads : int
        Threads for Numba and FFTs on the CPU; 1 on a device.
    number : int
        Number of the device; 0 on the CPU.
    memory : int
        Memory of the device, bytes; 0 on the CPU.
    shared_memory : int
        Shared memory that a block of a CUDA kernel may have, bytes; 0 on the CPU.
    """

    name: str
    xp: Any
    fft: Any
    ndimage: Any
    is_gpu: bool
    device: str
    threads: int
    number: int = 0
    memory: int = 0
    shared_memory: int = 0

    def use(self) -> None:
        """Make the device the calling thread's own: CUDA starts every thread on the first one."""
        if self.number:
            self.xp.cuda.Device(self.number).use()

    def side_stream(self) -> AbstractContextManager[Any]:
        """
        A block, entered in another thread, whose work runs beside that of this one and is done at its end.

        Returns
        -------
        context manager
            To be entered as often as needed, by one thread at a time; on the CPU it does nothing.
        """
        return _SideStream(self) if self.is_gpu else nullcontext()

    def kernels(self, package: str, name: str) -> Any:
        """
        CUDA kernels of a source file, compiled for the device when one is first called.

        Parameters
        ----------
        package : str
            Package that holds the file.
        name : str
            The file, CUDA C++ 17.

        Returns
        -------
        cupy.RawModule
            Gives a kernel by `get_function`.
        """
        return _module(self.xp, package, name)

    def launch(
        self,
        package: str,
        source: str,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        """
        Run a kernel on the device.

        Parameters
        ----------
        package, source : str
            Where it is, as for `kernels`.
        name : str
            Its name.
        grid, block : tuple of int
            Blocks of the grid and threads of a block.
        arguments : tuple
            What it is declared to take: arrays, contiguous and of its types, and NumPy scalars.
        shared : int, optional
            Dynamic shared memory of a block, bytes.
        """
        kernel = self.kernels(package, source).get_function(name)
        # More than 48 KiB must be asked for.
        if shared > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = shared
        kernel(grid, block, arguments, shared_mem=shared)

    def contiguous(self, dtype: Any, *arrays: Any) -> tuple[Any, ...]:
        """
        Arrays as a kernel reads them, which knows neither types nor strides.

        Parameters
        ----------
        dtype : dtype
            Type of all.
        *arrays : array
            Arrays of ``self.xp``.

        Returns
        -------
        tuple of array
            No copies where they are so.
        """
        return tuple(self.xp.ascontiguousarray(array, dtype=dtype) for array in arrays)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """
        Bring an array to this backend.

        Parameters
        ----------
        array : array_like
            Host or device array.
        dtype : dtype, optional
            Data type of the result.

        Returns
        -------
        array
            Array of ``self.xp``; no copy where none is needed.
        """
        if not self.is_gpu:
            array = to_host(array)
        return self.xp.asarray(array, dtype=dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        # Modules do not pickle; a backend is rebuilt from its name where it arrives.
        return _rebuild, (self.name, self.threads, self.number)


class _SideStream:
    """One CUDA stream for all entries: memory that is freed in it serves the next one again."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # What was begun so far, arrays on their way to the device above all, is done for the other thread.
        backend.xp.cuda.get_current_stream().synchronize()
        self._stream = backend.xp.cuda.Stream(non_blocking=True)

    def __enter__(self) -> None:
        self._backend.use()
        self._stream.__enter__()

    def __exit__(self, *error: object) -> None:
        self._stream.synchronize()
        self._stream.__exit__(*error)


def _rebuild(name: str, threads: int, number: int) -> Backend:
    return get_backend(name, threads=threads if name == "numpy" else None, device=number)


@lru_cache(maxsize=8)
def _module(xp: Any, package: str, name: str) -> Any:
    code = resources.files(package).joinpath(name).read_text()
    return xp.RawModule(code=code, options=("-std=c++17",))


def get_backend(
    name: str | Backend | None = "auto", *, threads: int | None = None, device: int = 0
) -> Backend:
    """
    Resolve a backend by name.

    Parameters
    ----------
    name : {"auto", "numpy", "cupy"} or Backend, optional
        ``"auto"`` (also None) takes the GPU where CuPy finds a device, else the CPU. A `Backend` is
        returned as it is.
    threads : int, optional
        Threads on the CPU; all cores that this process may use by default.
    device : int, optional
        Number of the GPU.

    Returns
    -------
    Backend
        The resolved backend.

    Raises
    ------
    ConfigError
        If the name is unknown, or CuPy or its device is not there.
    """
    if isinstance(name, Backend):
        return name
    name = "auto" if name is None else name
    if name not in NAMES:
        raise ConfigError("unknown backend", expected=" or ".join(NAMES), found=repr(name))
    if name == "numpy":
        return _numpy_backend(threads)
    try:
        return _cupy_backend(device)
    except ConfigError as error:
        if name == "cupy":
            raise
        # No GPU is no news; one that cannot be used is.
        level = logging.WARNING if isinstance(error, _Unusable) else logging.INFO
        log.log(level, "the CPU computes, for %s", error)
        return _numpy_backend(threads)


class _Unusable(ConfigError):
    """There is a GPU, but nothing can be computed on it."""


def _numpy_backend(threads: int | None) -> Backend:
    import scipy.fft
    import scipy.ndimage

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = available if threads is None else max(1, min(threads, available))
    return Backend("numpy", np, scipy.fft, scipy.ndimage, False, f"CPU, {count} threads", count)


def _cupy_backend(device: int) -> Backend:
    remedy = "Use backend=numpy or backend=auto, or run on a machine with an NVIDIA GPU"
    try:
        import cupy
    except ImportError as error:
        raise ConfigError(
            "backend=cupy: CuPy is not installed",
            remedy=f"pip install 'stillsun[gpu]', or use backend=numpy ({error})",
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # the driver's errors have no common base class
        raise ConfigError(f"backend=cupy: no GPU can be used ({error})", remedy=remedy) from error
    if not 0 <= device < count:
        raise ConfigError(
            "backend=cupy: no such GPU", expected=f"0 to {count - 1}", found=device, remedy=remedy
        )
    try:
        backend = _tried(device)
    except Exception as error:  # of the driver, the compiler and every library: no common base class
        raise _Unusable(
            f"backend=cupy: there is a GPU, but CuPy cannot compute on it ({_first_line(error)})",
            remedy="pip install 'stillsun[gpu]' brings CUDA's libraries; nvidia-smi tells whether driver and "
            "GPU are well and who else uses it. backend=numpy does without",
        ) from error
    cupy.cuda.Device(device).use()
    return backend


@lru_cache(maxsize=8)
def _tried(device: int) -> Backend:
    """A backend that has run a kernel, a matrix product and a transform: each needs another library."""
    import cupy
    import cupyx.scipy.fft
    import cupyx.scipy.ndimage

    chosen = cupy.cuda.Device(device)
    chosen.use()
    backend = Backend(
        "cupy",
        cupy,
        cupyx.scipy.fft,
        cupyx.scipy.ndimage,
        True,
        f"GPU {device}, {cupy.cuda.runtime.getDeviceProperties(device)['name'].decode()}",
        1,
        number=device,
        memory=int(chosen.mem_info[1]),
        shared_memory=int(chosen.attributes["MaxSharedMemoryPerBlockOptin"]),
    )
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    there = backend.asarray(values)
    found = to_host(backend.fft.irfft2(backend.fft.rfft2(there @ there + 1), s=values.shape))
    if not np.allclose(found, values @ values + 1, rtol=1e-4):
        raise ArithmeticError("results are wrong")
    return backend


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def to_host(array: Any) -> np.ndarray:
    """
    Bring an array to host memory.

    Parameters
    ----------
    array : array_like
        NumPy or CuPy array.

    Returns
    -------
    numpy.ndarray
        The same values on the host; no copy of a NumPy array.
    """
    get = getattr(array, "get", None)
    return np.asarray(array if get is None else get())
