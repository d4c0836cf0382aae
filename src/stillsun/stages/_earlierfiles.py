"""What the files of an earlier system tell of its frames, completed by the configuration."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from stillsun.core.orient import Orientation, rotation
from stillsun.errors import InputError
from stillsun.io.foreign import reading
from stillsun.io.inventory import directory_of, find_files, start_of
from stillsun.io.legacy_fits import ReconstructedFile, read_facts
from stillsun.products.bursts import STATE
from stillsun.sky.observer import heliographic, observe
from stillsun.sky.wcs import centre_pixel, read_place
from stillsun.stages._telescope import telescope_state
from stillsun.stages.base import StageContext

ROLE = "reconstructed"
TURNED = "ALIGN TO SOLAR NORTH"
DESTRETCHED = "DESTRETCHING"
# Times of a burst lie closer to each other than so many of its lengths, or seconds.
_LONGEST = 100.0
# Steps that belong to the coordinates, which are made anew.
_COORDINATES = ("CHANNEL-REG", "SOLAR-ALIGN")
# What was done to frames whose headers do not say.
_ASSUMED = ("DARK-SUBTRACTION,FLATFIELDING", "SPECKLE-DECONVOLUTION")


def earlier_files(ctx: StageContext) -> list[ReconstructedFile]:
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


def _shape_meant(facts: ReconstructedFile) -> tuple[int, int]:
    """Shape that the coordinates are of: that after turning where the reference pixel is its centre."""
    rows, columns = facts.shape
    pixel = [facts.header.get(key) for key in ("CRPIX1", "CRPIX2")]
    turned = centre_pixel((columns, rows))
    is_turned = all(
        isinstance(p, float | int) and abs(p - c) < 0.6 for p, c in zip(pixel, turned, strict=True)
    )
    return (columns, rows) if is_turned else (rows, columns)


def places(files: list[ReconstructedFile]) -> np.ndarray:
    """Helioprojective centre (x, y) and angle of each frame; NaN where unknown."""
    found = []
    for facts in files:
        with reading(facts.file, "coordinates that cannot be read"):
            found.append(read_place(facts.header, _shape_meant(facts)))
    return np.array([(np.nan,) * 3 if p is None else (*p.centre, p.rotation_deg) for p in found])


def turning(ctx: StageContext, files: list[ReconstructedFile]) -> tuple[tuple[int, int], bool]:
    """Shape as the camera saw the frames, and whether they were turned since."""
    orientation, shape = ctx.orientation, files[0].shape
    turned = ctx.settings.reconstructed.turned
    if turned is None:
        turned = any(s.kind == TURNED for s in files[0].steps)
        camera = tuple(ctx.settings.camera.shape)
        # The superseded system wrote the step before it turned the frames: their shape knows better.
        if turned and shape == camera and orientation.shape(camera) != camera:
            turned = False
    rows, columns = orientation.inverse().shape(shape) if turned else shape
    return (int(rows), int(columns)), turned


def note_turning(ctx: StageContext, files: list[ReconstructedFile], turned: bool) -> None:
    """Say what was taken for granted about turned frames."""
    said = any(s.kind == TURNED for s in files[0].steps)
    if ctx.settings.reconstructed.turned is None and said and ctx.orientation != Orientation():
        ctx.note(
            f"the frames say {TURNED} and are taken as turned already; if they are not "
            "(the superseded system wrote that before it was done), set reconstructed.turned=false"
            if turned
            else f"the frames say {TURNED}, but have the shape of the camera: they are turned now"
        )


def steps_of(ctx: StageContext, files: list[ReconstructedFile]) -> list[dict[str, str]]:
    """What was done to the pixels, in order, each step once."""
    if not files[0].steps:
        ctx.note(f"the frames do not tell what was done to them (PRSTEPn); {' and '.join(_ASSUMED)} assumed")
        return [{"kind": kind, "program": "earlier system"} for kind in _ASSUMED]
    kept = {s.kind: asdict(s) for s in files[0].steps if s.kind not in _COORDINATES}
    return list(kept.values())


def times_of(
    ctx: StageContext, files: list[ReconstructedFile]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Begin, mean, end (unix seconds) and number of frames of each burst."""
    usual = int(ctx.config.frames_per_burst)
    frames = np.array([f.frames or usual for f in files])
    if missing := sum(f.frames is None for f in files):
        ctx.note(
            f"{missing} of {len(files)} headers do not say how many exposures a frame is made of (NSUMEXP); "
            f"assemble.frames_per_burst={usual} is taken"
        )
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
    shortest = exposure * np.array([f.frames or 1 for f in files])
    longest = begin + np.maximum(_LONGEST * lasts, _LONGEST)
    good_end = (end - begin > shortest) & (end < longest)
    good_mean = (mean > begin) & (mean < np.where(good_end, end, longest))
    end = np.where(good_end, end, np.where(good_mean, 2 * mean - begin, begin + lasts))
    return begin, np.where(good_mean, mean, (begin + end) / 2), end, frames


