#!/usr/bin/env python3
"""
Coordinates from raw files to FITS, at real size: how well channels overlay, and what headers cost.

    scripts/bench/bench_coordinates.py overlay [--picture FILE.jpg] [--keep DIR]
    scripts/bench/bench_coordinates.py headers [--frames 2500]

`overlay` simulates raw files of channels with unequal chips and plate scales, turned by up to 1.5 degrees
and off by up to 60 px, reduces them, and compares where sunpy puts a pixel of one file in another with
where it is in truth: rms over the field. Exit status 1 if that is above 0.2 px or a rotation is off by more
than 0.02 degrees. `headers` runs align and export on small frames and prints CPU seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import sunpy.map
from astropy import units as u
from astropy.io import fits

from stillsun.cli import main as stillsun
from stillsun.core.orient import Orientation
from stillsun.sky.times import iso
from stillsun.synth.observation import simulate
from stillsun.synth.settings import Features, SimulationSettings

# Rotation on the reference channel, degrees, and offset, arcsec.
PLACED = {
    "ROSA_GBAND": (0.0, (0.0, 0.0)),
    "ROSA_4170": (1.5, (2.9, -2.1)),
    "HARDCAM": (-1.1, (-3.1, 3.9)),
}
POINTS = 21
START = 1_756_909_312.456
CADENCE = 2.24


def overlay(options: argparse.Namespace) -> int:
    """Simulate, reduce, compare."""
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.keep or Path(temporary)) / "observation"
        settings = SimulationSettings.preset(
            "full", list(PLACED), features=Features.spot, bursts=2, frames_per_burst=4, dark_frames=16,
            flat_frames=40, fiducial_frames=3, r0_m=0.16, ao_modes=20, guider_error_deg=0.0, threads=2,
        )  # fmt: skip
        channels = [
            dataclasses.replace(c, rotation_deg=PLACED[c.name][0], offset_arcsec=PLACED[c.name][1])
            for c in settings.channels
        ]
        if not out.exists():
            simulate(out, dataclasses.replace(settings, channels=tuple(channels)))
        status = stillsun(
            [
                "run", f"observation_file={out / 'observation.yaml'}", "speckle=none", "align=none",
                "stages=[calibrate,assemble,speckle,destretch,register,align,export]",
            ]
        )  # fmt: skip
        if status:
            return status
        files = {c: sorted((out / "work" / c / "splineDestretch").glob("*.fits"))[0] for c in PLACED}
        good = [_compare(out, files, name) for name in list(PLACED)[1:]]
        if options.picture is not None:
            _picture(files, options.picture)
    return 0 if all(good) else 1


def _compare(out: Path, files: dict[str, Path], name: str) -> bool:
    """Print how a channel overlays with the reference; says whether that is good enough."""
    base = next(iter(PLACED))
    here, there = (sunpy.map.Map(files[c]) for c in (name, base))
    with h5py.File(out / "truth.h5") as truth:
        own, other = ({**truth[c].attrs, "shape": truth[c]["image"].shape[1:]} for c in (name, base))
    rows, columns = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, POINTS) for n in own["shape"])))
    camera = np.stack([columns, rows], axis=-1)
    sky = own["offset_arcsec"] + (camera - _middle(own)) @ own["jacobian"].T
    expected = (sky - other["offset_arcsec"]) @ np.linalg.inv(other["jacobian"]).T + _middle(other)
    inside = ((expected >= 0) & (expected <= np.array(other["shape"][::-1]) - 1)).all(axis=1)
    pixel = _oriented(own, camera[inside])
    world = here.pixel_to_world(*(pixel.T * u.pix))
    found = np.stack([v.to_value(u.pix) for v in there.world_to_pixel(world)], axis=-1)
    error = found - _oriented(other, expected[inside])
    rms = float(np.sqrt((error**2).sum(axis=1).mean()))
    angle = here.meta["crota2"] - there.meta["crota2"] - (own["rotation_deg"] - other["rotation_deg"])
    shift = np.hypot(*own["offset_arcsec"]) / np.mean(own["plate_scale"])
    print(
        f"{name}: {own['shape'][0]} x {own['shape'][1]}, {own['plate_scale'][0]:.4f} and "
        f"{own['plate_scale'][1]:.4f} arcsec/px, {own['rotation_deg']:+.2f} deg, {shift:.0f} px off: "
        f"overlays to {rms:.3f} px rms (largest {np.hypot(*error.T).max():.3f}) of {base}, "
        f"rotation {angle:+.4f} deg"
    )
    return rms < 0.2 and abs(angle) < 0.02


def _middle(channel: dict[str, Any]) -> np.ndarray:
    return (np.array(channel["shape"][::-1]) - 1) / 2


def _oriented(channel: dict[str, Any], camera: np.ndarray) -> np.ndarray:
    """Pixels (x, y) of the oriented frame, counted from 0."""
    orientation = Orientation.from_steps(json.loads(channel["orientation"]))
    return orientation.pixel(camera + 1, channel["shape"]) - 1


def _picture(files: dict[str, Path], path: Path) -> None:
    """Composites of two channels by sunpy: one as an image, the other as contours."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    maps = {name: sunpy.map.Map(files[name]) for name in ("ROSA_GBAND", "HARDCAM")}
    figure = plt.figure(figsize=(10, 5.2), layout="constrained")
    corners = maps["ROSA_GBAND"].bottom_left_coord, maps["ROSA_GBAND"].top_right_coord
    for place, (image, contours) in enumerate((("ROSA_GBAND", "HARDCAM"), ("HARDCAM", "ROSA_GBAND"))):
        axes = figure.add_subplot(1, 2, place + 1, projection=maps[image])
        over = maps[contours]
        composite = sunpy.map.Map(maps[image], over, composite=True)
        composite.set_levels(1, u.Quantity([0.65 * np.median(over.data)], over.unit))
        _, lines = composite.plot(axes=axes)
        lines.set_edgecolor("red")
        x, y = zip(*(maps[image].world_to_pixel(c) for c in corners), strict=True)
        axes.set_xlim(*sorted(v.to_value(u.pix) for v in x))
        axes.set_ylim(*sorted(v.to_value(u.pix) for v in y))
        axes.set_title(f"{image}, contours: {contours}")
    figure.savefig(path, dpi=100)


