"""
Observation files are data, whoever wrote them: they set keys of the observation, and nothing else.

Their ``defaults`` name known channels and cameras by plain names, and their references point to other keys.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stillsun.config.checks import FILL_IN, check_tree
from stillsun.config.keys import STAGE_SCHEMAS, schema_fields, shown, strip_optional
from stillsun.config.plainyaml import read_mapping
from stillsun.config.schema import ObservationConfig
from stillsun.config.schema.option import REQUIRED
from stillsun.errors import ConfigError

_OPTION = re.compile(r"[A-Za-z0-9_-]+")
_KNOWN = "- /channel@channels.ROSA_GBAND: rosa_gband"
# Groups that the defaults of an observation, and of a known channel, may name, and where they put an option.
_OF_OBSERVATION = {"channel": r"channels\.[^.]+", "camera": r"channels\.[^.]+\.camera"}
_OF_GROUP: dict[str, dict[str, str]] = {"channel": {"camera": "camera"}, "camera": {}}
_REFERENCE = re.compile(r"\$\{(?!home:)([^${}]*)\}")
# Longest text that references may make, and what a key outside the file counts.
_LETTERS, _ELSEWHERE = 4_000, 100
_FINDINGS, _CHANNELS = 20, 50
# What starts a program, below the stage speckle.
_PROGRAM = ("bin", "lib", "mpirun", "executable")


def read_observation(
    path: Path, places: Sequence[Path], typed: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """
    Read an observation file with the known channels and cameras that it names.

    Returns plain values below ``observation``, without the keys of stages that the command line sets, and the
    file's faults. Known channels are looked for in `places` before the file's own directory.
    """
    own = read_mapping(path, "observation_file")
    if not own.get("channels") and not own.get("defaults"):
        raise ConfigError(
            "an observation file without channels", file=path, remedy="stillsun sort drafts one"
        )
    findings: list[str] = []
    tree = _with_defaults(own, _OF_OBSERVATION, [*places, path.parent], findings)
    tree = _without_none(tree, ObservationConfig)
    _drop(tree, [key.split(".")[1:] for key in typed if key.startswith("observation.")], (FILL_IN, REQUIRED))
    found = list(islice(check_tree(tree, ObservationConfig), _FINDINGS + 1))
    findings += found if len(found) <= _FINDINGS else [*found[:_FINDINGS], "and more"]
    if isinstance(channels := tree.get("channels"), dict) and len(channels) > _CHANNELS:
        findings.append(f"channels: at most {_CHANNELS}, found {len(channels)}")
    if not findings:
        for _, stage, values in _stages(tree):
            _drop(values, [key.split(".")[1:] for key in typed if key.startswith(f"{stage}.")])
        findings += [*_check_references(tree), *_check_program(tree)]
    return tree, [f"{path}: {finding}" for finding in findings]


def _with_defaults(
    own: dict[str, Any], groups: Mapping[str, str], places: Sequence[Path], findings: list[str]
) -> dict[str, Any]:
    """A file's values with what its ``defaults`` name, in their order."""
    defaults = own.pop("defaults", None)
    if not isinstance(defaults, list | None):
        findings.append(f"defaults: expected a list of lines such as {_KNOWN}, found {shown(defaults)}")
        return own
    lines = defaults or []
    tree: dict[str, Any] = {}
    for line in lines if "_self_" in lines else [*lines, "_self_"]:
        if line == "_self_":
            tree = _merged(tree, own)
            continue
        key, option = next(iter(line.items())) if isinstance(line, dict) and len(line) == 1 else (line, None)
        group, _, package = str(key).partition("@")
        if option is None:  # Hydra's other form: /channel/rosa_gband@channels.ROSA_GBAND
            group, _, option = group.rpartition("/")
        name = group.lstrip("/")
        if name not in groups or not re.fullmatch(groups[name], package):
            findings.append(f"defaults: {shown(line)}: only lines such as {_KNOWN}, and _self_")
        elif group != f"/{name}":
            findings.append(f"defaults: {key}: begins with /: /{name}@{package}: {option}")
        elif (found := _option(places, name, option)) is None:
            known = sorted({p.stem for place in places for p in (place / name).glob("*.yaml")})
            findings.append(f"defaults: {key}: no {shown(option)}; allowed: {', '.join(known)}")
        else:
            values = _with_defaults(read_mapping(found, name), _OF_GROUP[name], places, findings)
            for part in reversed(package.split(".")):
                values = {part: values}
            tree = _merged(tree, values)
    return tree


