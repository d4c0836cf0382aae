"""Where the frames of a channel lie: helioprojective, or from the centre of a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from stillsun.core.orient import rotation
from stillsun.qa.products import ChannelProducts, utc


class System(Enum):
    """What coordinates count from."""

    sun = "centre of the solar disk, helioprojective"
    reference = "centre of the reference channel's field"
    own = "centre of the channel's own field"


@dataclass(frozen=True)
class Placement:
    """
    Where an oriented frame lies: world = origin + R(angle) scale (pixel - reference).

    Attributes
    ----------
    reference : (float, float)
        Reference pixel (x, y); the centre of the first pixel is 1.
    scale : (float, float)
        Plate scale (x, y), arcsec per pixel.
    origin : (float, float)
        Coordinates (x, y) of the reference pixel, arcsec.
    angle_deg : float
        As CROTA2.
    system : System
        What the coordinates count from.
    time : str
        When the coordinates hold, in words; empty where that does not matter.
    """

    reference: tuple[float, float]
    scale: tuple[float, float]
    origin: tuple[float, float]
    angle_deg: float
    system: System
    time: str = ""

    @property
    def labels(self) -> tuple[str, str]:
        """What the axes say."""
        if self.system is System.sun:
            time = f" at {self.time} UTC" if self.time else ""
            return f"helioprojective x{time} (arcsec)", "helioprojective y (arcsec)"
        where = " from the reference's centre" if self.system is System.reference else ""
        return f"x{where} (arcsec)", f"y{where} (arcsec)"

    def corners(self, shape: Sequence[int]) -> np.ndarray:
        """
        Outer corners of a frame.

        Parameters
        ----------
        shape : sequence of int
            Rows and columns.

        Returns
        -------
        numpy.ndarray, shape (4, 2)
            Coordinates (x, y), arcsec.
        """
        rows, columns = shape
        edges = [(x, y) for x in (0.5, columns + 0.5) for y in (0.5, rows + 0.5)]
        offsets = (np.array(edges) - self.reference) * self.scale
        return np.asarray(self.origin) + offsets @ rotation(self.angle_deg).T


def placement(products: ChannelProducts, shape: Sequence[int], time: float | None = None) -> Placement:
    """
    Place the frames of a channel.

    All frames lie where they do at one time: solar rotation carries the coordinates along with the
    features, which stay where they are in the picture.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    shape : sequence of int
        Rows and columns of its oriented frames.
    time : float, optional
        When the coordinates hold, Unix seconds (UTC); that of the middle frame by default.

    Returns
    -------
    Placement
        On the Sun where registration and pointing are known; else on the field of the reference channel
        where the registration is; else around the centre of its own field.
    """
    geometry, pointing = (products.inputs.get(name) for name in ("registration", "pointing"))
    if geometry is None or "crpix" not in geometry:
        centre = ((shape[1] + 1) / 2, (shape[0] + 1) / 2)
        return Placement(centre, products.scale, (0.0, 0.0), 0.0, System.own)
    x, y = (float(v) for v in geometry.read("crpix"))
    angle = float(geometry.read("rotation_deg"))
    if pointing is None or not pointing.rows or pointing.read("method") == "unknown":
        return Placement((x, y), products.scale, (0.0, 0.0), angle, System.reference)
    times, crval = products.times, pointing.read("crval")
    row = pointing.rows // 2
    origin = crval[row]
    if times is not None:
        time = float(times[row]) if time is None else time
        row = int(np.argmin(np.abs(times - time)))
        origin = [np.interp(time, times, values) for values in crval.T]
    return Placement(
        (x, y),
        products.scale,
        (float(origin[0]), float(origin[1])),
        angle + float(pointing.read("crota2", row)),
        System.sun,
        "" if time is None else utc(time)[11:],
    )
