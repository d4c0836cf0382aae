"""The matches of a sequence to full-disk images: what is kept of them, and the picture of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.qa.overlay import Overlay, write_overlays
from stillsun.sky._frame import SkyTemplate, contrast
from stillsun.sky.fulldisk import FullDisk, SkyGrid
from stillsun.sky.match import SolarMatch
from stillsun.sky.observer import telescope_frame
from stillsun.stages.base import StageContext

_PICTURE_POINTS = 700


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


def match_values(attempts: list[Attempt]) -> dict[str, Any]:
    """What the product keeps of the matches."""
    return {
        "matched_frame": [a.frame for a in attempts],
        "matched_crota2": [a.match.crota2 for a in attempts],
        "matched_point": [a.match.point for a in attempts],
        "match_error": [a.match.error for a in attempts],
        "match_rotation_error_deg": [a.match.rotation_error_deg for a in attempts],
        "match_correlation": [a.match.peak for a in attempts],
        "match_significance": [a.match.significance for a in attempts],
        "match_peak_ratio": [a.match.peak_ratio for a in attempts],
        "match_null": [a.match.null_peak for a in attempts],
        "match_accepted": [a.match.accepted for a in attempts],
        "fulldisk": attempts[0].disk.name,
    }


def draw_match(ctx: StageContext, attempt: Attempt) -> Path:
    """
    Draw the frame with contours of the full-disk image, where it was supposed to be and where it was found.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage align.
    attempt : Attempt
        The match, accepted or not.

    Returns
    -------
    Path
        ``align.png`` of the channel.
    """
    match, scale = attempt.match, ctx.scale
    template = SkyTemplate(
        ctx.destretched.image(attempt.frame),
        ctx.destretched.valid(attempt.frame),
        scale,
        2 * max(scale),
        ctx.backend,
    )
    frame = telescope_frame(attempt.time, ctx.site)
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
        f"{ctx.name}, frame {attempt.frame}, contours: {attempt.disk.name}\n"
        f"correlation {match.peak:.3f}, significance {match.significance:.1f}, "
        f"{match.peak_ratio:.2f} times the next peak, elsewhere on the disk {match.null_peak:.3f}\n{verdict}"
    )
    return write_overlays(ctx.paths.directory / "align.png", panels, heading=heading)


def _extent(
    point: tuple[float, float], shape: tuple[int, int], spacing: float
) -> tuple[float, float, float, float]:
    half = [n * spacing / 2 for n in shape]
    return point[0] - half[1], point[0] + half[1], point[1] - half[0], point[1] + half[0]
