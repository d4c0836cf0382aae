"""A frame looked for in a full-disk image: over all offsets and angles, then in passes that settle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillsun.core.backend import Backend
from stillsun.core.registration.correlation import Peak, TemplateSearch, find_peak
from stillsun.core.robust import centre_and_deviation
from stillsun.sky._frame import SkyTemplate, contrast
from stillsun.sky.fulldisk import FullDisk, SkyGrid

#: Resolution of a full-disk image in its own pixels: HMI has 1.0 arcsec at 0.5 arcsec a pixel.
RESOLUTION_PX = 2.0
_ANGLE_STEP_DEG = 0.25
# Reach of the passes after the first, pixels of the full-disk image, and when they are done.
_FINE_REACH_PX = 6.0
_PASSES = 6
_SETTLED_ARCSEC, _SETTLED_DEG = 0.01, 0.01
# Correlations farther than this from the peak, arcsec, are of wrong places.
_AWAY_ARCSEC = 4.0
# Share of the variance that is never taken to be in common.
_LEAST_CHANCE = 0.1
# An angle that is not measured is off by about so much.
_ANGLE_ERROR_DEG = 0.5


@dataclass(frozen=True)
class CoarsePlace:
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
class Fine:
    """Where the passes came to rest, and the errors of that."""

    point: tuple[float, float]
    angle: float
    height: float
    error: tuple[float, float]
    rotation_error: float
    moved: float
    inside: bool


@dataclass
class SunSearch:
    """
    Searches of one frame in one full-disk image.

    Attributes
    ----------
    template : SkyTemplate
        The frame.
    disk : FullDisk
        Full-disk image.
    frame : sunpy.coordinates.Helioprojective
        The plane of the sky of the telescope at the time of the frame.
    backend : Backend
        Where to compute.
    progress : callable
        ``progress(done, total)`` after each angle.
    total : int
        Angles of all searches.
    done : int
        Angles tried so far.
    """

    template: SkyTemplate
    disk: FullDisk
    frame: Any
    backend: Backend
    progress: Callable[[int, int], None]
    total: int
    done: int = 0

    def search(
        self, point: tuple[float, float], angles: Sequence[float], reach: float, max_rotation: float
    ) -> CoarsePlace:
        """All offsets and angles around a place."""
        spacing = self.disk.scale
        steps = angle_steps(max_rotation)
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
        centre, spread = centre_and_deviation(surface[far])
        # Chance comes from what image and frame do not have in common.
        chance = float(np.sqrt(np.clip(1.0 - peak.height**2, _LEAST_CHANCE, 1.0)))
        slopes = chance * np.stack(np.gradient(surface, spacing))[:, far]
        start = tried[best][0]
        series = slice(start * offsets.size, (start + 1) * offsets.size)
        with_angle, rotation_error = _about_angle(np.stack(maps[series]), heights[series], far, chance)
        return CoarsePlace(
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

    def settle(self, coarse: CoarsePlace, turn: bool) -> Fine:
        """Passes around the place found, until it stays."""
        spacing = self.disk.scale / 2
        point, angle, moved, rotation_error = coarse.point, coarse.angle, np.inf, np.nan
        step = min(0.5, float(np.degrees(RESOLUTION_PX * self.disk.scale / self.template.extent)) / 2)
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
        return Fine(
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


def angle_steps(max_rotation: float) -> int:
    """Angles that are tried to each side."""
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
