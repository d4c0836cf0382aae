"""Options of the stage destretch: frames without the seeing's distortion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


class ReferenceKind(Enum):
    """What destretch matches to."""

    running = "running"
    fixed = "fixed"
    two_pass = "two_pass"


class Interpolation(Enum):
    """Final interpolation of destretch."""

    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos4 = "lanczos4"


@dataclass
class DestretchConfig:
    """Frame series without the seeing's distortion."""

    kernels: list[int] = opt(
        lambda: [0, 128, 64, 32, 12],
        "subfield sides from large to small; 0: the whole frame first",
        unit="px",
        ge=0,
    )
    reference: ReferenceKind = opt(
        ReferenceKind.running,
        "running: mean of the last frames; fixed: one frame; two_pass: mean of all frames of a first pass",
    )
    window: int = opt(
        10,
        "frames in the running mean, of a first pass too; fewer if they would span more than a minute",
        unit="frames",
        ge=1,
    )
    reference_frame: int | None = opt(
        None, "number of the fixed reference frame; the one of highest quality by default", unit="index", ge=0
    )
    repair_tolerance: float = opt(
        0.5, "largest believable shift, of the subfield's side", unit="1", gt=0, le=1
    )
    preserve_flows: bool = opt(
        True,
        "keep solar motion slower than a minute or two, remove seeing only; false: hold the Sun itself "
        "still, as far as its pattern lasts",
    )
    interpolation: Interpolation = opt(Interpolation.lanczos4, "final interpolation")
    follow_reference: bool = opt(
        False,
        "take the reference channel's shifts of the same time, carried by the target images, instead of "
        "measuring; the reference channel itself always measures",
    )
