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
    holds : {"path", "pattern", "name"}, optional
        What a text is: a path, a shell pattern below a directory, or a file's name.

    Returns
    -------
    dataclasses.Field
        The field.
    """
    limits = {"ge": ge, "gt": gt, "le": le, "length": length, "holds": holds}
    metadata = {"meaning": meaning, "unit": unit, **{k: v for k, v in limits.items() if v is not None}}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
