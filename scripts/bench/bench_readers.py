"""
Headers, sums and packed frames of ROSA files, and the sums of a store, against plain ways.

Usage::

    python scripts/bench/bench_readers.py [--directory DIR] [--repeat N] [--frames N]

Files are in the page cache; best of the repetitions. Noise is that of a camera with 12 bits of signal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from stillsun.io._storesums import sums_of
from stillsun.io.rosa import open_rosa

SHAPE = (1002, 1004)
NAME = "das1_rosa_2025-09-03_14.21.52_0000.fit"
START = np.datetime64("2025-09-03T14:21:52.456", "ms")


def best(work: Callable[[], object], repeat: int) -> float:
    """Shortest time of some repetitions, seconds."""
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def write(path: Path, frames: np.ndarray, *, checksum: bool, packed: bool) -> Path:
    """A file of exposures with their times."""
    units: list[fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU] = [fits.PrimaryHDU()]
    for number, frame in enumerate(frames):
        unit = fits.CompImageHDU(frame, compression_type="RICE_1") if packed else fits.ImageHDU(frame)
        unit.header["DATE"] = str(START + np.timedelta64(33 * number, "ms"))
        unit.header["EXPOSURE"] = "0.0100 Sec"
        units.append(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(units).writeto(path, checksum=checksum)
    return path


def headers_by_astropy(path: Path) -> list[str]:
    """The dates, as one reads them with astropy."""
    with fits.open(path) as units:
        return [unit.header["DATE"] for unit in units[1:]]


def read_all(path: Path, **options: bool) -> np.ndarray:
    """All frames."""
    source = open_rosa([path], **options)
    return source.read(0, source.shape[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    scene = 20000 + 3000 * np.sin(np.indices(SHAPE).sum(axis=0) / 9)
    frames = (scene + rng.normal(0, 60, (arguments.frames, *SHAPE))).astype(np.uint16)
    repeat = arguments.repeat
    with tempfile.TemporaryDirectory(dir=arguments.directory) as place:
        plain, summed, packed, both = (
            write(
                Path(place) / kind / (NAME + ".fz" * (kind[0] == "p")),
                frames,
                checksum=c,
                packed=kind[0] == "p",
            )
            for kind, c in (("a", False), ("b", True), ("pa", False), ("pb", True))
        )
        print(f"{arguments.frames} frames of {SHAPE[0]} x {SHAPE[1]}, seconds")
        print(f"headers by astropy             {best(lambda: headers_by_astropy(plain), repeat):8.4f}")
        print(f"headers and times              {best(lambda: open_rosa([plain]), repeat):8.4f}")
        print(f"headers and times, with sums   {best(lambda: open_rosa([summed]), repeat):8.4f}")
        print(f"read                           {best(lambda: read_all(plain), repeat):8.4f}")
        print(f"read, sums not verified        {best(lambda: read_all(summed, verify=False), repeat):8.4f}")
        print(f"read and verify sums           {best(lambda: read_all(summed), repeat):8.4f}")
        print(f"packed: read                   {best(lambda: read_all(packed), repeat):8.4f}")
        print(f"packed: read and verify sums   {best(lambda: read_all(both), repeat):8.4f}")
        with fits.open(packed) as units:
            eight = best(lambda: [unit.data for unit in units[1:9]], 1)
        print(f"packed: by astropy             {eight * arguments.frames / 8:8.4f}")
    image = frames[:1].astype(np.float32)
    seconds = best(lambda: sums_of(image, 1), 20)
    print(f"sum of a row of a store        {image.nbytes / seconds / 1e9:8.1f} GB/s")


if __name__ == "__main__":
    main()
