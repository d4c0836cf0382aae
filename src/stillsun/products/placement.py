"""Where the frames of a channel are in pictures: helioprojective, or from the centre of a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from stillsun.core.bursts import nearest
from stillsun.core.orient import rotation
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.pointing import SolarPointing
from stillsun.products.registration import Registration
from stillsun.sky.wcs import centre_pixel


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
    references : numpy.ndarray, shape (n, 2), optional
        Reference pixel of each frame, if it moves; `reference` is that of the frame whose time it is.
    angles : numpy.ndarray, shape (n,), optional
        Angle of each frame, likewise.
    """

    reference: tuple[float, float]
    scale: tuple[float, float]
    origin: tuple[float, float]
    angle_deg: float
    system: System
    time: str = ""
    references: np.ndarray | None = None
    angles: np.ndarray | None = None

    def at(self, frame: int) -> Placement:
        """Where one frame is."""
        if self.references is None or self.angles is None:
            return self
        x, y = self.references[frame]
        return replace(self, reference=(float(x), float(y)), angle_deg=float(self.angles[frame]))

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


def placement(channel: Channel, shape: Sequence[int], time: float | None = None) -> Placement:
    """
    Place the frames of a channel, as their headers do.

    All frames are where they are at one time, by default that of the middle frame: solar rotation moves the
    coordinates along with the features, which stay where they are in the picture.
    """
    registration, pointing = channel.get(Registration), channel.get(SolarPointing)
    if registration is None:
        x, y = centre_pixel(shape)
        return Placement((x, y), channel.scale, (0.0, 0.0), 0.0, System.own)
    if channel.has(Bursts):
        times = channel.times
    else:
        times = np.zeros(1 if pointing is None else max(1, pointing.rows))
    geometry = registration.geometry_at(times)
    row = len(times) // 2
    place = Placement(
        geometry.reference(row),
        geometry.cdelt,
        (0.0, 0.0),
        geometry.rotation_deg,
        System.reference,
        references=np.asarray(geometry.crpix),
        angles=np.full(len(times), geometry.rotation_deg),
    )
    if pointing is None or not pointing.is_known:
        return place
    crval, angles = pointing.crval, geometry.rotation_deg + pointing.crota2
    origin = crval[row]
    if channel.has(Bursts):
        time = float(times[row]) if time is None else time
        row = int(nearest(times, np.array([time]))[0])
        origin = [np.interp(time, times, values) for values in crval.T]
    return replace(
        place,
        reference=geometry.reference(row),
        origin=(float(origin[0]), float(origin[1])),
        angle_deg=float(angles[row]),
        system=System.sun,
        time="" if time is None else utc(time)[11:],
        angles=angles,
    )


def utc(seconds: float) -> str:
    """A time, Unix seconds UTC, in words: date and time to the second."""
    if not np.isfinite(seconds):
        return "unknown"
    return str(np.datetime64(round(seconds), "s")).replace("T", " ")
