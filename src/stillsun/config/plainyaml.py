"""YAML of unknown origin as plain values: bounded before it is loaded, no tags, no resolvers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from stillsun.errors import ConfigError

# An observation of ten channels with all its comments has 20,000 bytes, 700 values and 7 levels.
_BYTES, _VALUES, _LEVELS, _LETTERS = 200_000, 5_000, 16, 2_000
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
_TIMES = "tag:yaml.org,2002:timestamp"
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
# ${observation.name}, ${.name}, ${home:${.name}/night}; \0 stands for a reference within the last.
_REFERENCE = re.compile(r"\$\{(?:\.*[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|home:[A-Za-z0-9_./\0-]*)\}")


class _Loader(yaml.SafeLoader):
    """As OmegaConf reads YAML: 1e-3 is a number, a time is text, no key stands twice."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [pair for pair in pairs if pair[0] != _TIMES]
        for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == self.DEFAULT_SCALAR_TAG and key.value in keys:
                raise _refused(key, f"the key {key.value!r} stands twice")
            keys.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _Refused(Exception):
    """What is more than plain data of bounded size."""


def _refused(at: Any, said: str) -> _Refused:
    return _Refused(f"line {at.start_mark.line + 1}: {said}")


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a mapping of plain data from a YAML file that anybody may have written."""
    if not path.is_file():
        found = "a directory, not a file" if path.is_dir() else "no such file"
        raise ConfigError(f"{what}: {found}", file=path, remedy="Give the path of an observation file")
    with path.open("rb") as file:
        data = file.read(_BYTES + 1)
    try:
        if len(data) > _BYTES:
            raise _Refused(f"larger than {_BYTES} bytes")
        text = data.decode()
        _check(text)
        loaded = {} if (read := yaml.load(text, Loader=_Loader)) is None else read
    except _Refused as error:
        remedy = "Such a file is plain data; docs/trust.md says what it may hold"
        raise ConfigError(f"{what}: {error}", file=path, remedy=remedy) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
        raise ConfigError(f"not readable as YAML: {'; '.join(lines[:3])[:300]}", file=path) from error
    if not isinstance(loaded, dict):
        raise ConfigError("an observation file is a mapping of keys", file=path, found=type(loaded).__name__)
    return {str(key): value for key, value in loaded.items()}


def _check(text: str) -> None:
    """Refuse what is not bounded, counting what anchors repeat, and what is not plain."""
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchor and count at the beginning
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _refused(event, f"*{event.anchor} is not defined above")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            tag = getattr(event, "tag", None)
            if tag not in (None, "!") and tag not in _TAGS:
                raise _refused(event, f"a tag: {tag[:80]}")
            if isinstance(event, yaml.ScalarEvent):
                sizes[event.anchor or ""] = 1
                _check_scalar(event)
            else:
                open_.append((event.anchor, count - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            sizes[anchor or ""] = count - before
        if count > _VALUES:
            raise _refused(event, f"more than {_VALUES} values, those that anchors repeat included")
        if len(open_) > _LEVELS:
            raise _refused(event, f"nested deeper than {_LEVELS} levels")


def _check_scalar(event: yaml.ScalarEvent) -> None:
    if len(event.value) > _LETTERS:
        raise _refused(event, f"a value of more than {_LETTERS} letters")
    rest, before = event.value, ""
    while rest != before:  # from the innermost reference outwards
        before = rest
        rest = _REFERENCE.sub("\0", rest)
    if "${" in rest or "\\${" in event.value:
        raise _refused(
            event, f"{event.value[:80]!r}: a reference names a key, ${{observation.KEY}}, or ${{home:PATH}}"
        )
    if re.search(r"\bhydra\b", "".join(re.findall(r"\$\{[^}]*\}", event.value))):
        raise _refused(event, f"{event.value[:80]!r}: nothing of hydra")
