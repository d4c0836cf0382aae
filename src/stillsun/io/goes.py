"""Soft X-ray flux of the Sun from the files of the GOES satellites."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io._apart import Apart
from stillsun.io._goesfile import MOST
from stillsun.io.foreign import open_regular

# Answers of the process that reads; the longest is three vectors of `MOST` values.
_READ, _REFUSED = b"+", b"-"
_reader = Apart("stillsun.io._goesfile", 20.0, 3 * 8 * MOST + 1)


@dataclass(frozen=True)
class XrayFlux:
    """
    Soft X-ray flux against time.

    Attributes
    ----------
    times : numpy.ndarray
        Unix seconds (UTC), (n,) float64, ascending.
    short, long : numpy.ndarray
        Flux at 0.05 to 0.4 nm and at 0.1 to 0.8 nm, W/m^2, (n,) float64; NaN where it is not known, or
        flagged as calibration, eclipse, off-pointing, spike or otherwise bad.
    """

    times: np.ndarray
    short: np.ndarray
    long: np.ndarray

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Flux at other times.

        Parameters
        ----------
        times : numpy.ndarray
            Unix seconds (UTC).

        Returns
        -------
        short, long : numpy.ndarray
            Interpolated linearly; NaN outside the file's span.
        """
        short, long = (
            np.interp(times, self.times, values, left=np.nan, right=np.nan)
            for values in (self.short, self.long)
        )
        return short, long


def read_goes(path: Path) -> XrayFlux:
    """
    Read a file of the X-ray sensor (XRS): level 2, averages of a minute or a second.

    Parameters
    ----------
    path : Path
        NetCDF file as NOAA gives it out, e.g. ``sci_xrsf-l2-avg1m_g18_d20250903_v2-2-0.nc``. NetCDF 4 is
        HDF5, and read as such.

    Returns
    -------
    XrayFlux
        The flux.

    Raises
    ------
    InputError
        If it is no such file.

    References
    ----------
    NOAA/NCEI, GOES-R Series XRS: Level 2 data, readme.
    """
    path = Path(path)
    open_regular(path).close()
    answer = _reader.ask(str(path.absolute()).encode("utf-8", "surrogateescape"))
    if answer is None or answer[:1] == _REFUSED:
        found = "the library that reads HDF5 dies of it, or hangs" if answer is None else answer[1:].decode()
        raise InputError(
            "not a file of the GOES X-ray sensor",
            file=path,
            found=found,
            remedy="Take a file sci_xrsf-l2-avg1m_*.nc from NOAA/NCEI, or set movie.goes_file to null",
        )
    return XrayFlux(*np.frombuffer(answer[1:], np.float64).reshape(3, -1))
