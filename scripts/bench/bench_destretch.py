#!/usr/bin/env python
"""
Destretch against dense optical flow and the superseded engine: accuracy with known truth, and cost.

Real frames are distorted by a known displacement (`known_warp.py`); every method gives a
field, which is compared with the truth: in the interior (64 pixels inside the valid part), in the ring
4 to 64 pixels inside, and for a hard pair (2 px rms, 15 % noise, 30 % change). The fine detail is that
of the image after the method's own interpolation. Cost is that of one frame in a running sequence,
the best of several, CPU and wall seconds; the superseded engine is re-stated in NumPy from its
published description, with its windows, median filter and one interpolation a kernel.

    python scripts/bench/bench_destretch.py --data DIR [--repeat N] [--threads N] [--seeds 1,2] [--large]
                                            [--stage N]

With `--stage N` the stage of the pipeline is timed too: a sequence of N frames from one HDF5 store to
another, reading and writing beside the computation, figures of quality included; seconds a frame of the
second half, when the reference has all its frames.

DIR holds the reconstructed frames of `sgsellers/pyDestretch` (test_destretch_data). The optical flow
needs OpenCV (opencv-python-headless); without it, its line is left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.interpolate
import scipy.ndimage as ndimage
from astropy.io import fits
from known_warp import known_warp

from stillsun.config.schema import ChannelConfig, DestretchConfig, ObservationConfig
from stillsun.core.backend import get_backend
from stillsun.core.destretch import Destretcher
from stillsun.core.reference import FixedReference, RunningReference
from stillsun.core.warp import resample
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.products.bursts import Bursts
from stillsun.products.reconstructed import Reconstructed
from stillsun.stages import destretch
from stillsun.stages.base import ChannelPaths, StageContext

try:
    import cv2
except ImportError:
    cv2 = None

FILES = {
    "gband": "20211022_151846_gband_kisip.speckle.batch.00.{:03d}.final.fits",
    "cak": "20211022_161846_cak_kisip.speckle.batch.00.{:03d}.final.fits",
}
BAND_LIMIT = {"gband": 0.40, "cak": 0.22}  # cycles per pixel
HARD = {"rms": 2.0, "noise": 0.15, "change": 0.30}
HARD_SEED = 7

Method = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # -> displacement, image


def read(data: Path, band: str, number: int) -> np.ndarray:
    """One frame; the left-over BZERO card is not applied."""
    with fits.open(data / FILES[band].format(number), do_not_scale_image_data=True) as hdus:
        return np.asarray(hdus[0].data, np.float32)


def ours(kernels: Sequence[int], threads: int | None) -> Method:
    """This package."""
    backend = get_backend("numpy", threads=threads)

    def method(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stream = Destretcher(FixedReference(reference, backend), kernels, backend=backend)
        result = stream.push(image)
        return result.displacement, result.image

    return method


def optical_flow(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's DIS with its medium preset down to the finest scale, Lanczos interpolation."""
    low, high = np.percentile(reference, [0.05, 99.95])
    ours_, theirs = (
        np.clip((a - low) / (high - low) * 255, 0, 255).astype(np.uint8) for a in (image, reference)
    )
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    field = -flow.calc(theirs, ours_, None)[..., ::-1]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    out = cv2.remap(image, x - field[..., 1], y - field[..., 0], cv2.INTER_LANCZOS4)
    return np.moveaxis(field, -1, 0), out


