"""
The typed schema of the configuration: plain dataclasses and enumerations, standard library only.

Every field carries its meaning, unit and limits in its metadata; the checks and the configuration
reference are made from them. Enumeration members are named as they are written in YAML.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

# What OmegaConf takes for "must be given".
REQUIRED: Any = "???"


def opt(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    length: int | None = None,
) -> Any:
    """
    Declare one option.

    Parameters
    ----------
    default : object
        Default value; a callable makes a new one each time.
    meaning : str
        What it does, for the reference and for error messages.
    unit : str
        Unit; every number has one, "1" where it is a pure one.
    ge, gt, le : float, optional
        Limits of a number, or of each entry of a list.
    length : int, optional
        Exact length of a list.

    Returns
    -------
    dataclasses.Field
        The field.
    """
    limits = {"ge": ge, "gt": gt, "le": le, "length": length}
    metadata = {"meaning": meaning, "unit": unit, **{k: v for k, v in limits.items() if v is not None}}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class StageName(Enum):
    """Stages in the order of the data's walk."""

    calibrate = "calibrate"
    assemble = "assemble"
    speckle = "speckle"
    destretch = "destretch"
    register = "register"
    align = "align"
    export = "export"
    movie = "movie"
    report = "report"


class BackendName(Enum):
    """Array libraries."""

    auto = "auto"
    numpy = "numpy"
    cupy = "cupy"


class ExecutorName(Enum):
    """Who runs the tasks."""

    serial = "serial"
    dask = "dask"


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


class Combine(Enum):
    """What becomes of several sequences of darks, or of flats."""

    mean = "mean"
    interpolate = "interpolate"


class SpeckleEngine(Enum):
    """Ways from a burst to one image."""

    masking = "masking"
    kisip = "kisip"
    none = "none"
    fits = "fits"


class SpeckleMethod(Enum):
    """Phase reconstruction."""

    knox_thompson = "knox_thompson"
    triple_correlation = "triple_correlation"


class ReferenceKind(Enum):
    """What destretch matches to."""

    running = "running"
    fixed = "fixed"
    two_pass = "two_pass"


class Interpolation(Enum):
    """Final interpolation of destretch."""

    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos4 = "lanczos4"


class AlignEngine(Enum):
    """Where the pointing comes from."""

    hmi = "hmi"
    none = "none"


@dataclass
class BackendConfig:
    """Where arrays are computed."""

    name: BackendName = opt(BackendName.auto, "array library; auto takes a GPU where there is one")
    threads: int | None = opt(
        None, "threads on the CPU; all that the process may use by default", unit="threads", ge=1
    )
    device: int = opt(0, "number of the GPU", unit="index", ge=0)


@dataclass
class ExecutorConfig:
    """How the tasks of the plan are run."""

    name: ExecutorName = opt(ExecutorName.serial, "serial: one after another; dask: channels side by side")
    workers: int | None = opt(
        None,
        "worker processes of a local Dask cluster; one a channel by default, no more than cores",
        unit="processes",
        ge=1,
    )
    address: str | None = opt(None, "address of a running Dask scheduler instead of a local cluster")


@dataclass
class FileSet:
    """Files of one role."""

    directory: str = opt(".", "directory, relative to observation.raw_dir or absolute")
    pattern: str | None = opt(None, "shell pattern of the file names; none: the channel has no such files")


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
    shape: list[int] = opt(lambda: [1002, 1004], "image size (rows, columns)", unit="px", ge=8, length=2)
    file_shape: list[int] | None = opt(
        None,
        "size (rows, columns) of a raw frame with overscan, where it is larger",
        unit="px",
        ge=8,
        length=2,
    )
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


@dataclass
class ObservationConfig:
    """One observing sequence."""

    name: str = opt("observation", "name of the sequence (header: POINT_ID)")
    raw_dir: str = opt(".", "directory of the raw files")
    work_dir: str = opt("work", "directory of the results")
    telescope_log: str | None = opt(None, "telescope log (DCSS); none: pointing and seeing stay unknown")
    reference_channel: str | None = opt(
        None, "channel to which the others are registered; the first by default"
    )
    telescope: TelescopeConfig = opt(TelescopeConfig, "telescope and site")
    origin: str = opt("SSOC", "institution for the header (ORIGIN)")
    author: str = opt("", "author for the header (AUTHOR)")
    observer: str = opt("", "observer for the header (OBSERVER)")
    object: str = opt("", "target of the observation for the header (OBJECT)")
    channels: dict[str, ChannelConfig] = opt(dict, "the channels by name")


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
    )
    measure_plate_scale: bool = opt(True, "measure the plate scale in the line grid, where there is one")
    line_spacing_arcsec: float = opt(
        3.76, "distance of the lines of the line grid: 1 mm at 3.76 arcsec/mm", unit="arcsec", gt=0
    )


