"""
The names of Hydra that are used here, its private ones among them, loaded when first asked for.

A checked configuration is made, and the record of a run read back, without most of Hydra, which takes
longer to load than all else that looking at a work directory needs.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "compose": "hydra",
    "initialize_config_dir": "hydra",
    "main": "hydra",
    "ConfigStore": "hydra.core.config_store",
    "GlobalHydra": "hydra.core.global_hydra",
    "HydraConfig": "hydra.core.hydra_config",
    "OverridesParser": "hydra.core.override_parser.overrides_parser",
    "HydraException": "hydra.errors",
    "RunMode": "hydra.types",
    # Private: they may move with a new minor version, which is why pyproject.toml names the newest one tried.
    "BasicSweeper": "hydra._internal.core_plugins.basic_sweeper",
    "get_args_parser": "hydra._internal.utils",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
