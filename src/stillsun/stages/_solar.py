"""Match of a sequence to the full-disk image: which frames, which image, what is believed, a picture."""

from __future__ import annotations

import logging
import sys
import webbrowser
from pathlib import Path

import numpy as np

from stillsun.errors import ConfigError, InputError
from stillsun.products.calibration import Calibration
from stillsun.products.destretched import Destretched
from stillsun.sky.download import default_cache, fulldisk_near
from stillsun.sky.fulldisk import read_fulldisk
from stillsun.sky.match import match_to_sun
from stillsun.sky.observer import rotate_with_sun
from stillsun.sky.pointing import MATCHED, Pointing, Solution, guider_angle
from stillsun.stages._attempts import Attempt, draw_match
from stillsun.stages.base import StageContext

_LOG = logging.getLogger(__name__)
# Segments are one as long as they agree within three errors, or within this, arcsec.
_SAME_ARCSEC = 0.15
# Full-disk images from longer ago show another Sun, seconds.
_OTHER_DAY = 86400.0
_STALE = 600.0


def solve_on_sun(
    ctx: StageContext, supposed: Pointing, starts: list[int]
) -> tuple[Solution | None, list[Attempt]]:
    """
    Match the clearest frame of each segment of a sequence to the full-disk image.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage align, for the reference channel.
    supposed : Pointing
        Pointing of each frame as far as known.
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
    if not ctx.has(Destretched, Calibration):
        ctx.note("not aligned to the Sun: there are no destretched frames, or no calibration")
        return None, []
    times = ctx.times
    attempts: list[Attempt] = []
    signs = _signs(ctx)
    try:
        for first, end in zip(starts, [*starts[1:], len(times)], strict=True):
            attempts.append(_attempt(ctx, supposed, _chosen(ctx, first, end), signs))
    except InputError as error:
        # A file that a person gives and that cannot be read is their fault; a match that fails is nobody's.
        if ctx.config.file is not None and error.file is not None:
            raise
        ctx.note(
            f"not aligned to the Sun: {error}. The pointing stays that of the {supposed.method}; "
            "force=[align] tries again, align=none does without"
        )
        return None, []
    believed = [a for a in attempts if a.match.accepted]
    shown = min(believed or attempts, key=lambda a: a.match.uncertainty)
    picture = draw_match(ctx, shown)
    if not believed:
        _note_refusal(ctx, shown, supposed)
        return None, attempts
    if not _agreed(ctx, picture):
        ctx.note(
            f"not aligned to the Sun: a person refused the match ({picture.name}); force=[align] asks again"
        )
        return None, attempts
    return _solution(ctx, attempts, shown, times[starts], signs), attempts


def _signs(ctx: StageContext) -> tuple[int, ...]:
    sign = ctx.observation.telescope.guider_sign
    return (1, -1) if sign == 0 else (sign,)


def _chosen(ctx: StageContext, first: int, end: int) -> int:
    """The frame asked for, if it is in the segment, or the clearest of the segment."""
    wanted, rows = ctx.config.frame, ctx.bursts.rows
    if wanted is not None and wanted >= rows:
        raise ConfigError("align.frame: no such frame", expected=f"0 to {rows - 1}", found=wanted)
    return int(wanted) if wanted is not None and first <= wanted < end else ctx.clearest(first, end)


def _attempt(ctx: StageContext, supposed: Pointing, frame: int, signs: tuple[int, ...]) -> Attempt:
    config, time = ctx.config, float(ctx.times[frame])
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
    guider = ctx.bursts.guider_angle
    angles = tuple(float(guider_angle(guider, zero, sign)[frame]) for sign in signs)
    x, y = (float(v) for v in supposed.crval[frame])
    match = match_to_sun(
        ctx.destretched.image(frame),
        ctx.destretched.valid(frame),
        ctx.scale,
        (x, y),
        angles,
        time,
        ctx.site,
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
        ctx.name, frame, disk.name, match.point[0] - x, match.point[1] - y, match.peak,
        match.significance, match.peak_ratio, match.null_peak,
    )  # fmt: skip
    return Attempt(frame, time, disk, (x, y), angles, match)


def _solution(
    ctx: StageContext,
    attempts: list[Attempt],
    best: Attempt,
    starts: np.ndarray,
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
        carried = rotate_with_sun(best.match.point, best.time, np.array([attempt.time]), ctx.site)[0]
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
        _LOG.info("%s: no terminal to ask on; the match is shown in %s", ctx.name, picture)
        return True
    webbrowser.open(picture.resolve().as_uri())
    # On a line of its own, where progress bars are drawn too.
    question = f"{ctx.name}: the match to the Sun is shown in {picture}. Use it? [Y/n] "
    print(f"\r\x1b[K\n{question}", end="", file=sys.stderr, flush=True)
    answer = input("")
    return answer.strip().lower() in ("", "y", "yes")