@dataclass
class AssembleConfig:
    """Frames to bursts."""

    frames_per_burst: int = opt(64, "frames in a burst", unit="frames", ge=1)
    max_gap: float = opt(
        1.5, "a step longer than this many median frame intervals ends a burst", unit="frame intervals", gt=1
    )


@dataclass
class KisipConfig:
    """The external program KISIP: where it is and what the manual calls KISIP ENV and PROPS."""

    bin: str | None = opt(None, "directory of the program and its mpirun")
    lib: str | None = opt(None, "directory of the program's libraries")
    mpirun: str = opt("mpirun", "name of the MPI starter in bin")
    executable: str = opt("entry", "name of the program in bin")
    header_offset: int = opt(0, "bytes before the data in a burst file", unit="bytes", ge=0)
    retries: int = opt(3, "attempts to make bursts that the program left out", unit="attempts", ge=0)


@dataclass
class SpeckleConfig:
    """Bursts to reconstructed frames."""

    engine: SpeckleEngine = opt(
        SpeckleEngine.masking,
        "masking: open reconstruction; kisip: external program; none: tile-aligned mean; fits: frames "
        "that an earlier system reconstructed, as they are",
    )
    processes: int = opt(2, "MPI processes of an external program", unit="processes", ge=1)
    timeout: float = opt(
        3600.0, "time without progress after which an external program is stopped", unit="s", gt=0
    )
    keep_bursts: bool = opt(False, "keep the burst files; without an external program: write them at all")
    deconvolve: bool = opt(True, "divide by the telescope's transfer function too")
    method: SpeckleMethod = opt(SpeckleMethod.triple_correlation, "phase reconstruction")
    subfield_arcsec: float = opt(7.0, "side of a subfield", unit="arcsec", gt=0)
    phase_limit: float = opt(
        95.0, "highest frequency of the phases, of the diffraction limit", unit="%", gt=0, le=100
    )
    u_limit: float = opt(10.0, "limit of a component of the first bispectrum vector", unit="%", gt=0, le=100)
    v_limit: float = opt(10.0, "limit of the length of one bispectrum vector", unit="%", gt=0, le=100)
    max_iterations: int = opt(10, "sweeps over the phase equations", unit="sweeps", ge=0)
    snr_keep: float = opt(80.0, "share of the bispectrum that is used, best first", unit="%", gt=0, le=100)
    weight_exponent: float = opt(1.2, "weights are the signal-to-noise ratio to this power", unit="1", ge=0)
    apodisation: float = opt(
        30.0, "share of a subfield that is apodised, both sides together", unit="%", ge=0, le=100
    )
    noise_filter: bool = opt(True, "damp frequencies where noise prevails")
    ao_used: bool = opt(False, "adaptive optics corrected the wavefront; false: tip-tilt only or none")
    ao_modes: int = opt(
        24, "Zernike modes after piston that adaptive optics correct (masking)", unit="modes", ge=3, le=66
    )
    ao_lock_x: int = opt(
        -1,
        "column of the AO lock point; -1: the middle (masking), found by the program (kisip)",
        unit="px",
        ge=-1,
    )
    ao_lock_y: int = opt(
        -1,
        "row of the AO lock point; -1: the middle (masking), found by the program (kisip)",
        unit="px",
        ge=-1,
    )
    kisip: KisipConfig = opt(KisipConfig, "the external program")


@dataclass
class DestretchConfig:
    """Frame series without the seeing's distortion."""

    kernels: list[int] = opt(
        lambda: [0, 128, 64, 32, 12],
        "subfield sides from large to small; 0: the whole frame first",
        unit="px",
        ge=0,
    )
    reference: ReferenceKind = opt(
        ReferenceKind.running,
        "running: mean of the last frames; fixed: one frame; two_pass: mean of all frames of a first pass",
    )
    window: int = opt(10, "frames in the running mean, of a first pass too", unit="frames", ge=1)
    reference_frame: int | None = opt(
        None, "number of the fixed reference frame; the one of highest quality by default", unit="index", ge=0
    )
    repair_tolerance: float = opt(
        0.5, "largest believable shift, of the subfield's side", unit="1", gt=0, le=1
    )
    preserve_flows: bool = opt(False, "keep slow solar motion, remove seeing only")
    interpolation: Interpolation = opt(Interpolation.lanczos4, "final interpolation")


