"""What was observed: the sequence, its channels, cameras, files and telescope."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from stillsun.config.schema.option import REQUIRED, opt


class ReaderName(Enum):
    """Raw file formats."""

    rosa = "rosa"
    hardcam = "hardcam"


class Turn(Enum):
    """Lossless image operations; `flip` flips both axes."""

    rot90 = "rot90"
    flipud = "flipud"
    fliplr = "fliplr"
    flip = "flip"


@dataclass
class FileSet:
    """Files of one role."""

    directory: str = opt(".", "directory, relative to observation.raw_dir or absolute", holds="path")
    pattern: str | None = opt(
        None, "shell pattern of the file names; none: the channel has no such files", holds="pattern"
    )


@dataclass
class ReconstructedSet(FileSet):
    """Files of frames that an earlier system reconstructed, one image a file."""

    turned: bool | None = opt(
        None, "orientation was applied to these frames already; by default as their PRSTEPn say"
    )


@dataclass
class CameraConfig:
    """What is known of a camera."""

    name: str = opt("", "name for the header (INSTRUME)")
    model: str = opt("", "detector in words, for the header (CAMERA)")
    reader: ReaderName = opt(ReaderName.rosa, "raw file format")
    shape: list[int] = opt(
        lambda: [1002, 1004],
        "image size (rows, columns), where the files do not tell it",
        unit="px",
        ge=8,
        le=32768,
        length=2,
    )
    file_shape: list[int] | None = opt(
        None,
        "size (rows, columns) of a raw frame with overscan, where it is larger",
        unit="px",
        ge=8,
        le=32768,
        length=2,
    )
    verify: bool = opt(True, "verify raw files by the CHECKSUM and DATASUM that they carry")
    saturation: int = opt(65535, "raw value from which a pixel counts as saturated", unit="DN", ge=1)


@dataclass
class ChannelConfig:
    """One channel: a camera behind a filter, its raw files, geometry and stage overrides."""

    camera: CameraConfig = opt(CameraConfig, "the camera")
    wavelength_nm: float = opt(REQUIRED, "wavelength", unit="nm", gt=0)
    wavelength_width_nm: float = opt(0.1, "full width of the filter", unit="nm", gt=0)
    filter: str = opt("", "filter in words, for the header")
    plate_scale: list[float] = opt(
        REQUIRED,
        "approximate plate scale (x, y) in camera orientation",
        unit="arcsec/px",
        gt=0,
        length=2,
    )
    exposure_ms: float = opt(REQUIRED, "exposure of one frame", unit="ms", gt=0)
    frame_interval_ms: float | None = opt(
        None,
        "time from frame to frame, for cameras without time stamps; the exposure by default",
        unit="ms",
        gt=0,
    )
    start: str | None = opt(
        None, "UTC start of the first data frame, for cameras without time stamps", unit="ISO 8601"
    )
    clock_offset_h: float = opt(
        0.0,
        "by how much the clock of the camera's computer is ahead of UTC; taken off the times in the files",
        unit="h",
        ge=-24,
        le=24,
    )
    group_frames: int | None = opt(
        None,
        "frames taken in one go before the camera waits, for cameras without time stamps; none: no waiting",
        unit="frames",
        ge=1,
    )
    group_interval_s: float | None = opt(
        None, "time from the start of one group of frames to the start of the next", unit="s", gt=0
    )
    orientation: list[Turn] = opt(
        list, "operations that bring a camera image to the telescope's orientation, in order"
    )
    data: FileSet = opt(FileSet, "science frames")
    dark: FileSet = opt(FileSet, "dark frames")
    flat: FileSet = opt(FileSet, "flat frames")
    target: FileSet = opt(FileSet, "target frames, for the registration of channels")
    linegrid: FileSet = opt(FileSet, "line-grid frames, for the plate scale")
    reconstructed: ReconstructedSet = opt(
        ReconstructedSet, "frames reconstructed by an earlier system (FITS), for speckle=fits"
    )
    calibrate: dict[str, Any] = opt(dict, "keys of the stage calibrate for this channel")
    assemble: dict[str, Any] = opt(dict, "keys of the stage assemble for this channel")
    speckle: dict[str, Any] = opt(dict, "keys of the stage speckle for this channel")
    destretch: dict[str, Any] = opt(dict, "keys of the stage destretch for this channel")
    register: dict[str, Any] = opt(dict, "keys of the stage register for this channel")
    align: dict[str, Any] = opt(dict, "keys of the stage align for this channel")
    export: dict[str, Any] = opt(dict, "keys of the stage export for this channel")
    movie: dict[str, Any] = opt(dict, "keys of the stage movie for this channel")


@dataclass
class TelescopeConfig:
    """The telescope and its site."""

    name: str = opt("DST", "name for the header (TELESCOP)")
    observatory: str = opt("Sacramento Peak Observatory", "observatory for the header (OBSRVTRY)")
    diameter_mm: float = opt(762.0, "clear aperture", unit="mm", gt=0)
    latitude_deg: float = opt(32.787361, "geodetic latitude (WGS84)", unit="deg", ge=-90, le=90)
    longitude_deg: float = opt(-105.820417, "longitude, east positive", unit="deg", ge=-360, le=360)
    height_m: float = opt(2804.0, "height above the WGS84 ellipsoid", unit="m")
    guider_zero_deg: float = opt(13.3, "guider angle at which solar north is up", unit="deg")
    guider_sign: int = opt(
        1,
        "sense of the guider angle: CROTA2 = sign * (angle - zero); 0: open, align=hmi tries both, else 1",
        unit="1",
        ge=-1,
        le=1,
    )
    ao_field_arcsec: float = opt(
        8.0, "side of the field that the wavefront sensor looks at (assumed)", unit="arcsec", ge=0
    )
    ao_order: float = opt(
        8.0,
        "radial order of the modes of which adaptive optics correct half as much as of tip and tilt "
        "(assumed): where the search for it in each burst begins",
        unit="1",
        gt=1,
    )
    ao_lag_ms: float = opt(2.0, "time by which the mirror is behind its sensor (assumed)", unit="ms", ge=0)


@dataclass
class ObservationConfig:
    """One observing sequence."""

    name: str = opt("observation", "name of the sequence (header: POINT_ID)")
    raw_dir: str = opt(".", "directory of the raw files", holds="path")
    work_dir: str = opt("work", "directory of the results", holds="path")
    telescope_log: str | None = opt(
        None, "telescope log (DCSS); none: pointing and seeing stay unknown", holds="path"
    )
    reference_channel: str | None = opt(
        None, "channel to which the others are registered; the first by default"
    )
    telescope: TelescopeConfig = opt(TelescopeConfig, "telescope and site")
    origin: str = opt("SSOC", "institution for the header (ORIGIN)")
    author: str = opt("", "author for the header (AUTHOR)")
    observer: str = opt("", "observer for the header (OBSERVER)")
    object: str = opt("", "target of the observation for the header (OBJECT)")
    channels: dict[str, ChannelConfig] = opt(dict, "the channels by name")

    @property
    def reference(self) -> str:
        """Name of the reference channel."""
        return self.reference_channel or next(iter(self.channels))
