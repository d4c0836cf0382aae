"""The verb `simulate`: an observation with known truth."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

HELP = "write a simulated observation with known truth"
DESCRIPTION = """\
Writes a Level-0 observation with known truth into OUT: raw files of each camera (level0/), telescope log,
full-disk image (hmi/), observation.yaml and truth.h5.

  stillsun simulate OUT --size tiny                            seconds, to try things out
  stillsun simulate OUT --r0 0.07 --features spot              worse seeing, a sunspot
  stillsun simulate OUT --ao-modes 0                           without adaptive optics
  stillsun simulate OUT --scene SUN.fits --scene-scale 0.06    an image of your own
  stillsun run observation_file=OUT/observation.yaml           reduce it
"""
_SIZES = ("tiny", "small", "full")
_FEATURES = ("quiet", "pores", "spot")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add = parser.add_argument
    add("out", metavar="OUT", type=Path, help="directory to be made")
    add(
        "--size",
        choices=_SIZES,
        default="small",
        help="tiny: seconds; small: demonstration; full: real chips",
    )
    add("--seed", type=int, default=1, help="seed of everything random (default 1)")
    add("--scene", type=Path, metavar="FITS", help="image to be observed instead of model granulation")
    add("--scene-scale", type=float, metavar="ARCSEC", help="arcsec per pixel of that image")
    add("--features", choices=_FEATURES, help="what the model Sun shows (default pores)")
    add("--channels", metavar="A,B", help="channels, the reference channel first")
    add("--bursts", type=int, help="bursts of the reference channel")
    add("--frames", type=int, dest="frames_per_burst", help="frames in a burst")
    add("--r0", type=float, dest="r0_m", metavar="M", help="Fried parameter at 500 nm, metres (default 0.10)")
    add(
        "--cloud",
        type=_numbers(2),
        metavar="FROM,TO",
        help="a cloud dims the Sun between these seconds after the trigger",
    )
    add("--cloud-transmission", type=float, help="share of the light that it lets through (default 0.4)")
    add(
        "--relock",
        type=_numbers(3),
        metavar="S,X,Y",
        help="S seconds after the trigger the field of all channels jumps by X, Y arcsec",
    )
    add(
        "--drift",
        type=_numbers(2),
        dest="drift_arcsec",
        metavar="X,Y",
        help="the other channels wander by so many arcsec against the first one",
    )
    add(
        "--hardcam-groups",
        type=_numbers(2),
        metavar="FRAMES,SECONDS",
        help="HARDcam takes so many frames in one go and waits, as on filaments: 64,60",
    )
    add(
        "--ao-modes",
        type=int,
        metavar="N",
        help="Zernike modes corrected by adaptive optics (default 54; 0: without adaptive optics)",
    )
    add("--flow", type=float, dest="flow_km_s", metavar="KM/S", help="largest solar flow (default 1)")
    add("--scene-speed", type=float, metavar="FACTOR", help="how much faster than real the Sun evolves")
    add("--frames-per-file", type=int, help="image extensions of a ROSA file (default 256; tiny: 40)")
    add("--fulldisk-pixels", type=int, help="side of the full-disk image (default 4096; tiny: 512)")
    add("--threads", type=int, help="threads (default: all cores)")


def _numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    def convert(text: str) -> tuple[float, ...]:
        values = tuple(float(part) for part in text.split(","))
        if len(values) != count:
            raise ValueError
        return values

    convert.__name__ = f"{count} numbers"
    return convert


def run(options: argparse.Namespace) -> int:
    """Simulate."""
    from stillsun.pipeline.console import Progress, bars_wanted
    from stillsun.synth.observation import simulate
    from stillsun.synth.settings import Features, SimulationSettings

    changes = {
        key: value
        for key, value in vars(options).items()
        if key in SimulationSettings.__dataclass_fields__ and key not in ("channels", "features")
    }
    if options.features is not None:
        changes["features"] = Features(options.features)
    channels = None if options.channels is None else [c for c in options.channels.split(",") if c]
    settings = SimulationSettings.preset(options.size, channels, **changes)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with Progress("simulate", bars=bars_wanted(True)) as progress:
        simulate(options.out, settings, progress)
    path = options.out.expanduser() / "observation.yaml"
    reduce = shlex.join(["stillsun", "run", f"observation_file={path}"])
    print(f"{path.parent}: an observation with known truth. Reduce it with: {reduce}")
    return 0
