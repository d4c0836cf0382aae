"""
Frames reconstructed by an earlier system, taken over: the stages up to speckle with ``speckle=fits``.

They write the same products from the FITS files' headers and the configuration, so that every later stage
works as on frames reconstructed here. Frames that were turned already are turned back on the way in:
up to ``speckle.h5`` frames are as the camera saw them, and orientation is applied once, by destretch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from stillsun.config.schema import AssembleConfig, CalibrateConfig, SpeckleConfig, SpeckleEngine
from stillsun.core.orient import Orientation
from stillsun.core.quality import frame_quality
from stillsun.errors import InputError
from stillsun.io.inventory import directory_of, find_files, start_of
from stillsun.io.reconstructed import ReconstructedFile, read_facts, read_image
from stillsun.io.store import StoreReader
from stillsun.sky.observer import Observer, Site, heliographic, observe
from stillsun.stages._telescope import STATE, telescope_state
from stillsun.stages.base import Field, Stage, StageContext

ROLE = "reconstructed"
TURNED = "ALIGN TO SOLAR NORTH"
DESTRETCHED = "DESTRETCHING"
# Steps that belong to the coordinates, which are made anew.
_COORDINATES = ("CHANNEL-REG", "SOLAR-ALIGN")
# What was done to frames whose headers do not say.
_ASSUMED = ("DARK-SUBTRACTION,FLATFIELDING", "SPECKLE-DECONVOLUTION")


def _calibrate(ctx: StageContext) -> None:
    """Shape, plate scale and target image; there are no calibration images."""
    files = _files(ctx)
    shape, _ = _turning(ctx, files)
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
    declared = _calibration_fields(shape)
    if target is not None:
        meaning = "mean of the target images, camera orientation"
        declared["target"] = Field(target.shape, "float32", "DN", meaning, stack=False)
    with ctx.create(1, declared) as store:
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


def _assemble(ctx: StageContext) -> None:
    """Times, exposures and telescope state of each frame."""
    files = _files(ctx)
    begin, mean, end, frames = _times(ctx, files)
    state, source = _state(ctx, files, mean)
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
    }
    with ctx.create(len(files), _burst_fields(), attributes) as store:
        for name, values in columns.items():
            store.write(name, values)
        store.mark(slice(None))


def _speckle(ctx: StageContext) -> None:
    """The frames as they are, as the camera saw them, with their Fried parameter."""
    files = _files(ctx)
    shape, turned = _turning(ctx, files)
    steps = _steps(ctx, files)
    _note_turning(ctx, files, turned)
    back = _orientation(ctx).inverse() if turned else Orientation()
    diameter = ctx.observation.telescope.diameter_mm / 1000.0
    attributes = {
        "engine": SpeckleEngine.fits.name,
        "steps": json.dumps(steps),
        "destretched": int(any(s["kind"] == DESTRETCHED for s in steps)),
    }
    with ctx.create(len(files), _speckle_fields(shape), attributes) as store:
        done = store.done()
        for row in (int(k) for k in np.flatnonzero(~done)):
            facts = files[row]
            image = np.ascontiguousarray(back.apply(read_image(facts.file)))
            contrast, sharpness = frame_quality(image[None], backend="numpy")
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


def _files(ctx: StageContext) -> list[ReconstructedFile]:
    """Headers of the frames in the order of time, else of names."""
    paths = find_files(ctx.observation, ctx.settings, ROLE)
    if not paths:
        raise InputError(
            "no reconstructed files",
            file=directory_of(ctx.observation, ctx.settings, ROLE),
            remedy="Correct reconstructed.directory or reconstructed.pattern of the channel",
        )
    files = [read_facts(path) for path in paths]
    for facts in files:
        if facts.shape != files[0].shape:
            raise InputError(
                "frames of different shapes",
                file=facts.file,
                expected=f"{files[0].shape} as {files[0].file.name}",
                found=facts.shape,
                remedy="Narrow reconstructed.pattern to one channel and kind",
            )
        if [s.kind for s in facts.steps] != [s.kind for s in files[0].steps]:
            raise InputError(
                "frames that were processed differently (PRSTEPn)",
                file=facts.file,
                expected=f"{', '.join(s.kind for s in files[0].steps) or 'none'} as {files[0].file.name}",
                found=", ".join(s.kind for s in facts.steps) or "none",
                remedy="Narrow reconstructed.pattern to one kind",
            )
    known = [np.isfinite([f.begin, f.end]).any() for f in files]
    return sorted(files, key=lambda f: np.nanmin([f.begin, f.end])) if all(known) else files


def _orientation(ctx: StageContext) -> Orientation:
    return Orientation.from_steps([turn.value for turn in ctx.settings.orientation])


def _turning(ctx: StageContext, files: list[ReconstructedFile]) -> tuple[tuple[int, int], bool]:
    """Shape as the camera saw the frames, and whether they were turned since."""
    orientation, shape = _orientation(ctx), files[0].shape
    turned = ctx.settings.reconstructed.turned
    if turned is None:
        turned = any(s.kind == TURNED for s in files[0].steps)
        camera = tuple(ctx.settings.camera.shape)
        # The superseded system wrote the step before it turned the frames: their shape knows better.
        if turned and shape == camera and orientation.shape(camera) != camera:
            turned = False
    rows, columns = orientation.inverse().shape(shape) if turned else shape
    return (int(rows), int(columns)), turned


def _note_turning(ctx: StageContext, files: list[ReconstructedFile], turned: bool) -> None:
    said = any(s.kind == TURNED for s in files[0].steps)
    if ctx.settings.reconstructed.turned is None and said and _orientation(ctx) != Orientation():
        ctx.note(
            f"the frames say {TURNED} and are taken as turned already; if they are not "
            "(the superseded system wrote that before it was done), set reconstructed.turned=false"
            if turned
            else f"the frames say {TURNED}, but have the shape of the camera: they are turned now"
        )


def _steps(ctx: StageContext, files: list[ReconstructedFile]) -> list[dict[str, str]]:
    """What was done to the pixels, in order, each step once."""
    if not files[0].steps:
        ctx.note(f"the frames do not tell what was done to them (PRSTEPn); {' and '.join(_ASSUMED)} assumed")
        return [{"kind": kind, "program": "earlier system"} for kind in _ASSUMED]
    kept = {s.kind: asdict(s) for s in files[0].steps if s.kind not in _COORDINATES}
    return list(kept.values())


def _times(
    ctx: StageContext, files: list[ReconstructedFile]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Begin, mean, end (unix seconds) and number of frames of each burst."""
    usual = int(ctx.config.frames_per_burst)
    frames = np.array([f.frames or usual for f in files])
    exposure = ctx.settings.exposure_ms / 1e3
    configured = ctx.settings.frame_interval_ms
    told = np.array([f.interval_s if np.isfinite(f.interval_s) else exposure for f in files])
    interval = told if configured is None else np.full(len(files), configured / 1e3)
    lasts = (frames - 1) * interval + exposure
    begin = np.array([f.begin for f in files])
    end = np.array([f.end for f in files])
    mean = np.array([f.mean for f in files])
    last = np.array([f.last_frame for f in files])
    begin = np.where(last, end - (frames - 1) * interval, begin)
    end = np.where(last, end + exposure, end)
    shift = ctx.settings.clock_offset_h * 3600.0
    begin, mean, end = begin - shift, mean - shift, end - shift
    unknown = ~np.isfinite(begin)
    if unknown.any():
        start = start_of(ctx.settings)
        if start is None:
            raise InputError(
                "no time in the header",
                file=files[int(np.argmax(unknown))].file,
                expected="DATE-BEG, STARTOBS or DATE-OBS, or DATE beside FRAME NUMBER",
                remedy="Set start (UTC of the first frame) and frame_interval_ms of the channel",
            )
        ctx.note("times are counted from start of the channel: headers do not tell them all")
        first = float(start.astype("datetime64[us]").astype(np.int64)) / 1e6
        begin = first + np.arange(len(files)) * usual * interval
        mean, end = np.full_like(begin, np.nan), begin + lasts
    # HARDcam's files of the superseded system have one time for begin, mean and end.
    end = np.where(np.isfinite(end), np.maximum(end, begin + frames * exposure), begin + lasts)
    end = np.where(end - begin <= frames * exposure, begin + lasts, end)
    between = (mean > begin) & (mean < end)
    return begin, np.where(between, mean, (begin + end) / 2), end, frames


