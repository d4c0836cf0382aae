"""The configuration reference, made from the schema."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from stillsun.config.keys import STAGE_SCHEMAS, schema_fields
from stillsun.config.schema import REQUIRED, RunConfig

_HEAD = """\
# Configuration reference

Made from the schema by `scripts/reference`; a test fails when it is out of date.

Every key can be given on the command line (`stillsun run destretch.window=20`), in an observation
file (`observation` and below), or in a file of your own in `--config-dir`. The keys of a stage can
be set for one channel below that channel (`channels.ROSA_CAK.destretch.kernels` in an observation
file). The command line wins over the file ([more](trust.md)). A pure number has the unit 1, and what
is no number has none (–).
"""

# Of what is no number.
_NO_UNIT = "–"


def reference_markdown() -> str:
    """Write the reference."""
    parts = [_HEAD]
    parts += [_table("Run", RunConfig, "")]
    fields = schema_fields(RunConfig)
    sections = {name: hint for name, (hint, _) in fields.items() if dataclasses.is_dataclass(hint)}
    for name, hint in sections.items():
        parts += _sections(name, typing.cast(type, hint))
    return "\n".join(parts)


def _sections(prefix: str, schema: type) -> Iterator[str]:
    yield _table(f"`{prefix}`", schema, f"{prefix}.")
    for name, (hint, _) in schema_fields(schema).items():
        if dataclasses.is_dataclass(hint):
            yield from _sections(f"{prefix}.{name}", typing.cast(type, hint))
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1]):
            yield from _sections(f"{prefix}.{name}.NAME", typing.cast(type, arguments[1]))


def _table(title: str, schema: type, prefix: str) -> str:
    lines = [
        f"## {title}",
        "",
        schema.__doc__ or "",
        "",
        "| key | type | default | unit | meaning |",
        "|---|---|---|---|---|",
    ]
    defaults = {f.name: f for f in dataclasses.fields(schema)}
    for name, (hint, metadata) in schema_fields(schema).items():
        if dataclasses.is_dataclass(hint):
            continue
        default = default_text(defaults[name])
        meaning = metadata["meaning"] + limits_text(metadata)
        if name in STAGE_SCHEMAS:
            meaning += f" (see `{name}`)"
        unit = metadata["unit"] or _NO_UNIT
        lines.append(f"| `{prefix}{name}` | {type_text(hint)} | {default} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"


def default_text(item: dataclasses.Field[Any]) -> str:
    """Default value of a key in words."""
    if item.default is not dataclasses.MISSING:
        value = item.default
    else:
        value = item.default_factory() if callable(item.default_factory) else None
    if value == REQUIRED:
        return "must be given"
    if value is None:
        return "none"
    if isinstance(value, Mapping) or value == "":
        return "empty"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return str(value)


def type_text(hint: Any) -> str:
    """Type of a key in words."""
    arguments = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{m}`" for m in hint.__members__)
    if typing.get_origin(hint) is list:
        return f"list of {type_text(arguments[0])}"
    if typing.get_origin(hint) is dict:
        return "mapping"
    if type(None) in arguments:
        return " or ".join(type_text(a) for a in arguments if a is not type(None)) + " or none"
    return {int: "whole number", float: "number", str: "text", bool: "true, false"}.get(hint, str(hint))


def limits_text(metadata: Mapping[str, Any]) -> str:
    """Limits of a key in words."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "length": "entries:"}
    found = [f"{text} {metadata[key]}" for key, text in words.items() if key in metadata]
    return f" ({', '.join(found)})" if found else ""
