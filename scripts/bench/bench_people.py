#!/usr/bin/env python
"""
What people look at: a movie of a long sequence, and the report of a whole night, at real size.

Products of a full chip with moving granulation are made in a temporary directory; then the stages
`movie` and `report` run on them as in a run, on as many cores as the process may use. Wall and CPU
seconds are printed, with the sizes of what was written.

    taskset -c 0,1 python scripts/bench/bench_people.py [--frames 500] [--report-frames 200] [--channels 4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from stillsun.config.schema import (
    AlignConfig,
    AlignEngine,
    AssembleConfig,
    CalibrateConfig,
    ChannelConfig,
    DestretchConfig,
    MovieConfig,
    ObservationConfig,
    ReportConfig,
    SpeckleConfig,
)
from stillsun.core.backend import get_backend
from stillsun.io.store import Field
from stillsun.products.channel import PRODUCTS, Channel, ChannelPaths
from stillsun.stages import movie, report
from stillsun.stages.base import StageContext

SHAPE = (1002, 1004)
SCALE = 0.06
START = 1_756_909_312.0
CADENCE = 2.1
KERNELS = [0, 128, 64, 32, 12]
KINDS = {kind.name: kind for kind in PRODUCTS}


def products(frames: int) -> dict[str, dict[str, tuple[Any, str, bool]]]:
    """Datasets of every product but the frames: value, unit, one row a frame."""
    rng = np.random.default_rng(1)
    rows, columns = SHAPE
    times = START + CADENCE * np.arange(frames)
    noisy = [1 + 0.1 * rng.standard_normal(frames) for _ in range(8)]
    flat = (4000 + 50 * rng.standard_normal(SHAPE)).astype(np.float32)
    dark = (90 + rng.standard_normal(SHAPE)).astype(np.float32)
    raw = (1000 * scene()).astype(np.float32)
    return {
        "calibration": {
            "dark": (dark, "DN", False),
            "flat": (flat, "DN", False),
            "gain": (flat / 4000, "", False),
            "target": (flat, "DN", False),
            "linegrid": (flat, "DN", False),
            "bad_pixels": (np.zeros(SHAPE, np.uint8), "", False),
            "plate_scale": (np.array([SCALE, SCALE]), "arcsec/px", False),
        },
        "bursts": {
            "time_avg": (times, "s", True),
            "contrast": (0.05 * noisy[0], "", True),
            "sharpness": (0.01 * noisy[1], "1/px", True),
            "light_level": (4 * noisy[2], "V", True),
            "scintillation": (0.5 * noisy[3], "arcsec", True),
            "latitude": (noisy[4], "deg", True),
            "sample_burst": (frames // 2, "", False),
            "sample_frame": (raw, "DN", False),
            "sample_mean": (gaussian_filter(raw, 2), "DN", False),
        },
        "speckle": {"r0": (0.1 * noisy[5], "m", True), "contrast": (0.1 * noisy[6], "", True)},
        "destretch": {
            "rms_px": (np.abs(rng.standard_normal((frames, len(KERNELS)))), "px", True),
            "repaired": (np.full((frames, len(KERNELS)), 0.02), "", True),
            "residual_px": (0.1 * noisy[7], "px", True),
            "sharpness_before": (np.ones(frames), "", True),
            "sharpness_after": (np.ones(frames), "", True),
        },
        "registration": {
            "crpix": (np.array([(columns + 1) / 2, (rows + 1) / 2]), "px", False),
            "plate_scale": (np.array([SCALE, SCALE]), "arcsec/px", False),
            "rotation_deg": (np.float64(0.0), "deg", False),
            "uncertainty": (np.float64(0.1), "arcsec", False),
            "accepted": (np.uint8(1), "", False),
        },
        "pointing": {
            "crval": (np.stack([100 + 0.003 * (times - START), 0 * times], 1), "arcsec", True),
            "crota2": (np.full(frames, 0.7), "deg", True),
            "uncertainty": (np.full(frames, 0.3), "arcsec", True),
            "method": (b"telescope log", "", False),
            "aligned": (np.uint8(1), "", False),
        },
    }


def scene() -> np.ndarray:
    """Something with the grain and contrast of granulation."""
    rng = np.random.default_rng(2)
    grains = [gaussian_filter(rng.standard_normal(SHAPE), width, mode="wrap") for width in (7, 2)]
    return 1 + sum(share * g / g.std() for share, g in zip((0.1, 0.04), grains, strict=True))


def write(work: Path, channel: str, frames: int) -> None:
    """Write the products of a channel."""
    stored = products(frames)
    image = (1000 * scene()).astype(np.float32)
    # Frames differ by noise too, which no encoder can foresee.
    noise = np.random.default_rng(3).normal(0, 8, (7, *SHAPE)).astype(np.float32)
    for product, values in stored.items():
        fields = {
            name: Field(
                np.shape(v)[1:] if stack else np.shape(v),
                "str" if isinstance(v, bytes) else str(np.asarray(v).dtype),
                unit,
                "",
                stack,
            )
            for name, (v, unit, stack) in values.items()
        }
        if product in ("speckle", "destretch"):
            fields["image"] = Field(SHAPE, "float32", "DN", "")
        with KINDS[product](work, channel).create(product, frames, fields, {}) as store:
            for name, (value, _, _) in values.items():
                store.write(name, value.decode() if isinstance(value, bytes) else value)
            for row in range(frames) if "image" in fields else ():
                # Seeing moves what destretch has not held still yet; the Sun goes its way in both.
                step = (row // 8, 0) if product == "destretch" else (row // 8 + row % 3, row % 2)
                store.write("image", np.roll(image, step, axis=(0, 1)) + noise[row % 7], row=row)
            store.mark(slice(None))


def context(work: Path, channels: list[str], config: Any) -> StageContext:
    """The context of a stage that sees the channels."""
    options = {
        "calibrate": CalibrateConfig(),
        "assemble": AssembleConfig(),
        "speckle": SpeckleConfig(),
        "destretch": DestretchConfig(kernels=KERNELS),
        "align": AlignConfig(engine=AlignEngine.none),
        "movie": config if isinstance(config, MovieConfig) else MovieConfig(),
        "report": config if isinstance(config, ReportConfig) else ReportConfig(),
    }
    observation = ObservationConfig(name="benchmark")
    for name in channels:
        observation.channels[name] = ChannelConfig(
            wavelength_nm=430.5, plate_scale=[SCALE, SCALE], exposure_ms=10.0
        )
    seen = {
        name: Channel(
            name,
            observation,
            observation.channels[name],
            options,
            ChannelPaths(work / name),
            {kind.name: kind(work, name) for kind in PRODUCTS},
        )
        for name in channels
    }
    return StageContext(
        "",
        observation,
        ChannelConfig(),
        {},
        ChannelPaths(work),
        config=config,
        backend=get_backend("numpy"),
        channels=seen,
        work=work,
        create=nullcontext,
        progress=lambda done, total: None,
        digest="",
        provenance={"program": "stillsun", "version": "0"},
    )


def measure(name: str, call: Callable[[], Any]) -> None:
    """Run a stage, and print what it took and wrote."""
    wall, cpu = time.perf_counter(), time.process_time()
    files = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sizes = ", ".join(f"{f.name} {f.stat().st_size / 1e6:.1f} MB" for f in files)
    print(f"{name}: {wall:.1f} s wall, {cpu:.1f} s CPU; {sizes}", flush=True)


def main() -> None:
    """Make the products, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=500, help="frames of the movie")
    parser.add_argument("--report-frames", type=int, default=200, help="frames of each channel in the report")
    parser.add_argument("--channels", type=int, default=4, help="channels of the report")
    parser.add_argument("--directory", type=Path, help="where the products go for the time being")
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    work = Path(tempfile.mkdtemp(prefix="bench_people_", dir=given.directory))
    try:
        write(work / "movie", "A", given.frames)
        ctx = context(work / "movie", ["A"], MovieConfig(goes_download=False))
        measure(f"movie of {given.frames} frames", lambda: movie.run(ctx))
        shutil.rmtree(work / "movie")
        channels = [f"CHANNEL_{k}" for k in range(given.channels)]
        write(work / "report", channels[0], given.report_frames)
        for name in channels[1:]:
            # The same bytes under another name: reading them costs as much.
            shutil.copytree(work / "report" / channels[0], work / "report" / name, copy_function=os.link)
        pages = context(work / "report", channels, ReportConfig())
        measure(
            f"report of {given.channels} channels of {given.report_frames} frames", lambda: report.run(pages)
        )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
