"""Stage align: helioprojective pointing of every frame."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from stillsun.config.schema import AlignEngine
from stillsun.core.jumps import find_jumps
from stillsun.products.calibration import Calibration
from stillsun.products.destretched import Destretched
from stillsun.products.pointing import MATCHES, SEGMENTS, SolarPointing, solution_values
from stillsun.sky.observer import earth_rotation_note
from stillsun.sky.pointing import Pointing, Solution, pointing_from_solution
from stillsun.stages._attempts import Attempt, match_values
from stillsun.stages._solar import solve_on_sun
from stillsun.stages.base import StageContext


def run(ctx: StageContext) -> None:
    """
    Write the pointing of each frame: from the telescope's log, given by hand, or matched to the Sun.

    It belongs to the centre of the reference channel's field, in every channel: the registration tells
    which pixel of a channel sees that point. The reference channel is matched to the Sun; the others
    take its solution.

    Parameters
    ----------
    ctx : StageContext
        Reads ``bursts``; ``destretch``, ``speckle`` and ``calibration`` for the match; ``pointing`` of the
        reference channel.

    Raises
    ------
    InputError
        If the full-disk image that was given cannot be used.
    """
    if said := earth_rotation_note(ctx.times):
        ctx.note(said)
    parts: list[str] = []
    attempts: list[Attempt] = []
    aligned = 0
    values: dict[str, Any] = {}
    solution: Solution | None
    if ctx.is_reference:
        solution = _by_hand(ctx)
        starts = _segments(ctx, ctx.bursts.rows)
        if ctx.config.engine is AlignEngine.hmi:
            found, attempts = solve_on_sun(ctx, _pointing(ctx, solution), starts)
            solution, aligned = found or solution, int(found is not None)
        if solution is not None and ctx.config.offset is not None:
            moved = solution.point + np.asarray(ctx.config.offset)
            solution = replace(solution, point=moved, method=_moved(ctx, solution.method))
    elif ctx.reference is not None and ctx.reference.has(SolarPointing):
        solution = ctx.reference.pointing.solution
        aligned = int(ctx.reference.pointing.aligned) if solution else 0
    else:
        ctx.note("the reference channel has no pointing; that of the telescope log is taken")
        solution = None
    values |= {"aligned": aligned, **asdict(_pointing(ctx, solution, report=True))}
    if attempts:
        parts.append(MATCHES)
        values |= match_values(attempts)
    if solution is not None:
        parts.append(SEGMENTS)
        values |= solution_values(solution)
    segments = 0 if solution is None else len(solution.start)
    fields = SolarPointing.fields(*parts, matches=len(attempts), segments=segments)
    with ctx.create(ctx.bursts.rows, fields) as store:
        for name, value in values.items():
            store.write(name, value)
        store.mark(slice(None))


def _by_hand(ctx: StageContext) -> Solution | None:
    if ctx.config.pointing is None:
        return None
    sign = ctx.observation.telescope.guider_sign or 1
    return Solution.by_hand(ctx.config.pointing, float(ctx.times[0]), sign)


def _segments(ctx: StageContext, rows: int) -> list[int]:
    """First frame of each part of the sequence between jumps of the field."""
    if not ctx.has(Destretched, Calibration):
        return [0]
    motion = ctx.destretched.motion * ctx.scale
    jumps = find_jumps(motion, ctx.config.jump_arcsec)
    for row in jumps:
        before, after = (
            np.nanmedian(m, axis=0) for m in (motion[max(0, row - 6) : row], motion[row : row + 6])
        )
        x, y = before - after
        ctx.note(
            f"the field jumped by ({x:+.2f}, {y:+.2f}) arcsec on the chip at frame {row}, as when adaptive "
            "optics lose their lock and find another; destretch takes it out, the frames before it "
            "(FITS files of postSpeckle) have it in CRPIX"
        )
    return [0, *[row for row in jumps if 0 < row < rows]]


def _moved(ctx: StageContext, method: str) -> str:
    """What a pointing is called that was moved by hand."""
    x, y = ctx.config.offset
    text = f"moved by hand by ({x:g}, {y:g}) arcsec"
    ctx.note(f"the pointing was {text}")
    return f"{method}, {text}"


def _pointing(ctx: StageContext, solution: Solution | None, *, report: bool = False) -> Pointing:
    bursts, telescope = ctx.bursts, ctx.observation.telescope
    guider, zero = bursts.guider_angle, telescope.guider_zero_deg
    if report and not np.isfinite(guider).any():
        ctx.note("the guider angle is unknown; solar north is taken to be up")
    if solution is not None:
        return pointing_from_solution(solution, guider, ctx.observer, ctx.site, guider_zero_deg=zero)
    latitude, longitude = bursts.latitude, bursts.longitude
    pointing = ctx.logged_pointing()
    if report and ctx.config.offset is not None and pointing.method != "unknown":
        moved = pointing.crval + np.asarray(ctx.config.offset)
        pointing = replace(pointing, crval=moved, method=_moved(ctx, pointing.method))
    unknown = int(np.sum(~np.isfinite(latitude) | ~np.isfinite(longitude)))
    if report and pointing.method == "unknown":
        ctx.note(
            "the pointing is unknown: no telescope log tells it; coordinates are as if the field were at "
            "disk centre, with an error larger than the Sun (align.pointing=[x,y] gives it by hand)"
        )
    elif report and unknown:
        ctx.note(
            f"{unknown} of {latitude.size} frames have no entry in the telescope log; the nearest frame's "
            "pointing was carried on by solar rotation"
        )
    return pointing
