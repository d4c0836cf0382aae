"""
Checks of the configuration against the schema, and across stages; all findings at once.

Nothing here raises: each check returns findings, one line each, that name the key, what is wrong
and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from stillsun.config.keys import STAGE_SCHEMAS, find_key, schema_fields, shown, strip_optional, suggest
from stillsun.config.schema import (
    REQUIRED,
    AlignEngine,
    ChannelConfig,
    ObservationConfig,
    RunConfig,
    SpeckleEngine,
)

# Names of directories, and parts of keys.
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
# Names in the work directory that are not channels'.
_TAKEN = ("context_movies", "multirun", "report")
# What a draft leaves open.
FILL_IN = "FILL IN"


def check_tree(values: Mapping[str, Any], schema: type, prefix: str = "") -> Iterator[str]:
    """Compare a tree of plain values with a dataclass; `prefix` is the tree's key, for the messages."""
    fields = schema_fields(schema)
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in fields:
            meant = ""
            if schema is ObservationConfig and name in STAGE_SCHEMAS:
                meant = (
                    f"a stage's keys stand below a channel, channels.NAME.{name}, or on the command line; "
                )
            yield f"{key}: unknown key; {meant}{suggest(str(name), fields)}"
            continue
        hint, limits = fields[name]
        yield from check_value(key, value, hint, limits)
        if schema is ChannelConfig and name in STAGE_SCHEMAS and isinstance(value, Mapping):
            yield from check_tree(value, STAGE_SCHEMAS[name], f"{key}.")