def _state(
    ctx: StageContext, files: list[ReconstructedFile], mean: np.ndarray
) -> tuple[dict[str, np.ndarray], str]:
    """Telescope state from the log where one is given, else from the headers; and which it is."""
    if ctx.observation.telescope_log is not None:
        state = telescope_state(ctx, mean)
        return {name: getattr(state, name) for name in STATE}, "telescope log"
    telescope = ctx.observation.telescope
    site = Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)
    observer: Observer = observe(mean, site)
    points = np.array([f.point for f in files])
    latitude, longitude = heliographic(points, observer)
    angle = np.array([f.crota2 for f in files]) * (telescope.guider_sign or 1) + telescope.guider_zero_deg
    if not np.isfinite(latitude).any():
        ctx.note("no telescope log, and no pointing on the Sun in the headers: it is not known")
    log = {name: np.array([f.log[name] for f in files]) for name in files[0].log}
    return {"latitude": latitude, "longitude": longitude, "guider_angle": angle, **log}, "earlier headers"


def _calibration_fields(shape: tuple[int, int]) -> dict[str, Field]:
    return {
        "bad_pixels": Field(shape, "uint8", "", "0: good; none is known", stack=False),
        "plate_scale": Field((2,), "float64", "arcsec/px", "x and y, camera orientation", stack=False),
        "plate_scale_scatter": Field((2,), "float64", "arcsec/px", "NaN: not measured", stack=False),
        "plate_scale_source": Field((), "str", "", "where the plate scale comes from", stack=False),
    }


