"""The product of the destretch: its datasets, and the figures of a frame that go with the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillsun.core.destretch import DestretchResult, displacement_field
from stillsun.core.flows import motion_lattice
from stillsun.core.quality import frame_change, frame_quality
from stillsun.core.tiles import lattice
from stillsun.io.store import Field, StoreWriter

#: Rows of which the first pass is done, and those of which the shifts are measured.
FIRST_PASS = "first_pass"
SOLVED = "solved"


class Destretched:
    """
    The product while it is made.

    Parameters
    ----------
    store : StoreWriter
        Store with the datasets of `fields`.
    shape : tuple of int
        Rows and columns of an oriented frame.
    kernels : sequence of int
        Checked kernels.
    """

    def __init__(self, store: StoreWriter, shape: tuple[int, int], kernels: Sequence[int]) -> None:
        self.store = store
        self.shape = shape
        self.kernels = tuple(kernels)
        self._last: tuple[int, np.ndarray] | None = None  # the frame that was written last, inner part

    def first(self, ledger: str | None = None) -> int:
        """First row that a pass has not done; `ledger` as for `mark`."""
        done = self.store.done() if ledger is None else self.store.read(ledger).astype(bool)
        return done.size if done.all() else int(np.argmin(done))

    def mark(self, number: int, ledger: str | None = None) -> None:
        """Mark a row as done by a pass: `FIRST_PASS`, `SOLVED`, or the last one."""
        self.store.mark(number, *([] if ledger is None else [ledger]))

    def live(self, number: int) -> bool:
        """The frame has a displacement."""
        return bool(self.store.read("valid", number).any())

    def masked(self, number: int) -> np.ndarray:
        """Corrected frame, (rows, columns) float32, NaN where invalid."""
        valid = self.store.read("valid", number).astype(bool)
        return np.where(valid, self.store.read("image", number), np.float32(np.nan))

    def field(self, number: int, backend: Any) -> Any:
        """Displacement that a frame's shifts add up to, (2, rows, columns) on the backend."""
        return backend.asarray(displacement_field(self.shifts(number), self.kernels, self.shape, backend))

    def shifts(self, number: int) -> list[np.ndarray]:
        """Shifts of a frame, one array a kernel."""
        return [self.store.read(name, number) for name in shift_names(self.kernels)]

    def write_result(
        self,
        number: int,
        sharpness: float,
        result: DestretchResult,
        others: dict[str, Any],
        ledger: str | None,
    ) -> None:
        """Write and mark what was measured of a frame of a given sharpness, and other values."""
        values = {
            **others,
            "rms_px": result.rms,
            "repaired": result.repaired,
            "residual_px": result.residual,
            "likeness": result.likeness,
            "match": int(result.match),
            **dict(zip(shift_names(self.kernels), result.shifts, strict=True)),
        }
        self.write_image(number, sharpness, result.image, result.valid, values, ledger)

    def write_image(
        self,
        number: int,
        sharpness: float,
        image: np.ndarray,
        valid: np.ndarray,
        others: dict[str, Any],
        ledger: str | None,
    ) -> None:
        """Write and mark a corrected frame with its figures, and other values."""
        inner = centre(image)
        _, after = frame_quality(inner[None], backend="numpy")
        values = {
            "image": image,
            "valid": valid.view(np.uint8),  # HDF5 takes long over truth values
            "sharpness_before": sharpness,
            "sharpness_after": after[0],
            "change_px": self._change(number, inner, bool(valid.any())),
            **others,
        }
        for name, value in values.items():
            self.store.write(name, value, row=number)
        self.mark(number, ledger)

    def _change(self, number: int, inner: np.ndarray, live: bool) -> float:
        if not live:
            return float("nan")
        before = self._last
        if before is None or before[0] != number - 1:
            # After an interruption; or frames without structure lie between.
            earlier = next((n for n in range(number - 1, -1, -1) if self.live(n)), None)
            if earlier is None:
                before = None
            elif before is None or before[0] != earlier:
                before = earlier, centre(self.store.read("image", earlier))
        self._last = number, inner
        return float("nan") if before is None else frame_change(before[1], inner)


def centre(image: np.ndarray) -> np.ndarray:
    """The inner three quarters of each side: no border of a reconstruction."""
    rows, columns = image.shape
    return np.ascontiguousarray(image[rows // 8 : rows - rows // 8, columns // 8 : columns - columns // 8])


def shift_names(kernels: Sequence[int]) -> list[str]:
    """Dataset of each kernel; one that is used again is numbered."""
    return [
        f"shifts_{kernel}" if kernel not in kernels[:place] else f"shifts_{kernel}_{place}"
        for place, kernel in enumerate(kernels)
    ]


def fields(
    shape: tuple[int, int], kernels: Sequence[int], two_pass: bool, keep_flows: bool, following: bool = False
) -> dict[str, Field]:
    """Datasets of the product."""
    meaning = "shift (y, x) by which content was moved, of "
    shifts = {
        name: Field((2,), "float32", "px", f"{meaning}the whole frame")
        if kernel == 0
        else Field((2, *lattice(shape, kernel).count), "float32", "px", f"{meaning}each tile of {kernel} px")
        for name, kernel in zip(shift_names(kernels), kernels, strict=True)
    }
    each = (len(kernels),)
    passes = {
        FIRST_PASS: Field((), "uint8", "", "1: the frame went into the reference", ledger=True),
        "reference": Field(shape, "float32", "DN", "mean of the first pass", stack=False),
        "reference_made": Field((), "uint8", "", "1: the reference is complete", False, ledger=True),
    }
    slow = {
        SOLVED: Field((), "uint8", "", "1: shifts are measured", ledger=True),
        "slow_motion": Field(
            (2, *motion_lattice(shape).count),
            "float32",
            "px",
            "slow part of the displacement (y, x), left in the image; one value for 8 x 8 pixels",
        ),
    }
    followed = {
        "followed": Field(
            (), "int64", "index", "row of the reference channel whose shifts these are; -1: none"
        )
    }
    return {
        "image": Field(shape, "float32", "DN", "destretched image, oriented"),
        "valid": Field(shape, "uint8", "", "1: the pixel comes from the valid part of the frame"),
        **shifts,
        **(passes if two_pass else {}),
        **(slow if keep_flows else {}),
        **(followed if following else {}),
        "rms_px": Field(each, "float64", "px", "rms length of the shifts of each kernel"),
        "repaired": Field(each, "float64", "", "share of tiles replaced by their neighbours, each kernel"),
        "residual_px": Field((), "float64", "px", "rms length of what remains against the reference"),
        "likeness": Field(
            (), "float64", "", "to the reference: correlation, less where one has more detail; 1: the same"
        ),
        "match": Field(
            (),
            "uint8",
            "",
            "0: unlike the reference, moved as the frames before; 1: matched, but of little detail, kept out "
            "of the reference; 2: good; 3: good, the reference begins with it",
        ),
        "sharpness_before": Field((), "float64", "1/px", "rms gradient over mean, inner part, before"),
        "sharpness_after": Field((), "float64", "1/px", "rms gradient over mean, inner part, after"),
        "change_px": Field(
            (), "float64", "px", "change since the frame before over the gradient, inner part: as a shift"
        ),
    }
