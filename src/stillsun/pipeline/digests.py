"""Digests of what results are made from: values of the configuration, and files by their size and time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from stillsun.errors import ConfigError


def plain(value: Any) -> Any:
    """Turn configuration objects into values that JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """Digest of anything that `plain` understands, 32 hexadecimal digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def files_digest(files: Iterable[Path]) -> str:
    """Digest of files by name, size and time of change; their content is not read."""
    found = [(file.name, file.stat()) for file in files]
    return digest([[name, status.st_size, status.st_mtime_ns] for name, status in found])


def file_digest(observation: Any, options: Any, stage: str, key: str) -> str:
    """Digest of the file that an option of a stage, or else of the observation, names."""
    value, name = getattr(options, key, None), f"{stage}.{key}"
    if value is None:
        value, name = getattr(observation, key, None), f"observation.{key}"
    if value is None:
        return "none"
    path = Path(value)
    if not path.is_file():
        raise ConfigError(
            f"{name}: no such file", file=path, remedy="Correct the path or set the key to null"
        )
    return files_digest([path])
