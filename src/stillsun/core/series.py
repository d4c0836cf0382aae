"""Destretch of whole sequences in memory; and the second pass that keeps solar flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from stillsun.core._levels import Levels
from stillsun.core._solve import stored_field
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.destretch import DEFAULT_KERNELS, Destretcher, DestretchResult, Match, checked_image
from stillsun.core.flows import (
    CADENCE,
    Follower,
    SlowMotion,
    reference_window,
    sample_motion,
    seeing_field,
    usual_cadence,
)
from stillsun.core.reference import FixedReference, Reference, RunningReference, mean_frame
from stillsun.errors import ConfigError, InputError


@dataclass(frozen=True)
class SeriesResult:
    """
    A destretched sequence.

    Attributes
    ----------
    images : numpy.ndarray
        (n, rows, columns) float32.
    displacement : numpy.ndarray
        (n, 2, rows, columns) float32, what was applied: ``out(y, x) = image(y - d[0], x - d[1])``.
    shifts : list of list of numpy.ndarray
        For each frame one array a kernel, as in `DestretchResult`; slow motion included.
    valid : numpy.ndarray
        (n, rows, columns) bool.
    good : numpy.ndarray
        (n,) bool. False: the frame has no structure, or is unlike the others (noise, a cloud, blur); it stays
        out of reference and flow, and was moved as the frames before it if it could not be matched.
    """

    images: np.ndarray
    displacement: np.ndarray
    shifts: list[list[np.ndarray]]
    valid: np.ndarray
    good: np.ndarray


def destretch_series(
    frames: Iterable[Any],
    kernels: Sequence[int] = DEFAULT_KERNELS,
    reference: str | Any = "running",
    window: int = 10,
    preserve_flows: bool = True,
    backend: Backend | str | None = None,
    *,
    reference_index: int = 0,
    times: Sequence[float] | None = None,
    repair_tolerance: float = 0.5,
    interpolation: str = "lanczos4",
    progress: Callable[[int, int], None] | None = None,
) -> SeriesResult:
    """
    Hold a sequence still.

    Parameters
    ----------
    frames : iterable of array_like
        Each (rows, columns), in the order of time; taken one after the other.
    kernels : sequence of int, optional
        As for `stillsun.core.destretch.destretch`.
    reference : {"running", "fixed", "two_pass"} or array_like, optional
        ``"running"``: the mean of the last `window` corrected frames, the first frame being its own
        reference; ``"fixed"``: the frame `reference_index`; ``"two_pass"``: the mean of all corrected
        frames of a first pass with the running mean, which keeps the frames in memory; or a reference
        frame.
    window : int, optional
        Frames in the running mean; fewer where they would span more than a minute.
    preserve_flows : bool, optional
        Take out only what changes from frame to frame, and leave slow motion of the Sun in: flows, and what
        sways with periods from 2 minutes; keeps the frames in memory. False: hold the Sun itself still, as
        far as its pattern lasts: the running reference follows it within 40 s.
    backend : Backend or str, optional
        Where to compute.
    reference_index : int, optional
        Which frame is the fixed reference; other than 0 keeps the frames in memory.
    times : sequence of float, optional
        Times of the frames, seconds; 2 s apart by default.
    repair_tolerance : float, optional
        As for `stillsun.core.destretch.destretch`.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `stillsun.core.destretch.destretch`.
    progress : callable, optional
        Called with the number of frames done and of all (0 where the iterable does not tell); with
        `preserve_flows`, and with two passes, each frame counts once more.

    Returns
    -------
    SeriesResult
        Images, displacement, shifts and masks of all frames, and which of them are good.

    Raises
    ------
    InputError
        If there is no frame, the frames differ in shape, the fixed reference is missing or constant,
        or times do not fit the frames.
    ConfigError
        If kernels, reference or window cannot be used.
    """
    backend = get_backend(backend)
    two_pass = isinstance(reference, str) and reference == "two_pass"
    if two_pass:
        frames = list(frames)
    passes = 1 + two_pass + preserve_flows
    total = passes * len(frames) if isinstance(frames, Sized) else 0
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    cadence = CADENCE if times is None else usual_cadence(times)
    window = reference_window(window, cadence) if window > 0 else window
    source, frames = _source(frames, "running" if two_pass else reference, window, reference_index, backend)
    follower = partial(Follower.at, cadence, window)
    still = partial(follower, True)
    if two_pass:
        first = Destretcher(source, kernels, repair_tolerance, interpolation, still, backend, True)
        source = FixedReference(mean_frame(_corrected(first, frames, step)), backend)
    follows = None
    if isinstance(source, RunningReference):
        follows = follower if preserve_flows else still
    stream = Destretcher(
        source, kernels, repair_tolerance, interpolation, follows, backend, not preserve_flows
    )
    kept: list[Any] = []
    results: list[DestretchResult] = []
    for frame in frames:
        result = stream.push(frame)
        results.append(replace(result, field=result.displacement))
        if preserve_flows:
            kept.append(frame)
        step()
    if not results:
        raise InputError("no frames to destretch")
    shifts = [r.shifts for r in results]
    parts = [(r.image, r.displacement, r.valid) for r in results]
    if preserve_flows:
        if times is not None and len(times) != len(results):
            raise InputError("one time a frame is needed", expected=len(results), found=len(times))
        shape = results[0].image.shape
        fields = remove_seeing(
            lambda n: stored_field(shifts[n], stream.kernels, shape, backend),
            CADENCE * np.arange(len(results)) if times is None else times,
            [r.match for r in results],
            backend=backend,
            follower=follows,
        )
        for number, (field, _) in enumerate(fields):
            image, valid = apply_field(kept[number], field, interpolation, backend)
            parts[number] = image, to_host(field), valid
            step()
    return SeriesResult(
        np.stack([p[0] for p in parts]),
        np.stack([p[1] for p in parts]),
        shifts,
        np.stack([p[2] for p in parts]),
        np.array([r.match >= Match.good for r in results]),
    )


def remove_seeing(
    field_of: Callable[[int], Any],
    times: Sequence[float] | np.ndarray,
    matches: Sequence[int] | np.ndarray,
    first: int = 0,
    backend: Backend | str | None = None,
    follower: Callable[[], Follower] | None = None,
) -> Iterator[tuple[Any, np.ndarray]]:
    """
    Turn the displacement of a sequence into that which takes out the seeing only.

    Parameters
    ----------
    field_of : callable
        Gives the whole displacement of a frame by its number, (2, rows, columns) on the backend; called
        twice for each.
    times : sequence of float
        Times of all frames, seconds, increasing.
    matches : sequence of int
        What each frame counts for, a `stillsun.core.destretch.Match`. Where the reference begins anew,
        displacements before and after have nothing in common.
    first : int, optional
        Frame to begin with.
    backend : Backend or str, optional
        Where to compute.
    follower : callable, optional
        Makes a `Follower` like that with which the displacements were measured.

    Yields
    ------
    field : array
        (2, rows, columns) float32 on the backend, of one frame after the other.
    slow : numpy.ndarray
        (2, points_y, points_x) float32: the slow motion that stays, at the points of
        `stillsun.core.flows.motion_lattice`.

    Notes
    -----
    Sampled fields of at most 150 frames to each side are in memory, usually of 90 seconds.
    """
    backend = get_backend(backend)
    slow_motion = SlowMotion(times)
    count = len(matches)
    edges = np.array([0, *(n for n in range(1, count) if matches[n] == Match.first), count])
    motions: dict[int, np.ndarray] = {}  # against the first reference
    offsets: dict[int, Any] = {}  # what motion against the reference of that frame lacks of it
    place: Follower | None = None
    taken = 0
    for number in range(first, count):
        part = int(np.searchsorted(edges, number, side="right")) - 1
        low, high = int(edges[part]), int(edges[part + 1])
        near = slow_motion.near(number)
        near = range(max(near.start, low), min(near.stop, high))
        for known in (motions, offsets):
            for old in [n for n in known if n < near.start]:
                del known[old]
        # A follower goes through all frames since the reference began.
        for n in range(max(taken, near.start if follower is None else low), near.stop):
            if n == low and follower is not None:
                place = follower()
            offset = np.float32(0) if place is None or place.offset is None else place.offset
            if n >= near.start:
                offsets[n] = offset
            if matches[n] >= Match.good:
                motion = sample_motion(field_of(n), backend)[0]
                if n >= near.start:
                    motions[n] = motion + offset
                if place is not None:
                    place.update(motion)
        taken = max(taken, near.stop)
        field = field_of(number)
        slow = sample_motion(field, backend)[0]
        if motions and matches[number] >= Match.poor:
            total = np.zeros(slow.shape)
            for weight, motion in zip(
                slow_motion.weights(number, list(motions)), motions.values(), strict=True
            ):
                total += weight * motion
            slow = (total - offsets[number]).astype(np.float32)
        # Of a frame that was not matched the mean is known at the most: all else counts as slow.
        yield seeing_field(field, slow, backend), slow


def apply_field(
    frame: Any, field: Any, interpolation: str = "lanczos4", backend: Backend | str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Move a frame by a displacement field, with its invalid parts filled as by `destretch`.

    Parameters
    ----------
    frame : array_like
        (rows, columns).
    field : array_like
        (2, rows, columns): ``out(y, x) = frame(y - d[0], x - d[1])``.
    interpolation : {"lanczos4", "bicubic", "bilinear"}, optional
        As for `stillsun.core.destretch.destretch`.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    image : numpy.ndarray
        (rows, columns) float32, never NaN.
    valid : numpy.ndarray
        (rows, columns) bool: the pixel comes from inside the frame's valid part.
    """
    backend = get_backend(backend)
    levels = Levels(backend.asarray(checked_image(frame, "frame"), dtype=np.float32), backend)
    field = backend.asarray(field, dtype=np.float32)
    image, valid = levels.move(field, interpolation)
    return to_host(image), to_host(valid)


