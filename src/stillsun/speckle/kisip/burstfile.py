"""
Burst and noise files of the external speckle program: their names, and the pixels in them.

Frames x rows x columns, float32, native byte order, no header (SSOSoft manual, 2025-10-14, sections
7.2 and 7.4); `stillsun.speckle.kisip.outputs` reads what the program makes of them.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.errors import ConfigError
from stillsun.speckle.kisip.floats import WORD, exactly, read_floats

BATCH = 1000
"""Bursts in a batch: the program's index has three digits."""


@dataclass(frozen=True)
class FileForm:
    """
    Names of burst files, or of the program's output files, by number.

    Attributes
    ----------
    form : str
        Python format: optionally two ``{:s}`` for date and time, then ``{:02d}`` for the batch and,
        at the very end after a dot, ``{:03d}`` for the burst in its batch.
    date, time : str
        What the ``{:s}`` stand for.

    Raises
    ------
    ConfigError
        If the form is not of this kind.
    """

    form: str
    date: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        try:
            specs = [spec for _, name, spec, _ in string.Formatter().parse(self.form) if name is not None]
        except ValueError:
            specs = []
        good = specs in (["02d", "03d"], ["s", "s", "02d", "03d"]) and self.form.endswith(".{:03d}")
        if not good or "/" in self.form:
            raise ConfigError(
                "not a form for the files of the speckle program",
                expected="e.g. {:s}_{:s}_gband_kisip.raw.batch.{:02d}.{:03d}",
                found=repr(self.form),
            )

    def name(self, burst: int) -> str:
        """
        Name of one burst's file.

        Parameters
        ----------
        burst : int
            Number of the burst in the sequence, from 0.

        Returns
        -------
        str
            File name; an output file has a suffix after it.
        """
        if not 0 <= burst < 100 * BATCH:
            raise ValueError(f"no name for burst {burst}: a batch has two digits")
        dated = (self.date, self.time) if "{:s}" in self.form else ()
        return self.form.format(*dated, burst // BATCH, burst % BATCH)

    def base(self, batch: int) -> str:
        """
        Name shared by the files of a batch, as the program wants it.

        Parameters
        ----------
        batch : int
            Number of the batch.

        Returns
        -------
        str
            `name` without its last ``.NNN``.
        """
        return self.name(batch * BATCH)[: -len(".000")]


def write_burst(path: Path, frames: np.ndarray, offset: int = 0) -> None:
    """
    Write a burst or noise file; it has its name only when it is complete.

    Parameters
    ----------
    path : Path
        File to write.
    frames : numpy.ndarray
        (frames, rows, columns); written as float32.
    offset : int, optional
        Bytes (zeros) before the first pixel; the program is told to skip them.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(bytes(offset))
        for frame in frames:
            file.write(np.ascontiguousarray(frame, dtype=np.float32).data)
    part.replace(path)


def burst_bytes(shape: tuple[int, int, int], offset: int = 0) -> int:
    """
    Size of a burst or noise file.

    Parameters
    ----------
    shape : tuple of int
        (frames, rows, columns).
    offset : int, optional
        Bytes before the first pixel.

    Returns
    -------
    int
        Bytes.
    """
    return math.prod(shape) * WORD + offset


def read_burst(path: Path, shape: tuple[int, int, int], offset: int = 0) -> np.ndarray:
    """
    Read a burst or noise file.

    Parameters
    ----------
    path : Path
        File to read.
    shape : tuple of int
        (frames, rows, columns) that it should hold.
    offset : int, optional
        Bytes to skip before the first pixel.

    Returns
    -------
    numpy.ndarray
        (frames, rows, columns) float32.

    Raises
    ------
    InputError
        If the file is missing or of another size.
    """
    return read_floats(path, exactly(shape), str(shape), offset)
