"""What makes a product reusable: a digest of all that its content depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """
    Turn configuration objects into values that JSON can hold.

    Parameters
    ----------
    value : object
        Dataclasses, enumerations, paths, mappings, sequences, numbers, text.

    Returns
    -------
    object
        Plain value.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def digest(value: Any) -> str:
    """
    Digest of a value.

    Parameters
    ----------
    value : object
        Anything `plain` understands.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def files_digest(files: Iterable[Path]) -> str:
    """
    Digest of raw files by name, size and time of change; their content is not read.

    Parameters
    ----------
    files : iterable of Path
        Files in their order.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    items = []
    for file in files:
        status = file.stat()
        items.append([file.name, status.st_size, status.st_mtime_ns])
    return digest(items)
