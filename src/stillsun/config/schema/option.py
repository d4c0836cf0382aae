"""How an option is declared: default, meaning, unit and limits in one place."""

from __future__ import annotations

import dataclasses
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
    holds: str | None = None,
) -> Any:
    """Declare one option."""
    limits = {"ge": ge, "gt": gt, "le": le, "length": length, "holds": holds}
    metadata = {"meaning": meaning, "unit": unit, **{k: v for k, v in limits.items() if v is not None}}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
