"""
An observation behind adaptive optics by a simulator other than the package's own, and its photometry.

    python scripts/bench/observe_ao.py                               all cases, seed 1
    python scripts/bench/observe_ao.py "two, 10 cm" spot --seeds 3 --told --keep DIRECTORY

Of the package it has the scene and the Zernike polynomials only. Turbulence is frozen and drifts over the
telescope between the exposures of a burst. A Shack-Hartmann sensor measures the mean slopes of its 76
subapertures over a field of 8 arcsec, with noise and aliasing; the mirror takes off the Zernike modes that
fit them, late, the less the higher their radial order. Printed are contrast and power over the truth's, the
rms distance to the truth over its contrast, that of the tile-aligned mean, the Fried parameter over the true
one, and CPU seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import scipy.fft
from bench_conditions import figures

from stillsun import reconstruct
from stillsun.core.zernike import noll_indices, zernike_basis
from stillsun.speckle.stack import tile_aligned_mean
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.scene import Appearance, granulation_scene

SCALE, WAVELENGTH, DIAMETER = 0.055, 430.5e-9, 0.762
ARCSEC = np.pi / 648_000
ELECTRONS, READ_NOISE = 12_000.0, 10.0
FRAMES, SIDE = 48, 320
EXPOSURES_PER_SECOND = 30.0
# Side of the point-spread function; of the cells of the image that share one; what a cell's scene needs.
BOX, CELL = 128, 32
PATCH = BOX + 2 * CELL
SCREEN, SCREEN_PIXEL, OUTER_SCALE = 3072, 0.0126, 20.0
# The sensor: subapertures across the pupil, directions along a side of its field, noise of a slope (rad/m).
SUBAPERTURES, DIRECTIONS, SENSOR_FIELD = 10, 3, 8.0
SLOPE_NOISE = 1.5
LAG = 0.002
# Height (m), share, speed (m/s), direction (degrees).
TWO = ((0.0, 0.7, 8.0, 20.0), (7000.0, 0.3, 22.0, 130.0))
FOUR = (
    (0.0, 0.5, 7.0, 60.0),
    (1000.0, 0.2, 9.0, -20.0),
    (4500.0, 0.2, 15.0, 100.0),
    (11000.0, 0.1, 28.0, 150.0),
)


@dataclass(frozen=True)
class Case:
    """
    What a burst is taken through.

    Attributes
    ----------
    layers : tuple
        Height, share, speed and direction of each layer.
    r0 : float
        Fried parameter at the wavelength, cm.
    modes : int
        Zernike modes after piston that are corrected; 0: none.
    half : float
        Radial order of which half as much is removed as of tip and tilt.
    spot : bool
        A sunspot lies at the lock point.
    """

    layers: tuple[tuple[float, float, float, float], ...]
    r0: float
    modes: int = 50
    half: float = 7.0
    spot: bool = False


CASES = {
    "two, 7 cm": Case(TWO, 7.0),
    "two, 10 cm": Case(TWO, 10.0),
    "two, 15 cm": Case(TWO, 15.0),
    "four, 7 cm": Case(FOUR, 7.0),
    "four, 10 cm": Case(FOUR, 10.0),
    "four, 15 cm": Case(FOUR, 15.0),
    "35 modes": Case(TWO, 10.0, modes=35),
    "no correction": Case(TWO, 10.0, modes=0),
    "spot": Case(TWO, 10.0, spot=True),
}


class Air:
    """
    Frozen layers of von Karman turbulence.

    Parameters
    ----------
    case : Case
        Layers and Fried parameter.
    rng : numpy.random.Generator
        Source of randomness.
    """

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        height, share, speed, turn = np.array(case.layers).T
        self._height = height
        self._wind = np.stack([speed * np.cos(np.radians(turn)), speed * np.sin(np.radians(turn))], axis=1)
        self._start = rng.uniform(0.0, SCREEN * SCREEN_PIXEL, self._wind.shape)
        frequency = scipy.fft.fftfreq(SCREEN, SCREEN_PIXEL)[:, None], scipy.fft.rfftfreq(SCREEN, SCREEN_PIXEL)
        square = frequency[0] ** 2 + frequency[1] ** 2 + OUTER_SCALE**-2
        amplitude = np.sqrt(0.0229 * (case.r0 / 100) ** (-5 / 3)) * square ** (-11 / 12) / SCREEN_PIXEL
        amplitude[0, 0] = 0.0
        screens = []
        for part in share / share.sum():
            white = scipy.fft.rfft2(rng.standard_normal((SCREEN, SCREEN), dtype=np.float32))
            screens.append(scipy.fft.irfft2((np.sqrt(part) * amplitude).astype(np.float32) * white))
        self._screens = np.stack(screens)

    def phase(self, pupil: np.ndarray, directions: np.ndarray, seconds: float) -> np.ndarray:
        """
        Phase over the pupil.

        Parameters
        ----------
        pupil : numpy.ndarray
            Places (x, y), metres, (points, 2).
        directions : numpy.ndarray
            Directions (x, y), arcsec, (directions, 2).
        seconds : float
            Time.

        Returns
        -------
        numpy.ndarray
            Radians, (directions, points) float32.
        """
        moved = self._start - self._wind * seconds
        places = moved[:, None] + self._height[:, None, None] * (directions * ARCSEC)
        return _sample(self._screens, places / SCREEN_PIXEL % SCREEN, pupil / SCREEN_PIXEL)


@numba.njit(nogil=True)
def _sample(screens, places, pupil):  # type: ignore[no-untyped-def]
    """Sum of the layers, interpolated between four pixels of their periodic screens."""
    size = screens.shape[1]
    out = np.zeros((places.shape[1], len(pupil)), np.float32)
    for layer in range(len(screens)):
        for d in range(places.shape[1]):
            for p in range(len(pupil)):
                x = places[layer, d, 0] + pupil[p, 0] + size
                y = places[layer, d, 1] + pupil[p, 1] + size
                i, j = int(y), int(x)
                v, u = y - i, x - j
                a, b, c, e = i % size, (i + 1) % size, j % size, (j + 1) % size
                s = screens[layer]
                out[d, p] += (1 - v) * ((1 - u) * s[a, c] + u * s[a, e]) + v * (
                    (1 - u) * s[b, c] + u * s[b, e]
                )
    return out


class Mirror:
    """
    Sensor and mirror.

    Parameters
    ----------
    case : Case
        Number of modes, and how their correction falls with the order.
    pupil : numpy.ndarray
        Places (x, y), metres, (points, 2).

    Attributes
    ----------
    modes : numpy.ndarray
        The modes over the pupil, radians, (modes, points).
    gain : numpy.ndarray
        Share of each that is taken off, (modes,).
    """

    def __init__(self, case: Case, pupil: np.ndarray) -> None:
        radius = DIAMETER / 2
        self.modes = zernike_basis(pupil[:, 0] / radius, pupil[:, 1] / radius, case.modes + 1)[1:]
        order = np.array([n for n, _ in noll_indices(case.modes + 1)[1:]])
        # Not the law that the package's own simulator has.
        self.gain = 0.95 * 0.5 ** (((order - 1) / (case.half - 1)) ** 2)
        # A slope is fitted to the phase in each subaperture that lies in the pupil by half at least.
        cell = np.floor((pupil / DIAMETER + 0.5) * SUBAPERTURES).clip(0, SUBAPERTURES - 1).astype(int)
        number = cell[:, 1] * SUBAPERTURES + cell[:, 0]
        full = (len(pupil) / (np.pi / 4)) / SUBAPERTURES**2
        rows = []
        for k in np.flatnonzero(np.bincount(number) > 0.5 * full):
            inside = np.flatnonzero(number == k)
            plane = np.column_stack([np.ones(len(inside)), pupil[inside]])
            for row in np.linalg.pinv(plane)[1:]:
                rows.append(np.zeros(len(pupil)))
                rows[-1][inside] = row
        self._slopes = np.array(rows)
        self._solver = np.linalg.pinv(self._slopes @ self.modes.T)
        steps = SENSOR_FIELD * ((np.arange(DIRECTIONS) + 0.5) / DIRECTIONS - 0.5)
        self.directions = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)

    def figure(self, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        What the mirror takes off.

        Parameters
        ----------
        seen : numpy.ndarray
            Phase in the sensor's directions, (directions, points).
        rng : numpy.random.Generator
            Of the noise.

        Returns
        -------
        numpy.ndarray
            Radians, (points,).
        """
        slopes = self._slopes @ seen.mean(axis=0)
        slopes += SLOPE_NOISE * rng.standard_normal(len(slopes))
        return np.asarray((self.gain * (self._solver @ slopes)) @ self.modes)


