"""Where a channel lies on the reference channel, and how that drifts."""

from __future__ import annotations

import numpy as np

from stillsun.core.orient import Orientation, rotation
from stillsun.products.base import StoreProduct, Value
from stillsun.sky.wcs import ChannelGeometry

#: Parts: drift that destretch took out, and drift of the science images.
HELD, DRIFT = "held", "drift"


class Registration(StoreProduct):
    """The channel's geometry; only oriented frames are meant."""

    name = "registration"
    file = "registration.h5"
    group = "register"

    orientation = Value("str", "", "turns that bring the camera to north up")
    plate_scale = Value("float64", "arcsec/px", "(x, y) of the oriented frame", (2,))
    shape = Value("int64", "px", "(rows, columns) of the oriented frame", (2,))
    crpix = Value("float64", "px", "(x, y) that sees the reference's centre, from 1", (2,))
    rotation_deg = Value("float64", "deg", "CROTA2 less that of the reference")
    uncertainty = Value("float64", "arcsec", "error of the offset to the reference")
    accepted = Value("uint8", "", "1: matched to the reference, or the reference itself")
    translation = Value("float64", "arcsec", "centre (x, y) on the reference", (2,))
    rotation_error_deg = Value("float64", "deg", "error of the rotation")
    residual = Value("float64", "", "rms difference of the targets over their rms")
    residual_px = Value("float64", "px", "error of the offset")
    correlation = Value("float64", "", "of the matched targets")
    significance = Value("float64", "", "peak over correlations elsewhere")
    held_rate = Value(
        "float64", "arcsec/s", "drift that destretch took out of the images, (x, y)", (2,), when=HELD
    )
    held_rate_error = Value("float64", "arcsec/s", "standard error", (2,), when=HELD)
    drift_time = Value("float64", "s", "unix seconds that drift_offset belongs to", when=DRIFT)
    drift_offset = Value("float64", "arcsec", "science images less targets, (x, y)", (2,), when=DRIFT)
    drift_rate = Value("float64", "arcsec/s", "change of that, (x, y)", (2,), when=DRIFT)
    drift_offset_error = Value("float64", "arcsec", "standard error", (2,), when=DRIFT)
    drift_rate_error = Value("float64", "arcsec/s", "standard error", (2,), when=DRIFT)
    drift_pairs = Value("int64", "", "pairs of frames that could be compared", when=DRIFT)
    drift_applied = Value("uint8", "", "1: the coordinates follow the drift", when=DRIFT)

    @property
    def scale(self) -> tuple[float, float]:
        """Plate scale (x, y), arcsec per pixel."""
        x, y = self.plate_scale
        return float(x), float(y)

    @property
    def turns(self) -> Orientation:
        """From the camera's frames to oriented ones."""
        return Orientation.from_text(self.orientation)

    def geometry_at(self, times: np.ndarray) -> ChannelGeometry:
        """
        Where oriented frames lie on the reference channel's field, as destretch left them.

        The one geometry of headers, movies, overlays and the report. It follows the drift of the science
        images where `register.track_drift` asks for it: a translation that is off by dt moves the
        reference pixel by -S^-1 R(-d) dt.

        Parameters
        ----------
        times : numpy.ndarray, shape (n,)
            Mean times of the frames, Unix seconds UTC.

        Returns
        -------
        ChannelGeometry
            With a reference pixel for each time.
        """
        angle, scale = float(self.rotation_deg), self.scale
        moved = np.zeros((len(times), 2))
        if self.drift_applied:
            moved = self.drift_offset + np.outer(times - self.drift_time, self.drift_rate)
        crpix = self.crpix - moved @ rotation(-angle).T / scale
        return ChannelGeometry(crpix, scale, angle, float(self.uncertainty))
