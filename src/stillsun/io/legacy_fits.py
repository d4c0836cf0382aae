"""
Frames reconstructed by an earlier system: FITS files with one image each, and what their headers tell.

Three kinds are known: files that still carry the cards of the raw ROSA extension of the burst's last
frame (before 2023), those of SSOSoft (its manual, 2025-10-14, section 6 and figure 5), and stillsun's own.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from stillsun.errors import InputError

# Begin and end of a burst, and its mean time, in the order in which they are looked for.
_BEGIN = ("DATE-BEG", "STARTOBS", "DATE-OBS")
_END = ("DATE-END", "ENDOBS")
_MEAN = "DATE-AVG"
# What is left over of the raw file's unsigned integers in a file of floating-point numbers.
_LEFT_OVER = (32768.0, 1.0)
_REMEDY = "Exclude it by the pattern, or fetch it again"
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
        r0_m=_number(header.get("ATMOS_R0")) / 100.0,
        alpha=_number(header.get("SPKLALPH")),
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
    try:
        # A file that is too short warns first; the pixels that are missing are an error anyway.
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus,
        ):
            found = []
            for hdu in hdus:
                if hdu.is_image and len(hdu.shape) == 2:
                    rows, columns = hdu.shape
                    return hdu.header, (int(rows), int(columns)), np.asarray(hdu.data) if pixels else None
                if hdu.is_image:
                    found.append(hdu.shape)
    except (OSError, TypeError, ValueError, VerifyError) as error:
        raise InputError(f"cannot be read ({error})", file=path, remedy=_REMEDY) from error
    raise InputError(
        "no image of two axes", file=path, expected="one frame a file", found=f"{found}", remedy=_REMEDY
    )


def _time(value: Any) -> float:
    """Unix seconds; NaN for what is no time."""
    try:
        moment = np.datetime64(str(value).strip().removesuffix("Z"), "us")
    except ValueError:
        return np.nan
    return np.nan if np.isnat(moment) else float(moment.astype(np.int64)) / 1e6


def _first_time(header: fits.Header, names: tuple[str, ...]) -> float:
    return next((t for n in names if np.isfinite(t := _time(header.get(n)))), np.nan)


def _number(value: Any) -> float:
    """A number, also in front of its unit in a text; NaN for none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _NUMBER.match(str(value).strip())
    return float(found[0]) if found else np.nan


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