class Camera:
    """Cells of the image, each of which shows the scene through the point-spread function of its corner."""

    def __init__(self) -> None:
        axis = (np.arange(BOX) - BOX // 2) * WAVELENGTH / (BOX * SCALE * ARCSEC)
        x, y = np.meshgrid(axis, axis)
        self._inside = np.hypot(x, y) <= DIAMETER / 2
        self.pupil = np.stack([x[self._inside], y[self._inside]], axis=1)
        self._corners = np.arange(0, SIDE + 1, CELL)
        corner_y, corner_x = np.meshgrid(self._corners, self._corners, indexing="ij")
        self.directions = np.stack([corner_x.ravel(), corner_y.ravel()], axis=1) * SCALE - SIDE * SCALE / 2
        rise = (np.arange(CELL) + 0.5) / CELL
        hat = np.concatenate([rise, rise[::-1]])
        self._window = np.outer(hat, hat)

    @property
    def places(self) -> np.ndarray:
        """Rows, and columns, of the scene, pixels of the image."""
        return np.arange(-PATCH // 2, SIDE + PATCH // 2)

    def spectra(self, scene: np.ndarray) -> np.ndarray:
        """
        Spectra of what each cell needs of the scene.

        Parameters
        ----------
        scene : numpy.ndarray
            At `places`.

        Returns
        -------
        numpy.ndarray
            (cells, PATCH, PATCH // 2 + 1) complex64.
        """
        patches = [scene[r : r + PATCH, c : c + PATCH] for r in self._corners for c in self._corners]
        return scipy.fft.rfft2(np.stack(patches).astype(np.float32))

    def image(self, spectra: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """
        What the camera shows.

        Parameters
        ----------
        spectra : numpy.ndarray
            From `spectra`.
        phases : numpy.ndarray
            Radians, (cells, points).

        Returns
        -------
        numpy.ndarray
            (SIDE, SIDE) float32.
        """
        canvas = np.zeros((SIDE + 2 * CELL, SIDE + 2 * CELL), dtype=np.float32)
        middle = slice(PATCH // 2 - CELL, PATCH // 2 + CELL)
        for k, phase in enumerate(phases):
            field = np.zeros((BOX, BOX), dtype=np.complex64)
            field[self._inside] = np.exp(1j * phase)
            spread = np.abs(scipy.fft.fft2(field)) ** 2
            wide = np.zeros((PATCH, PATCH), dtype=np.float32)
            wide[:BOX, :BOX] = np.fft.fftshift(spread / spread.sum())
            wide = np.roll(wide, (-BOX // 2, -BOX // 2), (0, 1))
            part = scipy.fft.irfft2(scipy.fft.rfft2(wide) * spectra[k], s=wide.shape)[middle, middle]
            i, j = np.array(divmod(k, len(self._corners))) * CELL
            canvas[i : i + 2 * CELL, j : j + 2 * CELL] += self._window * part
        return canvas[CELL:-CELL, CELL:-CELL]


def observe(case: Case, seed: int, rate: float = EXPOSURES_PER_SECOND) -> tuple[np.ndarray, np.ndarray]:
    """
    A burst, and the diffraction-limited truth.

    Parameters
    ----------
    case : Case
        What it is taken through.
    seed : int
        Seed of everything random.
    rate : float, optional
        Exposures per second.

    Returns
    -------
    burst, truth : numpy.ndarray
        (FRAMES, SIDE, SIDE) electrons, and an image of about mean 1; float32.
    """
    rng = np.random.default_rng([seed, 77])
    camera, air = Camera(), Air(case, rng)
    spots = (DarkSpot(0.0, 0.0, 3.0),) if case.spot else ()
    sun = granulation_scene(3 * SIDE * SCALE, seed, spots=spots)
    corner = np.full(2, -SCALE * (SIDE - 1) / 2)
    scene = sun.image(corner, SCALE * np.eye(2), camera.places, camera.places, 0.0, Appearance.gband)
    spectra = camera.spectra(scene / scene.mean())
    mirror = Mirror(case, camera.pupil) if case.modes else None
    burst = np.empty((FRAMES, SIDE, SIDE), dtype=np.float32)
    for k in range(FRAMES):
        seconds = k / rate
        phases = air.phase(camera.pupil, camera.directions, seconds)
        if mirror is not None:
            phases -= mirror.figure(air.phase(camera.pupil, mirror.directions, seconds - LAG), rng)
        light = np.maximum(camera.image(spectra, phases), 0.0) * ELECTRONS
        burst[k] = np.rint(rng.poisson(light) + READ_NOISE * rng.standard_normal(light.shape))
    return burst, camera.image(spectra, np.zeros((len(camera.directions), len(camera.pupil))))


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="; ".join(CASES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--told", action="store_true", help="tell the reconstruction the number of modes too")
    parser.add_argument("--unused", action="store_true", help="reconstruct as without adaptive optics too")
    parser.add_argument("--rate", type=float, default=EXPOSURES_PER_SECOND, help="exposures per second")
    parser.add_argument("--keep", type=Path, help="directory in which bursts are kept for the next time")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        sys.exit(f"unknown case: {', '.join(sorted(unknown))}")
    names = ("contrast", "p25", "p50", "distance")
    print(
        f"{'case':<14} {'seed':>4} {'given':<8}",
        *(f"{n:>9}" for n in names),
        "  of mean r0 found/true   cpu s",
    )
    for name in options.cases or CASES:
        case = CASES[name]
        ways: dict[str, dict[str, object]] = {"default": {"ao_used": True}}
        if options.told and case.modes:
            ways["told"] = {"ao_used": True, "ao_modes": case.modes}
        if options.unused:
            ways["unused"] = {"ao_used": False}
        for seed in range(options.first, options.first + options.seeds):
            burst, truth = kept(name, seed, options.keep, options.rate)
            mean = figures(tile_aligned_mean(burst).image, truth)["distance"]
            for way, given in ways.items():
                start = time.process_time()
                result = reconstruct(
                    burst, SCALE, WAVELENGTH * 1e9, DIAMETER * 1e3, deconvolve=False, **given
                )
                cost = time.process_time() - start
                found = figures(result.image, truth)
                values = " ".join(f"{found[n]:9.3f}" for n in names)
                r0 = result.r0 * 100 / case.r0
                print(
                    f"{name:<14} {seed:4d} {way:<8} {values} {mean:9.3f} {r0:13.3f} {cost:7.1f}", flush=True
                )
                if result.notes:
                    print("   ", "; ".join(result.notes), flush=True)


def kept(name: str, seed: int, directory: Path | None, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """
    A burst, from the directory where it is there already.

    Parameters
    ----------
    name : str
        Of the case.
    seed : int
        Seed.
    directory : pathlib.Path or None
        Where bursts are kept.
    rate : float
        Exposures per second.

    Returns
    -------
    burst, truth : numpy.ndarray
        As from `observe`.
    """
    if directory is None:
        return observe(CASES[name], seed, rate)
    file = directory / f"{name}-{seed}-{rate:g}.npz"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        burst, truth = observe(CASES[name], seed, rate)
        np.savez(file, burst=burst, truth=truth)
    with np.load(file) as data:
        return data["burst"], data["truth"]


if __name__ == "__main__":
    main()
