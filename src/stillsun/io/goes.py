"""Soft X-ray flux of the Sun from the files of the GOES satellites."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from stillsun.io.foreign import open_regular, reading

# Names of the fluxes in NOAA's science-quality files: GOES-R and reprocessed ones, and older ones.
_SHORT, _LONG = ("xrsa_flux", "a_flux"), ("xrsb_flux", "b_flux")
_UNITS = ("W/m2", "W/m^2", "Wm-2", "W.m-2", "Wm**-2", "Watts/m2", "Watts/m^2")
# Seconds of twenty days.
_MOST = 2_000_000
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
    what = "not a file of the GOES X-ray sensor"
    remedy = "Take a file sci_xrsf-l2-avg1m_*.nc from NOAA/NCEI, or set movie.goes_file to null"
    with open_regular(path), reading(path, what, remedy=remedy), h5py.File(path, "r") as file:
        time = _dataset(file, "time")
        start = _SINCE.match(_text(time.attrs["units"]))
        if start is None:
            raise ValueError(f"time in {_text(time.attrs['units'])!r}, not in seconds since a date")
        seconds = np.asarray(time[...], np.float64)
        short, long = _flux(file, _SHORT), _flux(file, _LONG)
        if not seconds.shape == short.shape == long.shape:
            raise ValueError(
                f"times and fluxes differ in number: {seconds.shape}, {short.shape}, {long.shape}"
            )
        begin = float(np.datetime64(f"{start[1]}T{start[2]}", "s").astype(np.float64))
    known = seconds > 0
    return XrayFlux(begin + seconds[known], short[known], long[known])


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A vector in this file itself: a link or a virtual dataset would read another one."""
    if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
        raise TypeError(f"{name} is in another file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or not 0 < dataset.size <= _MOST:
        raise TypeError(f"{name} is no vector of up to {_MOST} values")
    if dataset.is_virtual or dataset.external:
        raise TypeError(f"the values of {name} are in another file")
    return dataset


def _flux(file: h5py.File, names: tuple[str, ...]) -> np.ndarray:
    name = names[0] if names[0] in file else names[1]
    dataset = _dataset(file, name)
    unit = _text(dataset.attrs.get("units", "W/m2")).replace(" ", "")
    if unit not in _UNITS:
        raise ValueError(f"{name} in {unit!r}, not in W/m2")
    values = np.asarray(dataset[...], np.float64)
    # Fill values are negative.
    good = np.isfinite(values) & (values > 0)
    stem = name.removesuffix("_flux")
    for flags in (f"{stem}_flag", f"{stem}_flags"):
        if flags in file:
            flag = _dataset(file, flags)
            good &= (np.asarray(flag[...]).astype(np.int64) & _bad_bits(flag)) == 0
    return np.where(good, values, np.nan)


def _bad_bits(flag: h5py.Dataset) -> int:
    """Bits that are all zero in good data; others tell how the background was taken off, for instance."""
    meanings = _text(flag.attrs.get("flag_meanings", "")).split()
    masks = np.atleast_1d(flag.attrs.get("flag_masks", [])).astype(np.int64)
    if len(masks) == len(meanings) and "good_data" in meanings:
        return int(masks[meanings.index("good_data")])
    return -1


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
