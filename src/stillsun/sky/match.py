"""Where a frame lies on the Sun: matched to a full-disk image, and how much that can be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend
from stillsun.core.template import Peak, TemplateSearch, find_peak
from stillsun.errors import InputError
from stillsun.sky._frame import SkyTemplate, contrast
from stillsun.sky.fulldisk import FullDisk, SkyGrid
from stillsun.sky.observer import Site, telescope_frame

# Resolution of a full-disk image in its own pixels: HMI has 1.0 arcsec at 0.5 arcsec a pixel.
_RESOLUTION_PX = 2.0
_ANGLE_STEP_DEG = 0.25
# A field with fewer of its pixels along a side shows nothing that could be found.
_FEWEST_PX = 12
# Reach of the passes after the first, pixels of the full-disk image, and when they are done.
_FINE_REACH_PX = 6.0
_PASSES = 6
_SETTLED_ARCSEC, _SETTLED_DEG = 0.01, 0.01
# Correlations farther than this from the peak, arcsec, are of wrong places.
_AWAY_ARCSEC = 4.0
# Places elsewhere on the disk where the same search is made.
_PLACES = 6
_FARTHEST = 0.85
# What a match must reach to be believed.
_MIN_NULL_RATIO = 2.0
_MIN_PEAK_RATIO = 1.2
_MAX_DISAGREEMENT_ARCSEC = 0.3
_MAX_ERROR_ARCSEC = 0.5
# An angle with a larger error is not taken; one that is not measured is off by about so much.
_MAX_ROTATION_ERROR_DEG = 0.1
_ANGLE_ERROR_DEG = 0.5
# Share of the variance that is never taken to be in common.
_LEAST_CHANCE = 0.1
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
    job = _Job(
        SkyTemplate(image, valid, plate_scale, _RESOLUTION_PX * disk.scale, get_backend(backend)),
        disk,
        telescope_frame(time, site),
        get_backend(backend),
        progress or (lambda done, total: None),
        len(angles_deg) * (2 * _angle_steps(max_rotation_deg) + 1) * (1 + _PLACES),
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


@dataclass(frozen=True)
class _Coarse:
    """Best place of a search over offsets and angles, and what chance does around it."""

    point: tuple[float, float]
    angle: float
    start: int
    peak: Peak
    significance: float
    ratio: float
    # Covariance of the slopes that chance gives the surface, in (y, x), per arcsec squared.
    slopes: np.ndarray
    # Rms slope with the angle that chance gives, per degree.
    slope_with_angle: float
    rotation_error: float


@dataclass(frozen=True)
class _Fine:
    point: tuple[float, float]
    angle: float
    height: float
    error: tuple[float, float]
    rotation_error: float
    moved: float
    inside: bool


@dataclass
class _Job:
    template: SkyTemplate
    disk: FullDisk
    frame: Any
    backend: Backend
    progress: Callable[[int, int], None]
    total: int
    done: int = 0

    def search(
        self, point: tuple[float, float], angles: Sequence[float], reach: float, max_rotation: float
    ) -> _Coarse:
        """All offsets and angles around a place."""
        spacing = self.disk.scale
        steps = _angle_steps(max_rotation)
        offsets = np.arange(-steps, steps + 1) * _ANGLE_STEP_DEG
        tried = [(k, float(a + o)) for k, a in enumerate(angles) for o in offsets]
        turned = self.template.shape(spacing, max(abs(a) for _, a in tried))
        grid = self._grid(point, spacing, turned, reach)
        scene = self._scene(grid)
        maps = []
        for _, angle in tried:
            maps.append(scene.correlate(*self.template.at(angle, spacing, turned)))
            self.done += 1
            self.progress(min(self.done, self.total), self.total)
        heights = np.array([m.max() for m in maps])
        best = int(np.argmax(heights))
        surface = maps[best]
        peak = find_peak(surface)
        far = _far(surface.shape, peak.position, _AWAY_ARCSEC / spacing)
        centre = float(np.median(surface[far]))
        spread = 1.4826 * float(np.median(np.abs(surface[far] - centre)))
        # Chance comes from what image and frame do not have in common.
        chance = float(np.sqrt(np.clip(1.0 - peak.height**2, _LEAST_CHANCE, 1.0)))
        slopes = chance * np.stack(np.gradient(surface, spacing))[:, far]
        start = tried[best][0]
        series = slice(start * offsets.size, (start + 1) * offsets.size)
        with_angle, rotation_error = _about_angle(np.stack(maps[series]), heights[series], far, chance)
        return _Coarse(
            _world(grid, turned, peak.position),
            tried[best][1],
            start,
            peak,
            (peak.height - centre) / max(spread, 1e-9),
            peak.height / max(float(surface[far].max()), 1e-9),
            slopes @ slopes.T / far.sum(),
            with_angle,
            rotation_error,
        )

    def settle(self, coarse: _Coarse, turn: bool) -> _Fine:
        """Passes around the place found, until it stays."""
        spacing = self.disk.scale / 2
        point, angle, moved, rotation_error = coarse.point, coarse.angle, np.inf, np.nan
        step = min(0.5, float(np.degrees(_RESOLUTION_PX * self.disk.scale / self.template.extent)) / 2)
        offsets = np.arange(-2, 3) * step if turn else np.zeros(1)
        for _ in range(_PASSES):
            turned = self.template.shape(spacing, abs(angle) + 2 * step)
            grid = self._grid(point, spacing, turned, _FINE_REACH_PX * self.disk.scale)
            scene = self._scene(grid)

            def peak_at(tilt: float, grid: Any = turned, scene: TemplateSearch = scene) -> Peak:
                return find_peak(scene.correlate(*self.template.at(tilt, spacing, grid)))

            change = 0.0
            if turn:
                heights = np.array([peak_at(angle + o).height for o in offsets])
                bend, slope, _ = np.polyfit(offsets, heights, 2)
                change = float(np.clip(-slope / (2 * bend), -2 * step, 2 * step)) if bend < 0 else 0.0
                rotation_error = coarse.slope_with_angle / max(abs(2 * bend), 1e-12)
            peak = peak_at(angle + change)
            new = _world(grid, turned, peak.position)
            moved = float(np.hypot(new[0] - point[0], new[1] - point[1]))
            point, angle = new, angle + change
            if moved < _SETTLED_ARCSEC and abs(change) < _SETTLED_DEG:
                break
        inverse = np.linalg.pinv(peak.curvature / spacing**2)
        variance = np.diag(inverse @ coarse.slopes @ inverse)
        if not turn:
            # Where the structure is not in the middle, a wrong angle is a wrong position too.
            one, two = (np.array(peak_at(angle + a).position) for a in (-_ANGLE_ERROR_DEG, _ANGLE_ERROR_DEG))
            variance = variance + (spacing * (two - one) / 2) ** 2
        y, x = np.sqrt(variance)
        return _Fine(
            point,
            180.0 - (180.0 - angle) % 360.0,
            peak.height,
            (float(x), float(y)),
            float(rotation_error),
            moved,
            not peak.at_edge,
        )

    def _grid(
        self, point: tuple[float, float], spacing: float, template: tuple[int, int], reach: float
    ) -> SkyGrid:
        more = 2 * int(np.ceil(reach / spacing))
        return SkyGrid(point, spacing, (template[0] + more, template[1] + more), self.frame)

    def _scene(self, grid: SkyGrid) -> TemplateSearch:
        # Seen a little larger, so that the high-pass has the same to work on at the edges.
        margin = int(np.ceil(SkyTemplate.HIGH_PASS_ARCSEC / grid.spacing))
        wide = replace(grid, shape=(grid.shape[0] + 2 * margin, grid.shape[1] + 2 * margin))
        view = self.disk.view(wide)
        scene = contrast(view, np.ones_like(view), SkyTemplate.HIGH_PASS_ARCSEC / grid.spacing)
        return TemplateSearch(scene[margin:-margin, margin:-margin], self.backend)


def _angle_steps(max_rotation: float) -> int:
    return int(np.ceil(max_rotation / _ANGLE_STEP_DEG - 1e-9))


def _world(grid: SkyGrid, template: tuple[int, int], position: tuple[float, float]) -> tuple[float, float]:
    """Where the template's middle lies when its first pixel is at a position of the grid."""
    x, y = grid.world(*(p + (n - 1) / 2 for p, n in zip(position, template, strict=True)))
    return float(x), float(y)


