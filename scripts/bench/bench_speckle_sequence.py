"""
A sequence of bursts of granulation that evolves: jumps between frames, seams between subfields.

    python scripts/bench/bench_speckle_sequence.py --bursts 20 --r0 10

Prints for each burst the Fried parameter found, contrast and correlation, and at the end their scatter, how
much more reconstructed frames change from one to the next than the Sun does, and the power at the frequencies
of the subfields' grid over that beside them.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.fft
from bench_speckle import BORDER, DIAMETER, FIELD_STEP, aligned, expose

from stillsun import reconstruct
from stillsun.synth.imaging import Imager
from stillsun.synth.scene import Appearance, granulation_scene

HARMONICS = 4


def seam_excess(images: np.ndarray, truths: np.ndarray, step: float) -> float:
    """
    Power at the frequencies of a grid over that beside them, each over that of the truth.

    Parameters
    ----------
    images, truths : numpy.ndarray
        (frames, rows, columns) of mean 1; seams run along the last axis.
    step : float
        Period of the grid, pixels.

    Returns
    -------
    float
        Ratio less one, mean of the first harmonics.
    """
    length = images.shape[1]
    window = np.hanning(length)
    # The window's spectrum is four of its frequency pixels wide.
    grid = np.arange(1, HARMONICS + 1) / step
    beside = np.concatenate([grid - 2.2 / length, grid + 2.2 / length])

    def power(frames: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        wave = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(length))) * window
        across = scipy.fft.fft((frames - 1) * np.hanning(frames.shape[2]), axis=2)
        # A seam runs through the frame: its power is where the frequency along it is near zero.
        return (np.abs(wave @ across[:, :, [-2, -1, 0, 1, 2]]) ** 2).sum(axis=(0, 2))

    gain = [power(images, f) / power(truths, f) for f in (grid, beside)]
    return float(gain[0].mean() / gain[1].mean() - 1)


def change(frames: np.ndarray) -> float:
    """
    Rms difference of consecutive frames.

    Parameters
    ----------
    frames : numpy.ndarray
        (frames, rows, columns).

    Returns
    -------
    float
        Over the contrast of the frames.
    """
    return float(np.diff(frames, axis=0).std() / frames.std(axis=(1, 2)).mean())


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--r0", type=float, default=10.0, help="cm, at the wavelength")
    parser.add_argument("--side", type=int, default=448, help="px")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--cadence", type=float, default=10.0, help="seconds from burst to burst")
    parser.add_argument("--wavelength", type=float, default=430.5, help="nm")
    parser.add_argument("--scale", type=float, default=0.048, help="arcsec per px")
    options = parser.parse_args()
    jacobian = options.scale * np.eye(2)
    imager = Imager((options.side,) * 2, jacobian, (0.0, 0.0), options.wavelength * 1e-9, step=FIELD_STEP)
    sun = granulation_scene(2 * options.side * options.scale, 1)
    images, truths, table = [], [], []
    print(f"{'burst':>5} {'r0 fit/true':>12} {'contrast':>9} {'corr':>8}")
    for number in range(options.bursts):
        seconds = number * options.cadence
        scene = sun.image(np.zeros(2), jacobian, imager.rows, imager.columns, seconds, Appearance.gband)
        prepared = imager.prepare(scene / scene.mean())
        burst, _ = expose(
            imager, prepared, options.frames, options.r0 / 100, options.wavelength, 1000 + number
        )
        result = reconstruct(burst, options.scale, options.wavelength, DIAMETER, deconvolve=False)
        truth = imager.ideal(prepared)
        image = aligned(result.image, truth)
        truth = truth[BORDER:-BORDER, BORDER:-BORDER]
        images.append(image)
        truths.append(truth / truth.mean())
        row = (
            result.r0 * 100 / options.r0,
            images[-1].std() / truths[-1].std(),
            np.corrcoef(images[-1].ravel(), truths[-1].ravel())[0, 1],
        )
        table.append(row)
        print(f"{number:5d} {row[0]:12.3f} {row[1]:9.3f} {row[2]:8.4f}", flush=True)
    print(" mean {:12.3f} {:9.3f} {:8.4f}".format(*np.mean(table, axis=0)))
    print("   +- {:12.3f} {:9.3f} {:8.4f}".format(*np.std(table, axis=0)))
    frames, known = np.array(images), np.array(truths)
    print(f"change from frame to frame over contrast: {change(frames):.3f}, of the truth {change(known):.3f}")
    for axis, name in enumerate(("rows", "columns")):
        turned = (np.moveaxis(a, axis + 1, 1) for a in (frames, known))
        step = float(np.diff(result.centres[axis]).mean())
        print(f"excess power at the grid of the subfields, {name}: {seam_excess(*turned, step):+.3f}")


if __name__ == "__main__":
    main()
