"""Match of a sequence to the full-disk image: which frames, which image, what is believed, a picture."""

from __future__ import annotations

import logging
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import ConfigError, InputError
from stillsun.io.store import Field
from stillsun.qa.overlay import Overlay, write_overlays
from stillsun.sky._frame import SkyTemplate, contrast
from stillsun.sky.download import default_cache, fulldisk_near
from stillsun.sky.fulldisk import FullDisk, SkyGrid, read_fulldisk
from stillsun.sky.match import SolarMatch, match_to_sun
from stillsun.sky.observer import Site, rotate_with_sun, telescope_frame
from stillsun.sky.pointing import MATCHED, Pointing, Solution, guider_angle
from stillsun.stages._motion import plate_scale
from stillsun.stages.base import StageContext

_LOG = logging.getLogger(__name__)
_PICTURE_POINTS = 700
# Segments are one as long as they agree within three errors, or within this, arcsec.
_SAME_ARCSEC = 0.15
# Full-disk images from longer ago show another Sun, seconds.
_OTHER_DAY = 86400.0
_STALE = 600.0


@dataclass(frozen=True)
class Attempt:
    """
    The match of one segment of a sequence.

    Attributes
    ----------
    frame : int
        Frame that was matched.
    time : float
        Of that frame, unix seconds.
    disk : FullDisk
        Full-disk image.
    start : tuple of float
        Helioprojective (x, y) that the search began at, arcsec.
    angles : tuple of float
        Angles that it began with, one for each sense of the guider, degrees.
    match : SolarMatch
        What came out.
    """

    frame: int
    time: float
    disk: FullDisk
    start: tuple[float, float]
    angles: tuple[float, ...]
    match: SolarMatch


def solve_on_sun(
    ctx: StageContext, supposed: Pointing, times: np.ndarray, site: Site, starts: list[int]
) -> tuple[Solution | None, list[Attempt]]:
    """
    Match the clearest frame of each segment of a sequence to the full-disk image.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage align, for the reference channel.
    supposed : Pointing
        Pointing of each frame as far as known.
    times : numpy.ndarray, shape (n,)
        Of the frames, unix seconds.
    site : Site
        Where the telescope stands.
    starts : list of int
        First frame of each segment.

    Returns
    -------
    Solution or None
        Where the reference channel's centre is; None if no match can be believed.
    list of Attempt
        All matches.
    """
    if supposed.method == "unknown":
        ctx.note("not aligned to the Sun: where to search is unknown; give align.pointing=[x,y]")
        return None, []
    if not {"destretch", "calibration"} <= set(ctx.inputs):
        ctx.note("not aligned to the Sun: there are no destretched frames, or no calibration")
        return None, []
    quality = _quality(ctx)
    attempts: list[Attempt] = []
    signs = _signs(ctx)
    try:
        for first, end in zip(starts, [*starts[1:], len(times)], strict=True):
            frame = _chosen(ctx, quality, first, end)
            attempts.append(_attempt(ctx, supposed, times, site, frame, signs))
    except InputError as error:
        if ctx.config.file is not None:
            raise
        ctx.note(
            f"not aligned to the Sun: {error}. The pointing stays that of the {supposed.method}; "
            "force=[align] tries again, align=none does without"
        )
        return None, []
    believed = [a for a in attempts if a.match.accepted]
    shown = min(believed or attempts, key=lambda a: a.match.uncertainty)
    picture = _draw(ctx, shown)
    if not believed:
        _note_refusal(ctx, shown, supposed)
        return None, attempts
    if not _agreed(ctx, picture):
        ctx.note(
            f"not aligned to the Sun: a person refused the match ({picture.name}); force=[align] asks again"
        )
        return None, attempts
    return _solution(ctx, attempts, shown, times[starts], site, signs), attempts