def _without_none(value: Any, hint: Any) -> Any:
    """``none`` where no value may be given: null, and of lists the empty one."""
    inner, optional = strip_optional(hint)
    origin = typing.get_origin(inner)
    if value == "none" and (origin is list or (optional and inner is str)):
        return None if optional else []
    if not isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(inner):
        fields = schema_fields(typing.cast(type, inner))
        return {k: _without_none(v, fields[k][0]) if k in fields else v for k, v in value.items()}
    if origin is dict:
        return {k: _without_none(v, typing.get_args(inner)[1]) for k, v in value.items()}
    return value


def _option(places: Sequence[Path], group: str, option: Any) -> Path | None:
    """File of an option in the first place that has it; links that leave the place do not count."""
    if not isinstance(option, str) or not _OPTION.fullmatch(option):
        return None
    for place in places:
        path = (place / group / f"{option}.yaml").resolve()
        if path.is_file() and path.is_relative_to(place.resolve()):
            return path
    return None


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{k: _merged(below[k], v) if k in below else v for k, v in above.items()}}


def _stages(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Channel, stage and the keys of the stage that the file sets."""
    channels = tree.get("channels")
    for name, channel in channels.items() if isinstance(channels, dict) else ():
        for stage in STAGE_SCHEMAS if isinstance(channel, dict) else ():
            if isinstance(values := channel.get(stage), dict):
                yield name, stage, values


def _drop(tree: dict[str, Any], keys: Iterable[Sequence[str]], only: Collection[Any] = ()) -> None:
    """Take keys out of a tree; `only`: where they have such a value."""
    for *parents, last in keys:
        inner: Any = tree
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and last in inner and (not only or inner[last] in only):
            del inner[last]


def _check_references(tree: Mapping[str, Any]) -> Iterator[str]:
    """References to themselves, and such as multiply."""
    sizes: dict[tuple[str, ...], int | None] = {}

    def size(path: tuple[str, ...]) -> int:
        """Letters of a value when its references are replaced; OverflowError where there is no end."""
        if path in sizes:
            if (known := sizes[path]) is None:
                raise OverflowError
            return known
        sizes[path] = None
        value: Any = tree
        for name in path:
            if isinstance(value, list) and name.isdecimal():
                value = dict(enumerate(value)).get(int(name))
            else:
                value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, dict):
            total = sum(size((*path, str(name))) for name in value)
        elif isinstance(value, list):
            total = sum(text_size((*path, str(k)), entry) for k, entry in enumerate(value))
        else:
            total = text_size(path, value)
        if total > _LETTERS and not isinstance(value, dict):
            raise OverflowError
        sizes[path] = total
        return total

    def text_size(path: tuple[str, ...], value: Any) -> int:
        if not isinstance(value, str):
            return _ELSEWHERE
        return len(value) + sum(size(_target(path, key)) for key in _REFERENCE.findall(value))

    for name in tree:
        try:
            size((name,))
        except (OverflowError, RecursionError):
            yield f"{name}: references that go round in circles, or make more than {_LETTERS} letters"


def _target(path: tuple[str, ...], key: str) -> tuple[str, ...]:
    """Place of what a reference names, below the observation."""
    names = key.lstrip(".")
    dots = len(key) - len(names)
    if dots:
        return (*path[: max(len(path) - dots, 0)], *names.split("."))
    first, *rest = names.split(".")
    return tuple(rest) if first == "observation" else ("", *names.split("."))


def _check_program(tree: Mapping[str, Any]) -> Iterator[str]:
    """An external program is run because a person asks for it, not because a file does."""
    for name, stage, values in _stages(tree):
        key = f"channels.{name}.{stage}"
        program = values.get("kisip")
        if stage == "speckle" and "${" in str(values):
            yield f"{key}: no references in the keys of this stage"
        elif values.get("engine") == "kisip" and isinstance(program, dict) and set(program) & set(_PROGRAM):
            yield (
                f"{key}: an observation file cannot have a program run; to run that in "
                f"{program.get('bin')}, give speckle=kisip on the command line"
            )
