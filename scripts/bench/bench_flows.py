#!/usr/bin/env python
"""
Solar flows kept: what destretch leaves of a known flow and of known seeing.

S1 and S2: 96 frames of 512 x 512 pixels, one pattern in a smooth random flow. L: 600 frames of 192 x 192
pixels, supergranular cells (convergent flow) with a pattern that is replaced every 240 frames; the
reference must follow the Sun there. The first 12 frames are not judged. For L also the figures in four
equal parts of the sequence, and without letting the reference follow.

    python scripts/bench/bench_flows.py --data DIR [--series S1,S2,L] [--threads N]

DIR holds the reconstructed frames of `sgsellers/pyDestretch` (test_destretch_data).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_destretch import read
from flow_series import FlowSeries, cells, wandering

from stillsun.core.apodize import valid_box
from stillsun.core.backend import Backend, get_backend
from stillsun.core.destretch import DEFAULT_KERNELS, Destretcher, Match, displacement_field
from stillsun.core.flows import CADENCE, Follower
from stillsun.core.reference import RunningReference
from stillsun.core.series import remove_seeing

SKIPPED = 12
WINDOW = 10
FOLLOWER = partial(Follower.at, CADENCE, WINDOW)
PARTS = 4


def make(name: str, scene: np.ndarray) -> tuple[FlowSeries, int]:
    """A series by name, and its number of frames."""
    if name == "S1":
        return FlowSeries(scene, wandering((512, 512), 0.02, 96), 1.0), 96
    if name == "S2":
        return FlowSeries(scene, wandering((512, 512), 0.05, 96), 0.7), 96
    return FlowSeries(scene, cells((192, 192), 0.03, 96), 0.7, life=240), 600


def solve(series: FlowSeries, count: int, follow: bool, backend: Backend) -> list[list[np.ndarray]]:
    """Shifts of all frames against a running reference."""
    stream = Destretcher(
        RunningReference(WINDOW, backend), follower=FOLLOWER if follow else None, backend=backend
    )
    return [stream.push(series.frame(n)[0]).shifts for n in range(count)]


def field(
    shifts: list[list[np.ndarray]], shape: tuple[int, int], backend: Backend, number: int
) -> np.ndarray:
    """Displacement of a frame."""
    return displacement_field(shifts[number], DEFAULT_KERNELS, shape, backend)


def show(text: str, series: FlowSeries, fields: Iterable[np.ndarray], first: int) -> None:
    """One line of the table, for the displacements from a frame on."""
    found = series.judge(fields, first)
    print(f"{text:34}{found.survival:9.3f}{found.jitter:8.3f}{found.swim:8.3f}", flush=True)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the real frames")
    parser.add_argument("--series", default="S1,S2,L", help="which series, comma separated")
    parser.add_argument("--threads", type=int, help="threads of this package; all by default")
    options = parser.parse_args()
    backend = get_backend("numpy", threads=options.threads)
    frame = read(options.data, "gband", 0)
    y0, y1, x0, x1 = valid_box(frame, backend)
    scene = frame[y0:y1, x0:x1]
    print(f"{'':34}{'survival':>9}{'jitter':>8}{'swim':>8}")
    for name in options.series.split(","):
        series, count = make(name, scene)
        shape = series.flow.shape[1:]

        still = np.zeros((2, *shape))
        show(f"{name} as it is", series, [still] * (count - SKIPPED), SKIPPED)
        for follow in (True, False) if name == "L" else (True,):
            shifts = solve(series, count, follow, backend)

            whole = partial(field, shifts, shape, backend)
            matches = [Match.good] * count
            times = CADENCE * np.arange(count)
            given = whole, times, matches, 0, backend, FOLLOWER if follow else None
            kept = [f for f, _ in remove_seeing(*given)]
            label = f"{name} flows kept" + ("" if follow else ", reference held")
            show(label, series, kept[SKIPPED:], SKIPPED)
            if name == "L":
                edges = np.linspace(SKIPPED, count, PARTS + 1).astype(int)
                for a, b in pairwise(edges):
                    show(f"   frames {a} to {b - 1}", series, kept[a:b], a)
        if name != "L":
            held = solve(series, count, False, backend)
            fields = map(partial(field, held, shape, backend), range(SKIPPED, count))
            show(f"{name} flows not kept", series, fields, SKIPPED)


if __name__ == "__main__":
    main()