def match_fields(attempts: list[Attempt]) -> tuple[dict[str, Field], dict[str, Any]]:
    """
    What the product keeps of the matches.

    Parameters
    ----------
    attempts : list of Attempt
        All matches.

    Returns
    -------
    fields : dict
        Declarations.
    values : dict
        Values by name.
    """
    n = (len(attempts),)
    table: dict[str, tuple[str, str, str, list[Any]]] = {
        "matched_frame": ("int64", "", "frame that was matched", [a.frame for a in attempts]),
        "matched_crota2": ("float64", "deg", "angle found", [a.match.crota2 for a in attempts]),
        "matched_point": ("float64", "arcsec", "position found (x, y)", [a.match.point for a in attempts]),
        "match_error": ("float64", "arcsec", "standard error (x, y)", [a.match.error for a in attempts]),
        "match_rotation_error_deg": (
            "float64", "deg", "standard error of the angle; NaN: the field does not fix it",
            [a.match.rotation_error_deg for a in attempts],
        ),
        "match_correlation": ("float64", "", "correlation at the match", [a.match.peak for a in attempts]),
        "match_significance": (
            "float64", "", "peak over wrong places nearby, in deviations",
            [a.match.significance for a in attempts],
        ),
        "match_peak_ratio": ("float64", "", "peak over the next one", [a.match.peak_ratio for a in attempts]),
        "match_null": (
            "float64", "", "highest correlation elsewhere on the disk", [a.match.null_peak for a in attempts],
        ),
        "match_accepted": ("uint8", "", "1: can be believed", [a.match.accepted for a in attempts]),
    }  # fmt: skip
    fields = {
        name: Field((*n, *np.shape(values)[1:]), kind, unit, meaning, stack=False)
        for name, (kind, unit, meaning, values) in table.items()
    }
    fields["fulldisk"] = Field((), "str", "", "full-disk image", stack=False, length=160)
    return fields, {name: row[3] for name, row in table.items()} | {"fulldisk": attempts[0].disk.name}


def _signs(ctx: StageContext) -> tuple[int, ...]:
    sign = ctx.observation.telescope.guider_sign
    return (1, -1) if sign == 0 else (sign,)


def _quality(ctx: StageContext) -> np.ndarray:
    """Fried parameter where the engine gives one, else sharpness."""
    if "speckle" in ctx.inputs:
        r0 = ctx.inputs["speckle"].read("r0")
        if np.isfinite(r0).any():
            return r0
    return ctx.inputs["destretch"].read("sharpness_after")


