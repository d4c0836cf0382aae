"""Options of the stage speckle: bursts to reconstructed frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


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


@dataclass
class KisipConfig:
    """The external program KISIP: where it is and what the manual calls KISIP ENV and PROPS."""

    bin: str | None = opt(None, "directory of the program and its mpirun", holds="path")
    lib: str | None = opt(None, "directory of the program's libraries", holds="path")
    mpirun: str = opt("mpirun", "name of the MPI starter in bin", holds="name")
    executable: str = opt("entry", "name of the program in bin", holds="name")
    name: str | None = opt(
        None,
        "name of the program that runs, for the header (PRPROCn); KISIP where a version is given and "
        "executable is entry, else the file's name",
    )
    version: str | None = opt(None, "version of the program that runs, for the header (PRPVERn)")
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
    pixel_mtf: bool = opt(True, "divide by the transfer function of the detector's pixels (masking)")
    wind: float = opt(
        10.0,
        "speed of the lower of two layers of air, which washes out speckles during an exposure (masking); "
        "0: an exposure is an instant",
        unit="m/s",
        ge=0,
    )
    series: bool = opt(
        True,
        "hold the power of each image to its running value within some minutes, so that the contrast does "
        "not flicker (masking)",
    )
    ao_used: bool = opt(
        True,
        "adaptive optics corrected the wavefront; bursts in which no correction is seen are reconstructed as "
        "without (masking). false: tip-tilt only or none",
    )
    ao_modes: int = opt(
        65,
        "Zernike modes after piston that adaptive optics correct, at most (masking)",
        unit="modes",
        ge=3,
        le=66,
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
