"""The open reconstruction under many conditions: never further from the truth than the tile-aligned mean."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stillsun import reconstruct
from stillsun.speckle.stack import tile_aligned_mean

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bench"
QUICK = {"static", "60 cm", "10 cm", "5 cm", "limb", "500 electrons", "10 ms"}


def load():
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("bench_conditions", SCRIPTS / "bench_conditions.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench_conditions"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


bench = load()


def observed(name, seed=3, **changes):
    """Result, truth and tile-aligned mean of a small field."""
    condition = replace(bench.CONDITIONS[name], side=176, frames=min(bench.CONDITIONS[name].frames, 24))
    condition = replace(condition, **changes)
    burst, truth = bench.make_burst(condition, seed)
    result = reconstruct(
        burst,
        bench.SCALE,
        bench.WAVELENGTH,
        bench.DIAMETER,
        deconvolve=False,
        ao_used=False,
        exposure_ms=condition.exposure,
        pixel_mtf=condition.integrate,
    )
    return result, truth, tile_aligned_mean(burst).image


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in bench.CONDITIONS]
)
def test_never_further_from_the_truth_than_the_mean(name):
    result, truth, mean = observed(name)
    found, plain = bench.figures(result.image, truth), bench.figures(mean, truth)
    # Where nothing moves but noise both are as near as the noise lets them.
    assert found["distance"] < 1.02 * plain["distance"]
    if name != "dust":
        assert found["contrast"] == pytest.approx(1, abs=0.02 if name in ("static", "jitter") else 0.13)
    if name == "static":
        assert found["p50"] == pytest.approx(1, abs=0.1)
    if name == "60 cm":
        assert found["contrast"] == pytest.approx(1, abs=0.04)
    if name == "limb":
        assert bench.sky_error(result.image, truth) < 1.1 * bench.sky_error(mean, truth)


def test_air_that_moves_during_an_exposure_is_known():
    """The same seeing at an instant, and for 10 ms: the power at a quarter of the limit is the same."""
    power = {}
    for name in ("10 cm", "10 ms"):
        result, truth, _ = observed(name, seed=5)
        power[name] = bench.figures(result.image, truth)["p25"]
    assert power["10 ms"] == pytest.approx(power["10 cm"], rel=0.2)


def test_pixels_that_integrate_are_divided_out():
    condition = replace(bench.CONDITIONS["static"], side=176, frames=12, integrate=True)
    burst, truth = bench.make_burst(condition, 4)
    given = bench.SCALE, bench.WAVELENGTH, bench.DIAMETER
    half = [
        bench.figures(reconstruct(burst, *given, deconvolve=False, pixel_mtf=p).image, truth)["p50"]
        for p in (False, True)
    ]
    assert half[0] < 0.87
    assert half[1] == pytest.approx(1, abs=0.08)
