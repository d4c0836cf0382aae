"""The product of destretch while it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillsun.core.destretch import DestretchResult
from stillsun.core.flows import motion_lattice
from stillsun.core.quality import frame_change, frame_quality
from stillsun.core.tiles import lattice
from stillsun.io.store import Field, StoreReader, StoreWriter
from stillsun.products.destretched import Destretched, shift_names

#: Rows of which the first pass is done, and those of which the shifts are measured.
FIRST_PASS, SOLVED = "first_pass", "solved"
_SHIFT = "shift (y, x) by which content was moved, of "


def fields(shape: tuple[int, int], kernels: Sequence[int], *parts: str) -> dict[str, Field]:
    """Datasets of a product with these kernels, the shifts behind image and mask."""
    slow = motion_lattice(shape).count
    declared = Destretched.fields(
        *parts,
        rows=shape[0],
        columns=shape[1],
        kernels=len(kernels),
        slow_rows=slow[0],
        slow_columns=slow[1],
    )
    shifts = {
        name: Field((2,), "float32", "px", f"{_SHIFT}the whole frame")
        if kernel == 0
        else Field((2, *lattice(shape, kernel).count), "float32", "px", f"{_SHIFT}each tile of {kernel} px")
        for name, kernel in zip(shift_names(kernels), kernels, strict=True)
    }
    first = ("image", "valid")
    return {n: declared.pop(n) for n in first} | shifts | declared


def inner(image: np.ndarray) -> np.ndarray:
    """The inner three quarters of each side: no border of a reconstruction."""
    rows, columns = image.shape
    return np.ascontiguousarray(image[rows // 8 : rows - rows // 8, columns // 8 : columns - columns // 8])


class DestretchedWriter(Destretched):
    """The product while it is made."""

    def __init__(self, store: StoreWriter) -> None:
        super().__init__(store.path.parent.parent, store.path.parent.name)
        self._store: StoreReader | None = store
        self.writer = store
        self._last: tuple[int, np.ndarray] | None = None  # the frame that was written last, inner part

    def first(self, ledger: str | None = None) -> int:
        """First row that a pass has not done; `ledger` as for `mark`."""
        done = self.writer.done() if ledger is None else getattr(self, ledger).astype(bool)
        return done.size if done.all() else int(np.argmin(done))

    def mark(self, number: int, ledger: str | None = None) -> None:
        """Mark a row as done by a pass: `FIRST_PASS`, `SOLVED`, or the last one."""
        self.writer.mark(number, *([] if ledger is None else [ledger]))

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
        middle = inner(image)
        _, after = frame_quality(middle[None], backend="numpy")
        values = {
            "image": image,
            "valid": valid.view(np.uint8),  # HDF5 takes long over truth values
            "sharpness_before": sharpness,
            "sharpness_after": after[0],
            "change_px": self._change(number, middle, bool(valid.any())),
            **others,
        }
        for name, value in values.items():
            self.writer.write(name, value, row=number)
        self.mark(number, ledger)

    def _change(self, number: int, middle: np.ndarray, live: bool) -> float:
        if not live:
            return float("nan")
        before = self._last
        if before is None or before[0] != number - 1:
            # After an interruption; or frames without structure lie between.
            earlier = next((n for n in range(number - 1, -1, -1) if self.live(n)), None)
            if earlier is None:
                before = None
            elif before is None or before[0] != earlier:
                before = earlier, inner(self.image(earlier))
        self._last = number, middle
        return float("nan") if before is None else frame_change(before[1], middle)
