#!/usr/bin/env python
"""
Calibration against its floor: plainly reading the same bytes and writing the result's bytes.

Raw files of real size are made in a temporary directory, everything is in the page cache, and all
candidates run in turn, several times; the best of each is printed, wall and CPU seconds, with the
ratio to the floor beside it.

    python scripts/bench/bench_calibrate.py [--directory DIR] [--repeat N] [--frames N] [--camera NAME]
"""

from __future__ import annotations

import argparse
import gc
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.core.backend import get_backend
from stillsun.core.bursts import burst_times, find_bursts
from stillsun.core.calibrate import gain_table, make_correction
from stillsun.core.statistics import frame_statistics
from stillsun.io.andor import OVERSCAN
from stillsun.io.bursts import BurstReader
from stillsun.io.burstwriter import write_bursts
from stillsun.io.hardcam import open_hardcam
from stillsun.io.rosa import open_rosa

START = np.datetime64("2025-09-03T14:21:52.456", "us")
BURST = 64


def make_rosa(directory: Path, frames: int, shape: tuple[int, int]) -> list[Path]:
    """Write ROSA files of up to 256 extensions; pixels of one frame, rolled, so that it is quick."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(2000, 12000, shape, dtype=np.uint16)
    paths = []
    for first in range(0, frames, 256):
        path = directory / f"das1_rosa_2025-09-03_14.21.52_{first // 256:04d}.fit"
        with path.open("wb") as file:
            file.write(fits.PrimaryHDU().header.tostring().encode())
            for number in range(first, min(first + 256, frames)):
                hdu = fits.ImageHDU(np.zeros((1, 1), np.uint16))
                header = hdu.header
                header["NAXIS1"], header["NAXIS2"] = shape[1], shape[0]
                header["HIERARCH FRAME NUMBER"] = str(number - first + 1)
                header["DATE"] = str((START + np.timedelta64(33300 * number, "us")).astype("datetime64[ms]"))
                header["EXPOSURE"] = "0.0100 Sec"
                data = (np.roll(pixels, number, axis=0) ^ np.uint16(0x8000)).astype(">u2").tobytes()
                file.write(header.tostring().encode() + data + bytes(-len(data) % 2880))
        paths.append(path)
    return paths


def make_hardcam(directory: Path, frames: int, shape: tuple[int, int]) -> list[Path]:
    """Write spool files."""
    full = np.zeros((shape[0] + OVERSCAN[0], shape[1] + OVERSCAN[1]), np.uint16)
    full[: shape[0], : shape[1]] = np.random.default_rng(1).integers(2000, 12000, shape, dtype=np.uint16)
    paths = []
    for number in range(frames):
        paths.append(directory / (f"{number:010d}"[::-1] + "spool.dat"))
        np.roll(full, number, axis=0).tofile(paths[-1])
    return paths


def best(candidates: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Best wall and CPU seconds of each candidate; they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(repeat):
        for name, run in candidates.items():
            gc.collect()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            wall, cpu = time.perf_counter(), usage.ru_utime + usage.ru_stime
            run()
            wall = time.perf_counter() - wall
            usage = resource.getrusage(resource.RUSAGE_SELF)
            times[name].append((wall, usage.ru_utime + usage.ru_stime - cpu))
    return {name: (min(t[0] for t in pairs), min(t[1] for t in pairs)) for name, pairs in times.items()}


def measure(camera: str, frames: int, directory: Path, repeat: int) -> None:
    """Run all candidates for one camera and print the table."""
    shape = (1002, 1004) if camera == "rosa" else (2048, 2048)
    make, opener = (make_rosa, open_rosa) if camera == "rosa" else (make_hardcam, open_hardcam)
    raw = directory / "raw"
    out = directory / "out"
    raw.mkdir()
    paths = make(raw, frames, shape)
    dark = np.full(shape, 200.0, np.float32)
    flat = np.random.default_rng(2).normal(8000, 200, shape)
    backend = get_backend("numpy")
    correction = make_correction(dark, gain_table(flat, dark), backend=backend)
    options = {} if camera == "rosa" else {"start": START, "interval_s": 0.0294, "exposure_s": 0.0294}
    bytes_in = sum(path.stat().st_size for path in paths)
    bytes_out = frames // BURST * BURST * shape[0] * shape[1] * 4

    def open_reader() -> BurstReader:
        source = opener(paths, shape, **options)
        index = find_bursts(source.start_times, BURST)
        burst_times(source.start_times, source.exposure_s, index)
        return BurstReader(source, correction, index.first, index.frames)

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    buffer = np.zeros(max(path.stat().st_size for path in paths), np.uint8)

    def plain_read() -> None:
        for path in paths:
            with path.open("rb", buffering=0) as file:
                file.readinto(buffer[: path.stat().st_size])

    result = np.zeros(BURST * shape[0] * shape[1], np.float32)

    def plain_read_write() -> None:
        fresh()
        plain_read()
        for burst in range(bytes_out // result.nbytes):
            with (out / f"{burst}").open("wb", buffering=0) as file:
                file.write(result.data)

    def bursts_in_memory() -> None:
        reader = open_reader()
        for burst in range(len(reader)):
            reader.read(burst, out=result.reshape(reader.shape))

    def burst_files() -> None:
        fresh()
        reader = open_reader()
        write_bursts(reader, {burst: out / f"{burst}" for burst in range(len(reader))})

    def average() -> None:
        frame_statistics(opener(paths, shape, **options).blocks(), backend=backend)

    def headers() -> None:
        open_reader()

    def astropy_loop() -> None:
        fresh()
        gain = correction.gain
        number = 0
        file = None
        for path in paths:
            with fits.open(path) as hdus:
                for hdu in hdus[1:]:
                    if number % BURST == 0:
                        if file is not None:
                            file.close()
                        file = (out / f"{number // BURST}").open("wb")
                    file.write(((hdu.data - dark) * gain).astype(np.float32).data)
                    number += 1
        if file is not None:
            file.close()

    candidates: dict[str, Callable[[], object]] = {
        "open: headers, times, bursts": headers,
        "plain read": plain_read,
        "bursts in memory": bursts_in_memory,
        "mean and variance": average,
        "plain read + write": plain_read_write,
        "burst files": burst_files,
    }
    if camera == "rosa":
        candidates["plain loop over extensions"] = astropy_loop
    bursts_in_memory()
    average()
    times = best(candidates, repeat)
    floors = {
        "bursts in memory": "plain read",
        "mean and variance": "plain read",
        "burst files": "plain read + write",
        "plain loop over extensions": "plain read + write",
    }
    print(f"\n{camera}: {frames} frames of {shape[0]} x {shape[1]}, {bytes_in / 1e6:.0f} MB in, ", end="")
    print(f"{bytes_out / 1e6:.0f} MB out, {backend.device}, best of {repeat}")
    print(f"{'':32s}{'wall s':>9s}{'CPU s':>9s}{'frames/s':>10s}{'wall/floor':>12s}{'CPU/floor':>11s}")
    for name, (wall, cpu) in times.items():
        line = f"{name:32s}{wall:9.3f}{cpu:9.3f}{frames / wall:10.0f}"
        if name in floors:
            floor = times[floors[name]]
            line += f"{wall / floor[0]:12.2f}{cpu / floor[1]:11.2f}"
        print(line)
    shutil.rmtree(raw)
    shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, help="where the files are made; a temporary one by default")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; the best counts")
    parser.add_argument("--frames", type=int, default=512, help="ROSA frames; HARDcam a quarter of it")
    parser.add_argument(
        "--camera", choices=("rosa", "hardcam"), action="append", help="cameras; both by default"
    )
    arguments = parser.parse_args()
    for camera in arguments.camera or ("rosa", "hardcam"):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            frames = arguments.frames if camera == "rosa" else arguments.frames // 4
            measure(camera, frames, Path(directory), arguments.repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory {peak:.0f} MB (mapped raw files included)")


if __name__ == "__main__":
    main()
