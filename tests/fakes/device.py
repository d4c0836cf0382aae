"""
A device that is not there: arrays that no NumPy function takes, and CUDA kernels that run on the host.

`device()` gives a backend in CuPy's place. Its arrays are NumPy's underneath but refuse what CuPy's refuse:
implicit conversion to NumPy, NumPy functions, and operations with NumPy arrays. Kernels are compiled from
the same source by the host's compiler and run thread by thread, see `cuda_on_host.hpp`.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache, partial, wraps
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.fft
import scipy.ndimage

from stillsun.core.backend import Backend

HEADER = Path(__file__).with_name("cuda_on_host.hpp")
SHARED_BYTES = 96 * 1024
_C_TYPES = {"float": "f4", "double": "f8", "int": "i4", "bool": "?", "float2": "c8", "int2": "i4"}


# What was asked of arrays and modules so far: (module or "ndarray", name, keyword or "").
USED: set[tuple[str, str, str]] = set()


class DeviceArray:
    """
    An array in the memory of the device that is not there.

    Parameters
    ----------
    values : numpy.ndarray
        Its values.
    """

    # NumPy's scalars and arrays leave operations with it to it.
    __array_ufunc__ = None

    def __init__(self, values):
        self._values = values

    def get(self):
        """
        The only way to the host.

        Returns
        -------
        numpy.ndarray
            A copy.
        """
        return self._values.copy()

    def __array__(self, *_args, **_kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function, *_args, **_kwargs):
        raise TypeError(f"numpy.{function.__name__} of a device array")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        USED.add(("ndarray", name, ""))
        return _guarded(found, "ndarray") if callable(found) else _wrapped(found)

    def __setattr__(self, name, value):
        if name == "_values":
            object.__setattr__(self, name, value)
        else:
            setattr(self._values, name, _host(value))

    def __getitem__(self, key):
        return _wrapped(self._values[_key(key)])

    def __setitem__(self, key, value):
        self._values[_key(key)] = _host(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (DeviceArray(np.asarray(part)) for part in self._values)

    def __bool__(self):
        return bool(self._values)

    def __int__(self):
        return int(self._values)

    def __index__(self):
        return self._values.__index__()

    def __float__(self):
        return float(self._values)


def _operator(name):
    def apply(self, *others):
        result = getattr(self._values, name)(*(_host(other) for other in others))
        return self if result is self._values else _wrapped(result)

    return apply


for _name in (
    *("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"),
    *(
        prefix + name
        for prefix in ("", "r", "i")
        for name in [
            "add",
            "sub",
            "mul",
            "truediv",
            "floordiv",
            "mod",
            "pow",
            "and",
            "or",
            "xor",
            "lshift",
            "rshift",
        ]
    ),
    *("matmul", "rmatmul"),
):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))


def _wrapped(value):
    """Arrays and NumPy scalars, also within tuples and lists, as arrays of the device."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.dtype):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(_wrapped(v) for v in value)
    return value


def _host(value):
    """The other way; NumPy arrays are refused."""
    if isinstance(value, DeviceArray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array meets a device array")
    if isinstance(value, tuple | list):
        return type(value)(_host(v) for v in value)
    return value


def _key(key):
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray) for part in parts):
        raise TypeError("a device array is indexed by a NumPy array")
    found = tuple(part._values if isinstance(part, DeviceArray) else part for part in parts)
    return found if isinstance(key, tuple) else found[0]


def _guarded(function, home):
    def call(*args, **kwargs):
        USED.update((home, function.__name__, keyword) for keyword in kwargs)
        return _wrapped(function(*map(_host, args), **{k: _host(v) for k, v in kwargs.items()}))

    return call


class _Grid:
    """Of indices of `numpy.ogrid`."""

    def __getitem__(self, key):
        return _wrapped(np.ogrid[key])


def _created(function):
    """Of functions that bring host arrays to the device."""

    def call(values, *args, **kwargs):
        values = values._values if isinstance(values, DeviceArray) else _nested(values)
        return DeviceArray(np.array(function(values, *args, **kwargs)))

    return call


