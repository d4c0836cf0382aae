"""Options of the stages export, movie and report: what people get."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


class Missing(Enum):
    """What stands in a file for pixels that came from nowhere."""

    nan = "nan"
    mean = "mean"


@dataclass
class ExportConfig:
    """One FITS file a frame."""

    missing: Missing = opt(
        Missing.nan,
        "what stands in the files for pixels that came from outside the field: NaN, or the mean of the image",
    )
    reconstructed: bool = opt(False, "also write the frames before destretch")
    calibration: bool = opt(True, "also write dark, flat, gain, target and line grid")


@dataclass
class MovieConfig:
    """Context movies."""

    frame_rate: float = opt(15.0, "frames per second of the movie", unit="1/s", gt=0)
    size: int = opt(
        1024, "longest side of the image; frames are binned or enlarged to fit", unit="px", ge=64, le=16384
    )
    clip: float = opt(
        0.3, "share of the pixels that may be shown plain black, and white", unit="%", ge=0, le=40
    )
    reconstructed: bool = opt(False, "also movies of the frames before destretch")
    together: bool = opt(True, "also one movie of all channels side by side, on the same coordinates")
    goes_file: str | None = opt(
        None,
        "GOES X-ray flux of the day (NetCDF: sci_xrsf-l2-avg1m_*.nc), drawn below the images",
        holds="path",
    )
    goes_download: bool = opt(
        True, "download the X-ray flux where goes_file is not given (needs the extra hmi, and network)"
    )
    frame_pictures: bool = opt(False, "also every frame of the movies as PNG, in context_movies/MOVIE/")
    contact_sheet: int = opt(
        0,
        "also a PNG with so many frames of each movie, evenly over the sequence; 0: none",
        unit="frames",
        ge=0,
        le=400,
    )


@dataclass
class QualityConfig:
    """Limits of the quality checklist: what must hold before a product is trusted."""

    bad_pixels: float = opt(1.0, "largest share of bad pixels", unit="%", ge=0, le=100)
    gain_noise: float = opt(1.0, "largest noise of the gain in a typical pixel", unit="%", ge=0)
    unused_frames: float = opt(15.0, "largest share of data frames in no burst", unit="%", ge=0, le=100)
    fried_cm: float = opt(5.0, "smallest median Fried parameter at the channel's wavelength", unit="cm", ge=0)
    phase_change: float = opt(0.25, "largest median change of the phases in the last sweep", unit="rad", ge=0)
    contrast_gain: float = opt(
        1.0, "least contrast of the reconstruction over the best raw frames", unit="1", ge=0
    )
    residual_px: float = opt(0.5, "largest median shift left over after destretch", unit="px", ge=0)
    repaired_tiles: float = opt(
        20.0, "largest mean share of repaired tiles of any kernel", unit="%", ge=0, le=100
    )
    sharpness_kept: float = opt(95.0, "least sharpness after destretch, of that before", unit="%", ge=0)
    registration_arcsec: float = opt(
        1.0, "largest error of the offset to the reference channel", unit="arcsec", ge=0
    )
    pointing_arcsec: float = opt(30.0, "largest error of the pointing", unit="arcsec", ge=0)


@dataclass
class ReportConfig:
    """The page by which a person judges a run."""

    title: str = opt("", "title of the page; the observation's name by default")
    picture_size: int = opt(
        1024,
        "longest side of a frame in the pictures; frames are binned or enlarged to fit",
        unit="px",
        ge=64,
        le=16384,
    )
    dim_fraction: float = opt(
        0.7, "a frame darker than this share of the series' median is reported as dim", unit="1", ge=0, le=1
    )
    quality: QualityConfig = opt(QualityConfig, "limits of the quality checklist")
