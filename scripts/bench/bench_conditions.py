"""
The open reconstruction under many conditions, against the truth and against the tile-aligned mean.

    python scripts/bench/bench_conditions.py                          all conditions, model granulation
    python scripts/bench/bench_conditions.py static limb --picture conditions.jpg

Turbulence near the ground, from none to poor seeing, small fields, few and dim exposures, a spot, the limb,
air that moves during an exposure, pixels that integrate, a residual flat, dust that has moved since the flat.
Printed are contrast and power over the truth's, where the ring correlation falls to a half, the rms distance
to the truth over its contrast, of the reconstruction and of the tile-aligned mean, and the Fried parameter
over the true one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.fft
from bench_speckle import DIAMETER, RINGS
from scipy import ndimage

from stillsun import reconstruct
from stillsun.speckle.stack import tile_aligned_mean
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import Atmosphere, Layer

SCALE, WAVELENGTH = 0.055, 430.5
LIMIT = DIAMETER * 1e-3 / (WAVELENGTH * 1e-9) * SCALE * np.pi / 648_000
READ_NOISE = 10.0
BOX = 128
BORDER = 24
# Time between the instants of which an exposure is made, milliseconds.
INSTANT_MS = 2.5
STRAY = 0.01
SKY_FROM, SKY_TO = 1.6, 4.0


@dataclass(frozen=True)
class Condition:
    """
    What a burst is taken through.

    Attributes
    ----------
    r0 : float
        Fried parameter at the wavelength, cm; infinite: no seeing.
    side, frames : int
        Pixels and exposures.
    electrons : float
        Mean signal.
    jitter : float
        Motion of the image as a whole, px rms an axis.
    spot, limb : bool
        What is in the field.
    exposure : float
        Milliseconds; 0: instants.
    integrate : bool
        Pixels integrate over their area.
    flat : float
        Rms of a pattern that stands still on the chip.
    dust : bool
        Specks on the chip.
    """

    r0: float = 10.0
    side: int = 256
    frames: int = 64
    electrons: float = 12_000.0
    jitter: float = 0.0
    spot: bool = False
    limb: bool = False
    exposure: float = 0.0
    integrate: bool = False
    flat: float = 0.0
    dust: bool = False


STILL = float("inf")
CONDITIONS = {
    "static": Condition(STILL),
    "jitter": Condition(STILL, jitter=2.0),
    "jitter, 240 px": Condition(STILL, jitter=2.0, side=240),
    "60 cm": Condition(60.0),
    "40 cm": Condition(40.0),
    "25 cm": Condition(25.0),
    "15 cm": Condition(15.0),
    "10 cm": Condition(),
    "7 cm": Condition(7.0),
    "6 cm, 240 px": Condition(6.0, side=240),
    "5 cm": Condition(5.0),
    "16 exposures": Condition(frames=16),
    "500 electrons": Condition(electrons=500.0),
    "spot": Condition(spot=True),
    "limb": Condition(limb=True),
    "10 ms": Condition(exposure=10.0),
    "pixels": Condition(integrate=True),
    "flat": Condition(flat=0.01),
    "dust": Condition(dust=True),
}
LAYERS = (Layer(0.0, 0.7, 10.0, 30.0), Layer(0.0, 0.3, 20.0, 112.0))
# Row and column of specks of dust, of the side; radius, px; depth.
SPECKS = ((0.4, 0.45, 4.0, 0.15), (0.6, 0.3, 8.0, 0.08), (0.3, 0.7, 2.0, 0.3))


def scene(condition: Condition, seed: int) -> np.ndarray:
    """
    What is in the sky.

    Parameters
    ----------
    condition : Condition
        Tells of spot and limb.
    seed : int
        Seed of the granulation.

    Returns
    -------
    numpy.ndarray
        Mean of the quiet Sun near 1; half a box of the point-spread function wider than the image all around.
    """
    side = condition.side
    spots = (DarkSpot(0.5, 0.3, 3.0),) if condition.spot else ()
    sun = granulation_scene(2 * side * SCALE, seed, spots=spots)
    places = np.arange(-BOX // 2, side + BOX // 2)
    corner = np.full(2, -SCALE * (side - 1) / 2)
    image = sun.image(corner, SCALE * np.eye(2), places, places, 0.0, Appearance.gband)
    if condition.limb:
        height = off_limb(places, side)
        darkening = 0.35 + 0.65 * np.sqrt(np.clip(-height, 0.0, None) / 60.0)
        faint = 1.0 + 0.4 * (image / image.mean() - 1.0)
        image = np.where(height < 0, darkening * faint, 0.0) + STRAY
    return np.asarray(image, dtype=np.float32)


def off_limb(places: np.ndarray, side: int) -> np.ndarray:
    """
    Height above the limb, which crosses the field aslant.

    Parameters
    ----------
    places : numpy.ndarray
        Rows, and columns.
    side : int
        Side of the image.

    Returns
    -------
    numpy.ndarray
        Arcsec, (rows, columns).
    """
    radius, turn = 960.0, np.radians(20.0)
    y, x = (places[:, None] - 0.55 * side) * SCALE, (places - side / 2) * SCALE
    up, across = y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
    return np.asarray(np.hypot(radius + up, across) - radius)


class Telescope:
    """
    A round telescope under turbulence near the ground: one function for the whole field.

    Parameters
    ----------
    side : int
        Pixels of the image; the sky is half a box wider all around.
    """

    def __init__(self, side: int) -> None:
        self._side = scipy.fft.next_fast_len(side + BOX, real=True)
        self._shown = slice(BOX // 2, BOX // 2 + side)
        axis = np.arange(BOX) - BOX // 2
        metres = axis * (WAVELENGTH * 1e-9 / (BOX * SCALE * np.pi / 648_000))
        x, y = np.meshgrid(metres, metres)
        self._inside = np.hypot(x, y) <= DIAMETER / 2000
        self._places = np.stack([x[self._inside], y[self._inside]], axis=1)

    def image(self, sky: np.ndarray, paths: list[np.ndarray], integrate: bool = False) -> np.ndarray:
        """
        What a camera sees.

        Parameters
        ----------
        sky : numpy.ndarray
            From `scene`.
        paths : list of numpy.ndarray
            Path differences over the pupil at the instants of the exposure, metres.
        integrate : bool
            Pixels integrate over their area.

        Returns
        -------
        numpy.ndarray
            (side, side).
        """
        total = np.zeros((BOX, BOX))
        for path in paths:
            field = np.zeros((BOX, BOX), dtype=complex)
            field[self._inside] = np.exp(2j * np.pi / (WAVELENGTH * 1e-9) * path)
            total += np.abs(np.fft.fftshift(scipy.fft.fft2(field))) ** 2
        wide = np.zeros((self._side, self._side))
        wide[:BOX, :BOX] = total / total.sum()
        transfer = scipy.fft.rfft2(np.roll(wide, (-BOX // 2,) * 2, (0, 1)))
        if integrate:
            y, x = scipy.fft.fftfreq(self._side)[:, None], scipy.fft.rfftfreq(self._side)
            transfer = transfer * np.sinc(y) * np.sinc(x)
        mean = float(sky.mean())
        spectrum = scipy.fft.rfft2(sky - mean, s=wide.shape) * transfer
        return mean + scipy.fft.irfft2(spectrum, s=wide.shape)[self._shown, self._shown]

    def path(self, air: Atmosphere | None, key: float = 0.0, before: float = 0.0) -> np.ndarray:
        """
        Path differences over the pupil.

        Parameters
        ----------
        air : Atmosphere or None
            The turbulence; None: there is none.
        key, before : float
            Number of the exposure, and seconds before it.

        Returns
        -------
        numpy.ndarray
            Metres.
        """
        if air is None:
            return np.zeros(len(self._places))
        return air.path(self._places, np.zeros((1, 2)), key, 1.0, before)[0]


def make_burst(condition: Condition, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Independent exposures, and the diffraction-limited truth.

    Parameters
    ----------
    condition : Condition
        What they are taken through.
    seed : int
        Seed of everything random.

    Returns
    -------
    burst, truth : numpy.ndarray
        (frames, side, side) electrons, and an image of about mean 1.
    """
    side, integrate = condition.side, condition.integrate
    shape = (side, side)
    telescope, sky = Telescope(side), scene(condition, seed)
    truth = telescope.image(sky, [telescope.path(None)])
    still = telescope.image(sky, [telescope.path(None)], integrate)
    rng = np.random.default_rng(seed)
    air = None
    if np.isfinite(condition.r0):
        r0 = condition.r0 / 100 * (500.0 / WAVELENGTH) ** 1.2
        air = Atmosphere(LAYERS, r0, 20.0, seed, frozen=False)
    pattern = 1.0 + condition.flat * rng.standard_normal(shape)
    if condition.dust:
        y, x = np.mgrid[0:side, 0:side]
        for row, column, radius, depth in SPECKS:
            distance = np.hypot(y - row * side, x - column * side)
            pattern *= 1.0 - depth * np.exp(-0.5 * (distance / radius) ** 4)
    earlier = INSTANT_MS / 1000 * np.arange(max(1, round(condition.exposure / INSTANT_MS)))
    burst = np.empty((condition.frames, *shape), dtype=np.float32)
    for k in range(condition.frames):
        if air is not None:
            image = telescope.image(sky, [telescope.path(air, float(k), t) for t in earlier], integrate)
        else:
            # A periodic move of what is shown; the border is left out of the comparison.
            move = condition.jitter * rng.standard_normal(2)
            image = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(still), move)).real
        light = np.maximum(image * pattern, 0.0) * condition.electrons
        burst[k] = np.rint(rng.poisson(light) + READ_NOISE * rng.standard_normal(shape))
    return burst, truth.astype(np.float32)


