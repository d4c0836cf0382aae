"""Which exposures of a burst are none: without light, constant, not finite, or unlike the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from stillsun.core.backend import Backend

# An exposure whose mean or contrast is off the burst's median by this factor is not like the others.
_ODD_MEAN = 2.0
_ODD_CONTRAST = 4.0
_MOST_BAD = 0.05
_NO_CONTRAST = 1e-6
NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Judgement:
    """
    Exposures of a burst that count as such, and why the others do not.

    Attributes
    ----------
    used : numpy.ndarray
        Numbers of those that count, (n,) int64.
    reasons : dict of int to str
        Number of each other one, and its reason.
    """

    used: np.ndarray
    reasons: dict[int, str]

    def nearest(self, number: int) -> int:
        """
        Choose what stands for an exposure that is none.

        Parameters
        ----------
        number : int
            Exposure.

        Returns
        -------
        int
            The nearest one that counts.
        """
        return int(self.used[np.argmin(np.abs(self.used - number))])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out and why, as one note or none."""
        if not self.reasons:
            return ()
        which = ", ".join(f"{number} ({reason})" for number, reason in self.reasons.items())
        return (f"{len(self.reasons)} exposures left out: {which}",)


def survey_exposures(frames: Any, backend: Backend) -> np.ndarray:
    """
    Look at exposures; those of a burst may come in parts.

    Parameters
    ----------
    frames : array
        Calibrated exposures, (n, rows, columns) float32.
    backend : Backend
        Where they are.

    Returns
    -------
    numpy.ndarray
        (3, n) float64: mean and contrast of what is finite, and the share of what is not.
    """
    means, contrasts, bad = found = np.empty((3, len(frames)))
    if backend.is_gpu:
        for k, frame in enumerate(frames):
            means[k], contrasts[k], bad[k] = _survey_arrays(frame, backend.xp)
    else:
        _survey(frames, means, contrasts, bad)
    return found


def judge_exposures(frames: Any, backend: Backend) -> Judgement:
    """
    Tell which exposures of a burst count as such.

    Parameters
    ----------
    frames : array
        Calibrated exposures, (n, rows, columns) float32.
    backend : Backend
        Where they are.

    Returns
    -------
    Judgement
        An exposure counts where nearly all of it is finite, it has light and structure, and its mean and
        contrast are like the burst's median: within factors of 2 and 4.
    """
    return judge_surveyed(survey_exposures(frames, backend))


def judge_surveyed(survey: np.ndarray) -> Judgement:
    """
    Tell which exposures of a burst count as such, by what was seen of them.

    Parameters
    ----------
    survey : numpy.ndarray
        What `survey_exposures` gives for the whole burst, (3, n) float64.

    Returns
    -------
    Judgement
        As of `judge_exposures`.
    """
    means, contrasts, bad = survey
    faults = {
        NOT_FINITE: bad > _MOST_BAD,
        "no light": ~(means > 0),
        "constant": ~(contrasts > _NO_CONTRAST),
    }
    usable = ~np.logical_or.reduce(list(faults.values()))
    if usable.any():
        mean, contrast = np.median(means[usable]), np.median(contrasts[usable])
        faults["too faint"] = means * _ODD_MEAN <= mean
        faults["too bright"] = means >= _ODD_MEAN * mean
        faults["contrast unlike the others"] = ~(
            (contrasts < _ODD_CONTRAST * contrast) & (contrasts * _ODD_CONTRAST > contrast)
        )
    reasons = {
        k: next(reason for reason, wrong in faults.items() if wrong[k])
        for k in range(len(means))
        if any(wrong[k] for wrong in faults.values())
    }
    used = np.array([k for k in range(len(means)) if k not in reasons], dtype=np.int64)
    return Judgement(used, reasons)


def _survey_arrays(frame: Any, xp: Any) -> tuple[float, float, float]:
    """Mean and contrast of what is finite in a frame, and the share of what is not."""
    finite = xp.isfinite(frame)
    good = int(xp.count_nonzero(finite))
    if not good:
        return 0.0, 0.0, 1.0
    mean = float(xp.where(finite, frame, np.float32(0)).sum(dtype=np.float64)) / good
    variance = float((xp.where(finite, frame.astype(np.float64) - mean, 0.0) ** 2).sum()) / good
    return mean, variance**0.5 / mean if mean > 0 else 0.0, 1.0 - good / finite.size


@njit(cache=True, nogil=True)
def _survey(frames, means, contrasts, bad):  # type: ignore[no-untyped-def]
    count, rows, columns = frames.shape
    for k in range(count):
        # About the first finite value, so that the variance of a bright frame keeps its digits.
        pivot = 0.0
        good = 0
        total = 0.0
        square = 0.0
        for y in range(rows):
            for x in range(columns):
                value = frames[k, y, x]
                if np.isfinite(value):
                    if good == 0:
                        pivot = float(value)
                    good += 1
                    total += value - pivot
                    square += (value - pivot) ** 2
        bad[k] = 1.0 - good / (rows * columns)
        if good:
            mean = total / good
            means[k] = pivot + mean
            variance = max(square / good - mean * mean, 0.0)
            contrasts[k] = np.sqrt(variance) / means[k] if means[k] > 0 else 0.0
        else:
            means[k] = 0.0
            contrasts[k] = 0.0
