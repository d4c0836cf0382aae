"""What a finished header must hold; all findings at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from astropy.io import fits

from stillsun.sky.header import STEP_KEYS
from stillsun.sky.keywords import KEYWORDS, TABLE, card_comment
from stillsun.sky.times import mjd_of_text

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?")
_STEP = re.compile(rf"({'|'.join(STEP_KEYS)})(\d+)")
_MATRIX = re.compile(r"(PC|CD)\d+_\d+")
_AXIS = re.compile(r"(CTYPE|CUNIT|CNAME|CRVAL|CDELT|CRPIX|CROTA|CRDER|CSYER|PC|CD)\d.*|WCSNAME")
# Written around the table.
_OTHER = {"EXTEND", "CHECKSUM", "DATASUM", "COMMENT", "LONGSTRN"}
_TYPES: dict[str, Any] = {"text": str, "time": str, "int": int, "float": (float, int), "bool": bool}
# Half a millisecond at either end of a time.
_ROUNDING_S = 0.0011
_MJD_ERROR = 2e-9
# Names of earlier and other conventions for one value.
_SAME = (
    ("STARTOBS", "DATE-BEG"),
    ("DATE-OBS", "DATE-BEG"),
    ("ENDOBS", "DATE-END"),
    ("TEXPOSUR", "XPOSURE"),
    ("WAVE", "WAVELNTH"),
)


def check_header(header: fits.Header, *, frame: bool = True) -> list[str]:
    """
    Compare a header with the table and with itself.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header of a final file.
    frame : bool, optional
        False: of a calibration image, which needs no times, coordinates and steps.

    Returns
    -------
    list of str
        What is wrong, one line each; empty for a good header.
    """
    findings: list[str] = []
    for check in (_cards, _missing, _times, _coordinates, _steps) if frame else (_cards,):
        findings.extend(check(header))
    return findings


def _cards(header: fits.Header) -> Iterator[str]:
    seen: set[str] = set()
    for card in header.cards:
        name = card.keyword
        row = TABLE.get(name)
        if name in seen and name != "COMMENT":
            yield f"{name}: more than once"
        seen.add(name)
        if row is None:
            if name not in _OTHER and not _STEP.fullmatch(name):
                yield f"{name}: not in the table of keywords"
            continue
        value, kind = card.value, _TYPES[row.kind]
        if not isinstance(value, kind) or (row.kind in ("int", "float") and isinstance(value, bool)):
            yield f"{name}: expected {row.kind}, found {value!r}"
        elif row.kind == "time" and not _ISO.fullmatch(value):
            yield f"{name}: expected an ISO 8601 time, found {value!r}"
        # astropy has its own comments for the structural keywords.
        if row.source != "array" and not card_comment(row).startswith(card.comment):
            yield f"{name}: expected the comment {card_comment(row)!r}, found {card.comment!r}"


def _missing(header: fits.Header) -> Iterator[str]:
    yield from (f"{k.name}: missing" for k in KEYWORDS if k.required and k.name not in header)


def _times(header: fits.Header) -> Iterator[str]:
    dates = {k: header[k] for k in ("DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "DATEREF") if k in header}
    try:
        days = {k: mjd_of_text(v) for k, v in dates.items()}
    except (TypeError, ValueError):
        return  # already a finding of the cards
    for name, day in days.items():
        key = "MJDREF" if name == "DATEREF" else f"MJD-{name[-3:]}"
        if key in header and not abs(header[key] - day) < _MJD_ERROR:
            yield f"{key}: {header[key]} is not {name} = {dates[name]}"
    for name, other in _SAME:
        if name in header and header.get(other) != header[name]:
            yield f"{name}: expected {other} = {header.get(other)}, found {header[name]}"
    if not {"DATE-BEG", "DATE-AVG", "DATE-END"} <= days.keys():
        return
    if not days["DATE-BEG"] <= days["DATE-AVG"] <= days["DATE-END"]:
        yield "DATE-BEG, DATE-AVG, DATE-END: not in order"
    span = (days["DATE-END"] - days["DATE-BEG"]) * 86400.0
    if header.get("XPOSURE", 0.0) > span + _ROUNDING_S:
        yield f"XPOSURE: {header['XPOSURE']} s do not fit between DATE-BEG and DATE-END ({span:.3f} s)"


def _coordinates(header: fits.Header) -> Iterator[str]:
    names = list(header.keys())
    matrix = [n for n in names if _MATRIX.fullmatch(n)]
    if matrix and "CROTA2" in header:
        yield f"{', '.join(matrix)}: not allowed beside CROTA2"
    first = next((i for i, n in enumerate(names) if _AXIS.fullmatch(n)), None)
    if first is not None and "WCSAXES" in header and names.index("WCSAXES") > first:
        yield f"WCSAXES: expected before {names[first]}"
    for name in ("CDELT1", "CDELT2"):
        if isinstance(header.get(name), float) and not header[name] > 0:
            yield f"{name}: expected a positive scale, found {header[name]}"


def _steps(header: fits.Header) -> Iterator[str]:
    found = [m.groups() for m in map(_STEP.fullmatch, header.keys()) if m]
    numbers = [int(n) for key, n in found if key == "PRSTEP"]
    if not numbers:
        yield "PRSTEP1: missing"
    elif numbers != list(range(1, len(numbers) + 1)):
        yield f"PRSTEPn: expected 1 to {len(numbers)} in order, found {numbers}"
    yield from (f"{key}{n}: there is no PRSTEP{n}" for key, n in found if int(n) not in numbers)
    kinds = [header[f"PRSTEP{n}"] for n in numbers]
    repeated = sorted({k for k in kinds if kinds.count(k) > 1 and k != "SOLAR-ALIGN"})
    yield from (f"PRSTEPn: {kind} is given more than once" for kind in repeated)