@dataclass(frozen=True)
class EarlierPlace:
    """
    Where headers put a channel.

    Attributes
    ----------
    centre : numpy.ndarray, shape (n, 2)
        Helioprojective (x, y) of the centre of the reference channel, arcsec; NaN where unknown.
    angle_deg : numpy.ndarray, shape (n,)
        ``CROTA2`` of the reference channel.
    translation, rotation_deg
        The channel on the reference channel, as in `stillsun.sky.wcs.register_channel`; None: not known.
    """

    centre: np.ndarray
    angle_deg: np.ndarray
    translation: tuple[float, float] | None = None
    rotation_deg: float = 0.0

    def attributes(self) -> dict[str, float]:
        """What the product of assemble keeps of the channel on the reference channel."""
        if self.translation is None:
            return {}
        x, y = self.translation
        return {"header_x": x, "header_y": y, "header_rotation_deg": self.rotation_deg}


def place_of(ctx: StageContext, files: list[ReconstructedFile], mean: np.ndarray) -> EarlierPlace:
    """Place of the reference channel by its own headers if it has them, and of the channel on it."""
    own = places(files)
    reference = ctx.observation.channels.get(ctx.observation.reference)
    paths = [] if ctx.is_reference or reference is None else find_files(ctx.observation, reference, ROLE)
    others = [read_facts(path) for path in paths]
    there = places(others) if others else np.empty((0, 3))
    times = np.array([np.nanmax([f.mean, f.begin, f.end]) for f in others])
    known = np.isfinite(there).all(axis=1) & np.isfinite(times)
    if not known.any() or not np.isfinite(own).all(axis=1).any():
        return EarlierPlace(own[:, :2], own[:, 2])
    order = np.argsort(times[known])
    base = np.stack([np.interp(mean, times[known][order], v) for v in there[known][order].T], axis=1)
    moved = np.nanmedian(own - base, axis=0)
    x, y = rotation(-float(np.nanmedian(base[:, 2]))) @ moved[:2]
    return EarlierPlace(base[:, :2], base[:, 2], (float(x), float(y)), float(moved[2]))


def state_of(
    ctx: StageContext, files: list[ReconstructedFile], mean: np.ndarray, place: EarlierPlace
) -> tuple[dict[str, np.ndarray], str]:
    """Telescope state from the log where one is given, else from the headers; and which it is."""
    if ctx.observation.telescope_log is not None:
        state = telescope_state(ctx, mean)
        return {name: getattr(state, name) for name in STATE}, "telescope log"
    telescope, observer = ctx.observation.telescope, observe(mean, ctx.site)
    latitude, longitude = heliographic(place.centre, observer)
    angle = place.angle_deg * (telescope.guider_sign or 1) + telescope.guider_zero_deg
    if not np.isfinite(latitude).any():
        ctx.note("no telescope log, and no pointing on the Sun in the headers: it is not known")
    log = {name: np.array([f.log[name] for f in files]) for name in files[0].log}
    return {"latitude": latitude, "longitude": longitude, "guider_angle": angle, **log}, "earlier headers"
