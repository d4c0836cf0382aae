"""
Destretch: coarse-to-fine measurement of the displacement of a frame, and its replay.

Seeing moves the parts of an image against each other. Tiles of decreasing size are matched to a
reference; the shifts of all sizes add up to one displacement field, and the frame is interpolated
once, from its original pixels.

See Rimmele & Marino (2011, Living Rev. Solar Phys. 8, 2, section 6.2) for the idea, and `November &
Simon (1988, ApJ 333, 427)` for the windowed correlation of tiles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np

from stillsun.core._levels import Levels
from stillsun.core._solve import Solution, no_shifts, replay, solve, stored_field
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.flows import Follower, motion_lattice, sample_motion
from stillsun.core.reference import FixedReference, Reference, RunningReference
from stillsun.core.tiles import SMALLEST_KERNEL, check_kernels
from stillsun.core.warp import add_control_points
from stillsun.errors import ConfigError, InputError

#: Kernels of the project: those of the superseded system.
DEFAULT_KERNELS = (0, 128, 64, 32, 12)

#: Matched frames by which the next one is judged.
REMEMBERED = 30

# A matched frame has at least this likeness, and this share of the usual one; one that goes into the
# reference this share.
_LEAST_LIKENESS = 0.1
_MATCHED_SHARE = 0.7
_GOOD_SHARE = 0.85
_USUAL_MOTION = 10  # matched frames, whose mean motion one that is not matched gets
# The field has changed where so many frames, one after the other, are so much like each other, with so much
# of the reference's detail.
_CHANGED = 2
_LIKE_EACH_OTHER = 0.3
_AS_SHARP = 0.6


class Match(IntEnum):
    """What a frame counts for in a sequence."""

    #: Without structure, or unlike the reference (noise, a cloud): moved as the frames before it.
    unlike = 0
    #: Matched, but with less detail than the others (blurred): stays out of reference and flow.
    poor = 1
    #: Matched.
    good = 2
    #: The reference begins with it.
    first = 3


@dataclass(frozen=True)
class DestretchResult:
    """
    A destretched frame.

    Attributes
    ----------
    image : numpy.ndarray
        (rows, columns) float32, never NaN: the mean of the frame where there is nothing to take.
    shifts : list of numpy.ndarray
        One array a kernel, float32, pixels, order y, x: (2,) for kernel 0, else (2, tiles_y, tiles_x).
        Content of the frame moves by +shift to match the reference.
    field : array
        (2, rows, columns) float32 on the backend: ``out(y, x) = image(y - d[0], x - d[1])``.
    valid : numpy.ndarray
        (rows, columns) bool: the pixel comes from inside the frame's valid part.
    rms : numpy.ndarray
        (kernels,) rms length of the shifts of each kernel, pixels.
    repaired : numpy.ndarray
        (kernels,) share of tiles replaced by their neighbours, of those that could be measured.
    residual : float
        Rms length of the shifts that remain against the reference, pixels, in windows of about 32
        pixels whatever the kernels; NaN where there was no reference.
    likeness : float
        How much the corrected frame is like the reference, from 0 to 1 for the same; NaN where there was
        none.
    match : Match
        What the frame counts for.
    """

    image: np.ndarray
    shifts: list[np.ndarray]
    field: Any
    valid: np.ndarray
    rms: np.ndarray
    repaired: np.ndarray
    residual: float
    likeness: float = float("nan")
    match: Match = Match.good

    @property
    def displacement(self) -> np.ndarray:
        """The field on the host, brought there when asked for: on a GPU that takes as long as all else."""
        return to_host(self.field)


def destretch(
    image: Any,
    reference: Any,
    kernels: Sequence[int] = DEFAULT_KERNELS,
    repair_tolerance: float = 0.5,
    backend: Backend | str | None = None,
    *,
    interpolation: str = "lanczos4",
) -> DestretchResult:
    """
    Match a frame to a reference.

    Parameters
    ----------
    image, reference : array_like
        (rows, columns). A constant border and NaN do not count.
    kernels : sequence of int, optional
        Sizes of the tiles in pixels, from large to small; a leading 0 is the shift of the whole
        frame, found up to a quarter of the frame.
    repair_tolerance : float, optional
        Largest shift of a tile, as a fraction of its size, that is not replaced by its neighbours'.
    backend : Backend or str, optional
        Where to compute.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        Quality of the one interpolation of the result, see `stillsun.core.warp.resample`.

    Returns
    -------
    DestretchResult
        Image, shifts, mask, and the displacement when it is asked for, on the host.

    Raises
    ------
    InputError
        If the shapes differ, or the reference is constant. (A constant image is returned as it is,
        with no valid pixel.)
    ConfigError
        If the kernels or the interpolation cannot be used.
    """
    backend = get_backend(backend)
    target = backend.asarray(checked_image(reference, "reference"), dtype=np.float32)
    stream = Destretcher(
        FixedReference(target, backend), kernels, repair_tolerance, interpolation, backend=backend
    )
    return stream.push(image)


def apply_shifts(
    image: Any,
    shifts: Sequence[Any],
    kernels: Sequence[int] = DEFAULT_KERNELS,
    backend: Backend | str | None = None,
    *,
    interpolation: str = "lanczos4",
) -> np.ndarray:
    """
    Move a frame by measured shifts.

    Parameters
    ----------
    image : array_like
        (rows, columns), of the shape for which the shifts were measured.
    shifts : sequence of array_like
        As in `DestretchResult`, one array a kernel.
    kernels : sequence of int, optional
        The kernels with which the shifts were measured.
    backend : Backend or str, optional
        Where to compute.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `destretch`.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32; the very bytes of `DestretchResult.image` for the frame from which
        the shifts come.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    backend = get_backend(backend)
    kernels = check_kernels(kernels)
    frame = Levels(backend.asarray(checked_image(image, "image"), dtype=np.float32), backend)
    field = stored_field(shifts, kernels, frame.shape, backend)
    return to_host(frame.move(field, interpolation)[0])