def _chosen(ctx: StageContext, quality: np.ndarray, first: int, end: int) -> int:
    wanted = ctx.config.frame
    if wanted is not None:
        if wanted >= len(quality):
            raise ConfigError("align.frame: no such frame", expected=f"0 to {len(quality) - 1}", found=wanted)
        if first <= wanted < end:
            return int(wanted)
    part = quality[first:end]
    return first + (int(np.nanargmax(part)) if np.isfinite(part).any() else (end - first) // 2)


def _attempt(
    ctx: StageContext,
    supposed: Pointing,
    times: np.ndarray,
    site: Site,
    frame: int,
    signs: tuple[int, ...],
) -> Attempt:
    config, time = ctx.config, float(times[frame])
    if config.file is not None:
        path = Path(config.file)
    else:
        path = fulldisk_near(time, Path(config.cache) if config.cache else default_cache())
    disk = read_fulldisk(path)
    away = abs(disk.time - time)
    if away > _OTHER_DAY:
        raise InputError(
            "the full-disk image is not of the day of the observation",
            file=path,
            found=f"{away / 86400.0:.1f} days away",
            remedy="Give another image with align.file=PATH",
        )
    if away > _STALE:
        ctx.note(
            f"the full-disk image {disk.name} is {away / 60:.0f} minutes away from frame {frame}: "
            "granulation is another one then, only spots and pores can match"
        )
    zero = ctx.observation.telescope.guider_zero_deg
    guider = ctx.inputs["bursts"].read("guider_angle")
    angles = tuple(float(guider_angle(guider, zero, sign)[frame]) for sign in signs)
    x, y = (float(v) for v in supposed.crval[frame])
    destretch = ctx.inputs["destretch"]
    match = match_to_sun(
        destretch.read("image", frame),
        destretch.read("valid", frame),
        plate_scale(ctx),
        (x, y),
        angles,
        time,
        site,
        disk,
        search_arcsec=config.search_arcsec,
        max_rotation_deg=config.max_rotation_deg,
        min_significance=config.min_significance,
        backend=ctx.backend,
        progress=ctx.progress,
    )
    _LOG.info(
        "%s: frame %d against %s: (%.2f, %.2f) arcsec from where it was supposed to be, correlation %.3f, "
        "significance %.1f, next peak 1/%.2f, elsewhere %.3f",
        ctx.channel, frame, disk.name, match.point[0] - x, match.point[1] - y, match.peak,
        match.significance, match.peak_ratio, match.null_peak,
    )  # fmt: skip
    return Attempt(frame, time, disk, (x, y), angles, match)


def _solution(
    ctx: StageContext,
    attempts: list[Attempt],
    best: Attempt,
    starts: np.ndarray,
    site: Site,
    signs: tuple[int, ...],
) -> Solution:
    """One position for all segments that agree with the best one, its own for each of the others."""
    used = []
    for number, attempt in enumerate(attempts):
        if not attempt.match.accepted:
            ctx.note(
                f"segment {number + 1} of the sequence could not be matched to the Sun "
                f"({'; '.join(attempt.match.faults)}); it has the pointing of segment "
                f"{attempts.index(best) + 1}, because destretch holds the field"
            )
            used.append(best)
            continue
        carried = rotate_with_sun(best.match.point, best.time, np.array([attempt.time]), site)[0]
        apart = float(np.hypot(*(carried - attempt.match.point)))
        errors = float(np.hypot(np.hypot(*best.match.error), np.hypot(*attempt.match.error)))
        used.append(best if apart <= max(_SAME_ARCSEC, 3 * errors) else attempt)
    if not best.match.rotation_known:
        ctx.note("the field does not fix the rotation; the guider's angle stays")
    if len(signs) > 1:
        ctx.note(
            f"the sense of the guider angle was left open; {signs[best.match.start]:+d} fits the Sun better"
        )
    return Solution(
        start=np.asarray(starts, np.float64),
        time=np.array([a.time for a in used]),
        point=np.array([a.match.point for a in used]),
        turn_deg=np.array([(a.match.crota2 - a.angles[a.match.start] + 180) % 360 - 180 for a in used]),
        uncertainty=np.array([a.match.uncertainty for a in used]),
        guider_sign=signs[best.match.start],
        method=f"{MATCHED}{best.disk.name}",
    )


def _note_refusal(ctx: StageContext, attempt: Attempt, supposed: Pointing) -> None:
    config = ctx.config
    ctx.note(
        f"not aligned to the Sun: {'; '.join(attempt.match.faults)}. The pointing of the {supposed.method} "
        f"stays, uncertain by some {supposed.uncertainty[attempt.frame]:.0f} arcsec. What may help: a "
        f"position given by hand (align.pointing=[x,y]), another frame than {attempt.frame} (align.frame=N), "
        f"a wider search than {config.search_arcsec:g} arcsec (align.search_arcsec=N), or another full-disk "
        "image (align.file=PATH)"
    )


def _agreed(ctx: StageContext, picture: Path) -> bool:
    if not ctx.config.verify:
        return True
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        _LOG.info("%s: no terminal to ask on; the match is shown in %s", ctx.channel, picture)
        return True
    webbrowser.open(picture.resolve().as_uri())
    answer = input(f"\n{ctx.channel}: the match to the Sun is shown in {picture}. Use it? [Y/n] ")
    return answer.strip().lower() in ("", "y", "yes")


def _draw(ctx: StageContext, attempt: Attempt) -> Path:
    """The frame with contours of the full-disk image, where it was supposed to be and where it was found."""
    match, destretch = attempt.match, ctx.inputs["destretch"]
    scale = plate_scale(ctx)
    template = SkyTemplate(
        destretch.read("image", attempt.frame),
        destretch.read("valid", attempt.frame),
        scale,
        2 * max(scale),
        ctx.backend,
    )
    frame = telescope_frame(attempt.time, _site(ctx))
    places = (
        ("where it was supposed to be", attempt.start, attempt.angles[match.start]),
        ("where it was found" if match.accepted else "best place, not believed", match.point, match.crota2),
    )
    panels = []
    for title, point, angle in places:
        spacing = template.extent / _PICTURE_POINTS
        shape = template.shape(spacing, angle)
        image, mask = template.at(angle, spacing, shape)
        grid = SkyGrid(
            point,
            attempt.disk.scale / 2,
            tuple(int(np.ceil(n * spacing / attempt.disk.scale * 2)) for n in shape),  # type: ignore[arg-type]
            frame,
        )
        view = attempt.disk.view(grid)
        over = contrast(view, np.ones_like(view), SkyTemplate.HIGH_PASS_ARCSEC / grid.spacing)
        panels.append(
            Overlay(
                f"{title}: ({point[0]:.1f}, {point[1]:.1f}) arcsec, {angle:.2f} deg",
                np.where(mask > 0, image, np.nan),
                over,
                _extent(point, shape, spacing),
                _extent(point, grid.shape, grid.spacing),
            )
        )
    verdict = "accepted" if match.accepted else f"refused: {'; '.join(match.faults)}"
    heading = (
        f"{ctx.channel}, frame {attempt.frame}, contours: {attempt.disk.name}\n"
        f"correlation {match.peak:.3f}, significance {match.significance:.1f}, "
        f"{match.peak_ratio:.2f} times the next peak, elsewhere on the disk {match.null_peak:.3f}\n{verdict}"
    )
    return write_overlays(ctx.paths.directory / "align.png", panels, heading=heading)


def _site(ctx: StageContext) -> Site:
    telescope = ctx.observation.telescope
    return Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)


def _extent(
    point: tuple[float, float], shape: tuple[int, int], spacing: float
) -> tuple[float, float, float, float]:
    half = [n * spacing / 2 for n in shape]
    return point[0] - half[1], point[0] + half[1], point[1] - half[0], point[1] + half[0]
