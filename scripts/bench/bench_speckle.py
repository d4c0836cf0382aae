"""
Quality and cost of the open speckle reconstruction on bursts simulated from a real frame.

Quality, as a table over Fried parameters and seeds, with a picture:

    python scripts/bench/bench_speckle.py FRAME.fits --r0 7 10 15 --seeds 5 --picture speckle.jpg

Cost of a 1000 x 1000 x 64 burst on one thread and on several:

    python scripts/bench/bench_speckle.py FRAME.fits --cost 1 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.fft
from astropy.io import fits
from scipy import ndimage

from stillsun import get_backend, reconstruct
from stillsun.synth.imaging import Imager, PreparedScene
from stillsun.synth.seeing import Atmosphere, Layer

LAYERS = (Layer(0.0, 0.7, 6.0, 30.0), Layer(6000.0, 0.3, 18.0, 112.0))
DIAMETER = 762.0
ELECTRONS = 12_000.0
READ_NOISE = 10.0
# Distance of the simulator's field points, px: at its usual 64 blending takes up to a fifth of the power.
FIELD_STEP = 32
BORDER = 72
# Border left out of the picture, px.
SHOWN = 110
RINGS = 40


def expose(
    imager: Imager,
    prepared: PreparedScene,
    frames: int,
    r0: float,
    wavelength: float,
    seed: int,
    flat: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Independent exposures of a scene, with photon and read noise.

    Parameters
    ----------
    imager : Imager
        Telescope and camera.
    prepared : PreparedScene
        Scene of mean brightness 1.
    frames : int
        Number of exposures.
    r0 : float
        Fried parameter at the wavelength, metres.
    wavelength : float
        Nanometres.
    seed : int
        Seed of turbulence and noise.
    flat : bool, optional
        All turbulence on the ground: no distortion within the field.

    Returns
    -------
    burst : numpy.ndarray
        (frames, rows, columns) electrons.
    motion : numpy.ndarray
        Mean motion (y, x) of the image at the imager's field points, (2, points y, points x) pixels.
    """
    layers = (Layer(0.0, 1.0, 6.0, 30.0),) if flat else LAYERS
    atmosphere = Atmosphere(layers, r0 * (500.0 / wavelength) ** 1.2, 20.0, seed, frozen=False)
    rng = np.random.default_rng(seed)
    burst = np.empty((frames, *imager.shape), dtype=np.float32)
    motion = np.zeros((2, len(imager.point_rows), len(imager.point_columns)))
    for k in range(frames):
        image, shifts = imager.expose(prepared, atmosphere, float(k))
        motion += shifts / frames
        light = np.maximum(image, 0.0) * ELECTRONS
        burst[k] = np.rint(rng.poisson(light) + READ_NOISE * rng.standard_normal(light.shape))
    return burst, motion


