"""From plain values to checked settings: of a configuration that was composed, or of a run's record."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from stillsun.config.checks import check_run, check_tree
from stillsun.config.keys import STAGE_SCHEMAS, schema_fields, strip_optional
from stillsun.config.schema import ChannelConfig, RunConfig, StageName
from stillsun.config.settings import Settings
from stillsun.errors import ConfigError


def checked_settings(values: Mapping[str, Any]) -> Settings:
    """Check plain values, interpolations resolved, and turn them into the objects of the schema."""
    if findings := list(check_tree(values, RunConfig)):
        raise ConfigError(findings=findings)
    run: RunConfig = _value(values, RunConfig)
    stages = {name: _stages_of(run, channel) for name, channel in run.observation.channels.items()}
    if findings := list(check_run(run, stages)):
        raise ConfigError(findings=findings)
    return Settings(run, stages)


def settings_from_record(configuration: Mapping[str, Any], work: Path) -> Settings:
    """Settings of a run from its record, for all channels and stages; its directory may have been moved."""
    everything = {"channels": [], "stages": list(StageName.__members__), "force": [], "plan": False}
    observation = {**configuration["observation"], "work_dir": str(work)}
    return checked_settings({**configuration, **everything, "observation": observation})


def _stages_of(run: RunConfig, channel: ChannelConfig) -> dict[str, Any]:
    """Options of every stage for a channel: those of all channels, but for what it sets itself."""
    return {name: _with(getattr(run, name), getattr(channel, name, None) or {}) for name in STAGE_SCHEMAS}


def _with(options: Any, values: Mapping[str, Any]) -> Any:
    """A copy of an object with other values in some places."""
    changes = {}
    for name, (hint, _) in schema_fields(options.__class__).items():
        present = getattr(options, name)
        if dataclasses.is_dataclass(present):
            changes[name] = _with(present, values.get(name) or {})
        else:
            changes[name] = _value(values.get(name, present), hint)
    return dataclasses.replace(options, **changes)


def _value(value: Any, hint: Any) -> Any:
    """A checked plain value as the schema's type has it: copied, numbers and choices converted."""
    kind, _ = strip_optional(hint)
    if value is None or kind is Any:
        return at_home(value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        fields = schema_fields(typing.cast(type, kind))
        return typing.cast(type, kind)(
            **{name: _value(entry, fields[name][0]) for name, entry in value.items()}
        )
    if origin is list:
        return [_value(entry, arguments[0]) for entry in value]
    if origin is dict:
        return {str(name): _value(entry, arguments[1]) for name, entry in value.items()}
    if issubclass(kind, Enum):
        return value if isinstance(value, kind) else kind[value]
    return at_home(kind(value))


def at_home(value: Any) -> Any:
    """Expand ``~`` at the beginning of texts, which no shell does behind ``=``."""
    if isinstance(value, str):
        return str(Path(value).expanduser()) if value == "~" or value.startswith("~/") else value
    if isinstance(value, dict):
        return {key: at_home(entry) for key, entry in value.items()}
    return [at_home(entry) for entry in value] if isinstance(value, list) else value
