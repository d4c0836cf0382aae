"""
Quality of the open speckle reconstruction on bursts behind adaptive optics, simulated from a real frame.

Transfer functions of uncorrected seeing, and those fitted to the field, side by side:

    python scripts/bench/bench_speckle_ao.py FRAME.fits --r0 10 --modes 24 --seeds 5 --picture ao.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from bench_speckle import DIAMETER, FIELD_STEP, expose, measure

from stillsun import reconstruct
from stillsun.synth.imaging import Imager
from stillsun.synth.mirror import AdaptiveOptics

COLUMNS = ("corr", "rms", "contrast", "p25", "p50", "frc")


def make_burst(
    frame: np.ndarray, options: argparse.Namespace, r0: float, modes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Independent exposures of a real frame's crop behind adaptive optics, and the diffraction-limited truth.

    Parameters
    ----------
    frame : numpy.ndarray
        Real frame.
    options : argparse.Namespace
        From the command line.
    r0 : float
        Fried parameter at the wavelength, metres.
    modes : int
        Corrected Zernike modes.
    seed : int
        Seed of turbulence and noise.

    Returns
    -------
    burst, truth : numpy.ndarray
        (frames, side, side) electrons, and an image of mean 1.
    """
    optics = AdaptiveOptics(modes, options.efficiency, tuple(options.lock))
    side, wavelength = options.side, options.wavelength
    jacobian = options.scale * np.eye(2)
    imager = Imager((side, side), jacobian, (0.0, 0.0), wavelength * 1e-9, optics=optics, step=FIELD_STEP)
    start = min(270, (min(frame.shape) - side) // 2)
    rows = np.clip(imager.rows + start, 40, frame.shape[0] - 41)
    columns = np.clip(imager.columns + start, 40, frame.shape[1] - 41)
    scene = frame[np.ix_(rows, columns)]
    prepared = imager.prepare(scene / scene.mean())
    burst, _ = expose(imager, prepared, options.frames, r0, wavelength, seed)
    return burst, imager.ideal(prepared)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frame", type=Path, help="real frame (FITS) that serves as scene")
    parser.add_argument("--r0", type=float, nargs="+", default=[10.0], help="cm, at the wavelength")
    parser.add_argument("--modes", type=int, nargs="+", default=[24], help="corrected Zernike modes")
    parser.add_argument("--told", type=int, help="modes that the reconstruction is told; the true ones")
    parser.add_argument("--efficiency", type=float, default=0.9, help="share of each mode that is removed")
    parser.add_argument(
        "--lock", type=float, nargs=2, default=[0.0, 0.0], help="x, y from the centre, arcsec"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side", type=int, default=448, help="px")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--wavelength", type=float, default=430.5, help="nm")
    parser.add_argument("--scale", type=float, default=0.048, help="arcsec per px")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    options = parser.parse_args()
    # A card left over from the raw file would shift float data.
    frame = np.asarray(fits.getdata(options.frame, do_not_scale_image_data=True), dtype=np.float32)
    limit = DIAMETER * 1e-3 / (options.wavelength * 1e-9) * options.scale * np.pi / 648_000
    lock = [(options.side - 1) / 2 + place / options.scale for place in options.lock]
    names = " ".join(f"{c:>9}" for c in COLUMNS)
    print(f"{'r0 cm':>6} {'modes':>5} {'seed':>5} {'transfer':<12} {names} {'r0 fit/true':>12} cpu s")
    pictures = []
    for r0 in options.r0:
        for modes in options.modes:
            rows: dict[str, list[list[float]]] = {}
            for seed in range(1, options.seeds + 1):
                burst, truth = make_burst(frame, options, r0 / 100, modes, seed)
                images = [truth, burst[burst.std(axis=(1, 2)).argmax()]]
                for name, used in (("seeing only", False), ("adaptive", True)):
                    start = time.process_time()
                    result = reconstruct(
                        burst,
                        options.scale,
                        options.wavelength,
                        DIAMETER,
                        deconvolve=False,
                        ao_used=used,
                        ao_modes=options.told or modes,
                        ao_lock_x=lock[0],
                        ao_lock_y=lock[1],
                    )
                    cost = time.process_time() - start
                    found = measure(result.image, truth, limit)
                    images.append(result.image)
                    line = [float(found[c]) for c in COLUMNS] + [result.r0 * 100 / r0, cost]
                    rows.setdefault(name, []).append(line)
                    _print(r0, modes, str(seed), name, line)
                if seed == 1:
                    pictures.append((r0, modes, images))
            for name, lines in rows.items():
                _print(r0, modes, "mean", name, list(np.mean(lines, axis=0)))
                _print(r0, modes, "+-", name, list(np.std(lines, axis=0)))
    if options.picture:
        draw(options.picture, pictures, options.scale)


def draw(path: Path, pictures: list, scale: float) -> None:
    """
    Truth, best frame, and both reconstructions, a row for each case.

    Parameters
    ----------
    path : pathlib.Path
        Picture to write.
    pictures : list
        Fried parameter, modes, images.
    scale : float
        Arcsec per pixel.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(pictures), 4, figsize=(24, 6 * len(pictures)), squeeze=False)
    titles = ("truth", "best frame", "seeing-only transfer function", "fitted field")
    for line, (r0, modes, images) in zip(axes, pictures, strict=True):
        low, high = np.percentile(images[0] / images[0].mean(), [0.5, 99.7])
        for panel, title, image in zip(line, titles, images, strict=True):
            extent = (0, image.shape[1] * scale, 0, image.shape[0] * scale)
            panel.imshow(
                image / image.mean(), vmin=low, vmax=high, cmap="gray", origin="lower", extent=extent
            )
            panel.set_title(f"{title}, r0 = {r0:g} cm, {modes} modes")
    figure.tight_layout()
    figure.savefig(path, dpi=60)


def _print(r0: float, modes: int, seed: str, name: str, line: list[float]) -> None:
    values = " ".join(f"{v:9.4f}" for v in line[: len(COLUMNS)])
    print(f"{r0:6g} {modes:5d} {seed:>5} {name:<12} {values} {line[-2]:12.3f} {line[-1]:5.1f}", flush=True)


if __name__ == "__main__":
    main()
