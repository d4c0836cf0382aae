"""
Plate scale from an image of the line grid: dark lines at a known distance, both ways.

Two families of lines cross at right angles on the slide. In the image each is described by a wave
vector ``k`` (cycles per pixel): line ``n`` is where ``k . r = n + phase``. The wave vectors are the
rows of the matrix that takes pixels to line distances, so that the plate scale along an axis of the
image is the distance of the lines times the length of that axis' column, whatever the rotation.
The lines are those of the SSOSoft manual (2025-10-14), section 2.2.4: 1 mm apart, 3.76 arcsec/mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from stillsun.core.robust import robust_deviation
from stillsun.errors import InputError

# Harmonics of the lines' profile that the search uses; they are narrow, so there are many.
_HARMONICS = 4
_STEPS = 4  # of the search, per turn of phase of the highest harmonic over the image
_STRIPS = 10  # strips along the lines, per distance of two lines
_DEEP = 0.35  # a line shallower than this share of the deep ones is none
# What is no line grid has lines that neither are regular nor stand at right angles.
_LARGEST_ERROR = 0.003
_LARGEST_SKEW_DEG = 0.5
_LEAST_SHARE = 0.6  # of the places of lines where there is one, straight with the others


@dataclass(frozen=True)
class LineGrid:
    """
    What an image of the line grid tells.

    Attributes
    ----------
    plate_scale : tuple of float
        (x, y) along the columns and rows of the image, arcsec per pixel.
    scatter : tuple of float
        (x, y) standard deviation of the plate scales of single line distances, arcsec per pixel.
    error : tuple of float
        (x, y) standard error of the plate scale, from the lines' residuals, arcsec per pixel.
    lines : tuple of int
        Lines used that are crossed when going along x, and along y.
    rotation_deg : tuple of float
        By how much the lines that run along y, and those that run along x, are turned from the image's
        axes, from +x towards +y.
    """

    plate_scale: tuple[float, float]
    scatter: tuple[float, float]
    error: tuple[float, float]
    lines: tuple[int, int]
    rotation_deg: tuple[float, float]


def measure_line_grid(
    image: np.ndarray,
    plate_scale: tuple[float, float],
    *,
    spacing_arcsec: float = 3.76,
    tolerance: float = 0.12,
    max_rotation_deg: float = 3.0,
) -> LineGrid:
    """
    Measure the plate scale.

    Both families of lines are found by the power of their harmonics over distance and tilt; then the
    centre of each line is measured in short strips along it (centroid of what is darker than beside the
    line), and a straight line through all centres of a family gives its wave vector. Centres far off,
    on dust or where lines cross, are left out.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns) calibrated image of the line grid.
    plate_scale : tuple of float
        (x, y) expected, arcsec per pixel.
    spacing_arcsec : float, optional
        Distance of the lines, arcsec.
    tolerance : float, optional
        Largest relative difference from the expected plate scale that is looked for.
    max_rotation_deg : float, optional
        Largest rotation that is looked for, degrees.

    Returns
    -------
    LineGrid
        Plate scale with its scatter.

    Raises
    ------
    InputError
        If the image shows fewer than two lines each way, or no regular grid.
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all() or not np.ptp(values) > 0:
        raise InputError("no image of a line grid", expected="(rows, columns), finite, not all equal")
    families = [
        _family(np.ascontiguousarray(part), spacing_arcsec / scale, tolerance, max_rotation_deg)
        for part, scale in zip((values, values.T), plate_scale, strict=True)
    ]
    # Rows: one family each; columns: x, y.
    waves = np.array([families[0].wave, families[1].wave[::-1]])
    scales = spacing_arcsec * np.hypot(waves[0], waves[1])
    turns = (
        float(np.degrees(np.arctan2(waves[0, 1], waves[0, 0]))),
        float(np.degrees(np.arctan2(-waves[1, 0], waves[1, 1]))),
    )
    error = max(family.error for family in families)
    if error > _LARGEST_ERROR or abs(turns[0] - turns[1]) > _LARGEST_SKEW_DEG:
        raise InputError(
            "no regular line grid is seen",
            expected=f"lines at right angles, their distance known to {_LARGEST_ERROR:.1%}",
            found=f"lines turned by {turns[0]:.2f} and {turns[1]:.2f} degrees, error {error:.1%}",
        )
    return LineGrid(
        (float(scales[0]), float(scales[1])),
        _pair(family.scatter * scale for family, scale in zip(families, scales, strict=True)),
        _pair(family.error * scale for family, scale in zip(families, scales, strict=True)),
        (families[0].lines, families[1].lines),
        turns,
    )


@dataclass(frozen=True)
class _Family:
    """Wave vector (across, along), relative scatter of single distances and relative error; lines."""

    wave: tuple[float, float]
    scatter: float
    error: float
    lines: int


def _family(image: np.ndarray, period: float, tolerance: float, max_rotation_deg: float) -> _Family:
    """The lines that run roughly along the first axis; `period` pixels apart."""
    height = max(1, round(period / _STRIPS))
    strips = image.shape[0] // height
    if strips < 2 or image.shape[1] < 1.5 * period:
        raise _too_few(period, image.shape)
    profiles = image[: strips * height].reshape(strips, height, -1).mean(axis=1)
    along = (np.arange(strips) + 0.5) * height - 0.5
    # Relative to the surroundings: neither the light nor a crossing line matters then.
    profiles /= _around(profiles, round(period))
    wave, phase = _search(profiles, along, period, tolerance, np.tan(np.radians(max_rotation_deg)))
    for _ in range(3):
        number, across, row, depth = _centres(profiles, along, wave, phase)
        deep = depth > _DEEP * np.percentile(depth, 75) if depth.size else np.zeros(0, dtype=bool)
        fit, keep = _line_fit(number, across, row, deep)
        if np.unique(number[keep]).size < 2 or keep.mean() < _LEAST_SHARE:
            raise _too_few(period, image.shape)
        wave = (1 / fit[1], -fit[2] / fit[1])
        phase = fit[0] / fit[1]
    return _judge(number[keep], across[keep] - fit[2] * row[keep], fit, wave)


