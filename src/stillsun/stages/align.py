"""Stage align: helioprojective pointing of every frame."""

from __future__ import annotations

import numpy as np

from stillsun.io.store import Field
from stillsun.sky.observer import Site, observe
from stillsun.sky.pointing import Pointing, guider_angle, pointing_by_hand, pointing_from_log
from stillsun.stages.base import Stage, StageContext

FIELDS = {
    "crval": Field((2,), "float64", "arcsec", "helioprojective (x, y) of the reference's centre"),
    "crota2": Field((), "float64", "deg", "angle of the reference channel"),
    "uncertainty": Field((), "float64", "arcsec", "systematic error of crval"),
    "method": Field((), "str", "", "where the pointing comes from", stack=False),
}


def run(ctx: StageContext) -> None:
    """
    Write the pointing of each frame: from the telescope's log, or as given by hand.

    It belongs to the centre of the reference channel's field, in every channel: the registration tells
    which pixel of a channel sees that point.

    Parameters
    ----------
    ctx : StageContext
        Reads ``bursts``.
    """
    bursts = ctx.inputs["bursts"]
    with ctx.create(bursts.rows, FIELDS) as store:
        pointing = _pointing(ctx)
        store.write("crval", pointing.crval)
        store.write("crota2", pointing.crota2)
        store.write("uncertainty", pointing.uncertainty)
        store.write("method", pointing.method)
        store.mark(slice(None))


def _pointing(ctx: StageContext) -> Pointing:
    bursts, telescope = ctx.inputs["bursts"], ctx.observation.telescope
    site = Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)
    observer = observe(bursts.read("time_avg"), site)
    zero, sign = telescope.guider_zero_deg, telescope.guider_sign
    guider = bursts.read("guider_angle")
    if ctx.config.pointing is not None:
        angle = guider_angle(guider, zero, sign)
        return pointing_by_hand(ctx.config.pointing, float(observer.time[0]), angle, observer, site)
    latitude, longitude = bursts.read("latitude"), bursts.read("longitude")
    pointing = pointing_from_log(
        latitude, longitude, guider, observer, site, guider_zero_deg=zero, guider_sign=sign
    )
    unknown = int(np.sum(~np.isfinite(latitude) | ~np.isfinite(longitude)))
    if pointing.method == "unknown":
        ctx.note(
            "the pointing is unknown: no telescope log tells it; coordinates are as if the field were at "
            "disk centre, with an error larger than the Sun (align.pointing=[x,y] gives it by hand)"
        )
    elif unknown:
        ctx.note(
            f"{unknown} of {latitude.size} frames have no entry in the telescope log; the nearest frame's "
            "pointing was carried on by solar rotation"
        )
    if not np.isfinite(guider).any():
        ctx.note("the guider angle is unknown; solar north is taken to be up")
    return pointing


STAGE = Stage(
    name="align",
    version=1,
    run=run,
    writes="pointing",
    reads=("bursts",),
    observation=("telescope",),
    ignores=("verify",),
)
