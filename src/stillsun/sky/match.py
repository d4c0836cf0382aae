"""Where a frame lies on the Sun: matched to a full-disk image, and how much that can be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend
from stillsun.errors import InputError
from stillsun.sky._frame import SkyTemplate
from stillsun.sky._search import RESOLUTION_PX, SunSearch, angle_steps
from stillsun.sky.fulldisk import FullDisk
from stillsun.sky.observer import Site, telescope_frame

# A field with fewer of its pixels along a side shows nothing that could be found.
_FEWEST_PX = 12
# Places elsewhere on the disk where the same search is made.
_PLACES = 6
_FARTHEST = 0.85
# What a match must reach to be believed.
_MIN_NULL_RATIO = 2.0
_MIN_PEAK_RATIO = 1.2
_MAX_DISAGREEMENT_ARCSEC = 0.3
_MAX_ERROR_ARCSEC = 0.5
# An angle with a larger error is not taken.
_MAX_ROTATION_ERROR_DEG = 0.1
# Distortion of the full-disk image and of the frame, which no correlation tells, arcsec.
_FLOOR_ARCSEC = 0.1


@dataclass(frozen=True)
class SolarMatch:
    """
    A frame found on the Sun.

    Attributes
    ----------
    point : tuple of float
        Helioprojective (x, y) of the frame's centre, arcsec.
    crota2 : float
        Angle of the frame, degrees.
    start : int
        Which of the angles given this one is near.
    rotation_known : bool
        The angle was measured; False: the field does not fix it, and the angle given stayed.
    error : tuple of float
        Standard errors of (x, y), arcsec.
    rotation_error_deg : float
        Standard error of the angle, degrees; NaN where it was not measured.
    peak : float
        Correlation coefficient at the match.
    significance : float
        Height of the peak over correlations at wrong places nearby, in their robust deviations.
    peak_ratio : float
        Peak over the highest correlation at wrong places nearby.
    null_peak : float
        Highest correlation that the same search finds elsewhere on the disk.
    disagreement : float
        Between the last two passes, arcsec.
    faults : tuple of str
        Why the match must not be used; empty for one that passes.
    """

    point: tuple[float, float]
    crota2: float
    start: int
    rotation_known: bool
    error: tuple[float, float]
    rotation_error_deg: float
    peak: float
    significance: float
    peak_ratio: float
    null_peak: float
    disagreement: float
    faults: tuple[str, ...] = field(default=())

    @property
    def accepted(self) -> bool:
        """The match can be used."""
        return not self.faults

    @property
    def uncertainty(self) -> float:
        """Systematic error of the position, arcsec."""
        return float(np.hypot(np.hypot(*self.error), _FLOOR_ARCSEC))


def match_to_sun(
    image: Any,
    valid: Any,
    plate_scale: Sequence[float],
    start: Sequence[float],
    angles_deg: Sequence[float],
    time: float,
    site: Site,
    disk: FullDisk,
    *,
    search_arcsec: float = 60.0,
    max_rotation_deg: float = 2.0,
    min_significance: float = 8.0,
    backend: Backend | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SolarMatch:
    """
    Match a frame to a full-disk image.

    The frame is blurred to the resolution of the full-disk image, which is seen with the telescope's
    eyes at the time of the frame. A search over all offsets and angles is followed by passes in which
    the full-disk image is seen again from the position found, until that settles. The same search at
    other places of the disk tells how high a correlation comes about by chance.

    Parameters
    ----------
    image : array_like, shape (y, x)
        Oriented frame: north up but for its angle.
    valid : array_like, shape (y, x)
        Non-zero where the frame can be used.
    plate_scale : sequence of float
        Along (x, y), arcsec per pixel.
    start : sequence of float
        Helioprojective (x, y) where the frame's centre is supposed to be, arcsec.
    angles_deg : sequence of float
        ``CROTA2`` that the frame may have; several where the sense of the guider's angle is open.
    time : float
        Of the frame, unix seconds, UTC.
    site : Site
        Where the telescope stands.
    disk : FullDisk
        Full-disk image.
    search_arcsec : float, optional
        How far from `start` is searched, in x and in y.
    max_rotation_deg : float, optional
        How far from each angle is searched.
    min_significance : float, optional
        Least significance of a match that can be used.
    backend : Backend or str, optional
        Where to compute.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    SolarMatch
        Position and angle, their errors, and whether they can be used.

    Raises
    ------
    InputError
        If the frame shows nothing, or is too small for the full-disk image.

    Notes
    -----
    The error of a position follows from the correlation surface itself: its slopes at wrong places are
    those by which chance moves the peak, ``cov = (1 - C^2) H^-1 <g g^T> H^-1`` with the curvature H of the
    peak and its height C; that of the angle likewise. An angle with an error above 0.1 degrees, as of a
    single round spot, is not taken; what half a degree more or less would do to the position is then part
    of its error.
    """
    job = SunSearch(
        SkyTemplate(image, valid, plate_scale, RESOLUTION_PX * disk.scale, get_backend(backend)),
        disk,
        telescope_frame(time, site),
        get_backend(backend),
        progress or (lambda done, total: None),
        len(angles_deg) * (2 * angle_steps(max_rotation_deg) + 1) * (1 + _PLACES),
    )
    side = min(job.template.shape(disk.scale, 0.0))
    if side < _FEWEST_PX:
        raise InputError(
            "the field is too small for the full-disk image",
            expected=f"{_FEWEST_PX} of its pixels ({_FEWEST_PX * disk.scale:.1f} arcsec) along each side",
            found=f"{side}",
        )
    start = (float(start[0]), float(start[1]))
    coarse = job.search(start, angles_deg, search_arcsec, max_rotation_deg)
    nulls = [
        job.search(place, angles_deg, search_arcsec, max_rotation_deg).peak.height
        for place in _elsewhere(start, disk.radius, job.template.extent + 2 * search_arcsec)
    ]
    rotation_known = coarse.rotation_error <= _MAX_ROTATION_ERROR_DEG
    if not rotation_known:
        coarse = job.search(start, angles_deg, search_arcsec, 0.0)
    fine = job.settle(coarse, rotation_known)
    near = float(angles_deg[coarse.start])
    checks = (
        (
            coarse.significance >= min_significance,
            f"the correlation peak stands out by {coarse.significance:.1f} deviations, "
            f"not {min_significance:g}",
        ),
        (
            coarse.peak.height >= _MIN_NULL_RATIO * max(nulls, default=0.0),
            f"a correlation of {coarse.peak.height:.3f}, where wrong places of the disk reach "
            f"{max(nulls, default=0.0):.3f}",
        ),
        (coarse.ratio >= _MIN_PEAK_RATIO, f"the peak is only {coarse.ratio:.2f} times the next one"),
        (not coarse.peak.at_edge, "the peak lies at the edge of the search"),
        (
            fine.moved <= _MAX_DISAGREEMENT_ARCSEC and fine.inside,
            f"two passes differ by {fine.moved:.2f} arcsec",
        ),
        (
            max(fine.error) <= _MAX_ERROR_ARCSEC,
            f"the position is uncertain by {max(fine.error):.2f} arcsec",
        ),
        (
            abs(fine.angle - near) <= max_rotation_deg,
            f"a rotation by {fine.angle - near:.2f} deg lies at the edge of the search",
        ),
    )
    return SolarMatch(
        fine.point,
        fine.angle,
        coarse.start,
        rotation_known,
        fine.error,
        fine.rotation_error if rotation_known else float("nan"),
        fine.height,
        coarse.significance,
        coarse.ratio,
        max(nulls, default=0.0),
        fine.moved,
        tuple(text for good, text in checks if not good),
    )


def _elsewhere(start: tuple[float, float], radius: float, size: float) -> list[tuple[float, float]]:
    """Places at the same distance from the middle of the disk, that do not overlap the one searched."""
    distance = float(np.clip(np.hypot(*start), min(size, _FARTHEST * radius), _FARTHEST * radius))
    angle = np.arctan2(start[1], start[0])
    places = [angle + 2 * np.pi * k / (_PLACES + 1) for k in range(1, _PLACES + 1)]
    return [(float(distance * np.cos(a)), float(distance * np.sin(a))) for a in places]
