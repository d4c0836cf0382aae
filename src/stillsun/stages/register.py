"""Stage register: orientation, plate scale, and each channel's place on the reference channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.registration.similarity import Similarity
from stillsun.products.bursts import Bursts
from stillsun.products.registration import DRIFT, HELD, Registration
from stillsun.sky.wcs import register_channel
from stillsun.stages import _drift
from stillsun.stages._channelpair import Targets, draw_pair, match_targets, without_target
from stillsun.stages.base import StageContext

# A drift is worth a note when it is so large, and so many errors.
_NOTED_PX, _NOTED_SIGMA = 0.5, 4.0
# Offset that is possible between two channels that were not matched, arcsec.
_UNREGISTERED_ERROR = 5.0
_HEADER_ERROR = 1.0
# What a person finds by eye.
_HAND_ERROR = 0.5


def run(ctx: StageContext) -> None:
    """
    Write the channel's geometry.

    The reference channel is its own reference. Another channel is matched to it by the target images;
    where that fails, or an image is missing, the channel keeps its centre, with an honest error. What
    the science images say beyond that is measured where their structure allows.

    Parameters
    ----------
    ctx : StageContext
        Reads ``calibration`` of the channel, and ``calibration`` and ``registration`` of the reference;
        ``bursts`` and ``destretch`` of both where they are.
    """
    shape, scale = ctx.orientation.shape(ctx.calibration.shape), ctx.scale
    values: dict[str, Any] = {
        "orientation": ctx.orientation.text,
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
    parts = []
    if not ctx.is_reference:
        given = ctx.config.offset is not None and ctx.config.rotation is not None
        targets = None if given else _targets(ctx)
        match = None if targets is None else targets.match
        values.update(_values(match, scale))
        by_headers = ctx.bursts.header_place if ctx.has(Bursts) else None
        if by_headers is not None and not values["accepted"]:
            values["translation"], values["rotation_deg"] = by_headers
            values["uncertainty"] = _HEADER_ERROR
            ctx.note("the earlier headers place it on the reference channel")
        if match is not None and not match.accepted:
            ctx.note(f"not registered, the match of the targets fails: {'; '.join(match.faults)}")
        by_hand = _by_hand(ctx, values)
        held, drift = _held(ctx, values), _wandering(ctx, values)
        if held is not None:
            parts.append(HELD)
            values |= held.values()
        if drift is not None:
            parts.append(DRIFT)
            values |= drift.values(ctx.config.track_drift)
        if ctx.reference is not None and ctx.reference.has(Registration):
            place = (values["translation"], values["rotation_deg"]) if by_hand else None
            draw_pair(ctx, ctx.reference, targets, drift if ctx.config.track_drift else None, place)
    with ctx.create(0, Registration.fields(*parts)) as store:
        geometry = register_channel(shape, scale, values["translation"], values["rotation_deg"])
        values["crpix"] = geometry.crpix
        for name, value in values.items():
            store.write(name, value)


def _by_hand(ctx: StageContext, values: dict[str, Any]) -> bool:
    """Take over what a person gave; whether there is anything."""
    offset, rotation = ctx.config.offset, ctx.config.rotation
    words = []
    if offset is not None:
        values |= {"translation": tuple(offset), "accepted": 1, "uncertainty": _HAND_ERROR}
        words.append(f"the offset ({offset[0]:g}, {offset[1]:g}) arcsec")
    if rotation is not None:
        values |= {"rotation_deg": rotation, "rotation_error_deg": np.nan}
        words.append(f"the rotation {rotation:g} deg")
    if words:
        ctx.note(f"{' and '.join(words)} to the reference channel given by hand")
    return bool(words)


def _targets(ctx: StageContext) -> Targets | None:
    """The channel's target and the reference channel's, matched."""
    if ctx.reference is None or not ctx.reference.has(Registration):
        ctx.note("not registered, because the reference channel is not reduced; reduce it and run this again")
        return None
    missing = without_target(ctx)
    if missing:
        ctx.note(f"not registered, because {missing}")
        return None
    return match_targets(ctx, ctx.reference, ctx.config.max_rotation_deg)


def _held(ctx: StageContext, values: dict[str, Any]) -> _drift.HeldDrift | None:
    """Drift that destretch took out of the images; reported where it matters."""
    held, scale = _drift.held_drift(ctx, values["rotation_deg"]), ctx.scale
    if held is not None:
        total, error = (v * held.seconds / max(scale) for v in (held.rate, held.rate_error))
        if np.hypot(*total) > max(_NOTED_PX, _NOTED_SIGMA * np.hypot(*error)):
            ctx.note(
                f"the field wandered against the reference channel's by ({total[0]:+.2f}, {total[1]:+.2f}) ± "
                f"({error[0]:.2f}, {error[1]:.2f}) px in {held.seconds:.0f} s; destretch holds it, so that "
                "the coordinates of destretched frames stay, and the frames before it have it in CRPIX"
            )
    return held


def _wandering(ctx: StageContext, values: dict[str, Any]) -> _drift.Drift | None:
    """Offset and drift of the science images against the registration; reported, if measurable."""
    if ctx.reference is None or not ctx.reference.has(Registration):
        return None  # said already
    found, scale = _drift.measure_drift(ctx, values["translation"], values["rotation_deg"]), ctx.scale
    if isinstance(found, str):
        if ctx.config.track_drift:
            ctx.note(f"the drift against the reference channel cannot be measured: {found}")
        return None
    total, error = (v * found.seconds / max(scale) for v in (found.rate, found.rate_error))
    offset, offset_error = (v / max(scale) for v in (found.offset, found.offset_error))
    beyond = np.hypot(*total) > _NOTED_SIGMA * np.hypot(*error) or (
        np.hypot(*offset) > _NOTED_SIGMA * np.hypot(*offset_error)
    )
    if ctx.config.track_drift or (beyond and max(np.hypot(*total), np.hypot(*offset)) > _NOTED_PX):
        what = (
            "the coordinates follow it"
            if ctx.config.track_drift
            else "the coordinates do not follow it (register.track_drift=true)"
        )
        ctx.note(
            f"science images against the reference channel's, beyond the targets: offset ({offset[0]:+.2f}, "
            f"{offset[1]:+.2f}) ± ({offset_error[0]:.2f}, {offset_error[1]:.2f}) px in the middle of the "
            f"sequence, drift ({total[0]:+.2f}, {total[1]:+.2f}) ± ({error[0]:.2f}, {error[1]:.2f}) px in "
            f"{found.seconds:.0f} s, from {found.pairs} pairs of frames; {what}"
        )
    return found


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
