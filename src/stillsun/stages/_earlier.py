"""
Frames reconstructed by an earlier system, taken over: the stages up to speckle with ``speckle=fits``.

They write the same products from the FITS files' headers and the configuration, so that every later stage
works as on frames reconstructed here. Frames that were turned already are turned back on the way in:
up to ``speckle.h5`` frames are as the camera saw them, and orientation is applied once, by destretch.
"""

from __future__ import annotations

import json

import numpy as np

from stillsun.config.schema import SpeckleEngine
from stillsun.core.orient import Orientation
from stillsun.core.quality import centre_of, frame_quality
from stillsun.errors import InputError
from stillsun.io.inventory import find_files
from stillsun.io.legacy_fits import read_image
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import TARGET, Calibration
from stillsun.products.reconstructed import Reconstructed
from stillsun.stages._earlierfiles import (
    DESTRETCHED,
    earlier_files,
    note_turning,
    place_of,
    state_of,
    steps_of,
    times_of,
    turning,
)
from stillsun.stages.base import StageContext


def calibrate(ctx: StageContext) -> None:
    """Shape, plate scale and target image; there are no calibration images."""
    files = earlier_files(ctx)
    shape, _ = turning(ctx, files)
    expected = tuple(ctx.settings.camera.shape)
    if shape != expected:
        raise InputError(
            "frames of another shape",
            file=files[0].file,
            expected=f"{expected[0]} rows x {expected[1]} columns in camera orientation",
            found=f"{shape[0]} rows x {shape[1]} columns",
            remedy="Set camera.shape of the channel to that of the frames",
        )
    target = _target(ctx)
    sizes = dict(
        zip(("target_rows", "target_columns"), shape if target is None else target.shape, strict=True)
    )
    parts = () if target is None else (TARGET,)
    fields = Calibration.fields(*parts, rows=shape[0], columns=shape[1], **sizes)
    with ctx.create(1, fields) as store:
        if target is not None:
            store.write("target", target)
        store.write("plate_scale", np.array(ctx.settings.plate_scale, np.float64))
        store.write("plate_scale_scatter", np.full(2, np.nan))
        store.write("plate_scale_source", "configured")
        store.mark(0)


def _target(ctx: StageContext) -> np.ndarray | None:
    files = find_files(ctx.observation, ctx.settings, "target")
    if not files:
        return None
    images = [read_image(file) for file in files]
    if len({image.shape for image in images}) > 1:
        raise InputError("target images of different shapes", file=files[0].parent)
    return np.asarray(np.mean(images, axis=0), dtype=np.float32)


def assemble(ctx: StageContext) -> None:
    """Times, exposures and telescope state of each frame."""
    files = earlier_files(ctx)
    begin, mean, end, frames = times_of(ctx, files)
    place = place_of(ctx, files, mean)
    state, source = state_of(ctx, files, mean, place)
    names = np.array([f.file.name for f in files])
    numbers = np.arange(len(files))
    columns = {
        "time_beg": begin,
        "time_end": end,
        "time_avg": mean,
        "first_frame": numbers,
        "frames_used": frames,
        "first_file": names,
        "last_file": names,
        **state,
    }
    attributes = {
        "frames_per_burst": int(np.median(frames)),
        "exposure_s": ctx.settings.exposure_ms / 1e3,
        "pointing_source": source,
        **place.attributes(),
    }
    with ctx.create(len(files), Bursts.fields(), attributes) as store:
        for name, values in columns.items():
            store.write(name, values)
        store.mark(slice(None))


def take_over(ctx: StageContext) -> None:
    """The frames as they are, as the camera saw them, with their Fried parameter."""
    files = earlier_files(ctx)
    shape, turned = turning(ctx, files)
    steps = steps_of(ctx, files)
    note_turning(ctx, files, turned)
    back = ctx.orientation.inverse() if turned else Orientation()
    diameter = ctx.observation.telescope.diameter_mm / 1000.0
    attributes = {
        "engine": SpeckleEngine.fits.name,
        "steps": json.dumps(steps),
        "destretched": int(any(s["kind"] == DESTRETCHED for s in steps)),
    }
    with ctx.create(len(files), Reconstructed.fields(rows=shape[0], columns=shape[1]), attributes) as store:
        done = store.done()
        for row in (int(k) for k in np.flatnonzero(~done)):
            facts = files[row]
            image = np.ascontiguousarray(back.apply(read_image(facts.file)))
            contrast, sharpness = frame_quality(image[None, *centre_of(shape)], backend="numpy")
            r0 = facts.r0_m if np.isfinite(facts.r0_m) else facts.alpha * diameter
            values = {
                "image": image,
                "r0": r0,
                "alpha": r0 / diameter,
                "contrast": contrast[0],
                "sharpness": sharpness[0],
            }
            for name, value in values.items():
                store.write(name, value, row=row)
            store.mark(row)
            done[row] = True
            ctx.progress(int(done.sum()), len(files))
