"""Stage align: helioprojective pointing of every frame."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from stillsun.config.schema import AlignEngine
from stillsun.core.jumps import find_jumps
from stillsun.io.store import Field, StoreReader
from stillsun.sky.observer import Observer, Site, earth_rotation_note, observe
from stillsun.sky.pointing import Pointing, Solution, pointing_from_solution
from stillsun.stages._attempts import match_fields
from stillsun.stages._motion import field_motion, plate_scale
from stillsun.stages._solar import solve_on_sun
from stillsun.stages._telescope import logged_pointing
from stillsun.stages.base import StageContext

FIELDS = {
    "crval": Field((2,), "float64", "arcsec", "helioprojective (x, y) of the reference's centre"),
    "crota2": Field((), "float64", "deg", "angle of the reference channel"),
    "uncertainty": Field((), "float64", "arcsec", "systematic error of crval"),
    "method": Field((), "str", "", "where the pointing comes from", stack=False, length=160),
    "aligned": Field((), "uint8", "", "1: matched to a full-disk image", stack=False),
}
# What other channels need to know of the reference's pointing, one entry a segment.
_SEGMENTS = {
    "start": ((), "s", "begin of the segment, unix seconds"),
    "time": ((), "s", "when the position is known, unix seconds"),
    "point": ((2,), "arcsec", "helioprojective (x, y) at that time"),
    "turn_deg": ((), "deg", "CROTA2 less what the guider says"),
    "uncertainty": ((), "arcsec", "systematic error of the position"),
}


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
    bursts, telescope = ctx.inputs["bursts"], ctx.observation.telescope
    site = Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)
    observer = observe(bursts.read("time_avg"), site)
    if said := earth_rotation_note(observer.time):
        ctx.note(said)
    fields, values = dict(FIELDS), {"aligned": 0}
    solution: Solution | None
    if ctx.is_reference:
        solution = _by_hand(ctx, observer)
        starts = _segments(ctx, bursts.rows)
        if ctx.config.engine is AlignEngine.hmi:
            supposed = _pointing(ctx, solution, observer, site)
            found, attempts = solve_on_sun(ctx, supposed, observer.time, site, starts)
            if attempts:
                more, measured = match_fields(attempts)
                fields |= more
                values |= measured | {"aligned": int(found is not None)}
            solution = found or solution
    elif "pointing" in ctx.reference:
        solution, values["aligned"] = _of_reference(ctx.reference["pointing"])
    else:
        ctx.note("the reference channel has no pointing; that of the telescope log is taken")
        solution = None
    pointing = _pointing(ctx, solution, observer, site, report=True)
    if solution is not None:
        more, own = _stored(solution)
        fields |= more
        values |= own
    values |= asdict(pointing)
    with ctx.create(bursts.rows, fields) as store:
        for name, value in values.items():
            store.write(name, value)
        store.mark(slice(None))


def _by_hand(ctx: StageContext, observer: Observer) -> Solution | None:
    if ctx.config.pointing is None:
        return None
    sign = ctx.observation.telescope.guider_sign or 1
    return Solution.by_hand(ctx.config.pointing, float(observer.time[0]), sign)


def _segments(ctx: StageContext, rows: int) -> list[int]:
    """First frame of each part of the sequence between jumps of the field."""
    if not {"destretch", "calibration"} <= set(ctx.inputs):
        return [0]
    motion = field_motion(ctx.inputs["destretch"]) * plate_scale(ctx)
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


def _pointing(
    ctx: StageContext, solution: Solution | None, observer: Observer, site: Site, *, report: bool = False
) -> Pointing:
    bursts, telescope = ctx.inputs["bursts"], ctx.observation.telescope
    guider, zero = bursts.read("guider_angle"), telescope.guider_zero_deg
    if report and not np.isfinite(guider).any():
        ctx.note("the guider angle is unknown; solar north is taken to be up")
    if solution is not None:
        return pointing_from_solution(solution, guider, observer, site, guider_zero_deg=zero)
    latitude, longitude = bursts.read("latitude"), bursts.read("longitude")
    pointing = logged_pointing(bursts, telescope, observer, site)
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


def _stored(solution: Solution) -> tuple[dict[str, Field], dict[str, Any]]:
    count = len(solution.start)
    fields = {
        f"segment_{name}": Field((count, *shape), "float64", unit, meaning, stack=False)
        for name, (shape, unit, meaning) in _SEGMENTS.items()
    }
    fields["guider_sign"] = Field((), "int64", "", "sense of the guider angle", stack=False)
    values = {f"segment_{name}": getattr(solution, name) for name in _SEGMENTS}
    return fields, values | {"guider_sign": solution.guider_sign}


def _of_reference(store: StoreReader) -> tuple[Solution | None, int]:
    if "segment_point" not in store:
        return None, 0
    parts = {name: store.read(f"segment_{name}") for name in _SEGMENTS}
    sign, method = int(store.read("guider_sign")), str(store.read("method"))
    return Solution(**parts, guider_sign=sign, method=method), int(store.read("aligned"))
