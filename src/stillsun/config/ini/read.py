"""An ini file as sections of text, in bounded time whatever the file holds."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from stillsun.errors import ConfigError

# A configuration with every keyword and comment has some 10 kB; the parser needs a second for these.
_LARGEST_FILE = 2**18
_LONGEST_LINE = 2000
_LONGEST_VALUE = 4096
_DEEPEST = 10
_REFERENCE = re.compile(r"%(?:%|\(([^)]*)\)s|)")


class NoReferenceError(ValueError):
    """A reference to another value that cannot be resolved."""


def read_ini(path: Path) -> dict[str, dict[str, str]]:
    """
    Sections and keywords as they are spelt, references not resolved; those of DEFAULT stand in each section.

    ConfigError if it is no file, too large, or no ini file.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError("cannot be read", file=path, expected="a file")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError("cannot be read", file=path, found=error.strerror) from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(
            "too large for an ini file of the superseded system",
            file=path,
            expected=f"at most {_LARGEST_FILE // 1024} kB",
            remedy="Give the configuration of one sequence",
        )
    try:
        said = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A name or a comment of before.
        said = content.decode("latin-1")
    for number, line in enumerate(said.splitlines(), start=1):
        if "\0" in line or len(line) > _LONGEST_LINE:
            fault = "NUL characters" if "\0" in line else f"more than {_LONGEST_LINE} characters"
            raise ConfigError(f"not an ini file: line {number} has {fault}", file=path)
    parser = configparser.RawConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(said, source=str(path))
    except configparser.Error as error:
        first = " ".join(str(error).split())
        raise ConfigError(
            f"not an ini file: {first if len(first) < 300 else first[:300] + '...'}",
            file=path,
            remedy="Correct the line, or remove what stands twice",
        ) from error
    return {name: dict(parser.items(name)) for name in parser.sections()}


class References:
    """Values of a section with ``%(keyword)s`` replaced by the value of that keyword."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._known: dict[str, str] = {}

    def resolve(self, keyword: str, depth: int = 0) -> str:
        """The value of a keyword; NoReferenceError if a reference in it leads nowhere or does not end."""
        if keyword not in self._known:
            if depth > _DEEPEST:
                raise NoReferenceError
            found = _REFERENCE.sub(lambda match: self._replace(match, depth), self._values[keyword])
            if len(found) > max(_LONGEST_VALUE, len(self._values[keyword])):
                raise NoReferenceError
            self._known[keyword] = found
        return self._known[keyword]

    def _replace(self, match: re.Match[str], depth: int) -> str:
        if match[0] == "%%":
            return "%"
        if match[1] not in self._values:
            raise NoReferenceError
        return self.resolve(match[1], depth + 1)
