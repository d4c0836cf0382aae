"""The table of a channel's images, ``sequence.ecsv``: one row an image, from the headers of the files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table

FILE = "sequence.ecsv"
# Cards that all files of a channel share, by what the table calls them.
_SHARED = {
    "observation": "POINT_ID",
    "channel": "DETECTOR",
    "wavelength_nm": "WAVELNTH",
    "cadence_s": "CADENCE",
    "telescope": "TELESCOP",
    "program": "CREATOR",
    "version": "VERS_SW",
}
_POINTING_ERROR = ("CSYER1", "CSYER2")
_PIXELS = ("NTOTPIX", "NMASKPIX")


@dataclass(frozen=True)
class SequenceColumn:
    """One column: its name, the type of its values, unit, meaning, and the cards that tell it."""

    name: str
    kind: str
    unit: str
    meaning: str
    cards: tuple[str, ...]

    def read(self, header: Mapping[str, Any]) -> Any:
        """Its value in a header; None where that says nothing."""
        if self.cards == _PIXELS:
            return _valid_share(header)
        found = [header[card] for card in self.cards if card in header]
        return max(found) if found else None


def _valid_share(header: Mapping[str, Any]) -> float | None:
    total, missing = (header.get(card) for card in _PIXELS)
    return None if not total or missing is None else 1 - missing / total


COLUMNS: tuple[SequenceColumn, ...] = tuple(
    SequenceColumn(name, kind, unit, meaning, (cards,) if isinstance(cards, str) else cards)
    for name, kind, unit, meaning, cards in (
        ("index", "int64", "", "number of the image in its sequence, from 0", "IMG_NUM"),
        ("file", "str", "", "FITS file, from the directory of this table", "FILE"),
        ("date_beg", "str", "", "UTC, start of the first exposure", "DATE-BEG"),
        ("date_avg", "str", "", "UTC, mean of the exposures", "DATE-AVG"),
        ("date_end", "str", "", "UTC, end of the last exposure", "DATE-END"),
        ("r0_cm", "float64", "cm", "Fried parameter at the channel's wavelength", "ATMOS_R0"),
        ("mfgs", "float64", "", "median filter-gradient similarity, middle of the field", "MFGS"),
        ("contrast", "float64", "", "rms contrast, middle of the field", "CONTRAST"),
        ("residual_px", "float64", "pix", "shift left over after destretch, rms length", "DSRESID"),
        ("scintillation", "float64", "arcsec", "Seykora scintillation monitor", "SCINT"),
        ("light_level", "float64", "V", "light level at the telescope", "LLVL"),
        ("crval1", "float64", "arcsec", "solar X of the reference pixel at date_avg", "CRVAL1"),
        ("crval2", "float64", "arcsec", "solar Y of the reference pixel at date_avg", "CRVAL2"),
        ("crota2", "float64", "deg", "solar north is so far clockwise of axis 2", "CROTA2"),
        ("pointing_error", "float64", "arcsec", "systematic error of crval1, crval2", _POINTING_ERROR),
        ("exposures_used", "int64", "", "exposures that the image is made of", "NSUMEXP"),
        ("valid_share", "float64", "", "share of the pixels that did not come from nowhere", _PIXELS),
        ("quality", "int64", "", "sum of flags, see the documentation; 0: good", "QUALITY"),
    )
)
#: All cards that the table is made of.
CARDS = frozenset(_SHARED.values()).union(*(column.cards for column in COLUMNS))


def sequence_table(headers: Iterable[Mapping[str, Any]], files: Iterable[str]) -> Table:
    """
    The table of some files.

    Parameters
    ----------
    headers : iterable of mapping
        Header of each file.
    files : iterable of str
        What the column ``file`` says.

    Returns
    -------
    astropy.table.Table
        With units and descriptions; NaN, or -1 for whole numbers, where a header says nothing.
    """
    from astropy.table import Column, Table

    values: dict[str, list[Any]] = {column.name: [] for column in COLUMNS}
    shared: dict[str, Any] = {}
    for number, (header, file) in enumerate(zip(headers, files, strict=True)):
        if not number:
            shared = {name: header[card] for name, card in _SHARED.items() if card in header}
        for column in COLUMNS:
            found = file if column.name == "file" else column.read(header)
            if found is None and column.name == "index":
                found = number
            values[column.name].append(found)
    kinds = {"str": ("", str), "int64": (-1, np.int64), "float64": (math.nan, np.float64)}
    made = []
    for column in COLUMNS:
        nothing, kind = kinds[column.kind]
        filled = [nothing if v is None else v for v in values[column.name]]
        made.append(
            Column(np.array(filled, kind), column.name, unit=column.unit or None, description=column.meaning)
        )
    return Table(made, meta=shared)


def table_text(table: Table) -> str:
    """
    The table as it is stored.

    Parameters
    ----------
    table : astropy.table.Table
        The table.

    Returns
    -------
    str
        ECSV; the same for the same table.
    """
    out = io.StringIO()
    table.write(out, format="ascii.ecsv")
    return out.getvalue()


def read_table(text: str) -> Table:
    """
    Read what `table_text` gave.

    Parameters
    ----------
    text : str
        ECSV.

    Returns
    -------
    astropy.table.Table
        The table.
    """
    from astropy.table import Table

    return Table.read(text, format="ascii.ecsv")
