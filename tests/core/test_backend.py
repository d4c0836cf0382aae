"""Backends: names, what they carry to another process or thread, kernels and streams."""

from __future__ import annotations

import logging
import pickle
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.fakes.device import device

from stillsun.core import backend as module
from stillsun.core.backend import get_backend, to_host
from stillsun.errors import ConfigError


def test_wrong_name_is_refused():
    with pytest.raises(ConfigError, match="auto or numpy or cupy"):
        get_backend("cuda")


def test_auto_takes_the_cpu_without_a_device(monkeypatch):
    def none(_number):
        raise ConfigError("no GPU")

    monkeypatch.setattr(module, "_cupy_backend", none)
    assert get_backend("auto", threads=1).name == "numpy"
    with pytest.raises(ConfigError, match="no GPU"):
        get_backend("cupy")


def test_a_gpu_on_which_nothing_runs_is_said_and_not_taken(monkeypatch, caplog):
    """A driver that counts devices, and nothing behind it: no compiler, no context, no library."""

    def broken(_number):
        raise RuntimeError("cudaErrorDevicesUnavailable: busy\nand a long story")

    cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1), Device=broken)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.fft", "cupyx.scipy.ndimage"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    with pytest.raises(ConfigError, match=r"cannot compute on it \(cudaErrorDevicesUnavailable: busy\)"):
        get_backend("cupy")
    with caplog.at_level(logging.WARNING):
        assert get_backend("auto", threads=1).name == "numpy"
    assert "the CPU computes" in caplog.text
    with pytest.raises(ConfigError, match="expected 0 to 0"):
        get_backend("cupy", device=1)


def test_another_process_gets_the_same_device(monkeypatch):
    monkeypatch.setattr(module, "_cupy_backend", lambda number: replace(device(), number=number))
    assert get_backend("auto", device=2).number == 2
    assert pickle.loads(pickle.dumps(get_backend("cupy", device=3))).number == 3
    assert pickle.loads(pickle.dumps(get_backend("numpy", threads=1))).threads == 1


def test_arrays_go_there_and_back():
    there = device()
    array = there.asarray([1.0, 2.0], dtype=np.float32)
    np.testing.assert_array_equal(to_host(array), [1, 2])
    np.testing.assert_array_equal(get_backend("numpy").asarray(array), [1, 2])


def test_a_thread_works_on_the_device_of_its_backend():
    """CUDA starts every thread on the first device."""
    chosen = []
    there = device()
    there.xp.cuda.Device = lambda number: SimpleNamespace(use=lambda: chosen.append(number))
    stream = replace(there, number=1).side_stream()

    def work():
        with stream:
            chosen.append(threading.current_thread().name)

    thread = threading.Thread(target=work, name="reader")
    thread.start()
    thread.join()
    assert chosen == [1, "reader"]
    with get_backend("numpy").side_stream():
        pass


def test_kernels_are_compiled_once():
    there = device()
    found = [there.kernels("stillsun.speckle.masking", "kernels.cu") for _ in range(2)]
    assert found[0] is found[1]
    assert found[0].get_function("cut")