def figures(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare an image with the truth inside a border.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (rows, columns).

    Returns
    -------
    dict
        contrast, p25, p50 (over the truth's), frc (of the diffraction limit), distance (rms, over the
        contrast of the truth).
    """
    inside = (slice(BORDER, -BORDER),) * 2
    a = truth[inside] / truth[inside].mean()
    b = image[inside] / image[inside].mean()
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    spectra = [scipy.fft.fft2((c - 1) * window) for c in (a, b)]
    # The image lies where the mean of the burst does: a fraction of a pixel off the truth.
    shift = _offset(*spectra)
    b = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image.astype(float)), shift)).real[inside]
    b /= b.mean()
    one, two = (scipy.fft.fft2((c - c.mean()) * window) for c in (a, b))
    q = np.hypot(scipy.fft.fftfreq(a.shape[0])[:, None], scipy.fft.fftfreq(a.shape[1])) / LIMIT
    ring = np.minimum((q * RINGS).astype(int), RINGS).ravel()
    sums = [
        np.bincount(ring, v.ravel(), RINGS + 1)[:RINGS]
        for v in (np.abs(one) ** 2, np.abs(two) ** 2, (one * two.conj()).real)
    ]
    axis = (np.arange(RINGS) + 0.5) / RINGS
    ratio = sums[1] / sums[0]
    correlation = sums[2] / np.sqrt(sums[0] * sums[1])
    below = np.flatnonzero(correlation < 0.5)
    return {
        "contrast": float(b.std() / a.std()),
        "p25": float(np.interp(0.25, axis, ratio)),
        "p50": float(np.interp(0.50, axis, ratio)),
        "frc": float(axis[below[0]]) if len(below) else 1.0,
        "distance": float((a - b).std() / a.std()),
    }


def _offset(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shift (y, x) that brings the second spectrum's image onto the first's."""
    plane = scipy.fft.ifft2(reference * other.conj()).real
    peak = np.unravel_index(plane.argmax(), plane.shape)
    shift = []
    for axis, at in enumerate(peak):
        line = np.moveaxis(plane, axis, 0)[:, peak[1 - axis]]
        before, centre, after = line[at - 1], line[at], line[(at + 1) % len(line)]
        offset = at + 0.5 * (before - after) / (before - 2 * centre + after)
        shift.append((offset + len(line) / 2) % len(line) - len(line) / 2)
    return np.array(shift)


def sky_error(image: np.ndarray, truth: np.ndarray) -> float:
    """
    Error of the sky off the limb.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (rows, columns).

    Returns
    -------
    float
        Rms of the difference between 1.6 and 4 arcsec off the limb, over the mean of the field.
    """
    height = off_limb(np.arange(len(truth)), len(truth))
    part = (height > SKY_FROM) & (height < SKY_TO)
    part[:BORDER] = part[-BORDER:] = False
    part[:, :BORDER] = part[:, -BORDER:] = False
    return float(np.sqrt(np.mean((image / image.mean() - truth / truth.mean())[part] ** 2)))


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("conditions", nargs="*", metavar="CONDITION", help="; ".join(CONDITIONS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--frames", type=int, help="exposures, in place of the conditions' own")
    parser.add_argument("--keep", type=Path, help="directory in which bursts are kept for the next time")
    parser.add_argument("--picture", type=Path, help="picture to write")
    options = parser.parse_args()
    unknown = set(options.conditions) - set(CONDITIONS)
    if unknown:
        sys.exit(f"unknown condition: {', '.join(sorted(unknown))}")
    names = ("contrast", "p25", "p50", "frc", "distance")
    print(
        f"{'condition':<16} {'seed':>4}", *(f"{n:>9}" for n in names), f"{'of mean':>9} {'r0 found/true':>14}"
    )
    pictures = []
    for name in options.conditions or CONDITIONS:
        condition = CONDITIONS[name]
        if options.frames:
            condition = replace(condition, frames=options.frames)
        for seed in range(options.first, options.first + options.seeds):
            burst, truth = kept(condition, seed, options.keep)
            # What the telescope's own files tell; all else is left to the reconstruction.
            given = {"exposure_ms": condition.exposure, "pixel_mtf": condition.integrate}
            result = reconstruct(burst, SCALE, WAVELENGTH, DIAMETER, deconvolve=False, **given)
            mean = tile_aligned_mean(burst).image
            found, plain = figures(result.image, truth), figures(mean, truth)
            r0 = result.r0 * 100 / condition.r0 if np.isfinite(condition.r0) else np.nan
            line = " ".join(f"{found[n]:9.3f}" for n in names)
            more = ""
            if condition.limb:
                more = f"  sky {sky_error(result.image, truth):.4f}, of mean {sky_error(mean, truth):.4f}"
            verdict = "" if found["distance"] <= plain["distance"] else "  FARTHER"
            print(
                f"{name:<16} {seed:4d} {line} {plain['distance']:9.3f} {r0:14.3f}{more}{verdict}", flush=True
            )
            if result.notes:
                print("   ", "; ".join(result.notes))
            if seed == options.first:
                pictures.append((name, truth, burst[0], mean, result.image))
    if options.picture:
        draw(options.picture, pictures)


def kept(condition: Condition, seed: int, directory: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """
    A burst, from the directory where it is there already.

    Parameters
    ----------
    condition : Condition
        What it is taken through.
    seed : int
        Seed.
    directory : pathlib.Path or None
        Where bursts are kept.

    Returns
    -------
    burst, truth : numpy.ndarray
        As from `make_burst`.
    """
    if directory is None:
        return make_burst(condition, seed)
    values = [str(v) for v in vars(condition).values()]
    file = directory / ("-".join([*values, str(seed)]) + ".npz")
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        burst, truth = make_burst(condition, seed)
        np.savez(file, burst=burst.astype(np.float32), truth=truth)
    with np.load(file) as data:
        return data["burst"], data["truth"]


def draw(path: Path, pictures: list[tuple]) -> None:
    """
    Truth, one exposure, tile-aligned mean and reconstruction, a row for each condition.

    Parameters
    ----------
    path : pathlib.Path
        Picture to write.
    pictures : list of tuple
        Name and images.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(pictures), 4, figsize=(16, 4.2 * len(pictures)), squeeze=False)
    titles = ("truth", "one exposure", "tile-aligned mean", "reconstruction")
    for line, (name, *images) in zip(axes, pictures, strict=True):
        low, high = np.percentile(images[0] / images[0].mean(), [0.5, 99.7])
        for panel, title, image in zip(line, titles, images, strict=True):
            panel.imshow(image / image.mean(), vmin=low, vmax=high, cmap="gray", origin="lower")
            panel.set_title(f"{name}: {title}")
            panel.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=60)


if __name__ == "__main__":
    main()
