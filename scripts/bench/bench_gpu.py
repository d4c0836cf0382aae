"""
All that is to be known of a GPU in one go: do results agree with the CPU's, how fast is it, where time goes.

    PYTHONPATH=src python scripts/bench/bench_gpu.py --json gpu.json    # three minutes, five at most
    PYTHONPATH=src python scripts/bench/bench_gpu.py --model            # the model alone; needs no GPU

Needs NumPy, SciPy, Numba and CuPy only. What fails is said and left out. The CPU's results come from a second
process, which works while CUDA compiles. Every step is timed with the device synchronised before and behind
it, so that their sum is a little more than the time of the whole, which is measured apart. "copy" is the
device's own rate for a plain copy, the yardstick of the steps that move bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from stillsun import destretch_series, get_backend, reconstruct
from stillsun.core import _levels, _solve, destretch
from stillsun.core.backend import Backend, to_host
from stillsun.core.batch import raw_block
from stillsun.core.calibrate import correct_frames, make_correction
from stillsun.core.quality import frame_quality
from stillsun.core.reference import RunningReference
from stillsun.core.registration.similarity import match_images
from stillsun.core.statistics import average_frames
from stillsun.errors import ConfigError
from stillsun.speckle.masking import device, device_methods, reconstruction
from stillsun.speckle.masking.geometry import subfield_lattice, subfield_size
from stillsun.speckle.masking.subfield import Geometry, tracking_plan
from stillsun.speckle.stack import tile_aligned_mean

DIAMETER, WAVELENGTH, SCALE = 762.0, 430.5, 0.048
SUBFIELD, APODISED, REACH = 7.0, 0.3, 0.45
LIMIT = DIAMETER * 1e-3 / (WAVELENGTH * 1e-9) * np.pi / 648_000 * SCALE
KERNELS = (0, 128, 64, 32, 12)
_TESTS_SECONDS = 90
# Share of the equations that the recursive start uses, and sweeps after it in plain seeing.
START, SWEEPS = 0.33, 4
# Where the steps are called from, by the names there.
SPECKLE_STEPS = {
    "prepare": (reconstruction, "prepare"),
    "background": (reconstruction, "smooth_background"),
    "frame tracking": (reconstruction, "frame_shifts"),
    "cutting": (device, "cut_subfields"),
    "subfield tracking": (device, "track_subfields"),
    "coherent mean": (device, "coherent_means"),
    "bispectrum": (device_methods, "mean_bispectra"),
    "phases": (device_methods, "solve_phases"),
    "registration": (device, "register_subfields"),
    "to the host": (device, "to_host"),
    "noise (host)": (reconstruction, "subfield_noise"),
    "seeing (host)": (reconstruction, "_fit"),
}
DESTRETCH_STEPS = {
    "ready the frame": (destretch, "Levels"),
    "background": (_levels, "high_pass"),
    "whole frame": (_solve, "_whole_frame"),
    "tiles: correlation": (_solve, "correlate_tiles"),
    "tiles: gradient": (_solve, "refine_tiles"),
    "tiles: last step": (_solve, "polish_tiles"),
    "repair": (_solve, "repair"),
    "residual": (_solve, "_left"),
    "to the host": (destretch, "to_host"),
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


def loads(side: int, frames: int, subfield: float = SUBFIELD) -> dict[str, Load]:
    """
    Model of the reconstruction of one burst.

    Parameters
    ----------
    side : int
        Rows and columns of a frame.
    frames : int
        Frames of the burst.
    subfield : float, optional
        Side of a subfield, arcsec.

    Returns
    -------
    dict
        Load of each step.
    """
    size = subfield_size(subfield, (SCALE, SCALE), (side, side))
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
    Times the steps of a computation.

    Parameters
    ----------
    steps : mapping
        Module and name of each.
    backend : Backend
        The device.
    """

    def __init__(self, steps: Mapping[str, tuple[Any, str]], backend: Backend) -> None:
        self._places = {name: place for name, place in steps.items() if hasattr(*place)}
        self._backend = backend
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within this block every step is timed; one within another counts for both."""
        plain = {name: getattr(*place) for name, place in self._places.items()}
        for name, (module, attribute) in self._places.items():
            setattr(module, attribute, self._timed(name, plain[name]))
        try:
            yield
        finally:
            for name, (module, attribute) in self._places.items():
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
        backend.xp.cuda.get_current_stream().synchronize()


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


def agreement(found: np.ndarray, expected: np.ndarray, scale: float | None = None) -> float:
    """
    Rms difference.

    Parameters
    ----------
    found, expected : numpy.ndarray
        Of one shape, float64.
    scale : float, optional
        Unit; the rms contrast of what is expected by default.

    Returns
    -------
    float
        Infinite where one is finite and the other is not.
    """
    there = np.isfinite(expected)
    if not np.array_equal(there, np.isfinite(found)):
        return float("inf")
    scale = float(expected[there].std()) if scale is None else scale
    return float(np.sqrt(np.mean((found - expected)[there] ** 2)) / scale)


def cases(side: int, frames: int, subfield: float) -> dict[str, tuple[Callable[[Backend], Any], float]]:
    """
    What both backends compute, and how far they may differ.

    Parameters
    ----------
    side, frames : int
        Rows and columns, and frames.
    subfield : float
        Side of the subfields, arcsec.

    Returns
    -------
    dict
        By name: function of the backend, and limit of `agreement`; pixels for displacements.
    """
    burst = make_burst(side, frames)
    odd = burst.copy()
    odd[1], odd[0, :5], odd[:, side // 2, side // 3] = np.nan, np.nan, 7
    raw = np.clip(burst, 0, 65535).astype(np.uint16)
    still = np.ones((side, side))
    dead = np.zeros((side, side), bool)
    dead[3::17, 5::19] = True
    kernels = tuple(k for k in KERNELS if k <= side // 2)

    def speckled(backend: Backend, data: np.ndarray = burst, **options: Any) -> Any:
        found = reconstruct(
            backend.asarray(data), SCALE, WAVELENGTH, backend=backend, subfield_arcsec=subfield, **options
        )
        return found.image

    def moved(backend: Backend, **options: Any) -> Any:
        options = {"window": 3, "kernels": kernels, **options}
        return destretch_series(list(burst[:4]), backend=backend, **options).displacement

    def calibrated(backend: Backend) -> Any:
        correction = make_correction(100 * still, still, dead, backend=backend)
        return to_host(correct_frames([raw_block(raw)], correction))

    def targets(backend: Backend) -> Any:
        wide = ndimage.gaussian_filter(burst[0], 2.0)
        edge = side // 16
        found = match_images(wide, wide[edge:, : side - edge], (0.1, 0.1), (0.1, 0.1), backend=backend)
        return [*found.translation, found.rotation_deg]

    return {
        "speckle": (speckled, 1e-3),
        "speckle, frames and pixels missing": (lambda b: speckled(b, odd), 1e-3),
        "speckle, Knox-Thompson": (lambda b: speckled(b, method="knox_thompson"), 1e-3),
        "speckle, adaptive optics": (lambda b: speckled(b, ao_used=True), 1e-3),
        "destretch, px": (moved, 0.01),
        "destretch, fixed reference, px": (lambda b: moved(b, reference="fixed"), 0.01),
        "destretch, flows kept, px": (lambda b: moved(b, preserve_flows=True), 0.01),
        "calibrate": (calibrated, 1e-5),
        "averages": (
            lambda b: (
                average_frames(lambda i, j: [raw_block(raw[i:j])], frames, saturation=65535, backend=b).mean
            ),
            1e-6,
        ),
        "quality": (lambda b: np.stack(frame_quality(burst, backend=b)), 1e-4),
        "tile-aligned mean": (lambda b: tile_aligned_mean(burst, backend=b).image, 1e-3),
        "match of targets": (targets, 1e-3),
    }


class Record:
    """
    What was found: printed as it comes, and kept in a file.

    Parameters
    ----------
    file : Path or None
        JSON, written anew with everything that is added.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.found: dict[str, dict[str, Any]] = defaultdict(dict)

    def add(self, section: str, name: str, value: Any, unit: str = "", verdict: bool | None = None) -> None:
        """
        Print and keep a value.

        Parameters
        ----------
        section, name : str
            What it is.
        value : object
            Number or text.
        unit : str, optional
            Of a number.
        verdict : bool, optional
            Whether it is as it should be.
        """
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        judged = {None: "", True: "  as it should be", False: "  NOT AS IT SHOULD BE"}[verdict]
        print(f"  {name:<38}{shown:>12} {unit}{judged}", flush=True)
        self.found[section][name] = {"value": value, "unit": unit, "good": verdict}
        if self._file is not None:
            self._file.write_text(json.dumps(self.found, indent=1))

    def bad(self) -> list[str]:
        """
        What is not as it should be.

        Returns
        -------
        list of str
            Section and name.
        """
        return [
            f"{section}: {name}"
            for section, values in self.found.items()
            for name, value in values.items()
            if value["good"] is False
        ]


