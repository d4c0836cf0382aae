"""
Frames reconstructed by an earlier system: FITS files with one image each, and what their headers tell.

Three kinds are known: files that still carry the cards of the raw ROSA extension of the burst's last
frame (before 2023), those of SSOSoft (its manual, 2025-10-14, section 6 and figure 5), and stillsun's own.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from stillsun.errors import InputError
from stillsun.io._fitscards import BLOCK, only_zeros, padded, read_header
from stillsun.io._slowdecoder import decode_elsewhere
from stillsun.io.foreign import chip_size, open_regular, reading
from stillsun.io.times import read_time

# Begin and end of a burst, and its mean time, in the order in which they are looked for.
_BEGIN = ("DATE-BEG", "STARTOBS", "DATE-OBS")
_END = ("DATE-END", "ENDOBS")
_MEAN = "DATE-AVG"
# What is left over of the raw file's unsigned integers in a file of floating-point numbers.
_LEFT_OVER = (32768.0, 1.0)
_REMEDY = "Exclude it by the pattern, or fetch it again"
_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_STEP = re.compile(r"PRSTEP(\d+)")
_NUMBER = re.compile(r"[-+]?\d*\.?\d+")


@dataclass(frozen=True)
class EarlierStep:
    """
    A processing step as an earlier system wrote it.

    Attributes
    ----------
    kind : str
        ``PRSTEPn``.
    program, version, mode, parameters, reference : str
        ``PRPROCn`` (else the comment of ``PRSTEPn``), ``PRPVERn``, ``PRMODEn``, ``PRPARAn``, ``PRREFn``.
    """

    kind: str
    program: str = ""
    version: str = ""
    mode: str = ""
    parameters: str = ""
    reference: str = ""


@dataclass(frozen=True)
class ReconstructedFile:
    """
    What the header of a reconstructed frame tells.

    Attributes
    ----------
    file : Path
        The file.
    shape : tuple of int
        (rows, columns).
    begin, mean, end : float
        Start of the first exposure, mean time, and the last time given, unix seconds as written (the
        clock of the camera's computer where the header has no other); NaN where unknown.
    last_frame : bool
        The only time is that of the last frame's exposure: `end` is its start, `begin` unknown.
    frames : int or None
        Frames in the burst.
    interval_s : float
        Time from frame to frame; NaN where unknown.
    point : tuple of float
        ``CRVAL1/2``, arcsec; NaN where the coordinates are not helioprojective.
    crota2 : float
        ``CROTA2``, degrees; NaN where unknown.
    header : astropy.io.fits.Header
        The whole header.
    r0_m, alpha : float
        Fried parameter, and its share of the telescope's diameter; NaN where unknown.
    log : dict of str to float
        ``scintillation``, ``light_level``, ``solar_radius``; NaN where unknown.
    steps : tuple of EarlierStep
        What was done to the frame, in order.
    """

    file: Path
    shape: tuple[int, int]
    begin: float
    mean: float
    end: float
    last_frame: bool
    frames: int | None
    interval_s: float
    point: tuple[float, float]
    crota2: float
    header: fits.Header = field(repr=False)
    r0_m: float
    alpha: float
    log: dict[str, float]
    steps: tuple[EarlierStep, ...]


def read_facts(path: Path) -> ReconstructedFile:
    """
    Read the header of a reconstructed frame.

    Parameters
    ----------
    path : Path
        FITS file with one image.

    Returns
    -------
    ReconstructedFile
        What it tells.

    Raises
    ------
    InputError
        If the file cannot be read or holds no image.
    """
    header, shape, _ = _read(path, pixels=False)
    with reading(path, "the header is damaged", remedy=_REMEDY), warnings.catch_warnings(action="ignore"):
        return _facts(path, header, shape)


def _facts(path: Path, header: fits.Header, shape: tuple[int, int]) -> ReconstructedFile:
    begin, end = _first_time(header, _BEGIN), _first_time(header, _END)
    # DATE is when the file was written, but for the cards of a raw extension.
    raw = np.isnan(begin) and ("FRAME NUMBER" in header or "FRAME DELTA" in header)
    if raw:
        end = _time(header.get("DATE"))
    helioprojective = str(header.get("CTYPE1", "")).startswith("HPLN")
    frames = _number(header.get("NSUMEXP"))
    return ReconstructedFile(
        file=path,
        shape=shape,
        begin=begin,
        mean=_time(header.get(_MEAN)),
        end=end,
        last_frame=raw and bool(np.isfinite(end)),
        frames=int(frames) if frames >= 1 else None,
        interval_s=_number(header.get("FRAME RATE")) / 1000.0,
        point=(_number(header["CRVAL1"]), _number(header["CRVAL2"]))
        if helioprojective and {"CRVAL1", "CRVAL2"} <= set(header)
        else (np.nan, np.nan),
        crota2=_number(header.get("CROTA2")),
        header=header,
        r0_m=_positive(header.get("ATMOS_R0")) / 100.0,
        alpha=_positive(header.get("SPKLALPH")),
        log={
            "scintillation": _number(header.get("SCINT")),
            "light_level": _number(header.get("LLVL")),
            "solar_radius": _number(header.get("RSUN_ARC")),
        },
        steps=_steps(header),
    )


def read_image(path: Path) -> np.ndarray:
    """
    Read an image.

    Parameters
    ----------
    path : Path
        FITS file with one image.

    Returns
    -------
    numpy.ndarray, shape (y, x), float32
        The pixels. ``BZERO = 32768`` of a raw file that was left in a file of floating-point numbers
        is not added.

    Raises
    ------
    InputError
        If the file cannot be read or holds no image, or a pixel is not finite.
    """
    header, _, stored = _read(path, pixels=True)
    with reading(path, "the header is damaged", remedy=_REMEDY):
        scale = (float(header.get("BZERO", 0.0)), float(header.get("BSCALE", 1.0)))
    image = np.asarray(stored, dtype=np.float32)
    if stored is not None and scale != (0.0, 1.0) and not (stored.dtype.kind == "f" and scale == _LEFT_OVER):
        image = np.asarray(stored * scale[1] + scale[0], dtype=np.float32)
    if not np.isfinite(image).all():
        raise InputError(
            "pixels that are not finite", file=path, found=f"{np.sum(~np.isfinite(image))}", remedy=_REMEDY
        )
    return image


def _read(path: Path, *, pixels: bool) -> tuple[fits.Header, tuple[int, int], np.ndarray | None]:
    """Header, shape, and pixels as stored if they are wanted, of the first image of two axes."""
    found: list[tuple[int, ...]] = []
    quiet = warnings.catch_warnings(action="ignore")
    with open_regular(path) as file, reading(path, remedy=_REMEDY), quiet:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        at = 0
        while at < size and not (at and only_zeros(descriptor, at, size)):
            text = read_header(descriptor, at, path, "an image" if at else "the primary header")
            header = fits.Header.fromstring(text)
            begin, length = at + len(text), _data_bytes(header)
            if begin + length > size:
                raise InputError(
                    "truncated", file=path, expected=f"{begin + length} bytes", found=f"{size} bytes",
                    remedy=_REMEDY,
                )  # fmt: skip
            packed = header.get("XTENSION", "").strip() == "BINTABLE" and header.get("ZIMAGE") is True
            kind = "ZNAXIS" if packed else "NAXIS"
            shape = tuple(header[f"{kind}{k}"] for k in range(header[kind], 0, -1))
            if packed or at == 0 or header["XTENSION"].strip() == "IMAGE":
                found += [shape] if shape else []
                if len(shape) == 2 and chip_size(*shape):
                    unit = os.pread(descriptor, length, begin) if pixels or packed else b""
                    if packed:
                        return _unpacked(text + unit, shape, pixels=pixels)
                    stored = np.frombuffer(unit, dtype=_TYPES[header["BITPIX"]]) if pixels else None
                    return header, shape, None if stored is None else stored.reshape(shape)
            at = begin + padded(length)
    raise InputError(
        "no image of two axes", file=path, expected="one frame a file", found=f"{found}", remedy=_REMEDY
    )


def _data_bytes(header: fits.Header) -> int:
    """Bytes of a unit's data (FITS standard 4.0, equation 2)."""
    axes = [header[f"NAXIS{k}"] for k in range(1, header["NAXIS"] + 1)]
    numbers = [header["BITPIX"], header.get("PCOUNT", 0), header.get("GCOUNT", 1), *axes]
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers) or min(numbers[1:]) < 0:
        raise ValueError(f"no such size: {numbers}")
    return abs(numbers[0]) // 8 * numbers[2] * (numbers[1] + math.prod(axes)) if axes else 0


