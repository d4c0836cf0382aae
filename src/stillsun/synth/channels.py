"""The channels as they truly are: cameras, filters and geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core.orient import Orientation
from stillsun.synth.scene import Appearance


@dataclass(frozen=True)
class ChannelSetup:
    """
    A camera behind a filter, as it truly is.

    Attributes
    ----------
    name : str
        Channel name.
    computer : str or None
        Camera computer (das1 to das6) of a ROSA camera; None for HARDcam.
    serial : str
        Serial number of the camera.
    wavelength_nm, width_nm : float
        Centre and width of the filter.
    filter : str
        Filter in words.
    look : Appearance
        What the filter shows.
    shape : (int, int)
        Rows and columns of the camera image.
    plate_scale : (float, float)
        True plate scale along the camera's (x, y), arcsec per pixel.
    nominal_scale : float
        Plate scale that the observers believe in.
    orientation : tuple of str
        Operations that bring a camera image to the telescope's orientation.
    rotation_deg : float
        By how much +Y points counter-clockwise of the telescope's +Y after that.
    offset_arcsec : (float, float)
        Position (x, y) in the telescope's frame of the middle of the image.
    exposure_ms, interval_ms : float
        Exposure, and time from frame to frame.
    electrons_per_dn, bias_dn : float
        Conversion factor and level of the dark.
    saturation_dn : int
        Largest raw value.
    frames_per_burst : int or None
        Frames in a burst where it differs from the other channels.
    clock_offset_hours : float
        What the camera computer's clock is ahead of UTC.
    """

    name: str
    computer: str | None
    serial: str
    wavelength_nm: float
    width_nm: float
    filter: str
    look: Appearance
    shape: tuple[int, int]
    plate_scale: tuple[float, float]
    nominal_scale: float
    orientation: tuple[str, ...]
    rotation_deg: float
    offset_arcsec: tuple[float, float]
    exposure_ms: float
    interval_ms: float
    electrons_per_dn: float
    bias_dn: float
    saturation_dn: int
    frames_per_burst: int | None = None
    clock_offset_hours: float = 0.0

    @property
    def is_rosa(self) -> bool:
        """A ROSA camera; HARDcam otherwise."""
        return self.computer is not None

    def jacobian(self, crota2_deg: float = 0.0) -> np.ndarray:
        """
        How a step on the chip moves on the sky.

        Parameters
        ----------
        crota2_deg : float
            Angle of the telescope's frame; 0 gives steps in the telescope's frame.

        Returns
        -------
        numpy.ndarray, shape (2, 2)
            Sky step (x, y), arcsec, for one (column, row).
        """
        orientation = Orientation.from_steps(self.orientation)
        scale = np.diag(orientation.plate_scale(self.plate_scale))
        return rotation(crota2_deg + self.rotation_deg) @ scale @ np.array(orientation.matrix, dtype=float)


def rotation(degrees: float) -> np.ndarray:
    """
    Rotation matrix, counter-clockwise.

    Parameters
    ----------
    degrees : float
        Angle.

    Returns
    -------
    numpy.ndarray, shape (2, 2)
        The matrix.
    """
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


_ROSA: dict[str, Any] = {
    "shape": (1002, 1004),
    "nominal_scale": 0.06,
    "interval_ms": 33.0,
    "electrons_per_dn": 2.9,
    "bias_dn": 412.0,
    "saturation_dn": 16383,
}
CHANNELS: dict[str, ChannelSetup] = {
    setup.name: setup
    for setup in (
        ChannelSetup(
            "ROSA_GBAND", "das1", "2996", 430.5, 0.92, "G band 430.5 nm, 0.92 nm", Appearance.gband,
            plate_scale=(0.0604, 0.0598), orientation=("rot90",), rotation_deg=0.0,
            offset_arcsec=(0.0, 0.0), exposure_ms=6.0, **_ROSA,
        ),
        ChannelSetup(
            "ROSA_4170", "das2", "3134", 417.0, 3.0, "blue continuum 417.0 nm, 3 nm", Appearance.continuum,
            plate_scale=(0.0601, 0.0605), orientation=("rot90", "flipud"), rotation_deg=0.62,
            offset_arcsec=(0.27, -0.19), exposure_ms=6.0, **_ROSA,
        ),
        ChannelSetup(
            "ROSA_CAK", "das3", "4325", 393.3, 0.12, "Ca II K 393.3 nm, 0.12 nm", Appearance.cak,
            plate_scale=(0.0597, 0.0602), orientation=("rot90", "flip"), rotation_deg=-0.85,
            offset_arcsec=(-0.41, 0.23), exposure_ms=60.0, **(_ROSA | {"interval_ms": 165.0}),
            frames_per_burst=16,
        ),
        ChannelSetup(
            "HARDCAM", None, "", 656.28, 0.025, "H alpha 656.28 nm, 0.025 nm", Appearance.halpha,
            shape=(2048, 2048), plate_scale=(0.0843, 0.0838), nominal_scale=0.084,
            orientation=("rot90", "fliplr"), rotation_deg=1.13, offset_arcsec=(0.52, 0.35),
            exposure_ms=29.4, interval_ms=29.4, electrons_per_dn=0.45, bias_dn=101.0,
            saturation_dn=65535,
        ),
    )
}  # fmt: skip
