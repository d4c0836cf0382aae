"""Small raw files for tests, written with astropy and NumPy and not with the readers' knowledge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

START = np.datetime64("2025-09-03T14:21:52.456000", "us")


def rosa_hdu(frame, time, number, exposure="0.0100 Sec", extra=0):
    hdu = fits.ImageHDU(frame)
    hdu.header["HIERARCH FRAME NUMBER"] = str(number)
    hdu.header["DATE"] = str(np.datetime64(time, "ms"))
    hdu.header["HIERARCH FRAME DELTA"] = "0.033300 Secs"
    hdu.header["EXPOSURE"] = exposure
    hdu.header["HIERARCH CAMERA TEMPERATURE"] = "-73 C"
    for k in range(extra):
        hdu.header[f"EXTRA{k}"] = k
    return hdu


def write_rosa(
    directory: Path,
    frames,
    *,
    per_file=4,
    interval_s=0.0333,
    start=START,
    name="das1_rosa_2025-09-03_14.21.52_{:04d}.fit",
    extra=lambda number: 0,
    exposure=lambda number: "0.0100 Sec",
):
    """Write frames (n, rows, columns) uint16; returns the paths and the times to the millisecond."""
    times = (start + np.rint(np.arange(len(frames)) * interval_s * 1e6).astype("timedelta64[us]")).astype(
        "datetime64[ms]"
    )
    paths = []
    for first in range(0, len(frames), per_file):
        hdus = [
            fits.PrimaryHDU(),
            *(
                rosa_hdu(frames[k], times[k], k - first + 1, exposure(k), extra(k))
                for k in range(first, min(first + per_file, len(frames)))
            ),
        ]
        paths.append(Path(directory) / name.format(first // per_file))
        fits.HDUList(hdus).writeto(paths[-1])
    return paths, times.astype("datetime64[us]")


def spool_name(number: int) -> str:
    return f"{number:010d}"[::-1] + "spool.dat"


def write_hardcam(directory: Path, frames, *, overscan=(2, 12), junk=0):
    """Write frames (n, rows, columns) uint16 as spool files; overscan is filled with `junk`."""
    paths = []
    for number, frame in enumerate(frames):
        full = np.full((frame.shape[0] + overscan[0], frame.shape[1] + overscan[1]), junk, dtype=np.uint16)
        full[: frame.shape[0], : frame.shape[1]] = frame
        paths.append(Path(directory) / spool_name(number))
        full.tofile(paths[-1])
    return paths
