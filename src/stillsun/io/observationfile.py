"""An observation file as text: the YAML that `stillsun run observation_file=PATH` reads, with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# Words that YAML takes for something else than text.
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

Key = tuple[str, ...]


def observation_text(
    tree: Mapping[str, Any],
    *,
    header: Sequence[str] = (),
    comments: Mapping[Key, Sequence[str]] | None = None,
) -> str:
    """
    Write an observation.

    Parameters
    ----------
    tree : mapping
        Keys of the group `observation`: mappings, lists, text, numbers, true and false, None. A list of
        mappings is written one entry a line, as Hydra's `defaults` are.
    header : sequence of str
        Comment lines at the top, without their ``#``.
    comments : mapping, optional
        Key, as the tuple of names from the root, to comment lines above it.

    Returns
    -------
    str
        YAML; what stands in it is read back as it was.
    """
    lines = [_comment(line) for line in header]
    lines += _mapping(tree, (), comments or {})
    return "\n".join(lines) + "\n"


def _mapping(tree: Mapping[str, Any], path: Key, comments: Mapping[Key, Sequence[str]]) -> Iterator[str]:
    indent = "  " * len(path)
    for name, value in tree.items():
        here = (*path, name)
        yield from (indent + _comment(line) for line in comments.get(here, ()))
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_text(name)}:"
            yield from _mapping(value, here, comments)
        elif isinstance(value, Sequence) and not isinstance(value, str) and any(map(_is_mapping, value)):
            yield f"{indent}{_text(name)}:"
            for entry in value:
                yield f"{indent}  - {_entry(entry)}"
        else:
            yield f"{indent}{_text(name)}: {_value(value)}"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _entry(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return _value(entry)
    return ", ".join(f"{name}: {_value(value)}" for name, value in entry.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(k)}: {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return _text(str(value))


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # A JSON string is a YAML string; an interpolation is not meant.
    return json.dumps(text.replace("${", r"\${"), ensure_ascii=False)


def _comment(line: str) -> str:
    return f"# {line}".rstrip()
