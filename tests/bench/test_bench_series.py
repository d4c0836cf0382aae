"""The benchmark of flicker: what it says of series that are known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "bench_series.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_series", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_series"] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_kept_of_a_change_of_brightness(bench):
    side, seconds = 120, 10.0 * np.arange(60)
    place = np.arange(side)
    parts, courses = bench.blobs((side, side), place, place), bench.courses(seconds)
    border = slice(bench.BORDER, -bench.BORDER)
    truth, half = (
        (1 + share * np.einsum("pt,pyx->tyx", courses, parts))[:, border, border] for share in (1, 0.5)
    )
    assert bench.amplitudes(truth, truth, seconds) == pytest.approx([1, 1, 1])
    assert bench.amplitudes(half, truth, seconds) == pytest.approx([0.5] * 3, rel=0.01)


def test_power_of_white_noise_is_its_variance(bench):
    noise = 0.02 * np.random.default_rng(1).standard_normal((200, 30, 30))
    power = np.mean(np.abs(bench.spectrum(noise)) ** 2, axis=1)
    assert power[2:-1] == pytest.approx(4e-4, rel=0.15)


def test_seeing_goes_from_7_to_14_cm(bench):
    r0 = bench.seeing(300, 2.1, 1)
    assert 0.07 <= r0.min() < 0.075
    assert 0.13 < r0.max() <= 0.14
