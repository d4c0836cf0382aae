"""The picture of a channel laid on the reference channel: targets, and frames of the Sun."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillsun.core.registration.offset import lay_on
from stillsun.core.registration.similarity import Similarity, match_images
from stillsun.products.calibration import Calibration
from stillsun.products.channel import Channel
from stillsun.qa.overlay import Overlay, write_overlays
from stillsun.stages._drift import Drift, middle_pair
from stillsun.stages.base import StageContext

_PICTURE_POINTS = 600
_Place = tuple[tuple[float, float], float]
_CENTRED: _Place = ((0.0, 0.0), 0.0)


@dataclass(frozen=True)
class Targets:
    """
    Oriented target images of both channels, and their match.

    Attributes
    ----------
    fixed, moving : numpy.ndarray, shape (y, x)
        Of the reference channel, and of the channel.
    match : Similarity
        The second on the first, accepted or not.
    """

    fixed: np.ndarray
    moving: np.ndarray
    match: Similarity


def without_target(ctx: StageContext) -> str:
    """
    Say which of the two channels has no target image.

    Parameters
    ----------
    ctx : StageContext
        Context with ``calibration`` of the channel and of the reference channel, where they are.

    Returns
    -------
    str
        Half a sentence; empty where both have one.
    """
    missing = [
        who
        for who, channel in (("this channel", ctx), ("the reference channel", ctx.reference))
        if channel is None or not channel.has(Calibration) or channel.calibration.target is None
    ]
    return " and ".join(f"{who} has no target image" for who in missing)


def match_targets(ctx: StageContext, reference: Channel, max_rotation_deg: float) -> Targets:
    """
    Match the channel's target to the reference channel's.

    Parameters
    ----------
    ctx : StageContext
        Context with ``calibration`` of both, each with its target.
    reference : Channel
        The reference channel.
    max_rotation_deg : float
        Largest rotation looked for.

    Returns
    -------
    Targets
        The images and their match.
    """
    fixed = reference.orientation.apply(reference.calibration.target)
    moving = ctx.orientation.apply(ctx.calibration.target)
    match = match_images(
        fixed, moving, reference.scale, ctx.scale, max_rotation_deg=max_rotation_deg, backend=ctx.backend
    )
    return Targets(fixed, moving, match)


def draw_pair(
    ctx: StageContext,
    reference: Channel,
    targets: Targets | None,
    drift: Drift | None = None,
    by_hand: _Place | None = None,
) -> None:
    """
    Draw the reference channel with contours of a channel, in ``register.png``.

    The targets are shown centre on centre and as matched; frames of the Sun from the middle of the sequence,
    where both are destretched, as they are registered. Nothing is drawn where there is neither.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage register.
    reference : Channel
        The reference channel.
    targets : Targets or None
        Target images, if both channels have one.
    drift : Drift, optional
        Drift that the coordinates follow.
    by_hand : tuple, optional
        Translation (x, y), arcsec, and rotation, degrees, that a person gave.
    """

    def panel(title: str, fixed: np.ndarray, moving: np.ndarray, place: _Place, target: bool) -> Overlay:
        half = [n * s / 2 for n, s in zip(fixed.shape[::-1], reference.scale, strict=True)]
        extent = (-half[0], half[0], -half[1], half[1])
        step = max(1, max(fixed.shape) // _PICTURE_POINTS)
        laid = lay_on(fixed.shape, reference.scale, moving, ctx.scale, place[0], place[1], ctx.backend)
        # Bars are dark or bright; the Sun has its contours where the picture puts them by itself.
        levels = (float(np.mean(np.nanpercentile(laid, (0.5, 99.5)))),) if target else ()
        return Overlay(title, fixed[::step, ::step], laid[::step, ::step], extent, extent, levels)

    panels = []
    place, heading = _CENTRED, f"{ctx.name} on the reference channel: not registered, no target images"
    if targets is not None:
        match = targets.match
        found = (match.translation, match.rotation_deg)
        place = found if match.accepted else _CENTRED
        heading = _heading(ctx.name, match)
        for title, where in (("centre on centre", _CENTRED), ("as matched", found)):
            panels.append(panel(title, targets.fixed, targets.moving, where, True))
    if by_hand is not None:
        x, y = (float(value) for value in by_hand[0])
        place = (x, y), by_hand[1]
        heading = (
            f"{ctx.name} on the reference channel: offset ({x:g}, {y:g}) arcsec, rotation {place[1]:g} deg"
        )
        heading += ", given by hand"
    frames = middle_pair(ctx)
    if frames is not None:
        words = "centre on centre" if place is _CENTRED else "as registered"
        fixed, moving, time = frames
        if drift is not None:
            x, y = place[0] + drift.at(time)
            place = ((float(x), float(y)), place[1])
        panels.append(panel(f"frames of the Sun, {words}", fixed, moving, place, False))
    if panels:
        path = ctx.paths.directory / "register.png"
        write_overlays(path, panels, heading=heading, labels=("x [arcsec]", "y [arcsec]"))


def _heading(channel: str, match: Similarity) -> str:
    verdict = "accepted" if match.accepted else f"refused: {'; '.join(match.faults)}"
    x, y = match.translation
    return (
        f"target of the reference channel, contours: {channel}\noffset ({x:.3f}, {y:.3f}) ± "
        f"({match.error[0]:.3f}, {match.error[1]:.3f}) arcsec, rotation {match.rotation_deg:.3f} ± "
        f"{match.rotation_error_deg:.3f} deg\n{verdict}"
    )
