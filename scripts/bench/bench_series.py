"""
Flicker of a sequence in changing seeing: what is left of it, and of the Sun.

    python scripts/bench/bench_series.py --bursts 300 --picture docs/images/flicker.png

Two scenes are observed through the same turbulence: one that stands still, and one whose granulation evolves
and in which parts of the field oscillate with 5 and 3 minutes and one brightens by 3 % for good. Prints the
scatter of contrast and pixels, and what is recovered of the changes, each without and with the filter; draws
the temporal power spectrum of the pixels. By default the mirror takes away tip and tilt, which the
reconstruction takes for uncorrected seeing; with more modes it fits adaptive optics, which takes longer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.fft

from stillsun import get_backend, reconstruct
from stillsun.speckle.engine import Reconstruction
from stillsun.speckle.masking.series import diffraction_limit, steady
from stillsun.synth.imaging import Imager
from stillsun.synth.mirror import AdaptiveOptics
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import Atmosphere

DIAMETER, WAVELENGTH, SCALE, SUBFIELD = 762.0, 656.3, 0.09, 7.0
BORDER, ELECTRONS = 20, 30_000
TILT = 2  # modes
PERIODS, AMPLITUDE, SIZE_ARCSEC = (300.0, 180.0), 0.03, 1.5
# Places of what oscillates, and of what brightens half way, in units of the field.
PLACES = ((0.3, 0.3), (0.7, 0.65), (0.35, 0.72))
BANDS = ((0, 1 / 400), (1 / 400, 1 / 120), (1 / 120, 1 / 30), (1 / 30, 1))


def seeing(bursts: int, cadence: float, seed: int) -> np.ndarray:
    """
    Fried parameter of each burst: slow waves and what changes from burst to burst, 7 to 14 cm.

    Parameters
    ----------
    bursts : int
        Number of bursts.
    cadence : float
        Seconds from one to the next.
    seed : int
        Seed of phases and scatter.

    Returns
    -------
    numpy.ndarray
        Metres, (bursts,).
    """
    rng = np.random.default_rng([seed, 1])
    seconds = cadence * np.arange(bursts)
    phases = rng.uniform(0, 2 * np.pi, 2)
    waves = 0.22 * np.sin(2 * np.pi * seconds / 97 + phases[0]) + 0.15 * np.sin(
        2 * np.pi * seconds / 410 + phases[1]
    )
    return np.clip(0.099 * np.exp(waves + 0.08 * rng.standard_normal(bursts)), 0.07, 0.14)


def blobs(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """
    Where parts of the field change their brightness.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image.
    rows, columns : numpy.ndarray
        Of the scene, counted in those of the image.

    Returns
    -------
    numpy.ndarray
        (3, rows, columns), 1 in the middle of each.
    """
    width = SIZE_ARCSEC / SCALE
    square = [(rows[:, None] - y * shape[0]) ** 2 + (columns[None, :] - x * shape[1]) ** 2 for y, x in PLACES]
    return np.exp(-np.array(square) / (2 * width**2))


def courses(seconds: np.ndarray) -> np.ndarray:
    """
    How they change.

    Parameters
    ----------
    seconds : numpy.ndarray
        Times.

    Returns
    -------
    numpy.ndarray
        (3, times).
    """
    waves = [np.sin(2 * np.pi * seconds / period) for period in PERIODS]
    return AMPLITUDE * np.array([*waves, (seconds >= seconds.mean()).astype(float)])


def observe(options: argparse.Namespace, moving: bool) -> tuple[list[Reconstruction], np.ndarray, np.ndarray]:
    """
    Observe and reconstruct a scene, burst by burst.

    Parameters
    ----------
    options : argparse.Namespace
        From the command line.
    moving : bool
        Granulation evolves and parts oscillate.

    Returns
    -------
    results : list of Reconstruction
        Without the filter; images of mean about 1.
    truths : numpy.ndarray
        (bursts, rows, columns) as the perfect telescope shows it; (1, ...) of a scene that stands still.
    r0 : numpy.ndarray
        True Fried parameter, metres.
    """
    shape, jacobian = (options.side,) * 2, SCALE * np.eye(2)
    order, field = (6.0, 8.0) if options.modes > TILT else (None, 0.0)
    optics = AdaptiveOptics(options.modes, 0.9, order=order, field=field)
    imager = Imager(shape, jacobian, (0.0, 0.0), WAVELENGTH * 1e-9, optics=optics)
    sun = granulation_scene(1.5 * options.side * SCALE, options.seed)
    seconds = options.cadence * np.arange(options.bursts)
    r0 = seeing(options.bursts, options.cadence, options.seed)
    air = Atmosphere(r0=0.1 * (500 / WAVELENGTH) ** 1.2, seed=options.seed, frozen=False)
    rng = np.random.default_rng([options.seed, 2])
    parts = blobs(shape, imager.rows, imager.columns)
    change = courses(seconds)
    results, truths = [], []
    begin = time.perf_counter()
    for k in range(options.bursts):
        if moving or k == 0:
            when = seconds[k] if moving else 0.0
            scene = sun.image(np.zeros(2), jacobian, imager.rows, imager.columns, when, Appearance.gband)
            if k == 0:
                level = scene.mean()
            scene = scene / level
            if moving:
                scene = scene * (1 + np.tensordot(change[:, k], parts, 1))
            prepared = imager.prepare(scene)
            truths.append(imager.ideal(prepared))
        moments = seconds[k] + options.cadence * np.arange(options.frames) / options.frames
        strength = (0.1 / r0[k]) ** (5 / 6)
        light = [imager.expose(prepared, air, float(t), strength)[0] for t in moments]
        burst = rng.poisson(ELECTRONS * np.maximum(light, 0)).astype(np.float32) / ELECTRONS
        results.append(
            reconstruct(
                burst,
                SCALE,
                WAVELENGTH,
                DIAMETER,
                deconvolve=False,
                ao_used=options.modes > TILT,
                subfield_arcsec=SUBFIELD,
            )
        )
        if k % 20 == 19:
            print(f"burst {k + 1} of {options.bursts}: {time.perf_counter() - begin:.0f} s", flush=True)
    return results, np.array(truths), r0


def held(results: list[Reconstruction], half: int) -> list[Reconstruction]:
    """
    What `reconstruct_series` makes of the bursts of these images.

    Parameters
    ----------
    results : list of Reconstruction
        Without the filter.
    half : int
        Neighbours on each side.

    Returns
    -------
    list of Reconstruction
        With it.
    """
    limit = diffraction_limit(DIAMETER, WAVELENGTH)
    return list(steady(results, (SCALE, SCALE), limit, SUBFIELD, half, get_backend("numpy")))


def inner(results: list[Reconstruction]) -> np.ndarray:
    """
    Images without their border.

    Parameters
    ----------
    results : list of Reconstruction
        Images.

    Returns
    -------
    numpy.ndarray
        (images, rows, columns) float64.
    """
    return np.array([r.image[BORDER:-BORDER, BORDER:-BORDER] for r in results], dtype=np.float64)


def spectrum(series: np.ndarray) -> np.ndarray:
    """
    Temporal spectrum of pixels.

    Parameters
    ----------
    series : numpy.ndarray
        (images, rows, columns).

    Returns
    -------
    numpy.ndarray
        Complex amplitudes, (frequencies, pixels); a white series of variance v has the power v.
    """
    flat = series.reshape(len(series), -1)
    window = np.hanning(len(flat))[:, None]
    return scipy.fft.rfft((flat - flat.mean(axis=0)) * window, axis=0) / np.sqrt((window**2).sum())


def amplitudes(series: np.ndarray, truths: np.ndarray, seconds: np.ndarray) -> list[float]:
    """
    How much of each change of brightness is kept.

    Parameters
    ----------
    series, truths : numpy.ndarray
        (images, rows, columns).
    seconds : numpy.ndarray
        Times.

    Returns
    -------
    list of float
        Of what the truth has: 5 minutes, 3 minutes, brightening.
    """
    side = truths.shape[1] + 2 * BORDER
    place = np.arange(BORDER, side - BORDER)
    kept = []
    for part, course in zip(blobs((side, side), place, place), courses(seconds), strict=True):
        # Against the mean of the field far from it: what all of it does is not the part's.
        course = course - course.mean()
        near, far = part > 0.5, part < 0.01
        found = [s[:, near].mean(axis=1) / s[:, far].mean(axis=1) for s in (series, truths)]
        kept.append(float(course @ found[0] / (course @ found[1])))
    return kept


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bursts", type=int, default=300)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--side", type=int, default=192, help="px")
    parser.add_argument("--cadence", type=float, default=2.1, help="seconds from burst to burst")
    parser.add_argument("--reach", type=float, default=300.0, help="seconds of the window on either side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", type=int, default=TILT, help="Zernike modes that the mirror corrects")
    parser.add_argument("--still", action="store_true", help="only the scene that stands still")
    parser.add_argument("--keep", type=Path, help="NPZ of what was reconstructed, read if it is there")
    parser.add_argument("--picture", type=Path, help="picture to write")
    options = parser.parse_args()
    half = round(options.reach / options.cadence)
    seconds = options.cadence * np.arange(options.bursts)
    frequencies = scipy.fft.rfftfreq(options.bursts, options.cadence)
    panels = []
    for moving in (False,) if options.still else (False, True):
        name = "evolving" if moving else "constant"
        results, truths, r0 = _kept(options, moving, name)
        whole, truth = [inner(r) for r in (results, held(results, half))], truths
        truth = truth[:, BORDER:-BORDER, BORDER:-BORDER].astype(np.float64)
        true_contrast = (truth.std(axis=(1, 2)) / truth.mean(axis=(1, 2))) * np.ones(len(seconds))
        print(f"{name}: r0 {100 * r0.min():.1f} to {100 * r0.max():.1f} cm")
        lines = []
        for label, images in zip(("without", "with"), whole, strict=True):
            level = images.mean(axis=(1, 2), keepdims=True)
            contrast = (images / level).std(axis=(1, 2)) / true_contrast
            error = images / level - truth / truth.mean(axis=(1, 2), keepdims=True)
            scatter = np.sqrt((error.std(axis=0) ** 2).mean())
            print(
                f"  {label:8s} contrast {contrast.mean():.3f} of the truth, scatter "
                f"{100 * contrast.std() / contrast.mean():.2f} %, pixels {100 * scatter:.3f} % of the mean"
            )
            lines.append(np.mean(np.abs(spectrum(images)) ** 2, axis=1))
            if not moving:
                _bands(frequencies, lines[-1])
                continue
            kept = amplitudes(images, truth, seconds)
            print("           kept: 5 min {:.3f}, 3 min {:.3f}, brightening {:.3f}".format(*kept))
            known, found = spectrum(truth), spectrum(images)
            share = np.sum((found * known.conj()).real, axis=1) / np.sum(np.abs(known) ** 2, axis=1)
            for low, high in BANDS[:3]:
                there = (frequencies > max(low, 1e-9)) & (frequencies <= high)
                print(
                    f"           amplitude {1e3 * low:.1f} to {1e3 * high:.1f} mHz: {share[there].mean():.3f}"
                )
        if moving:
            lines.append(np.mean(np.abs(spectrum(truth)) ** 2, axis=1))
        panels.append((name, lines))
    if options.picture:
        draw(options.picture, frequencies, panels)


def _kept(
    options: argparse.Namespace, moving: bool, name: str
) -> tuple[list[Reconstruction], np.ndarray, np.ndarray]:
    path = None if options.keep is None else options.keep.with_name(f"{options.keep.stem}_{name}.npz")
    if path is not None and path.exists():
        with np.load(path) as file:
            return [Reconstruction(image) for image in file["images"]], file["truths"], file["r0"]
    results, truths, r0 = observe(options, moving)
    if path is not None:
        np.savez(path, images=np.array([r.image for r in results]), truths=truths, r0=r0)
    return results, truths, r0


def _bands(frequencies: np.ndarray, power: np.ndarray) -> None:
    for low, high in BANDS:
        there = (frequencies > max(low, 1e-9)) & (frequencies <= high)
        value = 1e6 * power[there].mean()
        print(f"           {1e3 * low:5.1f} to {1e3 * high:6.1f} mHz: power {value:.2f} 1e-6")


def draw(path: Path, frequencies: np.ndarray, panels: list[tuple[str, list[np.ndarray]]]) -> None:
    """
    Temporal power spectra.

    Parameters
    ----------
    path : pathlib.Path
        Picture to write.
    frequencies : numpy.ndarray
        Hz.
    panels : list
        Name, and power without the filter, with it, and of the truth.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(panels), figsize=(6 * len(panels), 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (name, lines) in zip(axes[0], panels, strict=True):
        for label, style, power in zip(
            ("no filter", "filter", "Sun"), ("C1", "C0", "k:"), lines, strict=False
        ):
            axis.loglog(1e3 * frequencies[2:], power[2:], style, label=label)
        for period in PERIODS if name == "evolving" else ():
            axis.axvline(1e3 / period, color="0.7", lw=0.8, zorder=0)
        axis.set(title=f"{name} scene", xlabel="frequency (mHz)")
        axis.legend()
    axes[0, 0].set_ylabel("power of a pixel (mean brightness²)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