def make_burst(
    frame: np.ndarray,
    side: int,
    frames: int,
    r0: float,
    wavelength: float,
    scale: float,
    seed: int,
    flat: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Independent exposures of a real frame's crop, the diffraction-limited truth, and it distorted.

    Parameters
    ----------
    frame : numpy.ndarray
        Real frame; its crop starts at (270, 270) or where it fits.
    side, frames : int
        Side of the crop and number of exposures.
    r0 : float
        Fried parameter at the wavelength, metres.
    wavelength, scale : float
        Nanometres, arcsec per pixel.
    seed : int
        Seed of turbulence and noise.
    flat : bool
        All turbulence on the ground: no distortion within the field.

    Returns
    -------
    burst, truth, distorted : numpy.ndarray
        (frames, side, side) electrons, and images of mean 1; the last one has the mean geometry of the
        burst.
    """
    imager = Imager((side, side), scale * np.eye(2), (0.0, 0.0), wavelength * 1e-9, step=FIELD_STEP)
    start = min(270, (min(frame.shape) - side) // 2)
    rows = np.clip(imager.rows + start, 40, frame.shape[0] - 41)
    columns = np.clip(imager.columns + start, 40, frame.shape[1] - 41)
    scene = frame[np.ix_(rows, columns)]
    prepared = imager.prepare(scene / scene.mean())
    burst, motion = expose(imager, prepared, frames, r0, wavelength, seed, flat)
    truth = imager.ideal(prepared)
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    step = imager.point_rows[1]
    field = [ndimage.map_coordinates(m, [y / step, x / step], order=3, mode="nearest") for m in motion]
    distorted = ndimage.map_coordinates(truth, [y - field[0], x - field[1]], order=5, mode="reflect")
    return burst, truth, distorted


def aligned(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """
    Shift an image, to a fraction of a pixel, onto the truth.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (rows, columns).

    Returns
    -------
    numpy.ndarray
        The shifted image, mean 1 inside the border.
    """
    window = np.outer(np.hanning(truth.shape[0]), np.hanning(truth.shape[1]))
    spectra = [scipy.fft.fft2((a / a.mean() - 1) * window) for a in (truth, image)]
    plane = scipy.fft.ifft2(spectra[0] * np.conj(spectra[1])).real
    peak = np.unravel_index(plane.argmax(), plane.shape)
    shift = []
    for axis, at in enumerate(peak):
        line = np.moveaxis(plane, axis, 0)[:, peak[1 - axis]]
        before, centre, after = line[at - 1], line[at], line[(at + 1) % len(line)]
        offset = at + 0.5 * (before - after) / (before - 2 * centre + after)
        shift.append((offset + len(line) / 2) % len(line) - len(line) / 2)
    moved = ndimage.shift(image.astype(np.float64), shift, order=5, mode="reflect")
    inside = moved[BORDER:-BORDER, BORDER:-BORDER]
    return inside / inside.mean()


def measure(image: np.ndarray, truth: np.ndarray, limit: float) -> dict[str, np.ndarray | float]:
    """
    Compare an image with the truth inside the border.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (rows, columns).
    limit : float
        Diffraction limit, cycles per pixel.

    Returns
    -------
    dict
        corr, rms, contrast (ratio), p25, p50 (power ratios), frc (first crossing of 0.5, of the limit),
        and the curves q, ring, power.
    """
    a = truth[BORDER:-BORDER, BORDER:-BORDER] / truth[BORDER:-BORDER, BORDER:-BORDER].mean()
    b = aligned(image, truth)
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    one, two = (scipy.fft.fft2((c - c.mean()) * window) for c in (a, b))
    q = np.hypot(scipy.fft.fftfreq(a.shape[0])[:, None], scipy.fft.fftfreq(a.shape[1])) / limit
    ring = np.minimum((q * RINGS).astype(int), RINGS).ravel()

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring, values.ravel(), RINGS + 1)[:RINGS]

    powers = total(np.abs(one) ** 2), total(np.abs(two) ** 2)
    correlation = total((one * np.conj(two)).real) / np.sqrt(powers[0] * powers[1])
    ratio = powers[1] / powers[0]
    axis = (np.arange(RINGS) + 0.5) / RINGS
    below = np.flatnonzero(correlation < 0.5)
    crossing = 1.0
    if len(below) and below[0] > 0:
        k = below[0]
        share = (correlation[k - 1] - 0.5) / (correlation[k - 1] - correlation[k])
        crossing = axis[k - 1] + share / RINGS
    return {
        "corr": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        "rms": float((a - b).std()),
        "contrast": float(b.std() / a.std()),
        "p25": float(np.interp(0.25, axis, ratio)),
        "p50": float(np.interp(0.50, axis, ratio)),
        "frc": float(crossing),
        "q": axis,
        "ring": correlation,
        "power": ratio,
    }


def tile_mean(burst: np.ndarray, shifts: np.ndarray, centres: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """
    Mean of the burst after each frame is moved by the subfields' tracking.

    Parameters
    ----------
    burst : numpy.ndarray
        (frames, rows, columns).
    shifts : numpy.ndarray
        (frames, 2, subfields y, subfields x) pixels.
    centres : tuple of numpy.ndarray
        Rows and columns of the subfields.

    Returns
    -------
    numpy.ndarray
        (rows, columns).
    """
    y, x = np.mgrid[0 : burst.shape[1], 0 : burst.shape[2]].astype(np.float64)
    at = [np.interp(axis, c, np.arange(len(c))) for axis, c in zip((y, x), centres, strict=True)]
    total = np.zeros(burst.shape[1:])
    for frame, shift in zip(burst, shifts, strict=True):
        field = [ndimage.map_coordinates(s, at, order=1) for s in shift]
        total += ndimage.map_coordinates(frame, [y - field[0], x - field[1]], order=1, mode="reflect")
    return total / len(burst)


def quality(frame: np.ndarray, options: argparse.Namespace) -> None:
    """
    Print the table of quality, and draw the picture.

    Parameters
    ----------
    frame : numpy.ndarray
        Real frame.
    options : argparse.Namespace
        From the command line.
    """
    limit = DIAMETER * 1e-3 / (options.wavelength * 1e-9) * options.scale * np.pi / 648_000
    columns = ("corr", "rms", "contrast", "p25", "p50", "frc")
    print(
        f"{'r0 cm':>6} {'seed':>5} {'image':<15}", *(f"{c:>9}" for c in columns), f"{'r0 fit/true':>12} cpu s"
    )
    pictures = []
    for r0 in options.r0:
        rows: dict[str, list[list[float]]] = {}
        for seed in range(options.first, options.first + options.seeds):
            burst, truth, distorted = make_burst(
                frame,
                options.side,
                options.frames,
                r0 / 100,
                options.wavelength,
                options.scale,
                seed,
                options.flat,
            )
            start = time.process_time()
            result = reconstruct(
                burst, options.scale, options.wavelength, DIAMETER, deconvolve=False, method=options.method
            )
            cost = time.process_time() - start
            best = burst[burst.std(axis=(1, 2)).argmax()]
            mean = tile_mean(burst, result.shifts, result.centres)
            cases = {
                "best frame": (best, truth),
                "tile mean": (mean, truth),
                "speckle": (result.image, truth),
                "speckle, own g.": (result.image, distorted),
            }
            found = {name: measure(*pair, limit) for name, pair in cases.items()}
            for name, values in found.items():
                fit = result.r0 * 100 / r0 if name == "speckle" else np.nan
                rows.setdefault(name, []).append([*(float(values[c]) for c in columns), fit, cost])
            if seed == 1:
                pictures.append((r0, truth, best, mean, result.image, found))
        for name, values in rows.items():
            for label, line in (("mean", np.mean(values, axis=0)), ("+-", np.std(values, axis=0))):
                print(
                    f"{r0:6g} {label:>5} {name:<15}",
                    *(f"{v:9.4f}" for v in line[:6]),
                    f"{line[6]:12.3f} {line[7]:5.1f}",
                )
    if options.picture:
        draw(options.picture, pictures, options.scale)


def draw(path: Path, pictures: list, scale: float) -> None:
    """
    Truth, best frame, tile mean, reconstruction (middle of the frame), ring correlation and power, by burst.

    Parameters
    ----------
    path : pathlib.Path
        Picture to write.
    pictures : list
        From `quality`.
    scale : float
        Arcsec per pixel.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(pictures), 6, figsize=(20, 3.4 * len(pictures)), squeeze=False)
    for axis, (r0, truth, best, mean, image, found) in zip(axes, pictures, strict=True):
        low, high = np.percentile(truth / truth.mean(), [0.5, 99.7])
        names = (None, "best frame", "tile mean", "speckle")
        for panel, name, picture in zip(axis, names, (truth, best, mean, image), strict=False):
            middle = picture[(slice(SHOWN, -SHOWN),) * 2] / picture.mean()
            extent = (0, middle.shape[1] * scale, 0, middle.shape[0] * scale)
            panel.imshow(middle, vmin=low, vmax=high, cmap="gray", origin="lower", extent=extent)
            if name is None:
                panel.set_title(f"truth, $r_0$ = {r0:g} cm")
                panel.set_ylabel("arcsec")
            else:
                values = found[name]
                numbers = f"correlation {values['corr']:.3f}, contrast x{values['contrast']:.2f}"
                panel.set_title(f"{name}: {numbers}", fontsize="small")
                panel.set_yticks([])
        for name in names[1:]:
            axis[4].plot(found[name]["q"], found[name]["ring"], label=name)
            axis[5].semilogy(found[name]["q"], found[name]["power"], label=name)
        axis[4].axhline(0.5, color="k", lw=0.5)
        axis[4].set_title("Fourier ring correlation")
        axis[5].axhline(1.0, color="k", lw=0.5)
        axis[5].set_ylim(1e-3, 10)
        axis[5].set_title("power / truth power")
        for panel in axis[4:]:
            panel.set_xlabel("f / diffraction limit")
    axes[0, 4].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def cost(frame: np.ndarray, options: argparse.Namespace) -> None:
    """
    Print CPU and wall time of a 1000 x 1000 burst for several numbers of threads.

    Parameters
    ----------
    frame : numpy.ndarray
        Real frame.
    options : argparse.Namespace
        From the command line.
    """
    burst, _, _ = make_burst(frame, 500, options.frames, 0.1, options.wavelength, options.scale, 1, False)
    burst = np.tile(burst, (1, 2, 2))
    for threads in (options.cost[0], *options.cost):
        backend = get_backend("numpy", threads=threads)
        times = []
        for _ in range(options.repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            reconstruct(
                burst, options.scale, options.wavelength, DIAMETER, backend=backend, method=options.method
            )
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = np.min(times, axis=0)
        print(f"{'x'.join(map(str, burst.shape))}, {threads} threads: {wall:.2f} s, {cpu:.2f} core-s")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frame", type=Path, help="real frame (FITS) that serves as scene")
    parser.add_argument(
        "--r0", type=float, nargs="+", default=[7.0, 10.0, 15.0], help="cm, at the wavelength"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--side", type=int, default=448, help="px")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--wavelength", type=float, default=430.5, help="nm")
    parser.add_argument("--scale", type=float, default=0.048, help="arcsec per px")
    parser.add_argument("--flat", action="store_true", help="all turbulence on the ground")
    parser.add_argument(
        "--method", choices=("triple_correlation", "knox_thompson"), default="triple_correlation"
    )
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument(
        "--cost", type=int, nargs="+", metavar="THREADS", help="measure time instead of quality"
    )
    parser.add_argument("--repeat", type=int, default=2, help="runs of which the quickest counts")
    options = parser.parse_args()
    # A card left over from the raw file would shift float data.
    frame = np.asarray(fits.getdata(options.frame, do_not_scale_image_data=True), dtype=np.float32)
    if options.cost:
        cost(frame, options)
    else:
        quality(frame, options)


if __name__ == "__main__":
    main()
