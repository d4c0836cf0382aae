"""The images after destretch, and the displacement that made them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from stillsun.products.base import Column, Stack, StoreProduct, Value

#: Parts: of a destretch in two passes, that preserves flows, that follows the reference channel.
TWO_PASS, FLOWS, FOLLOWED = "two_pass", "flows", "followed"
_FRAME = ("rows", "columns")


class Destretched(StoreProduct):
    """What the stage destretch makes; beside the datasets below, the shifts of each kernel."""

    name = "destretch"

    image = Stack("float32", "DN", "destretched image, oriented", _FRAME)
    valid = Stack("uint8", "", "1: the pixel comes from the valid part of the frame", _FRAME)
    first_pass = Column("uint8", "", "1: the frame went into the reference", when=TWO_PASS, ledger=True)
    reference = Value("float32", "DN", "mean of the first pass", _FRAME, when=TWO_PASS)
    reference_made = Value("uint8", "", "1: the reference is complete", when=TWO_PASS, ledger=True)
    solved = Column("uint8", "", "1: shifts are measured", when=FLOWS, ledger=True)
    slow_motion = Stack(
        "float32",
        "px",
        "slow part of the displacement (y, x), left in the image; one value for 8 x 8 pixels",
        (2, "slow_rows", "slow_columns"),
        when=FLOWS,
    )
    followed = Column(
        "int64", "index", "row of the reference channel whose shifts these are; -1: none", when=FOLLOWED
    )
    rms_px = Column("float64", "px", "rms length of the shifts of each kernel", ("kernels",))
    repaired = Column("float64", "", "share of tiles replaced by their neighbours, each kernel", ("kernels",))
    residual_px = Column("float64", "px", "rms length of what remains against the reference")
    likeness = Column(
        "float64", "", "to the reference: correlation, less where one has more detail; 1: the same"
    )
    match = Column(
        "uint8",
        "",
        "0: unlike the reference, moved as the frames before; 1: matched, but of little detail, kept out "
        "of the reference; 2: good; 3: good, the reference begins with it",
    )
    sharpness_before = Column("float64", "1/px", "rms gradient over mean, inner part, before")
    sharpness_after = Column("float64", "1/px", "rms gradient over mean, inner part, after")
    change_px = Column(
        "float64", "px", "change since the frame before over the gradient, inner part: as a shift"
    )

    @cached_property
    def kernels(self) -> tuple[int, ...]:
        """Sides of the tiles, in the order of the shifts; 0 for the whole frame."""
        return tuple(int(k) for k in np.atleast_1d(self.attributes["kernels"]))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        rows, columns = self.image.shape[1:]
        return rows, columns

    def shifts(self, number: int | None = None) -> list[np.ndarray]:
        """Shifts of a frame, one array a kernel; without a number, of all frames."""
        return [self.store.read(name, number) for name in shift_names(self.kernels)]

    def live(self, number: int) -> bool:
        """The frame has a displacement."""
        return bool(self.valid(number).any())

    def masked(self, number: int) -> np.ndarray:
        """The image, (rows, columns) float32, NaN where it is not valid."""
        return np.where(self.valid(number).astype(bool), self.image(number), np.float32(np.nan))

    def displacement(self, number: int, backend: Any) -> Any:
        """What a frame's shifts add up to, (2, rows, columns) on the backend; flows that stay included."""
        from stillsun.core.destretch import displacement_field

        return backend.asarray(displacement_field(self.shifts(number), self.kernels, self.shape, backend))

    def correction(self, number: int, backend: Any) -> Any:
        """By what a frame was moved, (2, rows, columns) on the backend: flows that stay left out."""
        from stillsun.core.flows import seeing_field

        field = self.displacement(number, backend)
        slow = self.slow_motion
        return field if slow is None else seeing_field(field, slow(number), backend)

    @property
    def motion(self) -> np.ndarray:
        """
        Shift (x, y) by which destretch brought each frame as a whole onto its reference, pixels.

        (frames, 2) float64: the sum over the kernels of the shift of each, averaged over its tiles.
        """
        means = [np.asarray(s, np.float64).reshape(*s.shape[:2], -1).mean(axis=-1) for s in self.shifts()]
        return np.sum([mean[:, ::-1] for mean in means], axis=0)


def shift_names(kernels: Sequence[int]) -> list[str]:
    """Dataset of each kernel; one that is used again is numbered."""
    return [
        f"shifts_{kernel}" if kernel not in kernels[:place] else f"shifts_{kernel}_{place}"
        for place, kernel in enumerate(kernels)
    ]