def _far(shape: tuple[int, ...], position: tuple[float, float], distance: float) -> np.ndarray:
    rows, columns = (np.arange(n) - p for n, p in zip(shape, position, strict=True))
    return np.hypot(rows[:, None], columns[None, :]) > distance


def _about_angle(
    maps: np.ndarray, heights: np.ndarray, far: np.ndarray, chance: float
) -> tuple[float, float]:
    """Rms slope with the angle at wrong places, and error of the angle."""
    if len(maps) < 3:
        return float("nan"), float("inf")
    slopes = np.diff(maps[:, far], axis=0) / _ANGLE_STEP_DEG
    slope = chance * float(np.sqrt(np.mean(slopes**2)))
    best = int(np.argmax(heights))
    low, high = max(0, best - 3), min(len(heights), best + 4)
    bend = np.polyfit(np.arange(low, high) * _ANGLE_STEP_DEG, heights[low:high], 2)[0]
    return slope, slope / abs(2 * bend) if bend < 0 else float("inf")


def _elsewhere(start: tuple[float, float], radius: float, size: float) -> list[tuple[float, float]]:
    """Places at the same distance from the middle of the disk, that do not overlap the one searched."""
    distance = float(np.clip(np.hypot(*start), min(size, _FARTHEST * radius), _FARTHEST * radius))
    angle = np.arctan2(start[1], start[0])
    places = [angle + 2 * np.pi * k / (_PLACES + 1) for k in range(1, _PLACES + 1)]
    return [(float(distance * np.cos(a)), float(distance * np.sin(a))) for a in places]
