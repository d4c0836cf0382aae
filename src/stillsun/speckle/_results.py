"""Output files of one burst, in the external program's form, from what the open reconstruction returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.speckle.engine import Reconstruction


def write_results(base: Path, result: Reconstruction, diameter: float) -> None:
    """
    Write the output files of a burst; each has its name only when it is complete, ``.final`` last.

    Parameters
    ----------
    base : Path
        Output path of the burst without suffix.
    result : Reconstruction
        Its image, Fried parameters, tracking and subfields.
    diameter : float
        Telescope diameter, metres: the unit of the Fried parameters in ``.subalpha``.

    Notes
    -----
    Native float32, x before y in the order of subfields (SSOSoft manual, 2025-10-14, section 4); the
    subfields themselves are stored like the image, row by row.
    """
    assert result.r0_map is not None
    assert result.shifts is not None
    assert result.subfields is not None
    local = result.r0_map.T / diameter
    _write(base, ".ct", result.shifts[:, ::-1].transpose(0, 1, 3, 2))
    _write(base, ".subalpha", np.stack([np.full_like(local, result.r0 / diameter), local]))
    _write(base, ".subrec", result.subfields.images.swapaxes(0, 1))
    _write(base, ".subamp", result.subfields.amplitudes.swapaxes(0, 1))
    _write(base, ".subrsr", result.subfields.ratio.swapaxes(0, 1))
    _write(base, ".final", result.image)


def _write(base: Path, suffix: str, values: np.ndarray) -> None:
    path = base.with_name(base.name + suffix)
    part = path.with_name(path.name + ".part")
    part.write_bytes(np.ascontiguousarray(values, dtype=np.float32).data)
    part.replace(path)
