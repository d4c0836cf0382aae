"""A file of the GOES X-ray sensor, read in a process of its own: damage may make HDF5's library abort."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from stillsun.io._apart import serve

if TYPE_CHECKING:
    import h5py

# Names of the fluxes in NOAA's science-quality files: GOES-R and reprocessed ones, and older ones.
_SHORT, _LONG = ("xrsa_flux", "a_flux"), ("xrsb_flux", "b_flux")
_UNITS = ("W/m2", "W/m^2", "Wm-2", "W.m-2", "Wm**-2", "Watts/m2", "Watts/m^2")
#: Seconds of twenty days.
MOST = 2_000_000
_SINCE = re.compile(r"seconds since (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_MEMORY = 2**30


def _read(path: str) -> np.ndarray:
    """Unix seconds, short and long flux, (3, n) float64."""
    import h5py

    with h5py.File(path, "r") as file:
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
    return np.stack([begin + seconds[known], short[known], long[known]])


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A vector in this file itself: a link or a virtual dataset would read another one."""
    if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
        raise TypeError(f"{name} is in another file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or not 0 < dataset.size <= MOST:
        raise TypeError(f"{name} is no vector of up to {MOST} values")
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


def _answer(request: bytes) -> bytes:
    try:
        return b"+" + _read(os.fsdecode(request)).tobytes()
    except Exception as error:
        text = str(error).split("\n", 1)[0][:200]
        return b"-" + f"{type(error).__name__}: {text}".encode("utf-8", "replace")


if __name__ == "__main__":
    import h5py  # before memory is limited

    serve(_answer, _MEMORY)
