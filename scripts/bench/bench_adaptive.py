"""
The open reconstruction behind adaptive optics as a telescope has them, against the truth.

    python scripts/bench/bench_adaptive.py                        all cases, seed 1
    python scripts/bench/bench_adaptive.py two10 none10 --seeds 3 --first 5

A wavefront sensor that averages over its field, an efficiency that falls with the radial order, and a mirror
that is late, below two and four layers of turbulence; mirrors of other kinds, weak ones, none at all, and a
spot at the lock point. The reconstruction is told that adaptive optics were used, and where they locked.
Printed are contrast and power over the truth's, where the ring correlation falls to a half, the rms distance
to the truth over its contrast, the Fried parameter over the true one, and core-seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
from bench_conditions import SCALE, WAVELENGTH, figures
from bench_speckle import DIAMETER

from stillsun import reconstruct
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.imaging import Imager
from stillsun.synth.mirror import AdaptiveOptics
from stillsun.synth.scene import Appearance, granulation_scene
from stillsun.synth.seeing import Atmosphere, Layer

SIDE = 400
ELECTRONS, READ_NOISE = 12_000.0, 10.0
TWO = (Layer(0.0, 0.7, 8.0, 30.0), Layer(6000.0, 0.3, 20.0, 100.0))
FOUR = (
    Layer(0.0, 0.5, 6.0, 30.0),
    Layer(1500.0, 0.2, 10.0, 75.0),
    Layer(5000.0, 0.2, 15.0, 112.0),
    Layer(10_000.0, 0.1, 30.0, 140.0),
)


@dataclass(frozen=True)
class Case:
    """
    What a burst is taken through.

    Attributes
    ----------
    layers : tuple of Layer
        The turbulence.
    r0 : float
        Fried parameter at the wavelength, cm.
    optics : AdaptiveOptics or None
        The mirror.
    spot : bool
        A spot in the middle.
    """

    layers: tuple[Layer, ...]
    r0: float
    optics: AdaptiveOptics | None
    spot: bool = False


def mirror(
    modes: int = 50,
    efficiency: float = 0.95,
    order: float | None = 8.0,
    lock: tuple[float, float] = (0.0, 0.0),
) -> AdaptiveOptics:
    """
    Adaptive optics whose sensor looks at 8 arcsec and whose mirror is 2 ms late.

    Parameters
    ----------
    modes, efficiency, order, lock
        As for `AdaptiveOptics`.

    Returns
    -------
    AdaptiveOptics
        The mirror.
    """
    return AdaptiveOptics(modes, efficiency, lock, order, 8.0, 0.002)


CASES = {
    **{f"two{r0}": Case(TWO, r0, mirror()) for r0 in (7, 10, 15)},
    **{f"four{r0}": Case(FOUR, r0, mirror()) for r0 in (7, 10, 15)},
    "hard35": Case(TWO, 10, mirror(35, 0.9, None)),
    "hard20": Case(FOUR, 10, mirror(20, 0.9, None)),
    "full65": Case(FOUR, 10, mirror(65, 0.98, 12.0)),
    "weak": Case(TWO, 9, mirror(44, 0.8, 5.0)),
    "off": Case(TWO, 10, mirror(lock=(8.0, 5.0))),
    "spot": Case(TWO, 10, mirror(), spot=True),
    "none10": Case(TWO, 10, None),
    "none7": Case(FOUR, 7, None),
}


def make_burst(case: Case, seed: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Independent exposures, and the diffraction-limited truth.

    Parameters
    ----------
    case : Case
        What they are taken through.
    seed : int
        Seed of everything random.
    frames : int
        Number of exposures.

    Returns
    -------
    burst, truth : numpy.ndarray
        (frames, side, side) electrons, and an image of mean 1.
    """
    imager = Imager((SIDE, SIDE), SCALE * np.eye(2), (0.0, 0.0), WAVELENGTH * 1e-9, optics=case.optics)
    spots = (DarkSpot(0.0, 0.0, 3.0),) if case.spot else ()
    sun = granulation_scene(3 * SIDE * SCALE, seed, spots=spots)
    corner = np.full(2, -SCALE * (SIDE - 1) / 2)
    scene = sun.image(corner, SCALE * np.eye(2), imager.rows, imager.columns, 0.0, Appearance.gband)
    prepared = imager.prepare(scene / scene.mean())
    air = Atmosphere(case.layers, case.r0 / 100 * (500 / WAVELENGTH) ** 1.2, 20.0, seed, frozen=False)
    rng = np.random.default_rng(seed)
    burst = np.empty((frames, SIDE, SIDE), dtype=np.float32)
    for k in range(frames):
        light = np.maximum(imager.expose(prepared, air, float(k))[0], 0.0) * ELECTRONS
        burst[k] = np.rint(rng.poisson(light) + READ_NOISE * rng.standard_normal(light.shape))
    return burst, imager.ideal(prepared)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="; ".join(CASES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--plain", action="store_true", help="as if there were no adaptive optics")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        sys.exit(f"unknown case: {', '.join(sorted(unknown))}")
    names = ("contrast", "p25", "p50", "frc", "distance")
    print(f"{'case':<8} {'seed':>4}", *(f"{n:>9}" for n in names), f"{'r0':>7} {'cost':>6}")
    for name in options.cases or CASES:
        case = CASES[name]
        lock = (0.0, 0.0) if case.optics is None else case.optics.lock
        x, y = (round((SIDE - 1) / 2 + place / SCALE) for place in lock)
        for seed in range(options.first, options.first + options.seeds):
            burst, truth = make_burst(case, seed, options.frames)
            began = time.process_time()
            found = reconstruct(
                burst, SCALE, WAVELENGTH, DIAMETER, deconvolve=False, ao_used=not options.plain,
                ao_lock_x=x, ao_lock_y=y,
            )  # fmt: skip
            cost = time.process_time() - began
            values = figures(found.image, truth)
            line = " ".join(f"{values[n]:9.3f}" for n in names)
            print(f"{name:<8} {seed:4d} {line} {found.r0 * 100 / case.r0:7.3f} {cost:6.1f}", flush=True)
            if found.notes:
                print("   ", "; ".join(found.notes))


if __name__ == "__main__":
    main()
