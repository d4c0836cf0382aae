"""
Time of calibration, speckle reconstruction and destretch on a GPU against what they move and compute.

    python scripts/bench/bench_gpu.py                    # 2048 x 2048 x 64, and agreement with the CPU
    python scripts/bench/bench_gpu.py --model            # the model alone; needs no GPU

Needs NumPy, SciPy, Numba and CuPy only. Every step is timed with the device synchronised before and behind
it, so that their sum is a little more than the time of the whole, which is measured apart. "copy" is the
device's own rate for a plain copy, the yardstick of the steps that move bytes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from stillsun import destretch, get_backend, reconstruct
from stillsun.core.backend import Backend, to_host
from stillsun.core.batch import raw_block
from stillsun.core.calibrate import correct_frames, make_correction
from stillsun.speckle.masking import device, device_methods, reconstruction
from stillsun.speckle.masking.geometry import subfield_lattice, subfield_size
from stillsun.speckle.masking.subfield import Geometry, tracking_plan

DIAMETER, WAVELENGTH, SCALE = 762.0, 430.5, 0.048
SUBFIELD, APODISED, REACH = 7.0, 0.3, 0.45
LIMIT = DIAMETER * 1e-3 / (WAVELENGTH * 1e-9) * np.pi / 648_000 * SCALE
CPU = get_backend("numpy")
KERNELS = (0, 128, 64, 32, 12)
# Share of the equations that the recursive start uses, and sweeps after it in plain seeing.
START, SWEEPS = 0.33, 4
# Where the steps are called from, by the names there.
STEPS = {
    "prepare": (reconstruction, "prepare"),
    "background": (reconstruction, "_surface"),
    "frame tracking": (reconstruction, "frame_shifts"),
    "cutting": (device, "cut_subfields"),
    "subfield tracking": (device, "track_subfields"),
    "coherent mean": (device, "coherent_means"),
    "bispectrum": (device_methods, "mean_bispectra"),
    "phases": (device_methods, "solve_phases"),
    "registration": (device, "register_subfields"),
    "seeing (host)": (reconstruction, "_fit"),
}


@dataclass(frozen=True)
class Load:
    """
    What a step has to do.

    Attributes
    ----------
    memory : float
        Bytes to and from the device's memory.
    cache : float
        Bytes from its caches or shared memory.
    operations : float
        Floating-point operations.
    """

    memory: float = 0.0
    cache: float = 0.0
    operations: float = 0.0


def loads(side: int, frames: int) -> dict[str, Load]:
    """
    Model of the reconstruction of one burst.

    Parameters
    ----------
    side : int
        Rows and columns of a frame.
    frames : int
        Frames of the burst.

    Returns
    -------
    dict
        Load of each step.
    """
    size = subfield_size(SUBFIELD, (SCALE, SCALE), (side, side))
    geometry = Geometry(size, (LIMIT, LIMIT), min(round(REACH / SCALE), size // 8), 0.95, 0.1, 0.1, APODISED)
    lattice = subfield_lattice((side, side), size, APODISED)
    plan = tracking_plan(geometry)
    fields = lattice.counts[0] * lattice.counts[1]
    count, triples = len(geometry.frequencies), len(geometry.triples)
    equations = len(geometry.equations.a)
    print(
        f"{fields} subfields of {size} px: {count} frequencies, {triples} triples, {equations} equations; "
        f"about {(SWEEPS + 1) * count} steps one after another in each"
    )
    burst, tile, half = 4.0 * frames * side**2, frames * size**2, frames * size * (size // 2 + 1)
    binned = plan.binning**2
    low = frames * len(plan.rows) * len(plan.columns)
    wide = 2 * geometry.reach + 1

    def transform(pixels: float, length: float) -> float:
        return 2.5 * pixels * np.log2(length**2)

    spectra = 8.0 * frames * count
    sweeps = START + SWEEPS
    return {
        "prepare": Load(4 * burst, 0, 10 * burst / 4),
        "background": Load(burst + 8 * burst / 4, 0, burst / 2),
        "cutting": Load(fields * 4 * tile * (2 + 1 + 1 / binned), fields * 4 * tile * 4, fields * 12 * tile),
        "transforms": Load(
            fields * (2 * (4 * tile + 16 * half) * (1 + 1 / binned) + 20 * half),
            0,
            fields * transform(tile, size) * (1 + 1 / binned),
        ),
        "subfield tracking": Load(
            fields * 8 * low * 12,
            0,
            fields * 16 * frames * wide * len(plan.rows) * (len(plan.columns) + wide),
        ),
        "coherent mean": Load(fields * spectra * 8, 0, fields * 40 * frames * count),
        "bispectrum": Load(
            fields * (spectra + 12 * triples),
            fields * 24.0 * triples * frames,
            fields * 20.0 * triples * frames,
        ),
        "phases": Load(
            fields * (8 * equations * (4 + sweeps) + 40 * triples),
            fields * equations * sweeps * (8 + 16),
            fields * equations * sweeps * 16,
        ),
        "registration": Load(fields * (32 * count * 8 + 24 * size**2), 0, fields * count * 100),
        "pictures": Load(fields * (16 * count + 60 * size**2), 0, fields * transform(size**2, size)),
    }


class Stopwatch:
    """
    Times the steps of a reconstruction.

    Parameters
    ----------
    backend : Backend
        The device.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Within this block every step is timed."""
        plain = {name: getattr(*place) for name, place in STEPS.items()}
        for name, (module, attribute) in STEPS.items():
            setattr(module, attribute, self._timed(name, plain[name]))
        try:
            yield
        finally:
            for name, (module, attribute) in STEPS.items():
                setattr(module, attribute, plain[name])

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            wait(self._backend)
            start = time.perf_counter()
            result = function(*args, **kwargs)
            wait(self._backend)
            self.seconds[name] += time.perf_counter() - start
            return result

        return call


def wait(backend: Backend) -> None:
    """
    Until the device has done all.

    Parameters
    ----------
    backend : Backend
        The device.
    """
    if backend.is_gpu:
        backend.xp.cuda.Device().synchronize()


def quickest(work: Callable[[], Any], backend: Backend, repeat: int) -> float:
    """
    Seconds of the quickest of several runs, after one that warms up.

    Parameters
    ----------
    work : callable
        What to time.
    backend : Backend
        The device.
    repeat : int
        Runs.

    Returns
    -------
    float
        Seconds.
    """
    work()
    times = []
    for _ in range(repeat):
        wait(backend)
        start = time.perf_counter()
        work()
        wait(backend)
        times.append(time.perf_counter() - start)
    return min(times)


def make_burst(side: int, frames: int) -> np.ndarray:
    """
    Blurred and shifted exposures of a random scene.

    Parameters
    ----------
    side, frames : int
        Rows and columns, and frames.

    Returns
    -------
    numpy.ndarray
        (frames, side, side) float32.
    """
    rng = np.random.default_rng(1)
    scene = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), 2.0, mode="wrap")
    scene = 1 + 0.12 * scene / scene.std()
    blurred = [ndimage.gaussian_filter(scene, s, mode="wrap") for s in (1.0, 2.0, 3.0)]
    burst = np.empty((frames, side, side), dtype=np.float32)
    for frame in burst:
        shift = tuple(rng.integers(-3, 4, 2))
        light = 12_000 * np.roll(blurred[rng.integers(len(blurred))], shift, (0, 1))
        frame[...] = light + np.sqrt(12_000) * rng.standard_normal((side, side), dtype=np.float32)
    return burst


def agreement(found: Any, expected: Any) -> float:
    """
    Relative rms difference.

    Parameters
    ----------
    found, expected : array_like
        Of one shape.

    Returns
    -------
    float
        Rms of the difference over the rms contrast of what is expected.
    """
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


def speckle(burst: np.ndarray, backend: Backend, options: argparse.Namespace) -> None:
    """
    Print time and load of every step of the reconstruction.

    Parameters
    ----------
    burst : numpy.ndarray
        (frames, rows, columns).
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    """
    there = backend.asarray(burst)

    def work() -> None:
        reconstruct(there, SCALE, WAVELENGTH, backend=backend)

    whole = quickest(work, backend, options.repeat)
    watch = Stopwatch(backend)
    with watch.steps():
        work()
    model = loads(burst.shape[1], len(burst))
    print(f"{'step':<20}{'ms':>9}{'memory GB':>11}{'GB/s':>8}{'cache GB/s':>12}{'GFLOP/s':>10}")
    for name, seconds in watch.seconds.items():
        load = model.get(name, Load())
        rates = (value / seconds / 1e9 for value in (load.memory, load.cache, load.operations))
        numbers = "{:8.0f}{:12.0f}{:10.0f}".format(*rates)
        print(f"{name:<20}{1e3 * seconds:9.1f}{load.memory / 1e9:11.2f}{numbers}")
    rest = sum(load.memory for name, load in model.items() if name not in watch.seconds)
    print(f"{'rest':<20}{1e3 * (whole - sum(watch.seconds.values())):9.1f}{rest / 1e9:11.2f}")
    print(f"{'speckle, whole':<20}{1e3 * whole:9.1f}")
    small = burst[:, : options.compare, : options.compare]
    images = [reconstruct(small, SCALE, WAVELENGTH, backend=b).image for b in (backend, CPU)]
    print(f"  difference to the CPU, {options.compare} px: {agreement(*images):.1e}")


def copy_rate(backend: Backend, size: int, repeat: int) -> float:
    """
    Rate of a plain copy in the device's memory.

    Parameters
    ----------
    backend : Backend
        The device.
    size : int
        Bytes.
    repeat : int
        Runs.

    Returns
    -------
    float
        Bytes read and written a second.
    """
    one, two = (backend.xp.ones(size // 4, dtype=np.float32) for _ in range(2))

    def copy() -> None:
        two[...] = one

    return 2 * one.nbytes / quickest(copy, backend, repeat)


def calibrate(burst: np.ndarray, backend: Backend, options: argparse.Namespace) -> None:
    """
    Print the time of decoding and calibrating a burst of raw frames in host memory.

    Parameters
    ----------
    burst : numpy.ndarray
        (frames, rows, columns).
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    """
    raw = np.clip(burst, 0, 65535).astype(np.uint16)
    frame = np.ones(raw.shape[1:])
    correction = make_correction(100 * frame, frame, backend=backend)
    out = backend.xp.empty(raw.shape, dtype=np.float32)
    seconds = quickest(lambda: correct_frames([raw_block(raw)], correction, out), backend, options.repeat)
    rate = raw.nbytes / seconds / 1e9
    print(f"calibrate: {1e3 * seconds:.1f} ms, {rate:.1f} GB/s of raw frames from host memory")
    expected = correct_frames([raw_block(raw[:2])], make_correction(100 * frame, frame, backend=CPU))
    print(f"  difference to the CPU: {agreement(to_host(out[:2]), expected):.1e}")


def move(burst: np.ndarray, backend: Backend, options: argparse.Namespace) -> None:
    """
    Print the time of destretching a frame.

    Parameters
    ----------
    burst : numpy.ndarray
        (frames, rows, columns), of which two are used.
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    """
    pair = [backend.asarray(burst[k]) for k in (0, 1)]
    seconds = quickest(lambda: destretch(*pair, kernels=KERNELS, backend=backend), backend, options.repeat)
    print(f"destretch: {1e3 * seconds:.1f} ms a frame, kernels {KERNELS}")
    small = burst[:2, : options.compare, : options.compare]
    images = [destretch(*small, kernels=KERNELS, backend=b).image for b in (backend, CPU)]
    print(f"  difference to the CPU, {options.compare} px: {agreement(*images):.1e}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("cupy", "numpy"), default="cupy")
    parser.add_argument("--side", type=int, default=2048, help="rows and columns")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--compare", type=int, default=512, help="side of what the CPU computes, too")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the quickest counts")
    parser.add_argument("--model", action="store_true", help="print the model, measure nothing")
    options = parser.parse_args()
    if options.model:
        model = loads(options.side, options.frames)
        print(f"{'step':<20}{'memory GB':>11}{'cache GB':>10}{'GFLOP':>9}")
        for name, load in model.items():
            print(f"{name:<20}{load.memory / 1e9:11.2f}{load.cache / 1e9:10.1f}{load.operations / 1e9:9.1f}")
        return
    backend = get_backend(options.backend)
    print(f"{backend.device}, {options.frames} frames of {options.side} x {options.side}")
    print(f"copy: {copy_rate(backend, 2**30, options.repeat) / 1e9:.0f} GB/s")
    burst = make_burst(options.side, options.frames)
    calibrate(burst, backend, options)
    speckle(burst, backend, options)
    move(burst, backend, options)


if __name__ == "__main__":
    main()