def machine(backend: Backend, options: argparse.Namespace, record: Record) -> None:
    """
    Versions, and the rates of plain copies.

    Parameters
    ----------
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    """
    xp, runtime = backend.xp, getattr(backend.xp.cuda, "runtime", None)
    record.add("machine", "device", backend.device)
    record.add("machine", "memory", backend.memory / 2**30, "GiB")
    record.add("machine", "shared memory of a block", backend.shared_memory, "bytes")
    record.add("machine", "cores", get_backend("numpy").threads)
    record.add("machine", "Python", platform.python_version())
    for name in ("numpy", "scipy", "numba", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy"):
        try:
            record.add("machine", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    if runtime is not None:
        record.add("machine", "driver speaks CUDA", runtime.driverGetVersion())
        record.add("machine", "CuPy's CUDA", runtime.runtimeGetVersion())
    size = min(2**28, 16 * options.frames * options.side**2)
    here = np.ones(size // 4, dtype=np.float32)
    one, two = (xp.asarray(here) for _ in range(2))

    def copy() -> None:
        two[...] = one

    works = {"copy": copy, "to the device": lambda: xp.asarray(here), "to the host": lambda: to_host(one)}
    for name, work in works.items():
        seconds = quickest(work, backend, options.repeat)
        record.add("machine", name, (2 if work is copy else 1) * here.nbytes / seconds / 1e9, "GB/s")


def agree(backend: Backend, options: argparse.Namespace, record: Record, expected: Callable[[], Any]) -> None:
    """
    Compare with the CPU, and a second time with itself.

    Parameters
    ----------
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    expected : callable
        Gives the CPU's results by name.
    """
    found = {}
    for name, (work, _) in cases(options.compare, options.frames, options.subfield).items():
        start = time.perf_counter()
        try:
            found[name] = np.asarray(work(backend), dtype=np.float64), time.perf_counter() - start
            same = np.array_equal(found[name][0], np.asarray(work(backend)), equal_nan=True)
            # The match of targets sums by atomic additions, in any order.
            record.add("the same bytes twice", name, same, verdict=same or name == "match of targets")
        except Exception as error:
            traceback.print_exc()
            record.add("agreement with the CPU", name, f"{type(error).__name__}: {error}", verdict=False)
    known = expected()
    for name, (_, limit) in cases(options.compare, options.frames, options.subfield).items():
        if name not in found:
            continue
        if name not in known:
            record.add("agreement with the CPU", name, "not compared", verdict=False)
            continue
        pixels = name.endswith("px")
        difference = agreement(found[name][0], known[name], 1.0 if pixels else None)
        record.add("agreement with the CPU", name, difference, f"limit {limit:g}", difference <= limit)
        record.add("first use, compilation included", name, found[name][1], "s")


@lru_cache(maxsize=1)
def raw_burst(side: int, frames: int) -> np.ndarray:
    """
    Raw frames.

    Parameters
    ----------
    side, frames : int
        Rows and columns, and frames.

    Returns
    -------
    numpy.ndarray
        (frames, side, side) uint16.
    """
    return np.clip(make_burst(side, frames), 0, 65535).astype(np.uint16)


def calibration(backend: Backend, options: argparse.Namespace, record: Record) -> None:
    """
    Time of decoding and calibrating a burst of raw frames in host memory.

    Parameters
    ----------
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    """
    raw = raw_burst(options.side, options.frames)
    still = np.ones(raw.shape[1:])
    correction = make_correction(100 * still, still, backend=backend)
    out = backend.xp.empty(raw.shape, dtype=np.float32)
    seconds = quickest(lambda: correct_frames([raw_block(raw)], correction, out), backend, options.repeat)
    record.add("calibrate", "a burst", 1e3 * seconds, "ms")
    record.add("calibrate", "raw frames from host memory", raw.nbytes / seconds / 1e9, "GB/s")


def speckle(backend: Backend, options: argparse.Namespace, record: Record) -> None:
    """
    Time and load of every step of the reconstruction, and of bursts that follow one another.

    Parameters
    ----------
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    """
    raw = raw_burst(options.side, options.frames)
    still = np.ones(raw.shape[1:])
    correction = make_correction(100 * still, still, backend=backend)
    there = correct_frames([raw_block(raw)], correction)

    def work(frames: Any = there) -> None:
        reconstruct(frames, SCALE, WAVELENGTH, backend=backend, subfield_arcsec=options.subfield)

    whole = quickest(work, backend, options.repeat)
    record.add("speckle", "a burst", whole, "s", whole < 1.0 if options.judged else None)
    watch = Stopwatch(SPECKLE_STEPS, backend)
    with watch.running():
        work()
    model = loads(options.side, options.frames, options.subfield)
    print(f"  {'step':<20}{'ms':>9}{'memory GB':>11}{'GB/s':>8}{'cache GB/s':>12}{'GFLOP/s':>10}")
    for name, seconds in watch.seconds.items():
        load = model.get(name, Load())
        rates = (value / seconds / 1e9 for value in (load.memory, load.cache, load.operations))
        numbers = "{:8.0f}{:12.0f}{:10.0f}".format(*rates)
        print(f"  {name:<20}{1e3 * seconds:9.1f}{load.memory / 1e9:11.2f}{numbers}")
        record.found["speckle, steps, ms"][name] = {"value": 1e3 * seconds, "unit": "ms", "good": None}
    record.add("speckle", "what lies between the steps", whole - sum(watch.seconds.values()), "s")
    # As the pipeline does it: a thread of its own uploads and calibrates the next burst.
    stream = backend.side_stream()

    def read() -> Any:
        with stream:
            return correct_frames([raw_block(raw)], correction)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read)
        for number in range(options.repeat + 1):
            frames, coming = coming.result(), pool.submit(read)
            if number == 1:
                start = time.perf_counter()
            work(frames)
        coming.result()
        seconds = (time.perf_counter() - start) / options.repeat
    record.add("speckle", "a burst of a sequence, from raw frames", seconds, "s")
    if hasattr(backend.xp, "get_default_memory_pool"):
        held = backend.xp.get_default_memory_pool().total_bytes() / 2**30
        record.add("speckle", "memory held at most", held, "GiB", held < 0.75 * backend.memory / 2**30)


def moving(backend: Backend, options: argparse.Namespace, record: Record) -> None:
    """
    Time of destretching frames of a running sequence, from host to host, and of its steps.

    Parameters
    ----------
    backend : Backend
        The device.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    """
    for rows, columns, limit in ((1002, 1004, 3.0), (2048, 2048, 5.0)):
        rows, columns = min(rows, options.side), min(columns, options.side)
        burst = make_burst(max(rows, columns), 4)[:, :rows, :columns]
        kernels = tuple(k for k in KERNELS if k <= min(rows, columns) // 2)
        stream = destretch.Destretcher(RunningReference(10, backend), kernels, backend=backend)
        times = []
        for number in range(4 * options.repeat + 4):
            frame = np.ascontiguousarray(burst[number % len(burst)])
            wait(backend)
            start = time.perf_counter()
            stream.push(frame)
            times.append(1e3 * (time.perf_counter() - start))
        name, milliseconds = f"{rows} x {columns}", float(np.median(times[3:]))
        record.add("destretch", name, milliseconds, "ms", milliseconds <= limit if options.judged else None)
        watch = Stopwatch(DESTRETCH_STEPS, backend)
        with watch.running():
            stream.push(frame)
        for step, seconds in watch.seconds.items():
            record.add("destretch", f"{name}, {step}", 1e3 * seconds, "ms")


def tests(backend: Backend, options: argparse.Namespace, record: Record) -> None:
    """
    The tests that need a device.

    Parameters
    ----------
    backend : Backend
        Not looked at: they make their own.
    options : argparse.Namespace
        From the command line.
    record : Record
        Where to put it.
    """
    root = Path(__file__).parents[2]
    files = ["tests/core/test_device.py", "tests/speckle/test_masking_device.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TESTS_SECONDS)
    print(done.stdout[-2000:], done.stderr[-2000:])
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    record.add("tests", "pytest -m gpu", last, verdict=done.returncode == 0 and " passed" in last)


@contextmanager
def reference(options: argparse.Namespace) -> Iterator[Callable[[], dict[str, np.ndarray]]]:
    """
    Let another process compute the CPU's results meanwhile.

    Parameters
    ----------
    options : argparse.Namespace
        From the command line.

    Yields
    ------
    callable
        Waits for them and gives them by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "expected.npz"
        sizes = ["--compare", options.compare, "--frames", options.frames, "--subfield", options.subfield]
        command = [sys.executable, __file__, "--reference", file, *sizes]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen([str(part) for part in command], env=environment)

        def results() -> dict[str, np.ndarray]:
            process.wait(options.budget)
            with np.load(file) as stored:
                return dict(stored)

        try:
            yield results
        finally:
            process.kill()
            process.wait()


def write_reference(file: Path, options: argparse.Namespace) -> None:
    """
    Compute with the CPU and store.

    Parameters
    ----------
    file : Path
        Where to.
    options : argparse.Namespace
        From the command line.
    """
    cpu = get_backend("numpy")
    found = {}
    for name, (work, _) in cases(options.compare, options.frames, options.subfield).items():
        try:
            found[name] = np.asarray(work(cpu), dtype=np.float64)
        except Exception:
            traceback.print_exc()
    np.savez(file, **found)


def main(arguments: Sequence[str] | None = None, backend: Backend | None = None) -> int:
    """
    Read the command line and run.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of the command line's.
    backend : Backend, optional
        In place of the GPU.

    Returns
    -------
    int
        Exit status: 0 if all is as it should be, 1 if not, 2 without a GPU.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2048, help="rows and columns of what is timed")
    parser.add_argument("--frames", type=int, default=64, help="of a burst")
    parser.add_argument("--compare", type=int, default=320, help="side of what the CPU computes, too")
    parser.add_argument("--subfield", type=float, default=SUBFIELD, help="arcsec")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the quickest counts")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds after which nothing is begun")
    parser.add_argument("--json", type=Path, help="where to keep what was found")
    parser.add_argument("--model", action="store_true", help="print the model, measure nothing")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.judged = (options.side, options.frames, options.subfield) == (2048, 64, SUBFIELD)
    if options.model:
        model = loads(options.side, options.frames, options.subfield)
        print(f"{'step':<20}{'memory GB':>11}{'cache GB':>10}{'GFLOP':>9}")
        for name, load in model.items():
            print(f"{name:<20}{load.memory / 1e9:11.2f}{load.cache / 1e9:10.1f}{load.operations / 1e9:9.1f}")
        return 0
    if options.reference is not None:
        write_reference(options.reference, options)
        return 0
    begin = time.perf_counter()
    record = Record(options.json)
    try:
        backend = get_backend("cupy") if backend is None else backend
    except ConfigError as error:
        print(error)
        return 2
    with reference(options) as expected:
        sections: dict[str, Callable[[], None]] = {
            "machine": lambda: machine(backend, options, record),
            "agreement with the CPU": lambda: agree(backend, options, record, expected),
            "speckle": lambda: speckle(backend, options, record),
            "destretch": lambda: moving(backend, options, record),
            "calibrate": lambda: calibration(backend, options, record),
            "tests": lambda: tests(backend, options, record),
        }
        for name, section in sections.items():
            elapsed = time.perf_counter() - begin
            print(f"{name} ({elapsed:.0f} s)", flush=True)
            if elapsed > options.budget:
                record.add(name, "left out", "no time left")
                continue
            try:
                section()
            except Exception as error:
                traceback.print_exc()
                record.add(name, "failed", f"{type(error).__name__}: {error}", verdict=False)
    print("not as it should be:", "; ".join(record.bad()) or "nothing")
    return bool(record.bad())


if __name__ == "__main__":
    sys.exit(main())
