"""Raw files byte by byte as the cameras write them: ROSA FITS and HARDcam spool files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 2880
# Rows and columns that HARDcam's files have beyond the image.
OVERSCAN = (2, 12)
_WRITTEN_AFTER_S = 2.0


def rosa_name(computer: str, start: datetime, number: int, kind: str = "") -> str:
    """
    Name of a ROSA file.

    Parameters
    ----------
    computer : str
        Camera computer, das1 to das6.
    start : datetime
        Start of the sequence by the computer's clock.
    number : int
        Number of the file in the sequence.
    kind : {"", "dark", "flat"}
        Kind of sequence; line grids and targets are named like data.

    Returns
    -------
    str
        File name.
    """
    middle = f"{kind}_" if kind else ""
    return f"{computer}_rosa_{middle}{start:%Y-%m-%d_%H.%M.%S}_{number:04d}.fit"


def spool_name(number: int) -> str:
    """
    Name of a HARDcam file: its number, least significant digit first.

    Parameters
    ----------
    number : int
        Number of the frame.

    Returns
    -------
    str
        File name.
    """
    return f"{number:010d}"[::-1] + "spool.dat"


def write_rosa(
    directory: Path,
    frames: Iterable[np.ndarray],
    *,
    computer: str,
    serial: str,
    start: datetime,
    exposure_ms: float,
    interval_ms: float,
    frames_per_file: int = 256,
    kind: str = "",
) -> list[Path]:
    """
    Write a ROSA sequence: an empty primary HDU, then one 16-bit image extension a frame.

    Parameters
    ----------
    directory : Path
        Where the files go.
    frames : iterable of numpy.ndarray, uint16
        The frames.
    computer, serial : str
        Camera computer, and the camera's serial number.
    start : datetime
        Trigger pulse by the computer's clock; frame n (from 1) carries start + n * interval.
    exposure_ms, interval_ms : float
        Exposure and time from frame to frame.
    frames_per_file : int
        Extensions in a file.
    kind : {"", "dark", "flat"}
        Kind of sequence.

    Returns
    -------
    list of Path
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = iter(frames)
    files: list[Path] = []
    frame = next(source, None)
    number = 0
    while frame is not None:
        path = directory / rosa_name(computer, start, len(files), kind)
        with path.open("wb") as file:
            file.write(_primary(serial, exposure_ms, interval_ms, start))
            for _ in range(frames_per_file):
                number += 1
                file.write(_extension(number, frame.shape, serial, exposure_ms, interval_ms, start, kind))
                # BZERO = 32768: the stored integer is the pixel with its highest bit turned over.
                file.write((frame ^ np.uint16(0x8000)).astype(">u2").tobytes())
                file.write(bytes(-frame.nbytes % _BLOCK))
                frame = next(source, None)
                if frame is None:
                    break
        files.append(path)
    return files


def write_spool(
    directory: Path,
    frames: Iterable[np.ndarray],
    *,
    start: datetime,
    seconds: Callable[[int], float],
) -> list[Path]:
    """
    Write a HARDcam sequence: one headerless file a frame, with overscan of zeros.

    The files' modification times are those at which the camera would have written them, two seconds after
    the exposure; nothing else tells a time.

    Parameters
    ----------
    directory : Path
        Where the files go.
    frames : iterable of numpy.ndarray, uint16
        The frames.
    start : datetime
        UTC of the first exposure.
    seconds : callable
        Start of an exposure after the first, seconds, from the number of the frame.

    Returns
    -------
    list of Path
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    begin = start.replace(tzinfo=UTC).timestamp() + _WRITTEN_AFTER_S
    files = []
    padded = np.zeros(0, dtype=np.uint16)
    for number, frame in enumerate(frames):
        if not padded.size:
            padded = np.zeros((frame.shape[0] + OVERSCAN[0], frame.shape[1] + OVERSCAN[1]), dtype=np.uint16)
        padded[: frame.shape[0], : frame.shape[1]] = frame
        files.append(directory / spool_name(number))
        files[-1].write_bytes(padded.tobytes())
        os.utime(files[-1], (begin + seconds(number),) * 2)
    return files


def _primary(serial: str, exposure_ms: float, interval_ms: float, start: datetime) -> bytes:
    return _header(
        [
            _card("SIMPLE", True, "conforms to FITS standard"),
            _card("BITPIX", 16),
            _card("NAXIS", 0),
            _card("EXTEND", True),
            _card("DATE", _date(start)),
            _card("CAMERA SERIAL", serial),
            _card("EXPOSURE", f"{exposure_ms / 1000:.4f} Sec"),
            _card("FRAME RATE", f"{interval_ms:.0f} mSec"),
        ]
    )


def _extension(
    number: int,
    shape: tuple[int, ...],
    serial: str,
    exposure_ms: float,
    interval_ms: float,
    start: datetime,
    kind: str,
) -> bytes:
    rows, columns = shape
    return _header(
        [
            _card("XTENSION", "IMAGE", "Image extension"),
            _card("BITPIX", 16),
            _card("NAXIS", 2),
            _card("NAXIS1", columns),
            _card("NAXIS2", rows),
            _card("PCOUNT", 0),
            _card("GCOUNT", 1),
            _card("BZERO", 32768),
            _card("BSCALE", 1),
            _card("FRAME NUMBER", str(number)),
            _card("DATE", _date(start + timedelta(milliseconds=number * interval_ms))),
            # The real interval is a little shorter than the nominal one.
            _card("FRAME DELTA", f"{interval_ms * 0.99915 / 1000:.6f} Secs"),
            _card("CAMERA SERIAL", serial),
            _card("EXPOSURE", f"{exposure_ms / 1000:.4f} Sec"),
            _card("FRAME RATE", f"{interval_ms:.0f} mSec"),
            _card("BASELINE CLAMP", "On"),
            _card("CAMERA GAIN", "0"),
            _card("CAMERA TEMPERATURE", "-73 C"),
            _card("OBSERVATION TYPE", kind.upper() or "NORMAL"),
            _card("BINNING X", "1"),
            _card("BINNING Y", "1"),
            _card("START X", "1"),
            _card("FINISH X", str(columns)),
            _card("START Y", "1"),
            _card("FINISH Y", str(rows)),
            _card("SHUTTER", "CLOSED" if kind == "dark" else "OPEN"),
        ]
    )


def _date(time: datetime) -> str:
    # To the nearest millisecond; isoformat would cut.
    return (time + timedelta(microseconds=500)).isoformat(timespec="milliseconds")


def _card(keyword: str, value: Any, comment: str = "") -> str:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value:<8}'"
    else:
        text = f"{value:>20}"
    simple = len(keyword) <= 8 and " " not in keyword
    card = f"{keyword:<8}= {text}" if simple else f"HIERARCH {keyword} = {text}"
    return f"{f'{card} / {comment}' if comment else card:<80}"


def _header(cards: list[str]) -> bytes:
    text = "".join([*cards, f"{'END':<80}"]).encode("ascii")
    return text + b" " * (-len(text) % _BLOCK)
