"""
What an image shows: the Sun, or one of the slides at the prime focus.

Slides are told by what they are made of. Line grid and resolution target have edges in two directions
at right angles only, which nothing on the Sun has; the lines of the grid go through the whole frame, so
that the image is nearly a sum of a function along and one across. Dots repeat along two directions. A
pinhole is one spot in the dark (SSOSoft manual, 2025-10-14, section 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import scipy.fft
import scipy.ndimage

# Frames are binned to at most this many pixels along a side.
_SIDE = 1024
_DARK = 0.08  # of the light of a flat
_SMALL = 0.12  # of the frame: more light than spots in the dark
_FEATURELESS = 0.015  # relative rms on the scales of granulation
_RECTILINEAR = 0.3
_ONE_SIDED = 0.08  # below 1, of the measure for one direction over that for two
_ADDITIVE = 0.6
_REPEATING = 0.5
_LINE = 0.65  # of the brightness between lines


class Sight(Enum):
    """What can be seen."""

    dark = "dark"
    featureless = "featureless"
    structure = "solar structure"
    linegrid = "line grid"
    target = "target"
    dotgrid = "dot grid"
    pinhole = "pinhole"


@dataclass(frozen=True)
class Look:
    """
    What an image shows, and how clearly.

    Attributes
    ----------
    sight : Sight
        What it shows.
    margin : float
        By what factor the deciding measure lies on the right side of its limit; 1 is undecided.
    evidence : str
        The deciding measure in words.
    spacing : tuple of float
        Pixels between the lines of a line grid along (y, x), as far as they lie along the frame's sides;
        NaN for anything else.
    """

    sight: Sight
    margin: float
    evidence: str
    spacing: tuple[float, float] = (float("nan"), float("nan"))


def look(image: np.ndarray, light: float) -> Look:
    """
    Tell what an image shows.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), the dark subtracted; divided by the flat field where there is one (dust and
        fringes are structure otherwise). A mean of a few frames does better than one.
    light : float
        What the same camera shows in full light, in the image's unit: the median of a flat.

    Returns
    -------
    Look
        What it shows, and how clearly.
    """
    # Single bad pixels go, spots of a few pixels stay.
    clean = scipy.ndimage.median_filter(np.asarray(image, dtype=np.float32), size=3)
    if np.mean(clean > _DARK * light) < _SMALL:
        return _in_the_dark(clean, light)
    binned, factor = _bin(clean)
    relative = binned / _background(binned)
    fine = scipy.ndimage.gaussian_filter(relative, 1.0)
    contrast = float(np.std(fine - scipy.ndimage.gaussian_filter(relative, 16.0)))
    if contrast < _FEATURELESS:
        return Look(Sight.featureless, _FEATURELESS / max(contrast, 1e-6), f"contrast {contrast:.1%}")
    four, two, angle = _directions(relative)
    both = max(1 - two / max(four, 1e-6), 1e-2) / _ONE_SIDED
    if four >= _RECTILINEAR and both >= 1:
        share, spacings = _lines(relative, angle)
        if share >= _ADDITIVE and np.isfinite(spacings).any():
            across, along = (spacing * factor for spacing in spacings)
            steep = abs((np.degrees(angle) + 45) % 90 - 45) > 20
            said = f"lines {across:.1f} px apart down, {along:.1f} px across"
            spacing = (float("nan"),) * 2 if steep else (across, along)
            return Look(Sight.linegrid, _odds(share, _ADDITIVE), said, spacing)
        margin = min(both, _odds(four, _RECTILINEAR), 1 / _odds(share, _ADDITIVE))
        return Look(Sight.target, margin, f"{four:.0%} of the edges in two directions, not in lines")
    repeating = _repetition(fine - 1)
    if repeating >= _REPEATING:
        return Look(
            Sight.dotgrid, _odds(repeating, _REPEATING), f"repeats itself both ways to {repeating:.0%}"
        )
    margin = min(
        contrast / _FEATURELESS,
        max(1 / both, 1 / _odds(four, _RECTILINEAR)),
        1 / _odds(repeating, _REPEATING),
    )
    return Look(Sight.structure, margin, f"contrast {contrast:.1%} without preferred directions")


def _odds(share: float, limit: float) -> float:
    """By how much the odds of a share exceed those of its limit."""
    share = min(max(share, 1e-3), 1 - 1e-3)
    return share / (1 - share) * (1 - limit) / limit


def _in_the_dark(clean: np.ndarray, light: float) -> Look:
    level, peak = float(np.median(clean)), float(clean.max())
    if peak - level < _DARK * light:
        return Look(
            Sight.dark,
            min(_DARK * light / max(peak - level, 1e-6), 10.0),
            f"{level / light:.1%} of the light",
        )
    spots, count = scipy.ndimage.label(clean > level + 0.5 * (peak - level))
    share = float(np.mean(spots > 0))
    if count == 1:
        return Look(Sight.pinhole, 0.05 / max(share, 1e-6), f"one spot, {share:.2%} of the frame")
    repeating = _repetition(_bin(clean)[0] - level)
    said = f"{count} spots in the dark"
    if repeating >= _REPEATING:
        return Look(Sight.dotgrid, _odds(repeating, _REPEATING), f"{said}, repeated to {repeating:.0%}")
    return Look(Sight.dotgrid, 1.0, said)


def _bin(image: np.ndarray) -> tuple[np.ndarray, int]:
    factor = -(-max(image.shape) // _SIDE)
    rows, columns = (n // factor for n in image.shape)
    cut = image[: rows * factor, : columns * factor]
    return cut.reshape(rows, factor, columns, factor).mean(axis=(1, 3)), factor


def _background(image: np.ndarray) -> np.ndarray:
    """Brightness between dark structures: a quadratic surface through the brighter pixels."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape)
    terms = np.broadcast_arrays(np.ones_like(image), y[:, None], x, y[:, None] ** 2, x**2, y[:, None] * x)
    basis = np.stack(terms)[:, ::2, ::2].reshape(6, -1)
    values = image[::2, ::2].ravel()
    bright = float(np.percentile(values, 90))
    use = values > 0.5 * bright
    weights = np.zeros(6)
    for _ in range(3):
        chosen = basis[:, use].astype(np.float64)
        # A little damping, should the bright pixels lie in one row.
        normal = chosen @ chosen.T + 1e-6 * chosen.shape[1] * np.eye(6)
        weights = np.linalg.solve(normal, chosen @ values[use])
        surface = weights @ basis
        use = np.abs(values - surface) < 0.35 * surface
        if use.sum() < 0.1 * use.size:
            break
    surface = np.tensordot(weights.astype(np.float32), np.stack(terms), axes=1)
    return np.maximum(surface, 0.3 * bright)


