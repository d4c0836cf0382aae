"""Headers of final files, made from the table of keywords."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astropy.io import fits

from stillsun.sky.keywords import FIXED, KEYWORDS, TABLE, Keyword, card_comment


@dataclass(frozen=True)
class ProcessingStep:
    """
    One processing step as ``PRSTEPn`` and its companions describe it.

    Attributes
    ----------
    kind : str
        What was done.
    program, version : str
        Program that did it (``PRPROCn``, ``PRPVERn``).
    mode : str
        Variant of the method (``PRMODEn``).
    parameters : str
        Parameters, ``name=value`` separated by ``; `` (``PRPARAn``).
    reference : str
        What it refers to: a channel, an image (``PRREFn``).
    vocabulary : str
        Name of the step in SOLARNET's list where `kind` is not in it.
    """

    kind: str
    program: str
    version: str = ""
    mode: str = ""
    parameters: str = ""
    reference: str = ""
    vocabulary: str = ""


STEP_KEYS = {
    "PRSTEP": "kind",
    "PRPROC": "program",
    "PRPVER": "version",
    "PRMODE": "mode",
    "PRPARA": "parameters",
    "PRREF": "reference",
}
_STEP_MEANING = {
    "PRPROC": "Program of step {n}",
    "PRPVER": "Version of the program of step {n}",
    "PRMODE": "Mode of step {n}",
    "PRPARA": "Parameters of step {n}",
    "PRREF": "Reference of step {n}",
}


_GREEK = re.compile("GREEK (?:SMALL|CAPITAL) LETTER ([A-Z]+)")
_LETTERS = {"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}


class HeaderTemplate:
    """
    Headers of a sequence: what is common is laid out once, the rest filled in for each frame.

    Parameters
    ----------
    common : mapping
        Values that all frames share, by keyword; those of ``source`` "fixed" are added.
    steps : sequence of ProcessingStep, optional
        What was done, in order.
    comments : sequence of str, optional
        ``COMMENT`` cards.

    Notes
    -----
    A value of None, NaN or an empty text leaves its card out: FITS has no such values.
    """

    def __init__(
        self, common: Mapping[str, Any], steps: Sequence[ProcessingStep] = (), comments: Sequence[str] = ()
    ) -> None:
        self._common = {**FIXED, **common}
        self._steps = tuple(steps)
        self._comments = tuple(comments)
        self._laid_out: dict[tuple[str, ...], tuple[fits.Header, dict[str, Any]]] = {}

    def fill(self, frame: Mapping[str, Any]) -> fits.Header:
        """
        Header of one frame.

        Parameters
        ----------
        frame : mapping
            Values of this frame, by keyword.

        Returns
        -------
        astropy.io.fits.Header
            Complete but for the checksums, in the order of the table.

        Raises
        ------
        KeyError
            If a keyword is not in the table.
        """
        values = {name: card_value(TABLE[name], value) for name, value in frame.items()}
        values = {name: value for name, value in values.items() if value is not None}
        names = tuple(values)
        if names not in self._laid_out:
            made = build_header({**self._common, **values}, self._steps, self._comments)
            self._laid_out[names] = made, values
        laid_out, there = self._laid_out[names]
        header = laid_out.copy()
        for name, value in values.items():
            if value != there[name]:
                header[name] = value
        return header


def build_header(
    values: Mapping[str, Any], steps: Sequence[ProcessingStep] = (), comments: Sequence[str] = ()
) -> fits.Header:
    """
    A header in the order of the table.

    Parameters
    ----------
    values : mapping
        Values by keyword; None, NaN and empty texts are left out.
    steps : sequence of ProcessingStep, optional
        What was done, in order.
    comments : sequence of str, optional
        ``COMMENT`` cards.

    Returns
    -------
    astropy.io.fits.Header
        The header.

    Raises
    ------
    KeyError
        If a keyword is not in the table.
    """
    unknown = [name for name in values if name not in TABLE]
    if unknown:
        raise KeyError(f"not in the table of keywords: {', '.join(unknown)}")
    cards = []
    for row in KEYWORDS:
        value = card_value(row, values.get(row.name))
        if value is not None:
            cards.append(_card(row.name, value, card_comment(row)))
    for number, step in enumerate(steps, start=1):
        for key, attribute in STEP_KEYS.items():
            if value := getattr(step, attribute):
                cards.append(_card(f"{key}{number}", plain_text(value), _step_comment(key, number, step)))
    # Values that go on in CONTINUE cards are standard, but fitsverify asks for the older announcement.
    first_long = next((i for i, card in enumerate(cards) if len(card.image) > 80), None)
    if first_long is not None:
        cards.insert(first_long, fits.Card("LONGSTRN", "OGIP 1.0", "Long values go on in CONTINUE cards"))
    header = fits.Header(cards)
    for text in comments:
        header.add_comment(plain_text(text))
    return header


def plain_text(text: str) -> str:
    """
    A text in the letters that FITS headers may hold, printable ASCII.

    Parameters
    ----------
    text : str
        Any text: a name, a filter.

    Returns
    -------
    str
        Without accents, Greek letters by their names, ``?`` for what has no such form.
    """
    if text.isascii() and text.isprintable():
        return text
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(_plain_letter(c) for c in letters)


def _plain_letter(letter: str) -> str:
    if letter.isascii():
        return letter if letter.isprintable() else " "
    if letter in _LETTERS:
        return _LETTERS[letter]
    if greek := _GREEK.match(unicodedata.name(letter, "")):
        return greek[1].lower()
    return "-" if unicodedata.category(letter) == "Pd" else "?"


def card_value(row: Keyword, value: Any) -> Any:
    """
    A value as the card holds it.

    Parameters
    ----------
    row : Keyword
        The keyword.
    value : object
        Value of the right kind; None, NaN or an empty text for none.

    Returns
    -------
    object or None
        Plain Python value, floats rounded; None for a card to be left out.
    """
    if value is None:
        return None
    if row.kind in ("text", "time"):
        return plain_text(str(value)) or None
    if row.kind == "bool":
        return bool(value)
    if row.kind == "int":
        return int(value)
    # Adding zero turns -0.0 into 0.0.
    return float(format(value, row.form)) + 0.0 if math.isfinite(value) else None


def _card(name: str, value: Any, comment: str) -> fits.Card:
    # A comment that does not fit is cut here; astropy would warn.
    room = 80 - len(fits.Card(name, value, "").image.rstrip()) - 3
    return fits.Card(name, value, comment[: max(room, 0)].rstrip())


def _step_comment(key: str, number: int, step: ProcessingStep) -> str:
    if key != "PRSTEP":
        return _STEP_MEANING[key].format(n=number)
    words = f"{step.program} {step.version}".strip()
    return f"{words} ({step.vocabulary})" if step.vocabulary else words
