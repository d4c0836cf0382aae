"""Destretch of whole sequences in memory; and the second pass that keeps solar flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from stillsun.core._levels import Levels
from stillsun.core._solve import stored_field
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.destretch import DEFAULT_KERNELS, Destretcher, DestretchResult, checked_image
from stillsun.core.flows import SLOW_WINDOW, Follower, sample_motion, seeing_field, slow_motion
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
    """

    images: np.ndarray
    displacement: np.ndarray
    shifts: list[list[np.ndarray]]
    valid: np.ndarray


def destretch_series(
    frames: Iterable[Any],
    kernels: Sequence[int] = DEFAULT_KERNELS,
    reference: str | Any = "running",
    window: int = 10,
    preserve_flows: bool = False,
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
        Frames in the running mean.
    preserve_flows : bool, optional
        Take out only what changes from frame to frame, and leave slow motion of the Sun in; needs some
        tens of frames, and keeps the frames in memory.
    backend : Backend or str, optional
        Where to compute.
    reference_index : int, optional
        Which frame is the fixed reference; other than 0 keeps the frames in memory.
    times : sequence of float, optional
        Times of the frames, for `preserve_flows`; evenly spaced by default.
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
        Images, displacement, shifts and masks of all frames.

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

    source, frames = _source(frames, "running" if two_pass else reference, window, reference_index, backend)
    if two_pass:
        first = Destretcher(source, kernels, repair_tolerance, interpolation, backend=backend)
        source = FixedReference(mean_frame(_corrected(first, frames, step)), backend)
    follows = preserve_flows and isinstance(source, RunningReference)
    follower = Follower() if follows else None
    stream = Destretcher(source, kernels, repair_tolerance, interpolation, follower, backend)
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
            np.arange(len(results)) if times is None else times,
            [bool(r.valid.any()) for r in results],
            backend=backend,
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
    )


def remove_seeing(
    field_of: Callable[[int], Any],
    times: Sequence[float] | np.ndarray,
    good: Sequence[bool] | np.ndarray,
    window: int = SLOW_WINDOW,
    first: int = 0,
    backend: Backend | str | None = None,
) -> Iterator[tuple[Any, np.ndarray]]:
    """
    Turn the displacement of a sequence into that which takes out the seeing only.

    Parameters
    ----------
    field_of : callable
        Gives the whole displacement of a frame by its number, (2, rows, columns) on the backend; called
        twice for each.
    times : sequence of float
        Times of all frames, increasing.
    good : sequence of bool
        Which frames have a displacement; the others are returned without one.
    window : int, optional
        Frames to each side over which motion is taken as linear.
    first : int, optional
        Frame to begin with.
    backend : Backend or str, optional
        Where to compute.

    Yields
    ------
    field : array
        (2, rows, columns) float32 on the backend, of one frame after the other.
    slow : numpy.ndarray
        (2, points_y, points_x) float32: the slow motion that stays, at the points of
        `stillsun.core.flows.motion_lattice`.

    Notes
    -----
    At most ``2 * window + 1`` sampled fields are in memory.
    """
    backend = get_backend(backend)
    times = np.asarray(times, np.float64)
    count = len(times)
    cadence = float(np.median(np.diff(times))) if count > 1 else 1.0
    reach = (window + 1) * (cadence if cadence > 0 else 1.0)
    motions: dict[int, np.ndarray] = {}
    for number in range(first, count):
        # Distance in frames and in time: a gap in the sequence ends what counts as near.
        near = [n for n in range(max(0, number - window), min(count, number + window + 1)) if good[n]]
        motions = {n: motions[n] if n in motions else sample_motion(field_of(n), backend)[0] for n in near}
        field = field_of(number)
        if not good[number]:
            yield field, np.zeros_like(next(iter(motions.values()), sample_motion(field, backend)[0]))
            continue
        slow = slow_motion([motions[n] for n in near], times[near], times[number], reach)
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
        yield np.where(result.valid, result.image, np.float32(np.nan))
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