def _directions(image: np.ndarray) -> tuple[float, float, float]:
    """
    How much the edges keep to two directions at right angles, to one; and the angle, radians.

    The moments of the gradient's direction weighted with its square: |<exp 4i phi>| is 1 for a square
    lattice of edges and 0 for anything isotropic; |<exp 2i phi>| is 1 where there is one direction only.
    """
    gy = scipy.ndimage.gaussian_filter(image, 1.5, order=(1, 0))
    gx = scipy.ndimage.gaussian_filter(image, 1.5, order=(0, 1))
    # The frame's own border is no edge.
    gradient = (gx + 1j * gy)[4:-4, 4:-4].astype(np.complex128)
    square = np.abs(gradient) ** 2
    total = float(square.sum())
    two = complex((gradient**2).sum() / total)
    four = complex((gradient**4 / np.maximum(square, 1e-30)).sum() / total)
    return abs(four), abs(two), float(np.angle(four)) / 4


def _lines(image: np.ndarray, angle: float) -> tuple[float, tuple[float, float]]:
    """Share of the variance in lines along the angle and across it, and their spacing (y, x)."""
    best, profiles = -1.0, (np.ones(1), np.ones(1))
    centred = image - image.mean()
    for turn in angle + np.radians(np.linspace(-1.0, 1.0, 21)):
        found = [_profile(centred, turn, across) for across in (True, False)]
        share = sum(part for part, _ in found)
        if share > best:
            best, profiles = share, (found[0][1] + image.mean(), found[1][1] + image.mean())
    return best / max(float(np.var(image)), 1e-12), (_spacing(profiles[0]), _spacing(profiles[1]))


