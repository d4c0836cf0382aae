"""Single pictures of a series: one a frame, or many on a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillsun.io.atomic import write_whole
from stillsun.qa.plots import encode, grid_figure

# Longest side of a frame on a contact sheet, pixels.
SHEET_SIDE = 400
# Pictures are many; the smallest file is not worth the time.
_PNG_LEVEL = 2


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """
    Write one picture as PNG.

    Parameters
    ----------
    path : Path
        The file.
    picture : numpy.ndarray
        (height, width, 4) uint8, RGB and one unused.

    Returns
    -------
    Path
        The file.
    """
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture[..., :3]).save(out, format="png", compress_level=_PNG_LEVEL)
    return write_whole(path, out.getvalue())


def write_sheet(
    path: Path,
    frames: Sequence[np.ndarray],
    titles: Sequence[str],
    plate_scale: Sequence[float],
    limits: tuple[float, float],
) -> Path:
    """
    Write frames of a series into one PNG, row by row, on one grey scale.

    Parameters
    ----------
    path : Path
        The file.
    frames : sequence of numpy.ndarray
        Frames (y, x) of one shape, at least one.
    titles : sequence of str
        Line above each.
    plate_scale : (float, float)
        Scale along (x, y), arcsec per pixel.
    limits : (float, float)
        Intensities shown black and white.

    Returns
    -------
    Path
        The file.
    """
    across = int(np.ceil(np.sqrt(len(frames))))
    rows = [slice(start, start + across) for start in range(0, len(frames), across)]
    figure = grid_figure(
        [frames[row] for row in rows], [titles[row] for row in rows], plate_scale, limits, size=SHEET_SIDE
    )
    return write_whole(path, encode(figure, "png"))