def _burst_fields() -> dict[str, Field]:
    unix = "Unix time, UTC: "
    return {
        "time_beg": Field((), "float64", "s", unix + "start of the first exposure"),
        "time_end": Field((), "float64", "s", unix + "end of the last exposure"),
        "time_avg": Field((), "float64", "s", unix + "mean of the middles of the exposures"),
        "first_frame": Field((), "int64", "", "number of the file"),
        "frames_used": Field((), "int64", "", "frames in the burst"),
        "first_file": Field((), "str", "", "file of the frame", length=255),
        "last_file": Field((), "str", "", "file of the frame", length=255),
        **{name: Field((), "float64", unit, meaning) for name, (unit, meaning) in STATE.items()},
    }


def _speckle_fields(shape: tuple[int, int]) -> dict[str, Field]:
    return {
        "image": Field(shape, "float32", "DN", "reconstructed image, camera orientation"),
        "r0": Field((), "float64", "m", "Fried parameter of the frame at its wavelength; NaN: unknown"),
        "alpha": Field((), "float64", "", "Fried parameter over telescope diameter"),
        "contrast": Field((), "float64", "", "standard deviation over mean"),
        "sharpness": Field((), "float64", "1/px", "rms gradient over mean"),
    }


def earlier_steps(speckle: StoreReader) -> list[Mapping[str, Any]]:
    """
    Steps that frames of an earlier system went through.

    Parameters
    ----------
    speckle : StoreReader
        The product of the stage speckle.

    Returns
    -------
    list of mapping
        Arguments of a `stillsun.sky.keywords.ProcessingStep` each; none for frames reconstructed here.
    """
    return list(json.loads(speckle.attributes.get("steps", "[]")))


def _without(schema: type, *kept: str) -> tuple[str, ...]:
    return tuple(f.name for f in fields(schema) if f.name not in kept)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="calibrate",
            version=1,
            run=_calibrate,
            writes="calibration",
            raw=(ROLE, "target"),
            settings=("camera", "plate_scale", "orientation", "reconstructed"),
            ignores=_without(CalibrateConfig),
            always=True,
        ),
        Stage(
            name="assemble",
            version=1,
            run=_assemble,
            writes="bursts",
            reads=("calibration",),
            raw=(ROLE,),
            settings=("exposure_ms", "frame_interval_ms", "start", "clock_offset_h"),
            observation=("telescope",),
            files=("telescope_log",),
            ignores=_without(AssembleConfig, "frames_per_burst"),
            always=True,
        ),
        Stage(
            name="speckle",
            version=1,
            run=_speckle,
            writes="speckle",
            reads=("calibration", "bursts"),
            raw=(ROLE,),
            settings=("camera", "orientation", "reconstructed"),
            observation=("telescope",),
            ignores=_without(SpeckleConfig, "engine"),
            always=True,
        ),
    )
}
