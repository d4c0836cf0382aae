"""The script that tells all of a GPU in one go runs to its end, whatever fails on the way."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.device import device

from stillsun.errors import ConfigError

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "bench_gpu.py"
SIZES = ["--side", "40", "--frames", "4", "--compare", "48", "--subfield", "1.2", "--repeat", "1"]


@pytest.fixture
def bench(monkeypatch):
    """The script; what would take minutes thread by thread is left out."""
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", module)
    spec.loader.exec_module(module)
    few = {
        name: case
        for name, case in module.cases(48, 4, 1.2).items()
        if name in ("destretch, px", "calibrate", "quality", "match of targets")
    }

    def fail(_backend):
        raise RuntimeError("no such kernel")

    few["broken"] = fail, 1.0
    monkeypatch.setattr(module, "cases", lambda *_: few)
    monkeypatch.setattr(module, "tests", lambda *_: None)
    monkeypatch.setattr(module, "reconstruct", lambda frames, *_, **__: frames.sum())
    return module


def test_everything_is_measured_and_what_fails_is_named(bench, monkeypatch, tmp_path, capsys):
    expected = tmp_path / "expected.npz"
    bench.main([*SIZES, "--reference", str(expected)])
    with np.load(expected) as stored:
        known = dict(stored)

    @contextmanager
    def reference(_options):
        yield lambda: known

    monkeypatch.setattr(bench, "reference", reference)
    file = tmp_path / "gpu.json"
    assert bench.main([*SIZES, "--json", str(file)], device()) == 1
    found = json.loads(file.read_text())
    agreed = found["agreement with the CPU"]
    assert agreed["broken"]["value"] == "RuntimeError: no such kernel"
    for name in ("destretch, px", "calibrate", "quality", "match of targets"):
        assert agreed[name]["good"] is True
        assert found["the same bytes twice"][name]["value"] is True
    assert found["speckle"]["a burst of a sequence, from raw frames"]["value"] > 0
    assert found["destretch"]["40 x 40, whole frame"]["value"] > 0
    assert capsys.readouterr().out.endswith("not as it should be: agreement with the CPU: broken\n")


def test_a_result_that_differs_is_told(bench):
    one = np.array([1.0, 2.0, 3.0, np.nan])
    assert bench.agreement(one, one) == 0
    assert bench.agreement(one + 0.1, one, 1.0) == pytest.approx(0.1)
    assert bench.agreement(np.ones(4), one) == np.inf


def test_steps_are_those_of_the_code(bench):
    for steps in (bench.SPECKLE_STEPS, bench.DESTRETCH_STEPS):
        for module, name in steps.values():
            assert callable(getattr(module, name))


def test_without_a_gpu_it_says_so(bench, monkeypatch, capsys):
    def none(_number):
        raise ConfigError("backend=cupy: no GPU")

    monkeypatch.setattr("stillsun.core.backend._cupy_backend", none)
    assert bench.main(SIZES) == 2
    assert capsys.readouterr().out == "backend=cupy: no GPU\n"