def check_value(key: str, value: Any, hint: Any, limits: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Compare one value with its type and limits, which are the metadata of its field."""
    limits = limits or {}
    if isinstance(value, str) and value.strip().upper() == FILL_IN:
        yield f"{key}: to be filled in{_none(hint)}"
        return
    if value == REQUIRED:
        yield f"{key}: must be given ({limits.get('meaning', '')})"
        return
    if isinstance(value, str) and "${" in value:
        return
    inner, optional = strip_optional(hint)
    if value is None:
        if not optional:
            yield f"{key}: a value is needed, found null"
        return
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if dataclasses.is_dataclass(inner):
        if not isinstance(value, Mapping):
            yield f"{key}: expected a mapping, found {shown(value)}"
            return
        yield from check_tree(value, typing.cast(type, inner), f"{key}.")
    elif origin is list:
        if not isinstance(value, Sequence) or isinstance(value, str):
            such = ",".join([str(value)] * limits.get("length", 1)) if value not in (None, "") else "a,b"
            yield f"{key}: expected a list such as [{such}], found {shown(value)}"
            return
        if "length" in limits and len(value) != limits["length"]:
            yield f"{key}: expected {limits['length']} entries, found {len(value)}"
        rest = {k: v for k, v in limits.items() if k != "length"}
        for index, entry in enumerate(value):
            yield from check_value(f"{key}[{index}]", entry, arguments[0], rest)
    elif origin is dict:
        if not isinstance(value, Mapping):
            yield f"{key}: expected a mapping, found {shown(value)}"
            return
        if dataclasses.is_dataclass(arguments[1]):
            for name, entry in value.items():
                if not _NAME.fullmatch(str(name)):
                    yield f"{key}.{str(name)[:80]}: a name has letters, digits, _ and - only, 64 at most"
                elif name in _TAKEN:
                    yield f"{key}.{name}: no channel can be called so; the work directory needs the name"
                yield from check_value(f"{key}.{name}", entry, arguments[1])
    else:
        yield from _check_scalar(key, value, inner, limits)


def _check_scalar(key: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    if kind is Any:
        return
    if isinstance(kind, type) and issubclass(kind, Enum):
        name = value.name if isinstance(value, Enum) else value
        if not isinstance(name, str) or name not in kind.__members__:
            yield f"{key}: {shown(value)} is not a choice; allowed: {', '.join(kind.__members__)}"
        return
    if kind is bool:
        if not isinstance(value, bool):
            yield f"{key}: expected true or false, found {shown(value)}"
        return
    if kind in (int, float):
        good = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        if not good:
            noun = "a number" if kind is float else "a whole number"
            yield f"{key}: expected {noun}{_unit(limits)}, found {shown(value)}"
            return
        if not _is_finite(value):
            yield f"{key}: expected a finite number{_unit(limits)}, found {shown(value)}"
            return
        for name, text, fails in (
            ("ge", "at least", lambda v, x: v < x),
            ("gt", "above", lambda v, x: v <= x),
            ("le", "at most", lambda v, x: v > x),
        ):
            if name in limits and fails(value, limits[name]):
                yield f"{key}: must be {text} {limits[name]}{_unit(limits)}, found {shown(value)}"
        return
    if kind is str and isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        yield f"{key}: expected text, found {shown(value)}"
    elif kind is str and (fault := text_fault(str(value), limits.get("holds", ""))):
        yield f"{key}: {fault}, found {shown(value)}"


def text_fault(text: str, holds: str) -> str:
    """What is wrong with a text, in words; `holds`: it is a path, a pattern, a name, or anything."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        return "control characters and line ends have no place in it"
    parts = text.split("/")
    if holds == "path" and text.startswith("~") and parts[0] != "~":
        try:
            Path(parts[0]).expanduser()
        except RuntimeError:
            return f"there is no user {parts[0][1:]!r}"
    if holds == "name" and (len(parts) > 1 or text in ("", ".", "..")):
        return "expected a name without /"
    if holds != "pattern":
        return ""
    if not text.strip():
        return "expected a shell pattern, or null for no such files"
    if text.startswith("/") or ".." in parts:
        return "a pattern stays below its directory; put the rest of the path into directory"
    if any("**" in part and part != "**" for part in parts) or parts.count("**") > 1:
        return "** stands for directories of any depth, alone between slashes and once"
    return "" if len(text) <= 255 and set(text) - set("./") else "expected a shell pattern of file names"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _none(hint: Any) -> str:
    """How a key that is to be filled in is left without a value."""
    inner, optional = strip_optional(hint)
    if typing.get_origin(inner) is list:
        return "; none or [] for none"
    return "; null for none" if optional else ""


def check_key(key: str, value: Any) -> Iterator[str]:
    """Check one assignment of the command line, such as ``destretch.window`` and 5."""
    try:
        hint, limits = find_key(key)
    except KeyError as error:
        yield str(error.args[0])
        return
    yield from check_value(key, value, hint, limits)


def check_run(config: RunConfig, stages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Rules that join several keys; `stages` has each channel's options with its overrides applied."""
    channels = config.observation.channels
    if not channels:
        yield (
            "observation.channels: no channel; give an observation with observation_file=PATH, "
            "or with --config-dir DIR observation=NAME"
        )
        return
    known = ", ".join(channels)
    yield from (f"channels: no channel {c!r}; allowed: {known}" for c in config.channels if c not in channels)
    reference = config.observation.reference_channel
    if reference is not None and reference not in channels:
        yield f"observation.reference_channel: no channel {reference!r}; allowed: {known}"
    for name in _selected(config):
        earlier = name in stages and stages[name]["speckle"].engine is SpeckleEngine.fits
        role, what = ("reconstructed", "reconstructed frames") if earlier else ("data", "science frames")
        if getattr(channels[name], role).pattern is None:
            yield f"observation.channels.{name}.{role}.pattern: must be given (shell pattern of the {what})"
    for name, options in stages.items():
        if name in _selected(config):
            yield from _check_stages(name, channels[name], options)


def _check_stages(name: str, settings: ChannelConfig, options: Mapping[str, Any]) -> Iterator[str]:
    where = f"(channel {name})"
    kernels = options["destretch"].kernels
    sides = [k for k in kernels if k > 0]
    if not kernels:
        yield f"destretch.kernels {where}: must not be empty"
    elif 0 in kernels[1:]:
        yield f"destretch.kernels {where}: 0 (the whole frame) can only come first, found {kernels}"
    elif sorted(sides, reverse=True) != sides:
        yield f"destretch.kernels {where}: sides must not grow, found {kernels}"
    if any(0 < k < 4 for k in kernels):
        yield f"destretch.kernels {where}: a subfield needs at least 4 px, found {kernels}"
    speckle = options["speckle"]
    if speckle.engine is SpeckleEngine.kisip and speckle.kisip.bin is None:
        yield f"speckle.kisip.bin {where}: speckle=kisip needs the directory of the program and its mpirun"
    if speckle.engine is SpeckleEngine.kisip and speckle.subfield_arcsec > 10:
        yield (
            f"speckle.subfield_arcsec {where}: the external program fails above 10 arcsec, "
            f"found {speckle.subfield_arcsec}"
        )
    if settings.camera.file_shape is not None and any(
        f < s for f, s in zip(settings.camera.file_shape, settings.camera.shape, strict=True)
    ):
        yield (
            f"observation.channels.{name}.camera.file_shape: smaller than shape: "
            f"{settings.camera.file_shape} and {settings.camera.shape}"
        )
    align = options["align"]
    if align.engine is AlignEngine.none and (align.file is not None or align.verify):
        yield f"align.file, align.verify {where}: only used with align=hmi"


def _selected(config: RunConfig) -> list[str]:
    every = list(config.observation.channels)
    return [c for c in every if c in config.channels] or every


def _unit(limits: Mapping[str, Any]) -> str:
    return f" ({limits['unit']})" if limits.get("unit", "") not in ("", "1") else ""
