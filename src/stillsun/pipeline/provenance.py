"""The record of a run: program, versions, configuration, tasks, times."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stillsun import __version__
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.pipeline.digest import plain
from stillsun.pipeline.workspace import write_json

PROVENANCE = {"program": "stillsun", "version": __version__}
_PACKAGES = ("numpy", "scipy", "numba", "h5py", "astropy", "sunpy", "hydra-core", "cupy")


def write_manifest(path: Path, settings: Settings, backend: Backend, tasks: dict[str, Any]) -> None:
    """
    Write what was run, with which configuration and versions, and how it ended.

    Parameters
    ----------
    path : Path
        JSON file.
    settings : Settings
        Checked configuration.
    backend : Backend
        What computed.
    tasks : dict
        Task to its digest, state, seconds, error and notes.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    record = {
        **PROVENANCE,
        "python": platform.python_version(),
        "packages": versions,
        "machine": platform.platform(),
        "backend": backend.device,
        "command": sys.argv,
        "configuration": plain(settings.run),
        "tasks": tasks,
    }
    write_json(path, record)
