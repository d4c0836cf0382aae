"""Stage destretch: reconstructed frames, oriented and without the seeing's distortion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillsun.config.schema import DestretchConfig, ReferenceKind
from stillsun.core.destretch import Destretcher, DestretchResult, displacement_field
from stillsun.core.flows import Follower, motion_lattice, sample_motion
from stillsun.core.orient import Orientation
from stillsun.core.quality import frame_quality
from stillsun.core.reference import FixedReference, Reference, RunningReference
from stillsun.core.series import apply_field, remove_seeing
from stillsun.core.tiles import check_kernels, lattice
from stillsun.errors import ConfigError
from stillsun.io.store import StoreReader, StoreWriter
from stillsun.stages.base import Field, Stage, StageContext


def run(ctx: StageContext) -> None:
    """
    Destretch the frames in the order of time.

    Rows that an earlier run completed are kept; the reference is rebuilt from them, so that an
    interrupted sequence gives the same bytes as an uninterrupted one.

    Parameters
    ----------
    ctx : StageContext
        Context; reads ``speckle``, and of ``bursts`` the times where flows are kept.

    Raises
    ------
    ConfigError
        If the kernels cannot be used, or there is no such reference frame.
    InputError
        If the reference frame is constant.
    """
    config: DestretchConfig = ctx.config
    frames = _Frames(ctx.inputs["speckle"], ctx.settings.orientation)
    kernels = check_kernels(config.kernels)
    reference: Reference
    attributes: dict[str, Any] = {"kernels": list(kernels), "reference": config.reference.name}
    if config.reference is ReferenceKind.fixed:
        number = _reference_frame(config.reference_frame, frames.store)
        attributes["reference_frame"] = number
        reference = FixedReference(frames.read(number), ctx.backend)
    else:
        reference = RunningReference(config.window, ctx.backend)
    keep = config.preserve_flows
    with ctx.create(len(frames), _fields(frames.shape, kernels, keep), attributes) as store:
        _solve(ctx, store, frames, reference, kernels)
        if keep:
            _keep_flows(ctx, store, frames, kernels)
        empty = [n for n in range(len(frames)) if not store.read("valid", n).any()]
    if empty:
        ctx.note(f"frames without any structure were left as they are: {', '.join(map(str, empty))}")


def _solve(
    ctx: StageContext, store: StoreWriter, frames: _Frames, reference: Reference, kernels: tuple[int, ...]
) -> None:
    """Measure every frame. Where flows are kept, what is stored as image serves the reference only."""
    config: DestretchConfig = ctx.config
    keep = config.preserve_flows
    passes = len(frames) * (1 + keep)
    solved = store.read("solved").astype(bool) if keep else store.done()
    first = len(frames) if solved.all() else int(np.argmin(solved))
    follower = Follower() if keep and isinstance(reference, RunningReference) else None
    if first < len(frames):
        if isinstance(reference, RunningReference):
            reference.restore(_remembered(store, first, config.window, frames.shape))
        if follower is not None:
            for number in range(first):
                if store.read("valid", number).any():
                    follower.update(
                        sample_motion(_field(ctx, store, number, frames.shape, kernels), ctx.backend)[0]
                    )
    stream = Destretcher(
        reference, kernels, config.repair_tolerance, config.interpolation.name, follower, ctx.backend
    )
    ctx.progress(first, passes)
    for number in range(first, len(frames)):
        frame = frames.read(number)
        _write(store, number, frame, stream.push(frame), kernels)
        if keep:
            store.write("solved", 1, row=number)
        else:
            store.mark(number)
        ctx.progress(number + 1, passes)


def _keep_flows(ctx: StageContext, store: StoreWriter, frames: _Frames, kernels: tuple[int, ...]) -> None:
    """Second pass: take only the seeing out of every frame."""
    count = len(frames)
    done = store.done()
    first = count if done.all() else int(np.argmin(done))
    times = ctx.inputs["bursts"].read("time_avg")
    good = [bool(store.read("valid", n).any()) for n in range(count)]
    fields = remove_seeing(
        lambda n: _field(ctx, store, n, frames.shape, kernels),
        times,
        good,
        first=first,
        backend=ctx.backend,
    )
    for number, (field, slow) in enumerate(fields, start=first):
        frame = frames.read(number)
        image, valid = apply_field(frame, field, ctx.config.interpolation.name, ctx.backend)
        values = {"image": image, "valid": valid, "slow_motion": slow, **_sharpness(frame, image)}
        for name, value in values.items():
            store.write(name, value, row=number)
        store.mark(number)
        ctx.progress(count + number + 1, 2 * count)


def _field(
    ctx: StageContext, store: StoreReader, number: int, shape: tuple[int, int], kernels: tuple[int, ...]
) -> Any:
    shifts = [store.read(name, number) for name in _names(kernels)]
    return ctx.backend.asarray(displacement_field(shifts, kernels, shape, ctx.backend))


class _Frames:
    """Frames before destretch, turned as the channel's orientation says."""

    def __init__(self, store: StoreReader, steps: Sequence[Any]) -> None:
        self.store = store
        self._orientation = Orientation.from_steps([step.value for step in steps])
        rows, columns = self._orientation.shape(store.shape("image")[1:])
        self.shape = (rows, columns)

    def __len__(self) -> int:
        return self.store.rows

    def read(self, number: int) -> np.ndarray:
        """One frame, (rows, columns) float32."""
        return np.ascontiguousarray(self._orientation.apply(self.store.read("image", number)))


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


