"""
The typed schema of the configuration: plain dataclasses and enumerations, standard library only.

Every field carries its meaning, unit and limits in its metadata; the checks and the configuration
reference are made from them. Enumeration members are named as they are written in YAML.
"""

from __future__ import annotations

from stillsun.config.schema.calibration import AssembleConfig, CalibrateConfig, Combine
from stillsun.config.schema.coordinates import AlignConfig, AlignEngine, RegisterConfig
from stillsun.config.schema.destretch import DestretchConfig, Interpolation, ReferenceKind
from stillsun.config.schema.machine import BackendConfig, BackendName, ExecutorConfig, ExecutorName
from stillsun.config.schema.observation import (
    CameraConfig,
    ChannelConfig,
    FileSet,
    ObservationConfig,
    ReaderName,
    ReconstructedSet,
    TelescopeConfig,
    Turn,
)
from stillsun.config.schema.option import REQUIRED, opt
from stillsun.config.schema.output import ExportConfig, Missing, MovieConfig, QualityConfig, ReportConfig
from stillsun.config.schema.run import LockKind, RunConfig, RunOptions, StageName
from stillsun.config.schema.speckle import KisipConfig, SpeckleConfig, SpeckleEngine, SpeckleMethod

__all__ = [
    "REQUIRED",
    "AlignConfig",
    "AlignEngine",
    "AssembleConfig",
    "BackendConfig",
    "BackendName",
    "CalibrateConfig",
    "CameraConfig",
    "ChannelConfig",
    "Combine",
    "DestretchConfig",
    "ExecutorConfig",
    "ExecutorName",
    "ExportConfig",
    "FileSet",
    "Interpolation",
    "KisipConfig",
    "LockKind",
    "Missing",
    "MovieConfig",
    "ObservationConfig",
    "QualityConfig",
    "ReaderName",
    "ReconstructedSet",
    "ReferenceKind",
    "RegisterConfig",
    "ReportConfig",
    "RunConfig",
    "RunOptions",
    "SpeckleConfig",
    "SpeckleEngine",
    "SpeckleMethod",
    "StageName",
    "TelescopeConfig",
    "Turn",
    "opt",
]