def _unwritten(function):
    """Of functions that give memory as it is: here it holds what nobody may take for a result."""

    @wraps(function)
    def call(*args, **kwargs):
        array = function(*args, **kwargs)
        array[...] = np.nan if array.dtype.kind in "fc" else 93 if array.dtype.kind in "iu" else True
        return array

    return call


_EMPTY = {name: _unwritten(getattr(np, name)) for name in ("empty", "empty_like")}


def _nested(values):
    if isinstance(values, tuple | list):
        return [v._values if isinstance(v, DeviceArray) else _nested(v) for v in values]
    return values


class Namespace:
    """
    A module of functions whose arrays live on the device.

    Parameters
    ----------
    module : module
        NumPy, `scipy.fft` or `scipy.ndimage`.
    **own
        What replaces or adds to it.
    """

    def __init__(self, module, **own):
        self._module = module
        self.__dict__.update(own)

    def __getattr__(self, name):
        found = getattr(self._module, name)
        USED.add((self._module.__name__, name, ""))
        if not callable(found) or isinstance(found, type):
            return found
        return _guarded(found, self._module.__name__)


@cache
def _library(source):
    """The kernels of a source, compiled for the host."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        return None
    names = re.findall(r"__global__ void (\w+)\(", source)
    text = "\n".join(
        [
            f'#include "{HEADER}"',
            source,
            f"float2 shared_memory[{SHARED_BYTES // 8}];",
            *(f"KERNEL({name})" for name in names),
        ]
    )
    name = sha256(HEADER.read_bytes() + text.encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"stillsun-kernels-{name}"
    library = place.with_suffix(".so")
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "kernels.so"
            code = Path(folder) / "kernels.cpp"
            code.write_text(text)
            # _FORTIFY_SOURCE takes a jump from stack to stack for an error.
            flags = ["-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-ffp-contract=off"]
            subprocess.run([compiler, *flags, "-o", built, code], check=True)
            shutil.copy(built, place.with_suffix(f".{id(built)}"))
            place.with_suffix(f".{id(built)}").rename(library)
    return ctypes.CDLL(str(library))


class RawModule:
    """
    In place of `cupy.RawModule`.

    Parameters
    ----------
    code : str
        CUDA C++.
    options : tuple of str, optional
        For the compiler of the device; ignored.
    order : int, optional
        In which the threads of a block run, see `device`.
    """

    def __init__(self, *, code, options=(), order=0):
        self._code = code
        self._order = order
        self._library = _library(code)
        if self._library is None:
            import pytest

            pytest.skip("no C++ compiler to run CUDA kernels on the host")

    def get_function(self, name):
        """
        A kernel.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        RawKernel
            Called with grid, block and arguments.
        """
        signature = re.search(rf"__global__ void {name}\((.*?)\)\s*\{{", self._code, re.DOTALL).group(1)
        signature = re.sub(r"//[^\n]*", "", signature)
        parameters = [p.split() for p in signature.split(",")]
        return RawKernel(getattr(self._library, f"run_{name}"), parameters, self._order)


class RawKernel:
    """
    In place of `cupy.RawKernel`: as unforgiving about arguments as a device, but it says so.

    Parameters
    ----------
    function : ctypes function
        Runs it.
    parameters : list of list of str
        Words of the declaration of each.
    order : int
        In which the threads of a block run.
    """

    def __init__(self, function, parameters, order):
        self._function = function
        self._order = order
        self._parameters = parameters
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= SHARED_BYTES
        threads = int(np.prod(block))
        assert 0 < threads <= 1024
        assert threads % 32 == 0
        assert len(args) == len(self._parameters)
        held = [self._argument(arg, words) for arg, words in zip(args, self._parameters, strict=True)]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        sizes = [(ctypes.c_int * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        assert all(0 < n < 65536 for n in (*grid[1:], *block))
        failed = self._function(*sizes, self._order, pointers)
        assert not failed, "threads wait at a barrier that others never reach"

    @staticmethod
    def _argument(value, words):
        words = [word for word in words if word != "const"]
        kind = np.dtype(_C_TYPES[words[0].rstrip("*")])
        if words[0].endswith("*"):
            assert isinstance(value, DeviceArray | np.ndarray), f"{words}: {type(value)}"
            values = _host(value) if isinstance(value, DeviceArray) else value
            assert values.flags.c_contiguous, f"{words} is not contiguous"
            assert values.dtype == kind, f"{words} is {values.dtype}"
            assert words[0] != "int2*" or values.shape[-1] == 2
            return ctypes.c_void_p(values.ctypes.data)
        # A Python number would be passed as 8 bytes whatever the kernel expects.
        assert isinstance(value, kind.type), f"{words}: {type(value)}"
        return np.ctypeslib.as_ctypes_type(kind)(value)


class Stream:
    """
    In place of `cupy.cuda.Stream`: a block of the thread that enters it.

    Parameters
    ----------
    non_blocking : bool, optional
        Must be asked for, else the work of other streams is waited for.
    """

    def __init__(self, *, non_blocking=False):
        assert non_blocking
        self._thread = None
        self.synchronized = True

    def __enter__(self):
        assert self._thread is None, "two threads in one stream"
        self._thread = threading.get_ident()
        self.synchronized = False

    def __exit__(self, *_error):
        assert self._thread == threading.get_ident()
        assert self.synchronized, "left before its work was done"
        self._thread = None

    def synchronize(self):
        """All work is done."""
        self.synchronized = True


def device(*, memory=2**26, shared_memory=SHARED_BYTES, order=0):
    """
    A backend in CuPy's place.

    Parameters
    ----------
    memory : int, optional
        Bytes that it has.
    shared_memory : int, optional
        Bytes of shared memory a block may have.
    order : int, optional
        In which the threads of a block run: 0 forwards, 1 backwards, else a seed.

    Returns
    -------
    Backend
        Named "cupy".
    """
    xp = Namespace(
        np,
        asarray=_created(np.asarray),
        array=_created(np.array),
        ascontiguousarray=_created(np.ascontiguousarray),
        **{name: _guarded(function, "numpy") for name, function in _EMPTY.items()},
        ndarray=DeviceArray,
        ogrid=_Grid(),
        RawModule=partial(RawModule, order=order),
        cuda=SimpleNamespace(Stream=Stream, get_current_stream=partial(Stream, non_blocking=True)),
    )
    return Backend(
        "cupy",
        xp,
        Namespace(scipy.fft),
        Namespace(scipy.ndimage),
        True,
        "no GPU",
        1,
        memory=memory,
        shared_memory=shared_memory,
    )


def open_device(*, order=0):
    """
    A device whose arrays are plain NumPy arrays: for tests of formulas that look at what they get.

    Parameters
    ----------
    order : int, optional
        As for `device`.

    Returns
    -------
    Backend
        Named "open".
    """
    xp = ModuleType("open_numpy")
    xp.__dict__.update(vars(np), **_EMPTY, RawModule=partial(RawModule, order=order))
    return Backend("open", xp, scipy.fft, scipy.ndimage, True, "no GPU", 1)


def missing_from(cupy):
    """
    What was asked of the device that is not there, and CuPy has not.

    Parameters
    ----------
    cupy : module
        CuPy; it can be imported without a device.

    Returns
    -------
    set of str
        Names, with the keyword that the function does not take.
    """
    homes = {
        "ndarray": cupy.ndarray,
        "numpy": cupy,
        "scipy.fft": importlib.import_module("cupyx.scipy.fft"),
        "scipy.ndimage": importlib.import_module("cupyx.scipy.ndimage"),
    }
    missing = set()
    for home, name, keyword in USED:
        function = getattr(homes[home], name, None)
        if function is None:
            missing.add(f"{home}.{name}")
        # Compiled methods do not tell their arguments; element-wise functions all take the same.
        elif keyword and inspect.isfunction(function):
            parameters = inspect.signature(function).parameters
            if keyword not in parameters and "kwargs" not in parameters:
                missing.add(f"{home}.{name}({keyword}=)")
    return missing