def _remembered(store: StoreWriter, stop: int, window: int, shape: tuple[int, int]) -> np.ndarray:
    """The last corrected frames before `stop`, NaN where invalid, the oldest first."""
    kept: list[np.ndarray] = []
    for number in range(stop - 1, -1, -1):
        if len(kept) == window:
            break
        valid = store.read("valid", number).astype(bool)
        if valid.any():
            kept.append(np.where(valid, store.read("image", number), np.float32(np.nan)))
    return np.stack(kept[::-1]) if kept else np.empty((0, *shape), np.float32)


def _names(kernels: Sequence[int]) -> list[str]:
    """Dataset of each kernel; one that is used again is numbered."""
    return [
        f"shifts_{kernel}" if kernel not in kernels[:place] else f"shifts_{kernel}_{place}"
        for place, kernel in enumerate(kernels)
    ]


def _write(
    store: StoreWriter, number: int, frame: np.ndarray, result: DestretchResult, kernels: Sequence[int]
) -> None:
    values: dict[str, Any] = {
        "image": result.image,
        "valid": result.valid,
        "rms_px": result.rms,
        "repaired": result.repaired,
        "residual_px": result.residual,
        **_sharpness(frame, result.image),
        **dict(zip(_names(kernels), result.shifts, strict=True)),
    }
    for name, value in values.items():
        store.write(name, value, row=number)


def _sharpness(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    _, values = frame_quality(_centre(np.stack([before, after])), backend="numpy")
    return {"sharpness_before": values[0], "sharpness_after": values[1]}


def _centre(frames: np.ndarray) -> np.ndarray:
    """The inner three quarters of each side: no border of a reconstruction."""
    rows, columns = frames.shape[1:]
    return np.ascontiguousarray(
        frames[:, rows // 8 : rows - rows // 8, columns // 8 : columns - columns // 8]
    )


def _fields(shape: tuple[int, int], kernels: Sequence[int], keep_flows: bool) -> dict[str, Field]:
    meaning = "shift (y, x) by which content was moved, of "
    shifts = {
        name: Field((2,), "float32", "px", f"{meaning}the whole frame")
        if kernel == 0
        else Field((2, *lattice(shape, kernel).count), "float32", "px", f"{meaning}each tile of {kernel} px")
        for name, kernel in zip(_names(kernels), kernels, strict=True)
    }
    each = (len(kernels),)
    slow = {
        "solved": Field((), "uint8", "", "1: shifts are measured"),
        "slow_motion": Field(
            (2, *motion_lattice(shape).count),
            "float32",
            "px",
            "slow part of the displacement (y, x), left in the image; one value for 8 x 8 pixels",
        ),
    }
    return {
        "image": Field(shape, "float32", "DN", "destretched image, oriented"),
        "valid": Field(shape, "uint8", "", "1: the pixel comes from the valid part of the frame"),
        **shifts,
        **(slow if keep_flows else {}),
        "rms_px": Field(each, "float64", "px", "rms length of the shifts of each kernel"),
        "repaired": Field(each, "float64", "", "share of tiles replaced by their neighbours, each kernel"),
        "residual_px": Field((), "float64", "px", "rms length of what remains against the reference"),
        "sharpness_before": Field((), "float64", "1/px", "rms gradient over mean, inner part, before"),
        "sharpness_after": Field((), "float64", "1/px", "rms gradient over mean, inner part, after"),
    }


STAGE = Stage(
    "destretch",
    1,
    run,
    writes="destretch",
    reads=("bursts", "speckle"),
    settings=("orientation",),
)
