"""The scale of the oriented frames, and how the whole field moved through a sequence."""

from __future__ import annotations

import numpy as np

from stillsun.io.store import StoreReader
from stillsun.stages._destretched import shift_names
from stillsun.stages.base import StageContext


def field_motion(destretch: StoreReader) -> np.ndarray:
    """
    Shift by which destretch brought each frame as a whole onto its reference.

    Parameters
    ----------
    destretch : StoreReader
        The product of destretch.

    Returns
    -------
    numpy.ndarray, shape (n, 2)
        (x, y) in pixels of the oriented frame: content of the frame moved by so much. It is the sum over
        the kernels of the shift of each, averaged over its tiles.
    """
    names = shift_names([int(k) for k in np.atleast_1d(destretch.attributes["kernels"])])
    shifts = [np.asarray(destretch.read(name), dtype=np.float64) for name in names]
    return np.sum([s.reshape(*s.shape[:2], -1).mean(axis=-1)[:, ::-1] for s in shifts], axis=0)


def plate_scale(ctx: StageContext) -> tuple[float, float]:
    """
    Plate scale of the channel's oriented frames.

    Parameters
    ----------
    ctx : StageContext
        Context with the product ``calibration``.

    Returns
    -------
    tuple of float
        Along (x, y), arcsec per pixel.
    """
    return ctx.orientation.plate_scale(ctx.inputs["calibration"].read("plate_scale"))
