"""Darks, flats, targets and line grids to the calibration product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stillsun.config.schema import CalibrateConfig
from stillsun.core.badpixels import DEAD, HOT, find_bad_pixels
from stillsun.core.calibrate import Correction, correct_frames, correct_image, gain_table, make_correction
from stillsun.core.statistics import FrameStatistics, frame_statistics
from stillsun.io.inventory import find_files, open_source
from stillsun.io.source import FrameSource
from stillsun.stages.base import Field, Stage, StageContext

_FIDUCIALS = ("target", "linegrid")
# Calibrated flats kept for the noise of a reconstruction: the usual length of a burst.
_NOISE_FRAMES = 64
# Exposures of darks and flats that differ by more are said: the dark current grows with the exposure.
_EXPOSURE_TOLERANCE = 0.05


def run(ctx: StageContext) -> None:
    """
    Average the calibration frames, and store all that calibrates the data.

    Parameters
    ----------
    ctx : StageContext
        Context; reads raw files only.

    Raises
    ------
    InputError
        If files are missing or damaged, of different shape, or the flats are darker than the darks.
    """
    config: CalibrateConfig = ctx.config
    sources = {role: open_source(ctx.observation, ctx.settings, role) for role in ("dark", "flat")}
    for role in _FIDUCIALS:
        if find_files(ctx.observation, ctx.settings, role):
            sources[role] = open_source(ctx.observation, ctx.settings, role)
        elif getattr(ctx.settings, role).pattern is not None:
            ctx.note(f"no {role} files: the channel is reduced without")
    for role, source in sources.items():
        for finding in source.findings:
            ctx.note(f"{role}: {finding}")
    _check_exposures(ctx, sources)

    means = _average(ctx, sources)
    dark, flat = means["dark"], means["flat"]
    gain = gain_table(flat.mean, dark.mean)
    bad = find_bad_pixels(
        dark.mean, flat.mean, dead_fraction=config.dead_fraction, hot_sigma=config.hot_sigma
    )
    _note_pixels(ctx, bad, flat)
    correction = make_correction(dark.mean, gain, bad, backend=ctx.backend)

    images = {
        "dark": dark.mean,
        "flat": flat.mean,
        "gain": gain,
        "dark_variance": dark.variance,
        "flat_variance": flat.variance,
        "bad_pixels": bad,
        **{role: correct_image(means[role].mean, correction) for role in _FIDUCIALS if role in means},
    }
    noise = _noise(sources["flat"], correction)
    shape = sources["dark"].shape[1:]
    with ctx.create(1, _fields(shape, list(images), len(noise)), {}) as store:
        for name, image in images.items():
            store.write(name, image)
        store.write("noise", noise)
        store.write("plate_scale", ctx.settings.plate_scale)
        store.write("plate_scale_source", "configured")
        for role in ("dark", "flat"):
            store.write(f"{role}_frames", means[role].frames)
        store.mark(0)


def _average(ctx: StageContext, sources: Mapping[str, FrameSource]) -> dict[str, FrameStatistics]:
    total = sum(source.shape[0] for source in sources.values())
    done = 0
    means = {}
    for role, source in sources.items():
        before = done

        def progress(count: int, _: int, before: int = before) -> None:
            ctx.progress(before + count, total)

        means[role] = frame_statistics(
            source.blocks(), frames=source.shape[0], backend=ctx.backend, progress=progress
        )
        done += source.shape[0]
    return means


def _noise(flats: FrameSource, correction: Correction) -> np.ndarray:
    """Calibrated flat frames: the first ones of the sequence, from as many files as it takes."""
    count = min(_NOISE_FRAMES, flats.shape[0])
    frames = correct_frames(flats.blocks(0, count), correction)
    return np.asarray(frames.get() if correction.backend.is_gpu else frames)


def _check_exposures(ctx: StageContext, sources: Mapping[str, FrameSource]) -> None:
    dark, flat = sources["dark"].exposure_s, sources["flat"].exposure_s
    if abs(dark - flat) > _EXPOSURE_TOLERANCE * max(dark, flat):
        ctx.note(f"darks were exposed for {dark * 1e3:.4g} ms, flats for {flat * 1e3:.4g} ms")


def _note_pixels(ctx: StageContext, bad: np.ndarray, flat: FrameStatistics) -> None:
    if bad.any():
        dead, hot = int(np.count_nonzero(bad & DEAD)), int(np.count_nonzero(bad & HOT))
        ctx.note(f"{dead} dead and {hot} hot pixels are filled from their neighbours")
    saturated = float(np.mean(flat.mean >= ctx.settings.camera.saturation))
    if saturated > 0:
        ctx.note(f"{saturated:.2%} of the flat is saturated ({ctx.settings.camera.saturation} DN)")


_IMAGES = {
    "dark": ("DN", "mean dark"),
    "flat": ("DN", "mean flat, dark not subtracted"),
    "gain": ("", "median(flat - dark) / (flat - dark)"),
    "dark_variance": ("DN^2", "variance of the dark frames"),
    "flat_variance": ("DN^2", "variance of the flat frames"),
    "target": ("DN", "calibrated mean of the target frames, camera orientation"),
    "linegrid": ("DN", "calibrated mean of the line-grid frames, camera orientation"),
}


def _fields(shape: tuple[int, int], images: list[str], noise: int) -> dict[str, Field]:
    fields = {
        name: Field(shape, "float32", *_IMAGES[name], stack=False) for name in images if name in _IMAGES
    }
    return {
        **fields,
        "bad_pixels": Field(shape, "uint8", "", f"sum of {DEAD}: dead and {HOT}: hot; 0: good", stack=False),
        "noise": Field((noise, *shape), "float32", "DN", "calibrated flat frames", stack=False),
        "plate_scale": Field((2,), "float64", "arcsec/px", "x and y, camera orientation", stack=False),
        "plate_scale_source": Field((), "str", "", "where the plate scale comes from", stack=False),
        "dark_frames": Field((), "int64", "", "frames in the mean dark", stack=False),
        "flat_frames": Field((), "int64", "", "frames in the mean flat", stack=False),
    }


STAGE = Stage(
    name="calibrate",
    version=1,
    run=run,
    writes="calibration",
    raw=("dark", "flat", "target", "linegrid"),
    settings=("camera", "exposure_ms", "plate_scale"),
)