def displacement_field(
    shifts: Sequence[Any],
    kernels: Sequence[int],
    shape: tuple[int, int],
    backend: Backend | str | None = None,
) -> np.ndarray:
    """
    Compose the shifts of all kernels into one displacement field.

    Parameters
    ----------
    shifts : sequence of array_like
        As in `DestretchResult`, one array a kernel.
    kernels : sequence of int
        The kernels with which they were measured.
    shape : tuple of int
        Rows and columns of the frame.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (2, rows, columns) float32: ``out(y, x) = image(y - d[0], x - d[1])``.

    Raises
    ------
    InputError
        If the shifts do not belong to these kernels and this shape.
    """
    return to_host(stored_field(shifts, check_kernels(kernels), shape, get_backend(backend)))


class Destretcher:
    """
    Destretch of a sequence, frame by frame.

    Parameters
    ----------
    reference : Reference
        A `stillsun.core.reference.RunningReference`, `FixedReference` or the like.
    kernels : sequence of int, optional
        As for `destretch`.
    repair_tolerance : float, optional
        As for `destretch`.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `destretch`.
    follower : callable, optional
        Makes a `Follower`, which lets the reference follow slow motion; image, mask and displacement of a
        result are then those of the frame as it goes into the reference, while the shifts tell the whole
        displacement.
    backend : Backend or str, optional
        Where to compute.
    whole : bool, optional
        Results are those of the whole displacement, although the reference follows: one interpolation more.

    Raises
    ------
    ConfigError
        If the kernels or the tolerance cannot be used.

    Notes
    -----
    A frame is matched if its likeness to the reference is at least 0.7 of the median of the last thirty that
    were, and 0.1; it goes into the reference from 0.85 of that median on. Frames that are not matched but,
    one after the other, are like each other and have as much detail as the reference show that the field
    has changed: the running reference then begins anew.

    All that a sequence remembers is its reference, what `recall` takes, and its follower: given back after a
    good frame, the sequence goes on with the same bytes.
    """

    def __init__(
        self,
        reference: Reference,
        kernels: Sequence[int] = DEFAULT_KERNELS,
        repair_tolerance: float = 0.5,
        interpolation: str = "lanczos4",
        follower: Callable[[], Follower] | None = None,
        backend: Backend | str | None = None,
        whole: bool = False,
    ) -> None:
        if not 0 < repair_tolerance <= 1:
            raise ConfigError(
                "repair_tolerance is a fraction of the tile",
                expected="above 0, at most 1",
                found=repair_tolerance,
            )
        self.reference = reference
        self.kernels = check_kernels(kernels)
        self._tolerance = repair_tolerance
        self._interpolation = interpolation
        self._new_follower = follower
        self._whole = whole
        self._backend = get_backend(backend)
        self._seen: tuple[Any, Levels] | None = None
        self._begin()

    def _begin(self) -> None:
        self.follower = None if self._new_follower is None else self._new_follower()
        # Likeness and shifts of the last matched frames.
        self._recent: deque[tuple[float, list[np.ndarray]]] = deque(maxlen=REMEMBERED)
        # A frame that was not matched, to compare the next one with; and how many were like each other.
        self._rival: Levels | None = None
        self._agreed = 0

    def recall(
        self,
        recent: Sequence[tuple[float, list[np.ndarray]]],
        fields: Iterable[Any],
        frames: Sequence[Any],
        earlier: int = 0,
    ) -> None:
        """
        Remember what was measured since the reference began.

        Parameters
        ----------
        recent : sequence of tuple
            Likeness and shifts of the last matched frames, at most `REMEMBERED`, the oldest first.
        fields : iterable of array
            Displacement of good frames, the oldest first: with a follower, of all.
        frames : sequence of array_like
            The last of those frames, as many as the reference takes.
        earlier : int, optional
            How many fields come before those of `frames`.
        """
        self._begin()
        self._recent.extend(recent)
        for number, field in enumerate(fields):
            behind = self._follow(field)
            if number >= earlier:
                frame = self._backend.asarray(frames[number - earlier], dtype=np.float32)
                self.reference.update(*Levels(frame, self._backend).move(behind, self._interpolation))

    def _follow(self, field: Any) -> Any:
        """Displacement with which a frame goes into the reference."""
        if self.follower is None:
            return field
        behind = self.follower.update(sample_motion(field, self._backend)[0])
        points = motion_lattice((field.shape[1], field.shape[2]))
        field = field.copy()
        add_control_points(field, [(-behind, points)], 1, self._backend)
        return field

    def push(self, frame: Any, shifts: Sequence[Any] | None = None) -> DestretchResult:
        """
        Destretch the next frame.

        Parameters
        ----------
        frame : array_like
            (rows, columns).
        shifts : sequence of array_like, optional
            Shifts to be replayed, one array a kernel, instead of measuring them; the reference then only
            tells what remains.

        Returns
        -------
        DestretchResult
            On the host, but for the field.

        Raises
        ------
        InputError
            If the frame has another shape than the reference, the reference is constant, or shifts do not
            belong to the kernels and the shape.
        """
        backend = self._backend
        image = Levels(backend.asarray(checked_image(frame, "frame"), dtype=np.float32), backend)
        current = self.reference.current()
        target = None if current is None or image.empty else self._prepared(current, image.shape)
        match = Match.unlike if image.empty else Match.good if shifts is not None else Match.first
        if shifts is not None and not image.empty:
            solved = replay(image, target, self.kernels, shifts, backend)
        elif target is not None:
            solved = solve(image, target, self.kernels, self._tolerance, backend)
            match = self._judged(solved.likeness, image, target)
        if match is Match.first:
            self.reference.restore(np.empty((0, 0, 0), np.float32))
            self._begin()
        if match is Match.first or image.empty:
            solved = self._still(image, no_shifts(self.kernels, image.shape))
        elif match is Match.unlike:
            last = [shifts for _, shifts in self._recent][-_USUAL_MOTION:]
            usual = [np.asarray(np.mean(each, axis=0, dtype=np.float32)) for each in zip(*last, strict=True)]
            solved = self._still(image, usual or no_shifts(self.kernels, image.shape), solved.likeness)
        elif shifts is None:
            self._recent.append((solved.likeness, solved.shifts))
            self._rival, self._agreed = None, 0
        field, good = solved.field, match >= Match.good
        if good:
            field = self._follow(field)
        corrected, valid = image.move(field, self._interpolation)
        if good:
            self.reference.update(corrected, valid)
        if self._whole and field is not solved.field:
            field = solved.field
            corrected, valid = image.move(field, self._interpolation)
        return DestretchResult(
            to_host(corrected),
            solved.shifts,
            field,
            to_host(valid),
            np.asarray(solved.rms),
            np.asarray(solved.repaired),
            solved.residual,
            solved.likeness,
            match,
        )

    def _judged(self, likeness: float, image: Levels, target: Levels) -> Match:
        """What a frame counts for by its likeness to the reference."""
        usual = float(np.median([r[0] for r in self._recent])) if self._recent else 0.0
        least = max(_LEAST_LIKENESS, _MATCHED_SHARE * usual)
        if likeness >= least:
            return Match.good if likeness >= _GOOD_SHARE * usual else Match.poor
        if not isinstance(self.reference, RunningReference):
            return Match.unlike
        if self._rival is not None:
            alike = solve(image, self._rival, self.kernels, self._tolerance, self._backend).likeness
            self._agreed = self._agreed + 1 if alike >= max(_LIKE_EACH_OTHER, least) else 0
        sharp = not self._recent or image.detail(2) >= _AS_SHARP * target.detail(2)
        self._rival = image if sharp else None
        changed = sharp and self._agreed >= (_CHANGED if self._recent else 1)
        return Match.first if changed else Match.unlike

    def _still(self, image: Levels, shifts: list[np.ndarray], alike: float = np.nan) -> Solution:
        """Shifts that were not measured."""
        return replace(replay(image, None, self.kernels, shifts, self._backend), likeness=alike)

    def _prepared(self, current: Any, shape: tuple[int, int]) -> Levels:
        # A fixed reference is the same object every time, and prepared once.
        if self._seen is None or self._seen[0] is not current:
            if current.shape != shape:
                raise InputError("frame and reference differ in shape", expected=current.shape, found=shape)
            self._seen = (current, Levels(current, self._backend))
        if self._seen[1].shape != shape:
            raise InputError("frame and reference differ in shape", expected=self._seen[1].shape, found=shape)
        if self._seen[1].empty:
            raise InputError("the reference is constant", remedy="Choose a frame with contrast")
        return self._seen[1]


def checked_image(image: Any, what: str) -> Any:
    """
    Check that something is an image.

    Parameters
    ----------
    image : array_like
        What was handed in.
    what : str
        Its name for the message.

    Returns
    -------
    array
        The same as an array, (rows, columns).

    Raises
    ------
    InputError
        If it is none, or too small.
    """
    if getattr(image, "ndim", None) != 2:
        image = np.asarray(image)
    if image.ndim != 2 or min(image.shape) < SMALLEST_KERNEL:
        raise InputError(
            f"the {what} is no image",
            expected=f"(rows, columns), {SMALLEST_KERNEL} pixels or more along each",
            found=image.shape,
        )
    return image
