"""Stage destretch: reconstructed frames, oriented and without the seeing's distortion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from stillsun.config.schema import DestretchConfig, ReferenceKind
from stillsun.core._solve import no_shifts
from stillsun.core.destretch import REMEMBERED, Destretcher, DestretchResult, Match
from stillsun.core.flows import Follower, reference_window, usual_cadence
from stillsun.core.quality import frame_quality
from stillsun.core.reference import FixedReference, Reference, RunningReference, mean_frame
from stillsun.core.series import apply_field, remove_seeing
from stillsun.core.tiles import check_kernels
from stillsun.errors import ConfigError
from stillsun.products.destretched import FLOWS, FOLLOWED, TWO_PASS
from stillsun.stages._beside import WriteBehind, read_ahead
from stillsun.stages._destretch_writer import FIRST_PASS, SOLVED, DestretchedWriter, fields, inner
from stillsun.stages._following import Following
from stillsun.stages.base import StageContext
from stillsun.stages.registry import follows


def run(ctx: StageContext) -> None:
    """
    Destretch the frames in the order of time.

    Frames are read and written beside the computation. Rows that an earlier run completed are kept; the
    reference is rebuilt from them, so that an interrupted sequence gives the same bytes as an
    uninterrupted one.

    A channel that follows the reference channel takes its shifts instead of measuring its own.

    Parameters
    ----------
    ctx : StageContext
        Context; reads ``speckle``, and of ``bursts`` the times; to follow the reference channel also its
        ``bursts``, ``calibration`` and ``destretch``, and the channel's ``calibration``.

    Raises
    ------
    ConfigError
        If the kernels cannot be used, or there is no such reference frame.
    InputError
        If the reference frame is constant, or the reference channel cannot be followed.
    RegistrationError
        If the reference channel cannot be followed, because the targets do not match.
    """
    config: DestretchConfig = ctx.config
    frames = _Frames(ctx)
    kernels = check_kernels(config.kernels)
    two_pass, keep = config.reference is ReferenceKind.two_pass, config.preserve_flows
    attributes: dict[str, Any] = {"kernels": list(kernels), "reference": config.reference.name}
    times = ctx.times
    cadence = usual_cadence(times)
    window = reference_window(config.window, cadence)
    reference: Reference = RunningReference(window, ctx.backend)
    following: Following | None = None
    if ctx.reconstructed.is_destretched:
        ctx.note("the frames are destretched already and stay as they are")
        kernels, two_pass, keep, reference = (0,), False, False, _Nothing()
        attributes = {"kernels": list(kernels), "reference": "none"}
    elif follows(config, ctx.is_reference):
        two_pass = keep = False
        following = Following(ctx, frames.shape, kernels)
        attributes["reference"] = "followed"
    elif config.reference is ReferenceKind.fixed:
        number = _reference_frame(ctx)
        attributes["reference_frame"] = number
        reference = FixedReference(frames.read(number)[0], ctx.backend)
    parts = ((TWO_PASS, two_pass), (FLOWS, keep), (FOLLOWED, following is not None))
    datasets = fields(frames.shape, kernels, *(part for part, wanted in parts if wanted))
    with ctx.create(len(frames), datasets, attributes) as store:
        product = DestretchedWriter(store)
        passes = _Passes(ctx, frames, product, 1 + two_pass + keep, window)
        if two_pass:
            if not product.reference_made:
                passes.solve(reference, FIRST_PASS, partial(Follower.at, cadence, window, True), whole=True)
                _make_reference(product, len(frames))
            passes.skip()
            reference = FixedReference(product.reference, ctx.backend)
        follower = None
        if isinstance(reference, RunningReference) and following is None:
            follower = partial(Follower.at, cadence, window, not keep)
        passes.solve(reference, SOLVED if keep else None, follower, following, not keep)
        if keep:
            passes.keep_flows(times, follower)
        _tell(ctx, product, "any structure" if following is None else _NO_SHIFTS)


# Frames are said to have been held against the Sun from so many pixels on.
_HELD_PX = 1.0
_NO_SHIFTS = "shifts of the reference channel, or any structure,"


def _tell(ctx: StageContext, product: DestretchedWriter, missing: str) -> None:
    """Note the frames that were not matched as the others."""
    matches = product.match
    live = np.array([product.live(n) for n in range(matches.size)], bool)
    unlike, poor = live & (matches == Match.unlike), live & (matches == Match.poor)
    begins = np.flatnonzero(matches == Match.first)[1:]
    for rows, text in (
        (np.flatnonzero(~live), f"frames without {missing} were left as they are"),
        (
            np.flatnonzero(unlike),
            "frames unlike the others (noise, a cloud, blur) were moved as the frames before them",
        ),
        (np.flatnonzero(poor), "frames with less detail than the others were kept out of the reference"),
        (
            begins,
            "the field changed, or the first frames were poor: the reference begins anew, and displacements "
            "before and after have nothing in common, at frames",
        ),
    ):
        if rows.size:
            ctx.note(f"{text}: {', '.join(map(str, rows))}")


class _Frames:
    """Images before destretch, oriented."""

    def __init__(self, ctx: StageContext) -> None:
        self._ctx = ctx
        rows, columns = ctx.orientation.shape(ctx.reconstructed.image.shape[1:])
        self.shape = (rows, columns)

    def __len__(self) -> int:
        return self._ctx.reconstructed.rows

    def read(self, number: int) -> tuple[np.ndarray, float]:
        """One frame, (rows, columns) float32, and its sharpness."""
        frame = self._ctx.image(number)
        return frame, float(frame_quality(inner(frame)[None], backend="numpy")[1][0])


def _reference_frame(ctx: StageContext) -> int:
    """The frame asked for, or the clearest."""
    number, rows = ctx.config.reference_frame, ctx.reconstructed.rows
    if number is not None and number >= rows:
        raise ConfigError(
            "destretch.reference_frame: no such frame", expected=f"0 to {rows - 1}", found=number
        )
    return ctx.clearest() if number is None else int(number)


class _Nothing:
    """What frames are matched to that must not be moved."""

    def current(self) -> None:
        """There is nothing to match to."""

    def update(self, corrected: Any, valid: Any) -> None:
        """Nothing comes of a frame."""

    def state(self) -> np.ndarray:
        """Nothing to remember."""
        return np.empty(0, np.float32)

    def restore(self, state: np.ndarray) -> None:
        """Nothing is remembered."""


class _Passes:
    """The passes over the sequence, each from the row where it stopped."""

    def __init__(
        self, ctx: StageContext, frames: _Frames, product: DestretchedWriter, count: int, window: int
    ) -> None:
        self._ctx, self._frames, self._product, self._window = ctx, frames, product, window
        self._total = count * len(frames)
        self._before = 0  # frames of earlier passes

    def skip(self) -> None:
        """Count a pass as done."""
        self._before += len(self._frames)

    def solve(
        self,
        reference: Reference,
        ledger: str | None,
        follower: Callable[[], Follower] | None = None,
        following: Following | None = None,
        whole: bool = False,
    ) -> None:
        """
        Measure every frame, or take what another channel measured.

        If another pass follows, what is stored as image serves references only.
        """
        ctx, product, config = self._ctx, self._product, self._ctx.config
        count, first = len(self._frames), product.first(ledger)
        if first < count and following is None:
            first = _last_known(product, first)
        stream = Destretcher(
            reference,
            product.kernels,
            config.repair_tolerance,
            config.interpolation.name,
            follower,
            ctx.backend,
            whole,
        )
        if first < count:
            self._recall(stream, first)
        numbers = self._left(first)
        with WriteBehind() as writer:
            frames = read_ahead(self._frames.read, numbers)
            for number, (frame, sharpness) in zip(numbers, frames, strict=True):
                others = {} if following is None else {"followed": following.rows[number]}
                given = None if following is None else following.shifts(number)
                if following is not None and given is None:
                    result = _untouched(frame, product)
                else:
                    result = stream.push(frame, given)
                if isinstance(reference, _Nothing):
                    result = replace(result, image=frame, match=Match.good)
                writer.submit(product.write_result, number, sharpness, result, others, ledger)
                self._progress(number + 1)
        if ledger == SOLVED:
            self.skip()
        elif stream.follower is not None and stream.follower.held >= _HELD_PX:
            self._ctx.note(
                f"the pattern was held against the Sun by up to {stream.follower.held:.1f} px; "
                "destretch.preserve_flows=true keeps the flows"
            )

    def _recall(self, stream: Destretcher, first: int) -> None:
        """Give back what the stream knew before a row."""
        product, backend = self._product, self._ctx.backend
        matches = product.match[:first]
        likeness = product.likeness
        begin = int(max(np.flatnonzero(matches == Match.first), default=0))
        matched = begin + np.flatnonzero(np.isin(matches[begin:], (Match.poor, Match.good)))
        good = begin + np.flatnonzero(matches[begin:] >= Match.good)
        last = good[-self._window :] if isinstance(stream.reference, RunningReference) else good[:0]
        used = last if stream.follower is None else good
        stream.recall(
            [(float(likeness[n]), product.shifts(n)) for n in matched[-REMEMBERED:]],
            (product.displacement(n, backend) for n in used),
            [self._frames.read(n)[0] for n in last],
            len(used) - len(last),
        )

    def keep_flows(self, times: np.ndarray, follower: Callable[[], Follower] | None) -> None:
        """Take only the seeing out of every frame."""
        ctx, product = self._ctx, self._product
        first = product.first()
        fields_of = remove_seeing(
            lambda n: product.displacement(n, ctx.backend),
            times,
            product.match,
            first,
            ctx.backend,
            follower,
        )
        numbers = self._left(first)
        with WriteBehind() as writer:
            frames = read_ahead(self._frames.read, numbers)
            for number, (frame, sharpness), (field, slow) in zip(numbers, frames, fields_of, strict=True):
                image, valid = apply_field(frame, field, ctx.config.interpolation.name, ctx.backend)
                others = {"slow_motion": slow}
                writer.submit(product.write_image, number, sharpness, image, valid, others, None)
                self._progress(number + 1)

    def _left(self, first: int) -> range:
        count = len(self._frames)
        if first < count or self._before + count == self._total:
            self._progress(first)
        return range(first, count)

    def _progress(self, done: int) -> None:
        self._ctx.progress(self._before + done, self._total)


def _untouched(frame: np.ndarray, product: DestretchedWriter) -> DestretchResult:
    """A frame for which there are no shifts."""
    none = no_shifts(product.kernels, product.shape)
    zeros = np.zeros(len(none))
    valid = np.zeros(product.shape, bool)
    return DestretchResult(
        frame,
        none,
        np.zeros((2, *product.shape), np.float32),
        valid,
        zeros,
        zeros,
        np.nan,
        np.nan,
        Match.unlike,
    )


def _make_reference(product: DestretchedWriter, count: int) -> None:
    """Mean of the first pass, kept for the second."""
    good = np.flatnonzero(product.match[:count] >= Match.good)
    product.writer.write("reference", mean_frame(read_ahead(product.masked, [int(n) for n in good])))
    product.writer.mark((), "reference_made")


def _last_known(product: DestretchedWriter, first: int) -> int:
    """The row to go on with: frames that were not matched count for the one after them."""
    matches, begin = product.match, first
    while begin > 0 and matches[begin - 1] == Match.unlike:
        begin -= 1
    return begin if any(product.live(n) for n in range(begin, first)) else first