@dataclass
class RegisterConfig:
    """Channels onto the reference channel."""

    max_rotation_deg: float = opt(2.0, "largest rotation looked for", unit="deg", gt=0)
    track_drift: bool = opt(
        False, "let the coordinates follow the drift against the reference channel that science images show"
    )


@dataclass
class AlignConfig:
    """Frames onto the Sun."""

    engine: AlignEngine = opt(
        AlignEngine.hmi,
        "hmi: match to a full-disk image, where there is one that fits; none: telescope log only",
    )
    file: str | None = opt(None, "full-disk image instead of a download")
    cache: str | None = opt(
        None, "directory of downloaded full-disk images; stillsun in the user's cache by default"
    )
    pointing: list[float] | None = opt(
        None,
        "helioprojective (x, y) of the reference channel's centre at its first frame, instead of the log's; "
        "with align=hmi the place where the search begins",
        unit="arcsec",
        length=2,
    )
    frame: int | None = opt(None, "frame that is matched; the clearest by default", unit="index", ge=0)
    search_arcsec: float = opt(
        60.0, "how far from the supposed pointing is searched, in x and in y", unit="arcsec", ge=5, le=600
    )
    max_rotation_deg: float = opt(2.0, "how far from the guider's angle is searched", unit="deg", ge=0, le=20)
    min_significance: float = opt(
        8.0,
        "least height of the correlation peak over wrong places, in their robust deviations",
        unit="sigma",
        gt=0,
    )
    jump_arcsec: float = opt(
        0.3, "least lasting step of the whole field that splits the sequence", unit="arcsec", gt=0
    )
    verify: bool = opt(False, "show the match and ask before it is applied")


@dataclass
class ExportConfig:
    """One FITS file a frame."""

    reconstructed: bool = opt(False, "also write the frames before destretch")
    calibration: bool = opt(True, "also write dark, flat, gain, target and line grid")


@dataclass
class MovieConfig:
    """Context movies."""

    frame_rate: float = opt(15.0, "frames per second of the movie", unit="1/s", gt=0)
    size: int = opt(1024, "longest side of the image; frames are binned or enlarged to fit", unit="px", ge=64)
    clip: float = opt(
        0.3, "share of the pixels that may be shown plain black, and white", unit="%", ge=0, le=40
    )
    reconstructed: bool = opt(False, "also movies of the frames before destretch")
    together: bool = opt(True, "also one movie of all channels side by side, on the same coordinates")
    goes_file: str | None = opt(
        None, "GOES X-ray flux of the day (NetCDF: sci_xrsf-l2-avg1m_*.nc), drawn below the images"
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
    )
    dim_fraction: float = opt(
        0.7, "a frame darker than this share of the series' median is reported as dim", unit="1", ge=0, le=1
    )
    quality: QualityConfig = opt(QualityConfig, "limits of the quality checklist")


@dataclass
class RunConfig:
    """The whole configuration of `stillsun run`."""

    observation: ObservationConfig = opt(ObservationConfig, "what was observed")
    observation_file: str | None = opt(None, "observation given as a path")
    channels: list[str] = opt(list, "channels to run; all by default")
    stages: list[StageName] = opt(lambda: list(StageName), "stages to run")
    force: list[StageName] = opt(list, "stages to do again although their products are up to date")
    progress: bool = opt(True, "progress bars, where standard error is a terminal")
    plan: bool = opt(False, "say what would be done, and stop")
    backend: BackendConfig = opt(BackendConfig, "array library")
    executor: ExecutorConfig = opt(ExecutorConfig, "who runs the tasks")
    calibrate: CalibrateConfig = opt(CalibrateConfig, "calibration images")
    assemble: AssembleConfig = opt(AssembleConfig, "bursts")
    speckle: SpeckleConfig = opt(SpeckleConfig, "reconstruction")
    destretch: DestretchConfig = opt(DestretchConfig, "destretch")
    register: RegisterConfig = opt(RegisterConfig, "channel registration")
    align: AlignConfig = opt(AlignConfig, "solar alignment")
    export: ExportConfig = opt(ExportConfig, "FITS files")
    movie: MovieConfig = opt(MovieConfig, "movies")
    report: ReportConfig = opt(ReportConfig, "report")
