"""The whole configuration of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.calibration import AssembleConfig, CalibrateConfig
from stillsun.config.schema.coordinates import AlignConfig, RegisterConfig
from stillsun.config.schema.destretch import DestretchConfig
from stillsun.config.schema.machine import BackendConfig, ExecutorConfig
from stillsun.config.schema.observation import ObservationConfig
from stillsun.config.schema.option import opt
from stillsun.config.schema.output import ExportConfig, MovieConfig, ReportConfig
from stillsun.config.schema.speckle import SpeckleConfig


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


class LockKind(Enum):
    """How runs in one work directory keep off each other."""

    flock = "flock"
    file = "file"
    off = "off"


@dataclass
class RunOptions:
    """How a run shares its work directory with others."""

    lock: LockKind = opt(
        LockKind.flock,
        "flock: system locks; file: lock files, for file systems without them; off: none, where no other run "
        "works in the directory at the same time",
    )


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
    run: RunOptions = opt(RunOptions, "sharing of the work directory")
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
