"""Stage register: orientation, plate scale, and each channel's place on the reference channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.orient import Orientation
from stillsun.core.similarity import Similarity, match_images
from stillsun.io.store import Field, StoreReader
from stillsun.sky.wcs import register_channel
from stillsun.stages.base import Stage, StageContext

# Offset that is possible between two channels that were not matched, arcsec.
_UNREGISTERED_ERROR = 5.0

FIELDS = {
    "orientation": Field((), "str", "", "turns that bring the camera to north up", stack=False),
    "plate_scale": Field((2,), "float64", "arcsec/px", "(x, y) of the oriented frame", stack=False),
    "shape": Field((2,), "int64", "px", "(rows, columns) of the oriented frame", stack=False),
    "crpix": Field((2,), "float64", "px", "(x, y) that sees the reference's centre, from 1", stack=False),
    "rotation_deg": Field((), "float64", "deg", "CROTA2 less that of the reference", stack=False),
    "uncertainty": Field((), "float64", "arcsec", "error of the offset to the reference", stack=False),
    "accepted": Field((), "uint8", "", "1: matched to the reference, or the reference itself", stack=False),
    "translation": Field((2,), "float64", "arcsec", "centre (x, y) on the reference", stack=False),
    "rotation_error_deg": Field((), "float64", "deg", "error of the rotation", stack=False),
    "residual": Field((), "float64", "", "rms difference of the targets over their rms", stack=False),
    "residual_px": Field((), "float64", "px", "error of the offset", stack=False),
    "correlation": Field((), "float64", "", "of the matched targets", stack=False),
    "significance": Field((), "float64", "", "peak over correlations elsewhere", stack=False),
}


def run(ctx: StageContext) -> None:
    """
    Write the channel's geometry.

    The reference channel is its own reference. Another channel is matched to it by the target images;
    where that fails, or an image is missing, the channel keeps its centre, with an honest error.

    Parameters
    ----------
    ctx : StageContext
        Reads ``calibration`` of the channel, and ``calibration`` and ``registration`` of the reference.
    """
    calibration = ctx.inputs["calibration"]
    orientation = Orientation.from_steps([turn.value for turn in ctx.settings.orientation])
    shape = orientation.shape(calibration.shape("dark"))
    scale = orientation.plate_scale(calibration.read("plate_scale"))
    values: dict[str, Any] = {
        "orientation": orientation.text,
        "plate_scale": scale,
        "shape": shape,
        "rotation_deg": 0.0,
        "uncertainty": 0.0,
        "accepted": 1,
        "translation": (0.0, 0.0),
        **dict.fromkeys(
            ("rotation_error_deg", "residual", "residual_px", "correlation", "significance"), np.nan
        ),
    }
    with ctx.create(0, FIELDS) as store:
        if not ctx.is_reference:
            match = _match(ctx, orientation, scale)
            values.update(_values(match, scale))
            if match is not None and not match.accepted:
                ctx.note(f"not registered, the match of the targets fails: {'; '.join(match.faults)}")
        geometry = register_channel(shape, scale, values["translation"], values["rotation_deg"])
        values["crpix"] = geometry.crpix
        for name, value in values.items():
            store.write(name, value)


def _match(ctx: StageContext, orientation: Orientation, scale: tuple[float, float]) -> Similarity | None:
    missing = [
        who
        for who, products in (("this channel", ctx.inputs), ("the reference channel", ctx.reference))
        if "calibration" not in products or "target" not in products["calibration"]
    ]
    if missing:
        ctx.note(f"not registered, because {' and '.join(missing)} has no target image")
        return None
    base: StoreReader = ctx.reference["registration"]
    turned = Orientation.from_text(base.read("orientation"))
    return match_images(
        turned.apply(ctx.reference["calibration"].read("target")),
        orientation.apply(ctx.inputs["calibration"].read("target")),
        base.read("plate_scale"),
        scale,
        max_rotation_deg=ctx.config.max_rotation_deg,
        backend=ctx.backend,
    )


def _values(match: Similarity | None, scale: tuple[float, float]) -> dict[str, Any]:
    if match is None:
        return {"accepted": 0, "uncertainty": _UNREGISTERED_ERROR}
    error = float(np.hypot(*match.error))
    measured: dict[str, Any] = {
        "accepted": int(match.accepted),
        "rotation_error_deg": match.rotation_error_deg,
        "residual": match.residual,
        "residual_px": error / max(scale),
        "correlation": match.correlation,
        "significance": match.significance,
        "uncertainty": error if match.accepted else _UNREGISTERED_ERROR,
    }
    if match.accepted:
        measured |= {"translation": match.translation, "rotation_deg": match.rotation_deg}
    return measured


STAGE = Stage(
    name="register",
    version=1,
    run=run,
    writes="registration",
    reads=("calibration",),
    reads_reference=("calibration", "registration"),
    settings=("orientation",),
)