def _profile(centred: np.ndarray, turn: float, across: bool) -> tuple[float, np.ndarray]:
    """Variance of the means along one direction, and the means."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in centred.shape)
    c, s = np.cos(turn), np.sin(turn)
    place = c * y[:, None] - s * x if across else s * y[:, None] + c * x
    bins = np.rint(place - place.min()).astype(np.int64).ravel()
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=centred.ravel())
    means = sums / np.maximum(counts, 1)
    variance = float((counts * means**2).sum() / counts.sum())
    # Corners of a turned frame hold too few pixels to tell anything.
    return variance, means[counts > 0.5 * np.median(counts)]


def _spacing(profile: np.ndarray) -> float:
    """Distance between dark lines in a profile; NaN unless there are two or more at one distance."""
    dark = np.median(profile) - profile
    spots, count = scipy.ndimage.label(profile < _LINE * np.median(profile))
    if count < 2:
        return float("nan")
    places = np.array(scipy.ndimage.center_of_mass(dark, spots, range(1, count + 1))).ravel()
    # A line that the border cuts is not where its middle seems to be.
    whole = [k for k in range(count) if spots[0] != k + 1 and spots[-1] != k + 1]
    steps = np.diff(places[whole])
    if not steps.size or np.ptp(steps) > 0.1 * steps.mean():
        return float("nan")
    return float(steps.mean())


def _repetition(image: np.ndarray) -> float:
    """Second best of the autocorrelation's maxima in two directions, away from its centre."""
    rows, columns = image.shape
    window = np.ones(image.shape, dtype=np.float32)
    shape = tuple(scipy.fft.next_fast_len(2 * n, real=True) for n in image.shape)

    def correlate(values: np.ndarray) -> np.ndarray:
        return scipy.fft.irfft2(np.abs(scipy.fft.rfft2(values, shape)) ** 2, shape)

    mean = float((image * window).sum() / window.sum())
    overlap = correlate(window)
    ratio = correlate((image - mean) * window) / np.maximum(overlap, 1e-3 * overlap[0, 0])
    ratio = scipy.fft.fftshift(ratio / ratio[0, 0])
    middle = (shape[0] // 2, shape[1] // 2)
    # Lags of up to half the frame; the other half plane is the same.
    reach = (rows // 2, columns // 2)
    part = ratio[middle[0] : middle[0] + reach[0] + 1, middle[1] - reach[1] : middle[1] + reach[1] + 1]
    peaks = (part == scipy.ndimage.maximum_filter(part, size=5)) & (part > 0.1)
    dy, dx = np.nonzero(peaks)
    heights, lags = part[peaks], (dx - reach[1]) + 1j * dy
    # The peak at no lag, and what is joined to it.
    core = int(np.argmax(part[0, reach[1] :] < 0.3)) or max(reach)
    keep = (np.abs(lags) > max(4, 2 * core)) & (dy < reach[0]) & (np.abs(lags.real) < reach[1])
    heights, lags = heights[keep], lags[keep]
    if not heights.size:
        return 0.0
    best = lags[np.argmax(heights)]
    turned = np.abs(np.angle(lags / best))
    other = heights[(turned > np.pi / 4) & (turned < 3 * np.pi / 4)]
    return float(other.max()) if other.size else 0.0