def superseded(kernels: Sequence[int], roll_fixed: bool) -> Method:
    """The superseded engine's scheme in plain NumPy and SciPy."""

    def taper(size: int, share: float) -> np.ndarray:
        edge = max(1, round(share * size))
        line = np.ones(size)
        line[:edge] = 0.5 * (1 - np.cos(np.pi * (np.arange(edge) + 0.5) / edge))
        line[size - edge :] = line[:edge][::-1]
        return (line[:, None] * line).astype(np.float32)

    def tiles(image: np.ndarray, size: int) -> np.ndarray:
        half = size // 2
        count = [2 * (n // size) - 1 for n in image.shape]
        view = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        return view[::half, ::half][: count[0], : count[1]]

    def windowed(parts: np.ndarray, window: np.ndarray) -> np.ndarray:
        return (parts - parts.mean(axis=(2, 3), keepdims=True)) * window

    def peak(surface: np.ndarray) -> np.ndarray:
        size = surface.shape[-1]
        flat = surface.reshape(*surface.shape[:2], -1).argmax(axis=-1)
        at = np.stack(np.divmod(flat, size))
        j, i = np.indices(surface.shape[:2])
        shift = np.empty(at.shape)
        for axis in range(2):
            step = np.array([axis == 0, axis == 1])[:, None, None]
            low, mid, high = (surface[j, i, *((at + k * step) % size)] for k in (-1, 0, 1))
            bend = low - 2 * mid + high
            shift[axis] = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1), 0)
        return (at + shift + size // 2) % size - size // 2

    def dense(grid: np.ndarray, size: int, shape: tuple[int, int]) -> np.ndarray:
        centres = [size // 2 * np.arange(n) + (size - 1) / 2 for n in grid.shape[1:]]
        inside = [np.arange(int(np.ceil(c[0])), int(c[-1]) + 1) for c in centres]
        field = np.zeros((2, *shape))
        for axis in range(2):
            orders = [min(3, len(c) - 1) for c in centres]
            spline = scipy.interpolate.RectBivariateSpline(*centres, grid[axis], kx=orders[0], ky=orders[1])
            field[axis][np.ix_(*inside)] = spline(*inside)
        return field

    def method(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = image.shape
        grid = np.mgrid[: shape[0], : shape[1]].astype(float)
        total = np.zeros((2, *shape))
        for kernel in kernels:
            if kernel == 0:
                spectra = [scipy.fft.rfft2(a - a.mean()) for a in (image, reference)]
                surface = scipy.fft.irfft2(spectra[1] * spectra[0].conj(), s=shape)
                at = np.array(np.unravel_index(surface.argmax(), shape))
                at = (at + np.array(shape) // 2) % shape - np.array(shape) // 2
                if roll_fixed:
                    image, moved = np.roll(image, at, axis=(0, 1)), at
                else:  # without its axes, np.roll moves the flattened image
                    image, moved = np.roll(image, at), np.array([0, at.sum()])
                total += moved[:, None, None]
                continue
            fixed = windowed(tiles(reference, kernel), taper(kernel, 0.125))
            moving = windowed(tiles(image, kernel), taper(kernel, 0.4375))
            spectra = [scipy.fft.rfft2(a) for a in (moving, fixed)]
            shifts = peak(scipy.fft.irfft2(spectra[1] * spectra[0].conj(), s=(kernel, kernel)))
            wrong = (np.abs(shifts) > 0.5 * kernel).any(axis=0)
            shifts[:, wrong] = 0
            shifts = np.stack([ndimage.median_filter(s, 3) for s in shifts])
            field = dense(shifts, kernel, shape)
            image = ndimage.map_coordinates(image, grid - field, order=3, mode="nearest")
            total = field + np.stack(
                [ndimage.map_coordinates(t, grid - field, order=1, mode="nearest") for t in total]
            )
        return total, image

    return method


def best_cost(work: Callable[[], object], repeat: int) -> tuple[float, float]:
    """CPU and wall seconds, the least of several."""
    cpu, wall = [], []
    for _ in range(repeat):
        start = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return min(cpu), min(wall)


def running_cost(
    frame: np.ndarray, kernels: Sequence[int], threads: int | None, repeat: int
) -> tuple[float, float]:
    """Cost of a frame in a running sequence, reference of 10 frames."""
    backend = get_backend("numpy", threads=threads)
    stream = Destretcher(RunningReference(10, backend), kernels, backend=backend)
    frames = [np.roll(frame, (k % 3, -k % 2), (0, 1)) for k in range(6)]
    for k in range(11):
        stream.push(frames[k % 6])
    return best_cost(lambda: stream.push(frames[3]), repeat)


def stage_cost(frame: np.ndarray, count: int, threads: int | None) -> tuple[float, float]:
    """CPU and wall seconds a frame of the stage, from store to store."""
    frames = [np.roll(frame, (k % 3, -k % 2), (0, 1)) for k in range(6)]
    marks: list[tuple[float, float]] = []
    backend = get_backend("numpy", threads=threads)
    with tempfile.TemporaryDirectory(prefix="stillsun-bench-") as name:
        directory = Path(name)
        fields = {"image": Field(frame.shape, "float32")}
        fields |= {key: Field((), "float64") for key in ("r0", "sharpness")}
        with create_store(directory / "speckle.h5", Layout(count, fields), "bench") as store:
            for number in range(count):
                store.write("image", frames[number % 6], row=number)
            store.mark(slice(None))
        with create_store(directory / "bursts.h5", Layout(count, {"time_avg": fields["r0"]}), "b") as store:
            store.write("time_avg", 2.0 * np.arange(count))
            store.mark(slice(None))
        with StoreReader(directory / "speckle.h5") as reader, StoreReader(directory / "bursts.h5") as times:
            ctx = StageContext(
                "C",
                ObservationConfig(reference_channel="C"),
                ChannelConfig(),
                {},
                ChannelPaths(directory),
                {"speckle": Reconstructed.on(reader), "bursts": Bursts.on(times)},
                config=DestretchConfig(),
                backend=backend,
                create=lambda rows, fields, attributes=None: create_store(
                    directory / "destretch.h5", Layout(rows, fields, attributes or {}), "bench"
                ),
                progress=lambda done, total: marks.append((time.process_time(), time.perf_counter())),
                digest="bench",
                provenance={},
            )
            destretch.run(ctx)
    # The first mark is that of no frame.
    cpu, wall = np.subtract(marks[-1], marks[count // 2]) / (count - count // 2)
    return float(cpu), float(wall)


def correlation(image: np.ndarray, reference: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Correlation of two frames 48 pixels inside the valid part."""
    inner = np.s_[box[0] + 48 : box[1] - 48, box[2] + 48 : box[3] - 48]
    return float(np.corrcoef(image[inner].ravel(), reference[inner].ravel())[0, 1])


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the real frames")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of every timing")
    parser.add_argument("--threads", type=int, help="threads of this package; all by default")
    parser.add_argument("--seeds", default="1", help="seeds of the known displacement, comma separated")
    parser.add_argument("--large", action="store_true", help="also the cost for 2048 x 2048 pixels")
    parser.add_argument("--stage", type=int, metavar="N", help="also the stage, on a sequence of N frames")
    options = parser.parse_args()
    seeds = [int(s) for s in options.seeds.split(",")]

    compatible, fine = (0, 128, 64, 32, 12), (0, 64, 32, 16, 12)
    methods: dict[str, Method] = {
        "stillsun 0,128,64,32,12": ours(compatible, options.threads),
        "stillsun 0,64,32,16,12": ours(fine, options.threads),
        "superseded engine": superseded(compatible, roll_fixed=False),
        "same, roll fixed": superseded(compatible, roll_fixed=True),
    }
    if cv2 is not None:
        cv2.setNumThreads(1)
        methods["OpenCV DIS, finest scale"] = optical_flow

    frames = {band: [read(options.data, band, n) for n in (0, 1)] for band in FILES}
    print(f"{'':26}{'band':>6}{'field':>8}{'ring':>8}{'hard':>8}{'power':>8}{'in phase':>9}{'real':>8}")
    for band, (first, second) in frames.items():
        pairs = [known_warp(first, seed) for seed in seeds]
        hard = known_warp(first, HARD_SEED, **HARD)
        for name, method in methods.items():
            rows = []
            for pair in pairs:
                field, image = method(pair.distorted, pair.reference)
                power = pair.fine_power(image, BAND_LIMIT[band])
                rows.append([pair.residual(field), pair.residual(field, outer=4), *power])
            inner, ring, power, phase = np.mean(rows, axis=0)
            far = hard.residual(method(hard.distorted, hard.reference)[0])
            box = tuple(a + b for a, b in zip(pairs[0].box, (-12, 12, -12, 12), strict=True))
            real = correlation(method(second, first)[1], first, box)
            print(f"{name:26}{band:>6}{inner:8.3f}{ring:8.3f}{far:8.3f}{power:8.3f}{phase:9.3f}{real:8.4f}")

    sizes = {"1002 x 1004": frames["gband"][0]}
    if options.large:
        inner = frames["gband"][0][40:960, 40:960]
        sizes["2048 x 2048"] = np.pad(inner, ((0, 1128), (0, 1128)), mode="symmetric")
    for size, frame in sizes.items():
        moved = np.roll(frame, (2, -1), (0, 1))
        print(f"\n{size}: seconds a frame, CPU / wall")
        for name, method in methods.items():
            if name.startswith("stillsun"):
                kernels = compatible if "128" in name else fine
                cost = running_cost(frame, kernels, options.threads, 2 * options.repeat)
            else:
                cost = best_cost(partial(method, moved, frame), max(1, options.repeat // 2))
            print(f"{name:26}{cost[0]:8.3f} / {cost[1]:.3f}")
        if options.stage:
            cost = stage_cost(frame, options.stage, options.threads)
            print(f"{'stage, store to store':26}{cost[0]:8.3f} / {cost[1]:.3f}")
    backend = get_backend("numpy", threads=options.threads)
    field = known_warp(frames["gband"][0], 1).displacement.astype(np.float32)
    for name in ("bilinear", "bicubic", "lanczos4"):
        cost = best_cost(partial(resample, frames["gband"][0], field, name, backend), options.repeat)
        print(f"interpolation {name:12}{cost[0]:8.4f} / {cost[1]:.4f}")


if __name__ == "__main__":
    main()