def _unpacked(
    unit: bytes, shape: tuple[int, int], *, pixels: bool
) -> tuple[fits.Header, tuple[int, int], np.ndarray | None]:
    """An image that fpack compressed, by astropy; its pixels in a process of its own."""
    empty = fits.PrimaryHDU().header.tostring().encode()
    with fits.open(
        io.BytesIO(empty + unit + bytes(-len(unit) % BLOCK)), do_not_scale_image_data=True
    ) as units:
        header = units[1].header
    if not pixels:
        return header, shape, None
    stored = decode_elsewhere(unit, shape, np.dtype(_TYPES[header["BITPIX"]]).name, scale=False)
    if stored is None:
        raise ValueError("a compressed image is damaged")
    return header, shape, stored


def _time(value: Any) -> float:
    """Unix seconds; NaN for what is no time."""
    moment = read_time(value)
    return np.nan if np.isnat(moment) else float(moment.astype(np.int64)) / 1e6


def _first_time(header: fits.Header, names: tuple[str, ...]) -> float:
    return next((t for n in names if np.isfinite(t := _time(header.get(n)))), np.nan)


def _number(value: Any) -> float:
    """A number, also in front of its unit in a text; NaN for none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _NUMBER.match(str(value).strip())
    return float(found[0]) if found else np.nan


def _positive(value: Any) -> float:
    """A number above zero; zero stands for what was not measured."""
    number = _number(value)
    return number if number > 0 else np.nan


def _steps(header: fits.Header) -> tuple[EarlierStep, ...]:
    numbers = sorted(int(m[1]) for m in map(_STEP.fullmatch, header) if m)
    return tuple(
        EarlierStep(
            str(header[f"PRSTEP{n}"]).strip(),
            str(header.get(f"PRPROC{n}", header.comments[f"PRSTEP{n}"])).strip(),
            *(str(header.get(f"{key}{n}", "")).strip() for key in ("PRPVER", "PRMODE", "PRPARA", "PRREF")),
        )
        for n in numbers
    )
