"""The observation that is made of an ini file, and what became of each of its keywords."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stillsun.config.checks import check_key

# A keyword, its kind, and the key that it is carried over to.
Row = tuple[str, Callable[[str], Any], str]
# Other spellings, of the manual's text, the distributed sample and the code.
_ALIASES = {
    "dstrwindwo": "dstrwindow",
    **dict.fromkeys(
        ("kisipenvmpnproc", "kisipenvmpinproc", "kisipenvmpinprocs", "kisipenvmpiproc"), "kisipenvmpiprocs"
    ),
}


class Fate(Enum):
    """What became of a keyword."""

    carried = "carried over"
    remarked = "carried over, with a remark"
    dropped = "not carried over"
    faulty = "cannot be used"
    contradiction = "contradiction"
    unknown = "unknown"


@dataclass(frozen=True)
class Entry:
    """What became of one keyword, spelt as in the file; it is empty for a whole section."""

    section: str
    keyword: str
    value: str
    fate: Fate
    text: str

    def __str__(self) -> str:
        where = f"[{self.section}]" if self.section else "file"
        given = f" {self.keyword} = {self.value}" if self.keyword else ""
        return f"{where}{given}: {self.text}"


@dataclass
class Draft:
    """Keys of the group `observation` so far, the report, and what belongs on the command line."""

    tree: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    def say(self, section: str, fate: Fate, text: str) -> None:
        """Report something about a whole section."""
        self.entries.append(Entry(section, "", "", fate, text))

    def put(self, key: str, value: Any) -> str:
        """Set a dotted key below `observation`, or return what is wrong with it."""
        wrong = "; ".join(check_key(f"observation.{key}", value))
        if not wrong:
            *groups, name = key.split(".")
            here = self.tree
            for group in groups:
                here = here.setdefault(group, {})
            here[name] = value
        return wrong


class IniSection:
    """One section of an ini file; keywords that nobody asks for are unknown."""

    def __init__(self, draft: Draft, name: str, values: dict[str, str]) -> None:
        self.draft = draft
        self.name = name
        self._values = {_key(k): (k, v.strip()) for k, v in values.items()}
        self._asked: set[str] = set()

    def get(self, keyword: str) -> str:
        """Value of a keyword in any case; empty where it is not given."""
        return self._values.get(_key(keyword), ("", ""))[1]

    def note(self, keyword: str, fate: Fate, text: str) -> None:
        """Say what became of a keyword."""
        self._asked.add(_key(keyword))
        written, value = self._values.get(_key(keyword), (keyword, ""))
        self.draft.entries.append(Entry(self.name, written, value, fate, text))

    def value(self, keyword: str, convert: Callable[[str], Any]) -> Any:
        """Converted value; None where it is not given, or where it cannot be converted, which is noted."""
        self._asked.add(_key(keyword))
        text = self.get(keyword)
        if not text:
            return None
        try:
            return convert(text)
        except ValueError as error:
            self.note(keyword, Fate.faulty, f"expected {error}")
            return None

    def carry(self, keyword: str, convert: Callable[[str], Any], *keys: str, remark: str = "") -> Any:
        """Carry a keyword over to keys of the observation; returns the value, or None."""
        value = self.value(keyword, convert)
        if value is None:
            return None
        wrong = [text for text in (self.draft.put(key, value) for key in keys) if text]
        if wrong:
            self.note(keyword, Fate.faulty, wrong[0])
            return None
        fate = Fate.remarked if remark else Fate.carried
        self.note(keyword, fate, f"{_common_name(keys)} = {value!r}" + (f"; {remark}" if remark else ""))
        return value

    def carry_all(self, table: Iterable[Row], key: Callable[[str], Any]) -> dict[str, Any]:
        """Carry over the keywords of a table; `key` gives one key, or several, for its last column."""
        values = {}
        for keyword, convert, name in table:
            keys = key(name)
            values[keyword] = self.carry(keyword, convert, *([keys] if isinstance(keys, str) else keys))
        return values

    def rest(self) -> Iterator[str]:
        """Keywords that nobody has asked for, as written."""
        yield from (written for key, (written, _) in self._values.items() if key not in self._asked)

    @property
    def keywords(self) -> set[str]:
        """All keywords, in lower case and the manual's spelling."""
        return set(self._values)


def _common_name(keys: tuple[str, ...]) -> str:
    """Name of a key, or of the same key in several channels, with ``*`` for the channel."""
    parts = keys[0].split(".")
    if len(keys) > 1:
        parts[1] = "*"
    return ".".join(parts)


def _key(keyword: str) -> str:
    low = keyword.strip().lower()
    return _ALIASES.get(low, low)
