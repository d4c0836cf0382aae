"""Help on the configuration for the terminal: groups and keys with their meaning, made from the schema."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stillsun.config.keys import schema_fields
from stillsun.config.reference import default_text, limits_text, type_text
from stillsun.config.schema import RunConfig

_HEAD = """\
stillsun run: from raw camera files to science-ready FITS.

  stillsun run observation_file=PATH              reduce an observation
  stillsun run observation_file=PATH plan=true    say what would be done, and stop
  stillsun run ... destretch.window=20            override a key
  stillsun run ... stages=[destretch,export]      run some stages only
  stillsun run ... -m destretch.kernels=[0,64,32],[0,128,64,32,12]    compare settings
  stillsun run --help destretch movie.size        help on some keys only
  stillsun run observation_file=PATH --cfg job    the configuration as a run would have it
"""
_FOOT = """\
The same as a page: docs/configuration.md. Options of Hydra itself (-m, --config-dir, completion):
stillsun run --hydra-help
"""
# What the reference says in words, as it is written on the command line.
_AS_WRITTEN = {"none": "null", "empty": "", "must be given": "???"}
# Groups that are no part of the whole configuration.
_OTHERS = {
    "camera": "cameras, for the channels of an observation",
    "channel": "known channels, for an observation file (defaults: /channel@channels.NAME: rosa_gband)",
    "experiment": "ready-made sweeps, run with -m",
}


def help_text(directory: Path, wanted: Sequence[str] = (), width: int = 100) -> str:
    """Help on groups, keys and parts of keys, or on all; empty if nothing is called so."""
    if wanted:
        lines = [*_groups(directory, width, wanted), *_wrapped(_wanted_keys(wanted), width)]
        return "\n".join(lines)
    every = _wrapped((text for _, text in _keys(RunConfig)), width)
    return "\n".join(
        [
            _HEAD,
            "== Groups: choose with group=option ==",
            "",
            *_groups(directory, width),
            "",
            "== Keys: override with key=value; below, with their defaults ==",
            "",
            *every,
            "",
            _FOOT,
        ]
    )


def _wanted_keys(wanted: Sequence[str]) -> list[str]:
    """Keys that begin so; where none does, those of that name in any stage."""
    keys = dict(_keys(RunConfig))
    found: dict[str, str] = {}
    for word in wanted:
        begun = {k: text for k, text in keys.items() if k == word or k.startswith(f"{word}.")}
        found |= begun or {k: text for k, text in keys.items() if f".{word}." in f"{k}."}
    return list(found.values())


def _wrapped(texts: Iterable[str], width: int) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, width, subsequent_indent="      ", break_on_hyphens=False)


def _groups(directory: Path, width: int, wanted: Sequence[str] = ()) -> Iterator[str]:
    fields = schema_fields(RunConfig)
    for group in sorted(p for p in directory.iterdir() if p.is_dir() and (not wanted or p.name in wanted)):
        options = sorted(option.stem for option in group.glob("*.yaml"))
        meaning = fields[group.name][1]["meaning"] if group.name in fields else _OTHERS[group.name]
        yield from _wrapped(
            [f"{group.name}: {', '.join(options) or 'yours, in --config-dir'}  ({meaning})"], width
        )


def _keys(schema: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name of every key, and what there is to know of it."""
    defaults: Mapping[str, dataclasses.Field[typing.Any]] = {f.name: f for f in dataclasses.fields(schema)}
    for name, (hint, metadata) in schema_fields(schema).items():
        key, arguments = f"{prefix}{name}", typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            yield from _keys(typing.cast(type, hint), f"{key}.")
            continue
        unit = f", {metadata['unit']}" if metadata["unit"] not in ("", "1") else ""
        kind = type_text(hint).replace("`", "")
        default = default_text(defaults[name]).strip("`")
        # As a shell takes it without quotes.
        value = _AS_WRITTEN.get(default, default.replace(", ", ",") if default.startswith("[") else default)
        yield key, f"{key}={value}  [{kind}{unit}] {metadata['meaning']}{limits_text(metadata)}"
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1]):
            yield from _keys(typing.cast(type, arguments[1]), f"{key}.NAME.")
