"""Image motion that differs over the field: what tracking a subfield as a whole leaves within it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillsun.speckle.masking.geometry import Lattice
from stillsun.speckle.masking.subfield import SubfieldResult


def motion_gradient(results: Sequence[SubfieldResult], lattice: Lattice) -> float:
    """
    Mean square gradient of the image motion, from the tracking of neighbouring subfields.

    Parameters
    ----------
    results : sequence of SubfieldResult
        The subfields, row by row.
    lattice : Lattice
        Where they lie.

    Returns
    -------
    float
        Variance of the difference in motion between two places, mean of both components, over the square of
        their distance, pixels per pixel; 0 where no two subfields lie inside the frame.

    Notes
    -----
    High layers move places in the field differently. Over a few arcsec, much less than the telescope's
    diameter at the layer, the motion's structure function is that of a gradient. The median of all pairs
    leaves out subfields without structure, which cannot be tracked.
    """
    tracks = np.stack([r.shifts + r.residual for r in results])
    tracks = tracks.reshape(*lattice.counts, *tracks.shape[1:])
    inner = lattice.inner
    found = []
    for axis, starts in enumerate((lattice.rows, lattice.columns)):
        first, second = (np.moveaxis(a, axis, 0) for a in (tracks, inner))
        both = second[1:] & second[:-1]
        difference = (first[1:] - first[:-1]) / np.diff(starts)[:, None, None, None]
        found.append(difference.var(axis=2).mean(axis=2)[both])
    pairs = np.concatenate(found)
    return float(np.median(pairs)) if len(pairs) else 0.0
