"""Where arrays are computed, and who runs the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


class BackendName(Enum):
    """Array libraries."""

    auto = "auto"
    numpy = "numpy"
    cupy = "cupy"


@dataclass
class BackendConfig:
    """Where arrays are computed."""

    name: BackendName = opt(BackendName.auto, "array library; auto takes a GPU where there is one")
    threads: int | None = opt(
        None, "threads on the CPU; all that the process may use by default", unit="threads", ge=1
    )
    device: int = opt(0, "number of the GPU", unit="index", ge=0)


class ExecutorName(Enum):
    """Who runs the tasks."""

    serial = "serial"
    dask = "dask"


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
