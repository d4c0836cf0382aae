"""Pictures to an MP4 file (H.264), one after the other, with PyAV."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# Constant quality: granulation keeps its fine structure; fast: the encoder must not wait for itself.
_OPTIONS = {"crf": "20", "preset": "veryfast"}


def encoder_missing() -> bool:
    """
    Tell whether movies cannot be written here.

    Returns
    -------
    bool
        True where PyAV (the extra ``movie``) is not installed.
    """
    try:
        return importlib.util.find_spec("av") is None
    except ValueError:
        return True


def write_video(path: Path, pictures: Iterable[np.ndarray], rate: float) -> Path:
    """
    Encode pictures into a movie that browsers and slides play; it gets its name when it is complete.

    Parameters
    ----------
    path : Path
        File to write.
    pictures : iterable of numpy.ndarray
        (height, width, 4) uint8, RGB and one unused, all of one size with even sides.
    rate : float
        Pictures per second.

    Returns
    -------
    Path
        The file.
    """
    av: Any = importlib.import_module("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("h264", rate=Fraction(rate).limit_denominator(1001), options=_OPTIONS)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgba")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    part.replace(path)
    return path
