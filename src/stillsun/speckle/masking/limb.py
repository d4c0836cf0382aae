"""Sky off the limb: where hardly any light comes from, the mean image stands."""

from __future__ import annotations

from typing import Any

from stillsun.core.backend import Backend
from stillsun.speckle.masking.prepare import PreparedBurst
from stillsun.speckle.stack import tile_aligned_mean

# All of the frame's brightest part: where it is darker than this somewhere there is sky in it; then the mean
# image stands below the second, and not above the third.
_SKY = 0.05
_DARK = (0.05, 0.09)


def with_dark_sky(image: Any, surface: Any, prepared: PreparedBurst, backend: Backend) -> Any:
    """
    An image whose sky is that of the tile-aligned mean.

    Parameters
    ----------
    image : array
        Reconstructed frame, mean 1, (rows, columns) float32.
    surface : array
        Its smooth background, likewise.
    prepared : PreparedBurst
        The burst.
    backend : Backend
        Where the arrays are.

    Returns
    -------
    array
        (rows, columns) float32; the same one where there is no sky in the frame.

    Notes
    -----
    A subfield across the limb is ruled by the edge, and what is wrong with it by a hundredth is more than
    the light of the sky. There is nothing in the sky that the mean image does not show.
    """
    xp = backend.xp
    bright = float(surface.max())
    if not bright > 0 or float(surface.min()) >= _SKY * bright:
        return image
    mean = backend.asarray(tile_aligned_mean(prepared.frames, backend=backend).image / prepared.level)
    share = xp.clip((mean / bright - _DARK[0]) / (_DARK[1] - _DARK[0]), 0, 1)
    return (mean + share * (image - mean)).astype(image.dtype)
