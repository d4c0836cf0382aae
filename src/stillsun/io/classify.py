"""
What each raw sequence is: data, dark, flat or one of the slides, and how sure that is.

ROSA's names tell darks and flats only, HARDcam's directories are named by people; so every sequence is
looked at as well, and a name that the image contradicts is said (SSOSoft manual, 2025-10-14, sections 2.2
and 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from stillsun.core.fiducials import Look, Sight, look
from stillsun.errors import InputError
from stillsun.io.rawsequence import HARDCAM, RawSequence

# Frames that are averaged before a look; of darks and flats for calibration.
_FRAMES = 4
_CALIBRATION_FRAMES = 16
# A deciding measure that lies by this factor on the right side of its limit is clear.
_CLEAR = 1.5


class Role(Enum):
    """What a sequence is for."""

    data = "data"
    dark = "dark"
    flat = "flat"
    target = "target"
    linegrid = "linegrid"
    dotgrid = "dotgrid"
    pinhole = "pinhole"
    unknown = "unknown"


class Sureness(Enum):
    """How sure a role is."""

    both = "name and image"
    name = "name"
    image = "image"
    doubtful = "doubtful"


@dataclass(frozen=True)
class Sorted:
    """
    A sequence with its role.

    Attributes
    ----------
    sequence : RawSequence
        The sequence.
    role : Role
        What it is.
    sureness : Sureness
        By what it is known.
    evidence : str
        What the image shows, or why nothing can be said.
    spacing : tuple of float
        Pixels between the lines of a line grid along (y, x); NaN for anything else.
    """

    sequence: RawSequence
    role: Role
    sureness: Sureness
    evidence: str
    spacing: tuple[float, float] = (float("nan"), float("nan"))


_SIGHTS = {
    Sight.dark: Role.dark,
    Sight.featureless: Role.flat,
    Sight.structure: Role.data,
    Sight.linegrid: Role.linegrid,
    Sight.target: Role.target,
    Sight.dotgrid: Role.dotgrid,
    Sight.pinhole: Role.pinhole,
}
# In this order: a directory DBJ_data_134954_dark holds darks.
_WORDS = (
    (Role.dark, r"dark"),
    (Role.flat, r"flat"),
    (Role.dotgrid, r"dot"),
    (Role.linegrid, r"grid|lines?"),
    (Role.target, r"target|usaf|air.?force"),
    (Role.pinhole, r"pin.?hole"),
    (Role.data, r"obs|science|scan"),
)


def role_of_name(kind: str) -> Role:
    """
    Role that a name tells.

    Parameters
    ----------
    kind : str
        `RawSequence.kind`.

    Returns
    -------
    Role
        Unknown where it tells none.
    """
    return next((role for role, word in _WORDS if re.search(word, kind, re.IGNORECASE)), Role.unknown)


def sort_sequences(
    sequences: Sequence[RawSequence], progress: Callable[[int, int], None] | None = None
) -> list[Sorted]:
    """
    Find the role of each sequence.

    Parameters
    ----------
    sequences : sequence of RawSequence
        Sequences of any cameras.
    progress : callable, optional
        Called with (sequences looked at, sequences).

    Returns
    -------
    list of Sorted
        In the order given.
    """
    cameras: dict[tuple[str, tuple[int, int] | None], list[RawSequence]] = {}
    for sequence in sequences:
        cameras.setdefault((sequence.camera, sequence.shape), []).append(sequence)
    found: dict[int, Sorted] = {}
    for members in cameras.values():
        for sequence, result in zip(members, _sort_camera(members), strict=True):
            found[id(sequence)] = result
            if progress is not None:
                progress(len(found), len(sequences))
    return [found[id(sequence)] for sequence in sequences]


def _sort_camera(sequences: list[RawSequence]) -> list[Sorted]:
    """Roles of the sequences of one camera with frames of one shape."""
    named = [role_of_name(sequence.kind) for sequence in sequences]
    samples = [_sample(s, role) for s, role in zip(sequences, named, strict=True)]
    levels = [float("nan") if image is None else float(np.median(image)) for image in samples]
    dark = _dark(sequences, named, samples, levels)
    light = max((level - float(np.median(dark)) for level in levels if np.isfinite(level)), default=0.0)
    flats = [k for k, role in enumerate(named) if role is Role.flat and samples[k] is not None]
    result = []
    for k, (sequence, role, image) in enumerate(zip(sequences, named, samples, strict=True)):
        if image is None or not light > 0:
            result.append(_by_name(sequence, role))
            continue
        # A flat is not divided by itself: that would show nothing.
        near = min((f for f in flats if f != k), key=lambda f: _apart(sequence, sequences[f]), default=None)
        signal = image - dark
        if near is not None:
            flat = samples[near]
            assert flat is not None
            gain = flat - dark
            middle = float(np.median(gain))
            signal = signal * middle / np.maximum(gain, 0.2 * middle) if middle > 0 else signal
        result.append(_decide(sequence, role, look(signal, light)))
    return result


def _sample(sequence: RawSequence, named: Role) -> np.ndarray | None:
    count = _CALIBRATION_FRAMES if named in (Role.dark, Role.flat) else _FRAMES
    try:
        return sequence.sample(count)
    except InputError:
        return None


def _dark(
    sequences: list[RawSequence], named: list[Role], samples: list[np.ndarray | None], levels: list[float]
) -> np.ndarray:
    """Mean of the first named darks; else the darkest sequence, where it is dark beside the brightest."""
    for role, image in zip(named, samples, strict=True):
        if role is Role.dark and image is not None:
            return image
    finite = [level for level in levels if np.isfinite(level)]
    if len(finite) > 1 and min(finite) < 0.15 * max(finite):
        image = samples[levels.index(min(finite))]
        assert image is not None
        return np.full_like(image, min(finite))
    return np.zeros(sequences[0].shape or (1, 1), dtype=np.float32)


def _apart(one: RawSequence, other: RawSequence) -> float:
    step = (one.start - other.start) / np.timedelta64(1, "s")
    return abs(float(step)) if np.isfinite(step) else float("inf")


def _by_name(sequence: RawSequence, role: Role) -> Sorted:
    why = "its frames cannot be looked at" if sequence.shape is None else "no light to compare with"
    return Sorted(sequence, role, Sureness.doubtful if role is Role.unknown else Sureness.name, why)


def _decide(sequence: RawSequence, named: Role, seen: Look) -> Sorted:
    role = _SIGHTS[seen.sight]
    clear = seen.margin >= _CLEAR
    evidence = f"{seen.sight.value}: {seen.evidence}"
    if named is Role.unknown:
        # ROSA names its flats: one without the name is something else, clouds for instance.
        if sequence.camera != HARDCAM and role in (Role.flat, Role.dark):
            return Sorted(sequence, Role.unknown, Sureness.doubtful, evidence)
        return Sorted(sequence, role, Sureness.image if clear else Sureness.doubtful, evidence, seen.spacing)
    if named is role:
        return Sorted(sequence, named, Sureness.both, evidence, seen.spacing)
    if clear:
        return Sorted(sequence, named, Sureness.doubtful, f"the name says {named.value}, but {evidence}")
    return Sorted(sequence, named, Sureness.name, evidence)
