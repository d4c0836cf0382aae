"""Options of the stages calibrate and assemble: raw frames to calibrated bursts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


class Combine(Enum):
    """What becomes of several sequences of darks, or of flats."""

    mean = "mean"
    interpolate = "interpolate"


@dataclass
class CalibrateConfig:
    """Darks and flats to calibration images."""

    combine: Combine = opt(
        Combine.mean,
        "darks and flats of several sequences, as from before and after the data: one mean of all, or each "
        "sequence for itself, interpolated to the time of every burst",
    )
    dead_fraction: float = opt(
        0.2, "a pixel whose flat is below this share of the median is dead", unit="1", ge=0, le=1
    )
    hot_sigma: float = opt(
        12.0, "a pixel whose dark lies this many robust deviations off is hot", unit="sigma", gt=0
    )
    unstable_sigma: float = opt(
        12.0,
        "a pixel whose variance lies this many robust deviations above the usual is unstable",
        unit="sigma",
        gt=0,
    )
    outlier_sigma: float = opt(
        6.0, "a frame whose light lies this many robust deviations off is not averaged", unit="sigma", gt=0
    )
    saturated_fraction: float = opt(
        0.01, "a frame with a larger share of saturated pixels is not averaged", unit="1", ge=0, le=1
    )
    noise_frames: int = opt(
        16,
        "calibrated flat frames that are kept for the noise; an external program wants those of a burst",
        unit="frames",
        ge=2,
        le=100_000,
    )
    measure_plate_scale: bool = opt(True, "measure the plate scale in the line grid, where there is one")
    line_spacing_arcsec: float = opt(
        3.76, "distance of the lines of the line grid: 1 mm at 3.76 arcsec/mm", unit="arcsec", gt=0
    )


@dataclass
class AssembleConfig:
    """Frames to bursts."""

    frames_per_burst: int = opt(64, "frames in a burst", unit="frames", ge=1, le=100_000)
    max_gap: float = opt(
        1.5, "a step longer than this many median frame intervals ends a burst", unit="frame intervals", gt=1
    )
