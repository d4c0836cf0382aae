"""The bursts of a channel: times, raw frames, quality, the telescope's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stillsun.products.base import UNIX, Column, StoreProduct, Value

if TYPE_CHECKING:
    from stillsun.core.calibrate import Correction
    from stillsun.core.calibrate_in_time import DriftingCorrection
    from stillsun.io.bursts import BurstReader
    from stillsun.io.source import FrameSource

#: Parts that frames of an earlier system do not have.
QUALITY, SAMPLE = "quality", "sample"
#: Columns of the telescope's state.
STATE = ("latitude", "longitude", "guider_angle", "scintillation", "light_level", "solar_radius")
_FRAME = ("rows", "columns")


class Bursts(StoreProduct):
    """One row a burst."""

    name = "bursts"

    time_beg = Column("float64", "s", UNIX + "start of the first exposure")
    time_end = Column("float64", "s", UNIX + "end of the last exposure")
    time_avg = Column("float64", "s", UNIX + "mean of the middles of the exposures")
    first_frame = Column("int64", "", "first raw frame, counted over all files")
    frames_used = Column("int64", "", "frames in the burst")
    first_file = Column("str", "", "raw file of the first frame", length=255)
    last_file = Column("str", "", "raw file of the last frame", length=255)
    contrast = Column("float64", "", "rms contrast of the sharpest frame, centre of the field", when=QUALITY)
    sharpness = Column("float64", "1/px", "rms gradient over the mean, sharpest frame", when=QUALITY)
    best_frame = Column("int64", "", "sharpest frame, counted within the burst", when=QUALITY)
    frame_contrast = Column("float64", "", "rms contrast of each frame", ("frames",), when=QUALITY)
    frame_sharpness = Column(
        "float64", "1/px", "rms gradient over the mean, each frame", ("frames",), when=QUALITY
    )
    latitude = Column("float64", "deg", "pointing, heliographic latitude (Stonyhurst)")
    longitude = Column("float64", "deg", "pointing, heliographic longitude (Stonyhurst)")
    guider_angle = Column("float64", "deg", "guider angle as logged")
    scintillation = Column("float64", "arcsec", "Seykora scintillation monitor")
    light_level = Column("float64", "V", "light level")
    solar_radius = Column("float64", "arcsec", "solar radius: half of the logged diameter")
    sample_burst = Value("int64", "", "burst that the sample is of, the middle one", when=SAMPLE)
    sample_frame = Value(
        "float32", "DN", "its sharpest frame, calibrated, camera orientation", _FRAME, when=SAMPLE
    )
    sample_mean = Value(
        "float32", "DN", "mean of its frames, calibrated, camera orientation", _FRAME, when=SAMPLE
    )

    @property
    def times(self) -> np.ndarray:
        """(bursts,) float64: mean time of each, Unix seconds UTC."""
        return np.asarray(self.time_avg, np.float64)

    @property
    def frames(self) -> int:
        """Frames in a burst."""
        return int(self.attributes["frames_per_burst"])

    @property
    def pointing_source(self) -> str | None:
        """Where latitude and longitude come from, if not from the telescope's log."""
        return self.attributes.get("pointing_source")

    @property
    def header_place(self) -> tuple[tuple[float, float], float] | None:
        """Translation and rotation on the reference channel by headers of an earlier system, if known."""
        about = self.attributes
        if "header_x" not in about:
            return None
        return (float(about["header_x"]), float(about["header_y"])), float(about["header_rotation_deg"])

    def open(self, source: FrameSource, correction: Correction | DriftingCorrection) -> BurstReader:
        """What reads them, calibrated, from the raw frames."""
        from stillsun.io.bursts import BurstReader

        return BurstReader(source, correction, self.first_frame, self.frames)
