"""Soft X-ray flux of the Sun from the files of the GOES satellites."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from stillsun.errors import InputError

# Names of the fluxes in NOAA's science-quality files: GOES-R and reprocessed ones, and older ones.
_SHORT, _LONG = ("xrsa_flux", "a_flux"), ("xrsb_flux", "b_flux")
_SINCE = re.compile(r"seconds since (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")


@dataclass(frozen=True)
class XrayFlux:
    """
    Soft X-ray flux against time.

    Attributes
    ----------
    times : numpy.ndarray
        Unix seconds (UTC), (n,) float64, ascending.
    short, long : numpy.ndarray
        Flux at 0.05 to 0.4 nm and at 0.1 to 0.8 nm, W/m^2, (n,) float64; NaN where it is not known.
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
    try:
        with h5py.File(path, "r") as file:
            short, long = _flux(file, _SHORT), _flux(file, _LONG)
            start = _SINCE.match(_text(file["time"].attrs["units"]))
            if start is None:
                raise KeyError("units of time")
            seconds = np.asarray(file["time"][...], np.float64)
    except (OSError, KeyError) as error:
        raise InputError(
            "not a file of the GOES X-ray sensor",
            file=path,
            expected=f"NetCDF 4 with time, {' or '.join(_SHORT)}, {' or '.join(_LONG)}",
            found=error,
            remedy="Take a file sci_xrsf-l2-avg1m_*.nc from NOAA/NCEI, or set movie.goes_file to null",
        ) from error
    epoch = np.datetime64(f"{start[1]}T{start[2]}").astype("datetime64[s]").astype(np.float64)
    known = seconds > 0
    return XrayFlux(epoch + seconds[known], short[known], long[known])


def _flux(file: h5py.File, names: tuple[str, ...]) -> np.ndarray:
    name = names[0] if names[0] in file else names[1]
    values = np.asarray(file[name][...], np.float64)
    # Fill values are negative.
    return np.where(values > 0, values, np.nan)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
