"""Values of the superseded system's ini files, and what became of each keyword."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stillsun.config.checks import check_key


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
    """
    What became of one keyword.

    Attributes
    ----------
    section, keyword, value : str
        As in the ini file; the keyword is empty for a whole section.
    fate : Fate
        What became of it.
    text : str
        The new key, or the reason.
    """

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
    """
    The observation as far as it is made, and the report.

    Attributes
    ----------
    tree : dict
        Keys of the group `observation`.
    entries : list of Entry
        What became of each keyword so far.
    overrides : list of str
        What cannot stand in an observation file and belongs on the command line.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    def put(self, path: tuple[str, ...], value: Any) -> str:
        """
        Set a key after a check against the schema.

        Parameters
        ----------
        path : tuple of str
            Key below `observation`.
        value : object
            Plain value.

        Returns
        -------
        str
            What is wrong with it, in which case it is not set; else empty.
        """
        wrong = "; ".join(check_key(".".join(("observation", *path)), value))
        if not wrong:
            here = self.tree
            for name in path[:-1]:
                here = here.setdefault(name, {})
            here[path[-1]] = value
        return wrong


class Section:
    """
    One section of an ini file, of which each keyword is asked for once.

    Parameters
    ----------
    draft : Draft
        Where the entries go.
    name : str
        Name of the section.
    values : dict of str to str
        Keywords as written, and their values.
    """

    def __init__(self, draft: Draft, name: str, values: dict[str, str]) -> None:
        self.draft = draft
        self.name = name
        self._values = {_key(k): (k, v.strip()) for k, v in values.items()}
        self._asked: set[str] = set()

    def get(self, keyword: str) -> str:
        """
        Value of a keyword.

        Parameters
        ----------
        keyword : str
            Keyword, in any case.

        Returns
        -------
        str
            Its value; empty where it is not given.
        """
        return self._values.get(_key(keyword), ("", ""))[1]

    def note(self, keyword: str, fate: Fate, text: str) -> None:
        """
        Say what became of a keyword.

        Parameters
        ----------
        keyword : str
            Keyword, in any case.
        fate : Fate
            What became of it.
        text : str
            The new key, or the reason.
        """
        self._asked.add(_key(keyword))
        written, value = self._values.get(_key(keyword), (keyword, ""))
        self.draft.entries.append(Entry(self.name, written, value, fate, text))

    def value(self, keyword: str, convert: Callable[[str], Any]) -> Any:
        """
        Converted value of a keyword.

        Parameters
        ----------
        keyword : str
            Keyword, in any case.
        convert : callable
            Makes a plain value of the text; raises ValueError with what is expected.

        Returns
        -------
        object
            The value; None where it is not given, or where it cannot be converted, which is noted.
        """
        self._asked.add(_key(keyword))
        text = self.get(keyword)
        if not text:
            return None
        try:
            return convert(text)
        except ValueError as error:
            self.note(keyword, Fate.faulty, f"expected {error}")
            return None

    def carry(
        self, keyword: str, convert: Callable[[str], Any], *paths: tuple[str, ...], remark: str = ""
    ) -> Any:
        """
        Carry a keyword over to one or several keys of the observation.

        Parameters
        ----------
        keyword : str
            Keyword, in any case.
        convert : callable
            As for `value`.
        *paths : tuple of str
            Keys below `observation`.
        remark : str
            What the user should know about it.

        Returns
        -------
        object
            The value; None where there is none.
        """
        value = self.value(keyword, convert)
        if value is None:
            return None
        wrong = [text for text in (self.draft.put(path, value) for path in paths) if text]
        if wrong:
            self.note(keyword, Fate.faulty, wrong[0])
            return None
        target = target_of(paths)
        fate = Fate.remarked if remark else Fate.carried
        self.note(keyword, fate, f"{target} = {value!r}" + (f"; {remark}" if remark else ""))
        return value

    def rest(self) -> Iterator[tuple[str, str]]:
        """
        Keywords that nobody has asked for.

        Yields
        ------
        str, str
            Keyword as written, and its value.
        """
        yield from (pair for key, pair in self._values.items() if key not in self._asked)

    @property
    def keywords(self) -> set[str]:
        """All keywords, in lower case and the manual's spelling."""
        return set(self._values)


def target_of(paths: tuple[tuple[str, ...], ...]) -> str:
    """
    Name of the key, or of the same key in several channels.

    Parameters
    ----------
    paths : tuple of tuple of str
        Keys below `observation`.

    Returns
    -------
    str
        Dotted key; ``*`` for the channel where there are several.
    """
    first = list(paths[0])
    if len(paths) > 1:
        first[1] = "*"
    return ".".join(first)


# Other spellings, of the manual's text, the distributed sample and the code.
_ALIASES = {
    "dstrwindwo": "dstrwindow",
    "kisipenvmpnproc": "kisipenvmpiprocs",
    "kisipenvmpinproc": "kisipenvmpiprocs",
    "kisipenvmpinprocs": "kisipenvmpiprocs",
    "kisipenvmpiproc": "kisipenvmpiprocs",
}


def _key(keyword: str) -> str:
    low = keyword.strip().lower()
    return _ALIASES.get(low, low)
