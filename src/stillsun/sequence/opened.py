"""What a scientist opens: a work directory, a channel of it, or FITS files that somebody mailed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillsun.errors import InputError
from stillsun.io.fitsfile import read_cards
from stillsun.products.channel import ChannelPaths
from stillsun.products.sequence import CARDS, FILE, read_table, sequence_table
from stillsun.sequence.images import FileImages
from stillsun.sequence.sequence import Sequence

if TYPE_CHECKING:
    from astropy.table import Table

_SUFFIXES = {".fits", ".fit", ".fts"}


def open(path: str | os.PathLike[str]) -> Sequence | dict[str, Sequence]:  # the verb that everybody looks for
    """
    Open the images of a reduction.

    Where there is a ``sequence.ecsv``, that is read; otherwise the headers of the files, once.

    Parameters
    ----------
    path : path
        A channel's directory, a directory of FITS files, a FITS file; or a work directory.

    Returns
    -------
    Sequence or dict of str to Sequence
        The images in the order of time; where there are several channels, each by its name.

    Raises
    ------
    InputError
        If there are no images.

    Examples
    --------
    >>> import stillsun
    >>> seq = stillsun.open("WORK/ROSA_GBAND")  # doctest: +SKIP
    >>> good = seq[seq.table["quality"] == 0]  # doctest: +SKIP
    >>> good.cube[:, 100:200, 100:200].mean(axis=0)  # doctest: +SKIP
    """
    place = Path(path).expanduser()
    if place.name == FILE:
        place = place.parent
    if place.is_file():
        return _of_files([place])
    if not place.is_dir():
        raise InputError("no such file or directory", file=place)
    own = _channel(place)
    if own is not None:
        return own
    files = _fits_files(place)
    if files:
        return _of_files(files)
    found = {inner.name: _channel(inner) for inner in sorted(place.iterdir()) if inner.is_dir()}
    channels = {name: sequence for name, sequence in found.items() if sequence is not None}
    if not channels:
        raise InputError(
            "no images here",
            file=place,
            expected=f"FITS files, a channel with {FILE}, or a work directory with such channels",
            remedy="Run the stage export",
        )
    return channels


def _channel(directory: Path) -> Sequence | None:
    """A channel of a work directory, if this is one."""
    listing = directory / FILE
    if listing.is_file():
        table = read_table(listing.read_text())
        files = [directory / str(name) for name in table["file"]]
        there = np.array([file.is_file() for file in files], bool)
        if there.any():
            kept = [file for file, is_there in zip(files, there, strict=True) if is_there]
            return Sequence(
                FileImages(kept), table[there], str(table.meta.get("channel", directory.name)), kept
            )
    files = _fits_files(ChannelPaths(directory).destretched)
    found = _of_files(files) if files else None
    return found if isinstance(found, Sequence) else None


def _fits_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())


def _of_files(files: Iterable[Path]) -> Sequence | dict[str, Sequence]:
    """Images by what their headers say; calibration images, which have no time, are passed over."""
    channels: dict[str, list[tuple[str, Path, dict[str, object]]]] = {}
    passed_over: Path | None = None
    for file in files:
        cards = read_cards(file, CARDS)
        if "DATE-AVG" not in cards:
            passed_over = file
            continue
        channels.setdefault(str(cards.get("DETECTOR", "")), []).append((str(cards["DATE-AVG"]), file, cards))
    if not channels:
        raise InputError("no image with a time", file=passed_over, expected="DATE-AVG in its header")
    made = {}
    for name, found in channels.items():
        found.sort(key=lambda image: image[:2])
        own = [file for _, file, _ in found]
        table: Table = sequence_table((cards for *_, cards in found), (file.name for file in own))
        made[name] = Sequence(FileImages(own), table, name, own)
    return made if len(made) > 1 else next(iter(made.values()))