def _corrected(stream: Destretcher, frames: Iterable[Any], step: Callable[[], None]) -> Iterator[np.ndarray]:
    """Frames of a first pass, NaN where invalid."""
    for frame in frames:
        result = stream.push(frame)
        yield np.where(result.valid & (result.match >= Match.good), result.image, np.float32(np.nan))
        step()


def _source(
    frames: Iterable[Any], reference: str | Any, window: int, index: int, backend: Backend
) -> tuple[Reference, Iterable[Any]]:
    """The reference, and the frames again where one had to be taken from them."""
    if not isinstance(reference, str):
        return FixedReference(checked_image(reference, "reference"), backend), frames
    if reference == "running":
        return RunningReference(window, backend), frames
    if reference != "fixed":
        raise ConfigError(
            "unknown reference",
            expected="'running', 'fixed', 'two_pass' or an array",
            found=repr(reference),
        )
    first = None
    if isinstance(frames, Sequence) or index != 0:
        frames = list(frames)
        if -len(frames) <= index < len(frames):
            first = frames[index]
    else:
        rest = iter(frames)
        first = next(rest, None)
        frames = rest if first is None else chain([first], rest)
    if first is None:
        raise InputError("no such frame to be the reference", found=f"reference_index={index}")
    return FixedReference(checked_image(first, "reference"), backend), frames
