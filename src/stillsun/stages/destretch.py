"""Stage destretch: reconstructed frames, oriented and without the seeing's distortion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stillsun.config.schema import DestretchConfig, ReferenceKind
from stillsun.core._solve import no_shifts
from stillsun.core.destretch import Destretcher, DestretchResult
from stillsun.core.flows import Follower, sample_motion
from stillsun.core.orient import Orientation
from stillsun.core.quality import frame_quality
from stillsun.core.reference import FixedReference, Reference, RunningReference, mean_frame
from stillsun.core.series import apply_field, remove_seeing
from stillsun.core.tiles import check_kernels
from stillsun.errors import ConfigError
from stillsun.io.store import StoreReader
from stillsun.stages._beside import WriteBehind, read_ahead
from stillsun.stages._destretched import FIRST_PASS, SOLVED, Destretched, centre, fields
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
        Context; reads ``speckle``, and of ``bursts`` the times where flows are kept; to follow the reference
        channel also its ``bursts``, ``calibration`` and ``destretch``, and the channel's ``calibration``.

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
    frames = _Frames(ctx.inputs["speckle"], ctx.orientation)
    kernels = check_kernels(config.kernels)
    two_pass, keep = config.reference is ReferenceKind.two_pass, config.preserve_flows
    attributes: dict[str, Any] = {"kernels": list(kernels), "reference": config.reference.name}
    reference: Reference = RunningReference(config.window, ctx.backend)
    following: Following | None = None
    if frames.store.attributes.get("destretched"):
        ctx.note("the frames are destretched already and stay as they are")
        kernels, two_pass, keep, reference = (0,), False, False, _Nothing()
        attributes = {"kernels": list(kernels), "reference": "none"}
    elif follows(config, ctx.is_reference):
        two_pass = keep = False
        following = Following(ctx, frames.shape, kernels)
        attributes["reference"] = "followed"
    elif config.reference is ReferenceKind.fixed:
        number = _reference_frame(config.reference_frame, frames.store)
        attributes["reference_frame"] = number
        reference = FixedReference(frames.read(number)[0], ctx.backend)
    datasets = fields(frames.shape, kernels, two_pass, keep, following is not None)
    with ctx.create(len(frames), datasets, attributes) as store:
        product = Destretched(store, frames.shape, kernels)
        passes = _Passes(ctx, frames, product, 1 + two_pass + keep)
        if two_pass:
            if not store.read("reference_made"):
                passes.solve(reference, FIRST_PASS)
                _make_reference(product, len(frames))
            passes.skip()
            reference = FixedReference(store.read("reference"), ctx.backend)
        if following is None:
            passes.solve(reference, SOLVED if keep else None, follow=keep)
        else:
            passes.solve(reference, None, following=following)
        if keep:
            passes.keep_flows()
        empty = [n for n in range(len(frames)) if not product.live(n)]
    if empty:
        what = "any structure" if following is None else "shifts of the reference channel, or any structure,"
        ctx.note(f"frames without {what} were left as they are: {', '.join(map(str, empty))}")


class _Frames:
    """Frames before destretch, turned as the channel's orientation says."""

    def __init__(self, store: StoreReader, orientation: Orientation) -> None:
        self.store = store
        self._orientation = orientation
        rows, columns = self._orientation.shape(store.shape("image")[1:])
        self.shape = (rows, columns)

    def __len__(self) -> int:
        return self.store.rows

    def read(self, number: int) -> tuple[np.ndarray, float]:
        """One frame, (rows, columns) float32, and its sharpness."""
        frame = np.ascontiguousarray(self._orientation.apply(self.store.read("image", number)))
        return frame, float(frame_quality(centre(frame)[None], backend="numpy")[1][0])


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

    def __init__(self, ctx: StageContext, frames: _Frames, product: Destretched, count: int) -> None:
        self._ctx, self._frames, self._product = ctx, frames, product
        self._total = count * len(frames)
        self._before = 0  # frames of earlier passes

    def skip(self) -> None:
        """Count a pass as done."""
        self._before += len(self._frames)

    def solve(
        self,
        reference: Reference,
        ledger: str | None,
        follow: bool = False,
        following: Following | None = None,
    ) -> None:
        """
        Measure every frame, or take what another channel measured.

        If another pass follows, what is stored as image serves references only.
        """
        ctx, product, config = self._ctx, self._product, self._ctx.config
        count, first = len(self._frames), product.first(ledger)
        running = isinstance(reference, RunningReference)
        follower = Follower() if follow and running else None
        if first < count and running:
            reference.restore(_remembered(product, first, config.window))
        if first < count and follower is not None:
            for number in range(first):
                if product.live(number):
                    follower.update(sample_motion(product.field(number, ctx.backend), ctx.backend)[0])
        stream = Destretcher(
            reference,
            product.kernels,
            config.repair_tolerance,
            config.interpolation.name,
            follower,
            ctx.backend,
        )
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
                    result = replace(result, image=frame)
                writer.submit(product.write_result, number, sharpness, result, others, ledger)
                self._progress(number + 1)
        if ledger == SOLVED:
            self.skip()

    def keep_flows(self) -> None:
        """Take only the seeing out of every frame."""
        ctx, product = self._ctx, self._product
        count, first = len(self._frames), product.first()
        fields_of = remove_seeing(
            lambda n: product.field(n, ctx.backend),
            ctx.inputs["bursts"].read("time_avg"),
            [product.live(n) for n in range(count)],
            first=first,
            backend=ctx.backend,
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


def _untouched(frame: np.ndarray, product: Destretched) -> DestretchResult:
    """A frame for which there are no shifts."""
    none = no_shifts(product.kernels, product.shape)
    zeros = np.zeros(len(none))
    valid = np.zeros(product.shape, bool)
    return DestretchResult(
        frame, none, np.zeros((2, *product.shape), np.float32), valid, zeros, zeros, np.nan
    )


def _reference_frame(number: int | None, store: StoreReader) -> int:
    """The frame asked for, or the clearest: by Fried parameter where it is known, else by sharpness."""
    if number is not None:
        if number >= store.rows:
            raise ConfigError(
                "destretch.reference_frame: no such frame", expected=f"0 to {store.rows - 1}", found=number
            )
        return number
    for name in ("r0", "sharpness"):
        values = store.read(name)
        if np.isfinite(values).any():
            return int(np.nanargmax(values))
    return 0


def _make_reference(product: Destretched, count: int) -> None:
    """Mean of the first pass, kept for the second."""
    store = product.store
    store.write("reference", mean_frame(read_ahead(product.masked, range(count))))
    store.mark((), "reference_made")


def _remembered(product: Destretched, stop: int, window: int) -> np.ndarray:
    """The last corrected frames before `stop`, NaN where invalid, the oldest first."""
    kept: list[np.ndarray] = []
    for number in range(stop - 1, -1, -1):
        if len(kept) == window:
            break
        if product.live(number):
            kept.append(product.masked(number))
    return np.stack(kept[::-1]) if kept else np.empty((0, *product.shape), np.float32)
