"""Keys of the configuration: what the schema says of each, by its dotted name."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

from stillsun.config.schema import ChannelConfig, RunConfig, StageName

# Stages whose options a channel may override.
STAGE_SCHEMAS: dict[str, Any] = {
    name: hint
    for name, hint in typing.get_type_hints(RunConfig).items()
    if name in StageName.__members__ and dataclasses.is_dataclass(hint)
}


@cache
def schema_fields(schema: type) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Fields of a dataclass of the schema: name to (type, metadata)."""
    hints = typing.get_type_hints(schema)
    return {f.name: (hints[f.name], f.metadata) for f in dataclasses.fields(schema)}


def find_key(key: str) -> tuple[Any, Mapping[str, Any]]:
    """Type and metadata of a key; KeyError with the reason in words if there is none."""
    hint: Any = RunConfig
    limits: Mapping[str, Any] = {}
    parts = key.split(".")
    inside_channel = False
    for index, part in enumerate(parts):
        here, _ = strip_optional(hint)
        if typing.get_origin(here) is dict:
            if inside_channel:
                # A stage's keys below a channel.
                hint, limits = STAGE_SCHEMAS[parts[index - 1]], {}
                here = hint
            else:
                hint, limits = typing.get_args(here)[1], {}
                inside_channel = hint is ChannelConfig
                continue
        if not dataclasses.is_dataclass(here):
            meant = f"; did you mean observation.{key}?" if parts[0] == "channels" else ""
            raise KeyError(f"{key}: {'.'.join(parts[:index])} has no keys below it{meant}")
        fields = schema_fields(typing.cast(type, here))
        if part not in fields:
            raise KeyError(
                f"{key}: unknown key; {_of_a_stage(part) if not index else ''}{suggest(part, fields)}"
            )
        hint, limits = fields[part]
    return hint, limits


def _of_a_stage(name: str) -> str:
    """Words on keys of stages that are called so."""
    found = [f"{stage}.{name}" for stage, schema in STAGE_SCHEMAS.items() if name in schema_fields(schema)]
    return f"did you mean {' or '.join(found)}? " if found else ""


def value_choices(key: str) -> list[str]:
    """Values that a key may have, as they are written; empty if they cannot be listed."""
    try:
        hint, optional = strip_optional(find_key(key)[0])
    except KeyError:
        return []
    if isinstance(hint, type) and issubclass(hint, Enum):
        found = list(hint.__members__)
    elif hint is bool:
        found = ["true", "false"]
    else:
        return []
    return [*found, "null"] if optional else found


def strip_optional(hint: Any) -> tuple[Any, bool]:
    """Type of a key without the permission to be null, and whether it has that."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        return rest[0], True
    return hint, False


def suggest(name: str, allowed: Mapping[str, Any]) -> str:
    """Words on what may stand in place of a name that is unknown."""
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def shown(value: Any, letters: int = 80) -> str:
    """A value in a message, never long."""
    text = repr(value)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