def _around(profiles: np.ndarray, width: int) -> np.ndarray:
    """Running mean over one line distance: exactly level for lines of any depth."""
    return np.maximum(uniform_filter1d(profiles, max(width, 3), axis=1, mode="nearest"), 1e-12)


def _search(
    profiles: np.ndarray, along: np.ndarray, period: float, tolerance: float, slope: float
) -> tuple[tuple[float, float], float]:
    """Wave vector (across, along) and phase by the power of the first harmonics."""
    width = profiles.shape[1]
    across = np.arange(width)
    taper = np.hanning(width + 2)[1:-1]
    signal = (profiles - profiles.mean(axis=1, keepdims=True)) * taper
    length = along[-1] - along[0]
    finest = 1 / (_STEPS * _HARMONICS)
    tries = max(9, int(np.ceil(2 * tolerance * width / period / finest)))
    waves = np.linspace(1 - tolerance, 1 + tolerance, tries) / period
    tilts = np.linspace(-slope, slope, max(9, int(np.ceil(2 * slope * length / period / finest)))) / period
    power = np.zeros((waves.size, tilts.size))
    for harmonic in range(1, _HARMONICS + 1):
        spectrum = signal @ np.exp(-2j * np.pi * harmonic * np.outer(across, waves))
        power += np.abs(spectrum.T @ np.exp(-2j * np.pi * harmonic * np.outer(along, tilts))) ** 2
    best = np.unravel_index(int(power.argmax()), power.shape)
    k, tilt = float(waves[best[0]]), float(tilts[best[1]])
    turn = np.exp(-2j * np.pi * (k * across[None, :] + tilt * along[:, None]))
    # The lines are dark: they lie where the first harmonic is lowest.
    return (k, tilt), -float(np.angle(-(signal * turn).sum()) / (2 * np.pi))


def _centres(
    profiles: np.ndarray, along: np.ndarray, wave: tuple[float, float], phase: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Number, place across and along, and depth of the lines in each strip."""
    period = 1 / wave[0]
    reach = max(2, int(0.2 * period))
    width = profiles.shape[1]
    strip, number = (a.ravel() for a in np.indices((along.size, int(width / period) + 3)))
    number = number + np.floor(wave[1] * along - phase).astype(np.int64)[strip]
    expected = (number + phase - wave[1] * along[strip]) / wave[0]
    middle = np.rint(expected).astype(np.int64)
    inside = (middle >= reach) & (middle < width - reach)
    strip, number, middle = strip[inside], number[inside], middle[inside]
    offsets = np.arange(-2 * reach, 2 * reach + 1)
    windows = profiles[strip[:, None], np.clip(middle[:, None] + offsets, 0, width - 1)]
    level = np.median(windows, axis=1, keepdims=True)
    dark = np.maximum(level - windows, 0.0)
    dark[:, np.abs(offsets) > reach] = 0.0
    depth = dark.max(axis=1)
    # What is hardly darker than the surroundings is noise, and would pull towards the middle.
    dark = np.maximum(dark - 0.3 * depth[:, None], 0.0)
    place = middle + (dark @ offsets) / np.maximum(dark.sum(axis=1), 1e-12)
    return number, place, along[strip], depth


def _line_fit(
    number: np.ndarray, across: np.ndarray, row: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place = fit0 + fit1 * number + fit2 * row, without centres far off."""
    terms = np.stack([np.ones(number.size), number, row], axis=1)
    fit = np.zeros(3)
    for _ in range(5):
        if keep.sum() < 4 or np.unique(number[keep]).size < 2:
            return fit, np.zeros_like(keep)
        fit = np.linalg.lstsq(terms[keep], across[keep], rcond=None)[0]
        off = np.abs(across - terms @ fit)
        limit = max(4 * robust_deviation(off[keep]), 0.02)
        fresh = keep & (off <= limit)
        if (fresh == keep).all():
            break
        keep = fresh
    return fit, keep


def _judge(number: np.ndarray, across: np.ndarray, fit: np.ndarray, wave: tuple[float, float]) -> _Family:
    lines, which = np.unique(number, return_inverse=True)
    count = np.bincount(which)
    mean = np.bincount(which, across) / count
    # Strips of one line share its faults (dust, distortion): the lines are what is independent.
    residual = mean - (fit[0] + fit[1] * lines)
    spread = float(np.sqrt((residual**2).sum() / max(lines.size - 2, 1)))
    inner = float(np.sqrt(np.mean((across - mean[which]) ** 2) / count.min()))
    error = max(spread, inner) / np.sqrt(((lines - lines.mean()) ** 2).sum()) / fit[1]
    distances = np.diff(mean) / np.diff(lines)
    scatter = float(np.std(distances, ddof=1) / fit[1]) if distances.size > 1 else float(error)
    return _Family(wave, scatter, float(error), int(lines.size))


def _pair(values: Iterable[float]) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


def _too_few(period: float, shape: tuple[int, ...]) -> InputError:
    return InputError(
        "no lines of the line grid, or fewer than two each way, are seen",
        expected=f"dark lines {period:.1f} pixels apart",
        found=f"an image of {shape[0]} x {shape[1]} pixels without them",
    )