def headers(options: argparse.Namespace) -> int:
    """Time align and export on many small frames."""
    side = 32
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        (here / "old").mkdir()
        image = np.random.default_rng(1).normal(1000, 100, (side, side)).astype(np.float32)
        times = iso(START + CADENCE * np.arange(options.frames))
        for number, moment in enumerate(times):
            hdu = fits.PrimaryHDU(image)
            cards = {
                "DATE-BEG": str(moment), "CTYPE1": "HPLN-TAN", "CRVAL1": 300.0, "CRVAL2": -200.0,
                "CROTA2": 0.3, "NSUMEXP": 64, "PRSTEP1": "SPECKLE-DECONVOLUTION", "PRSTEP2": "DESTRETCHING",
            }  # fmt: skip
            hdu.header.update(cards)
            hdu.writeto(here / "old" / f"{number:05d}.fits")
        text = [
            f"raw_dir: {here}", f"work_dir: {here / 'work'}", "defaults:",
            "  - /channel/rosa_gband@channels.ROSA_GBAND", "channels:", "  ROSA_GBAND:",
            f"    camera: {{shape: [{side}, {side}]}}",
            "    reconstructed: {directory: old, pattern: '*.fits'}",
        ]  # fmt: skip
        (here / "old.yaml").write_text("\n".join(text))
        command = [
            "run",
            f"observation_file={here / 'old.yaml'}",
            "speckle=fits",
            "backend=numpy",
            "align=none",
        ]
        if stillsun([*command, "stages=[destretch]"]):
            return 1
        start = time.process_time()
        if stillsun([*command, "stages=[destretch,register,align,export]"]):
            return 1
        spent = time.process_time() - start
        written = len(list((here / "work").rglob("splineDestretch/*.fits")))
        print(
            f"{written} headers of frames of {side} x {side} px: {spent:.1f} s CPU, "
            f"{1e3 * spent / written:.1f} ms each"
        )
    return 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(required=True)
    task = tasks.add_parser("overlay", help="overlay of channels at real size")
    task.add_argument("--picture", type=Path, help="composite made by sunpy")
    task.add_argument(
        "--keep", type=Path, help="directory to work in, left behind; used again if it is there"
    )
    task.set_defaults(run=overlay)
    task = tasks.add_parser("headers", help="cost of the headers of a sequence")
    task.add_argument("--frames", type=int, default=2500)
    task.set_defaults(run=headers)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
