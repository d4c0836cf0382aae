"""How a channel wanders against the reference channel: in the science images, and in destretch's shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core.bursts import nearest
from stillsun.core.orient import rotation
from stillsun.core.registration.offset import Offset, lay_on, remaining_offset
from stillsun.errors import InputError
from stillsun.products.bursts import Bursts
from stillsun.products.destretched import Destretched
from stillsun.stages.base import StageContext

# Pairs of frames that are compared, and the fewest of them that make a drift.
_PAIRS = 12
_FEWEST = 3
# Frames of a pair may lie this far apart in time, in cadences of the slower channel.
_APART = 1.5
_ONE_SIGMA = 0.6827


@dataclass(frozen=True)
class HeldDrift:
    """
    Drift of a channel against the reference that destretch took out, for it holds either field.

    Attributes
    ----------
    rate, rate_error : numpy.ndarray, shape (2,)
        Change of the channel's translation (x, y) and its error, arcsec per second.
    seconds : float
        Length of the sequence.
    """

    rate: np.ndarray
    rate_error: np.ndarray
    seconds: float

    def values(self) -> dict[str, Any]:
        """
        What the product keeps.

        Returns
        -------
        dict
            Values by name.
        """
        return {"held_rate": self.rate, "held_rate_error": self.rate_error}


def held_drift(ctx: StageContext, rotation_deg: float) -> HeldDrift | None:
    """
    Drift between the channels in the shifts by which destretch brought their frames to rest.

    What moves both fields, as the telescope or a lock that jumps does, cancels.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage register, for a channel that is not the reference.
    rotation_deg : float
        Rotation of the channel on the reference.

    Returns
    -------
    HeldDrift or None
        None where there are too few frames of both channels.
    """
    from scipy.stats import theilslopes  # takes a second to load

    reference = ctx.reference
    if reference is None or not all(c.has(Bursts, Destretched) for c in (ctx, reference)):
        return None
    own = ctx.times
    rows, near = _beside(own, reference.times, np.arange(len(own)))
    moved = ctx.destretched.motion[rows] * ctx.scale @ rotation(rotation_deg).T
    moved = moved - reference.destretched.motion[near] * reference.scale
    good = np.isfinite(moved).all(axis=1)
    if good.sum() < _FEWEST:
        return None
    time = own[rows][good]
    # Robust, for a jump that lies between the frames of a pair is no drift (Sen 1968).
    lines = [theilslopes(values, time, alpha=_ONE_SIGMA) for values in moved[good].T]
    return HeldDrift(
        np.array([line.slope for line in lines]),
        np.array([(line.high_slope - line.low_slope) / 2 for line in lines]),
        float(time[-1] - time[0]),
    )


@dataclass(frozen=True)
class Drift:
    """
    Straight line through the offsets of a channel against its registration.

    Attributes
    ----------
    time : float
        Middle of the sequence, unix seconds.
    offset, offset_error : numpy.ndarray, shape (2,)
        Correction of the channel's translation (x, y) at that time and its error, arcsec.
    rate, rate_error : numpy.ndarray, shape (2,)
        Change of it, arcsec per second.
    pairs : int
        Pairs of frames that could be compared.
    seconds : float
        From the first of them to the last.
    """

    time: float
    offset: np.ndarray
    offset_error: np.ndarray
    rate: np.ndarray
    rate_error: np.ndarray
    pairs: int
    seconds: float

    def at(self, time: float) -> np.ndarray:
        """Correction (x, y) of the translation at a time, arcsec."""
        return self.offset + (time - self.time) * self.rate

    def values(self, applied: bool) -> dict[str, Any]:
        """
        What the product keeps.

        Parameters
        ----------
        applied : bool
            The coordinates follow the drift.

        Returns
        -------
        dict
            Values by name.
        """
        return {
            "drift_time": self.time,
            "drift_offset": self.offset,
            "drift_rate": self.rate,
            "drift_offset_error": self.offset_error,
            "drift_rate_error": self.rate_error,
            "drift_pairs": self.pairs,
            "drift_applied": int(applied),
        }


def measure_drift(ctx: StageContext, translation: tuple[float, float], rotation_deg: float) -> Drift | str:
    """
    Compare science images of a channel with those of the reference channel through the sequence.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage register, for a channel that is not the reference.
    translation : tuple of float
        Of the channel on the reference, from the targets, (x, y) arcsec.
    rotation_deg : float
        Likewise.

    Returns
    -------
    Drift or str
        The drift, or why it cannot be measured.
    """
    reference = ctx.reference
    if reference is None or not all(c.has(Bursts, Destretched) for c in (ctx, reference)):
        return "there are no destretched frames of both channels"
    found: list[tuple[float, Offset]] = []
    reasons: list[str] = []
    pairs = _pairs(ctx.times, reference.times)
    for done, (own, other, time) in enumerate(pairs, start=1):
        fixed = reference.destretched.masked(other)
        moving = ctx.destretched.masked(own)
        laid = lay_on(fixed.shape, reference.scale, moving, ctx.scale, translation, rotation_deg, ctx.backend)
        try:
            offset = remaining_offset(fixed, laid, reference.scale, backend=ctx.backend)
        except InputError as error:
            return str(error)
        if offset.accepted:
            found.append((time, offset))
        else:
            reasons.append(offset.faults[0])
        ctx.progress(done, len(pairs))
    if len(found) < max(_FEWEST, len(pairs) / 2):
        reason = f", for one: {reasons[0]}" if reasons else ""
        return f"only {len(found)} of {len(pairs)} pairs of frames have enough in common{reason}"
    return _line(found)


def middle_pair(ctx: StageContext) -> tuple[np.ndarray, np.ndarray, float] | None:
    """
    Frames of both channels from the middle of the sequence.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage register, for a channel that is not the reference.

    Returns
    -------
    tuple or None
        Of the reference channel and of the channel, (y, x) float32, NaN where invalid, and the time of the
        second; None where they are not destretched, or were not taken at the same time.
    """
    reference = ctx.reference
    if reference is None or not all(c.has(Bursts, Destretched) for c in (ctx, reference)):
        return None
    pairs = _pairs(ctx.times, reference.times)
    if not pairs:
        return None
    own, other, time = pairs[len(pairs) // 2]
    return reference.destretched.masked(other), ctx.destretched.masked(own), time


def _pairs(one: np.ndarray, two: np.ndarray) -> list[tuple[int, int, float]]:
    """Frames of both channels that belong together: own, of the reference, time."""
    rows = np.unique(np.linspace(0, len(one) - 1, min(_PAIRS, len(one))).round().astype(int))
    rows, near = _beside(one, two, rows)
    return [(int(row), int(n), float(one[row])) for row, n in zip(rows, near, strict=True)]


def _beside(one: np.ndarray, two: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the rows that have a frame of the reference channel beside them, and its number."""
    cadence = max((float(np.median(np.diff(t))) for t in (one, two) if len(t) > 1), default=np.inf)
    near = nearest(two, one[rows])
    good = np.abs(two[near] - one[rows]) <= _APART * cadence
    return rows[good], near[good]


def _line(found: list[tuple[float, Offset]]) -> Drift:
    """Weighted straight line; the errors are those of the offsets, or of their scatter where larger."""
    times = np.array([time for time, _ in found])
    middle = float((times[0] + times[-1]) / 2)
    design = np.stack([np.ones(times.size), times - middle], axis=1)
    line, error = np.empty((2, 2)), np.empty((2, 2))
    for axis in range(2):
        # Content that lies off by +shift means a translation that is off by -shift.
        values = np.array([-offset.shift[axis] for _, offset in found])
        weight = 1.0 / np.maximum([offset.error[axis] for _, offset in found], 1e-4)
        normal = np.linalg.pinv((design * weight[:, None]).T @ (design * weight[:, None]))
        line[:, axis] = normal @ (design.T @ (weight**2 * values))
        left = weight * (values - design @ line[:, axis])
        scatter = float(left @ left) / max(times.size - 2, 1)
        error[:, axis] = np.sqrt(np.diag(normal) * max(1.0, scatter))
        # What one line shows and the other does not is there in every pair: no mean takes it out.
        error[0, axis] = max(error[0, axis], float(np.median(1.0 / weight)))
    return Drift(middle, line[0], error[0], line[1], error[1], times.size, float(times[-1] - times[0]))
