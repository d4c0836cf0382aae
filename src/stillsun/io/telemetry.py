"""
The telescope's log: where it pointed, how the guider was turned, seeing and light.

Two styles are read. DCSS: cards ``DST_TIME = '2025-09-03T14:21:53.6' / comment``, one record after
another. ICC (VTT): a line ``TIME hh:mm:ss.s``, then ``DATE mm/dd/yy`` and lines ``VTT SLAT x`` with
the value as their last word. A record begins where a name comes up again, so that a field missing
from one record does not shift the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.io.foreign import read_text
from stillsun.io.times import read_time

FIELDS = {
    "SLAT": "latitude",
    "SLNG": "longitude",
    "GDRN": "guider_angle",
    "SEE": "scintillation",
    "LLVL": "light_level",
    "SDIM": "solar_radius",
}
"""Names in the log (after ``DST_`` or ``VTT``) and here; the solar diameter becomes a radius."""

_CARD = re.compile(r"\s*(?:HIERARCH\s+)?DST_(\w+)\s*=\s*(?:'([^']*)'|([^/]*))")
_WORD = re.compile(r"\w+")
_CLOCK = re.compile(r"\b(TIME|DATE)\b")
# A log of a day has some ten MB.
_LARGEST = 2**30
# No solar radius is larger, and no solar diameter smaller, arcsec.
_RADIUS_LIMIT = 1200.0


@dataclass(frozen=True)
class TelescopeState:
    """
    What the log says about some times; NaN where it says nothing near enough.

    Attributes
    ----------
    latitude, longitude : numpy.ndarray
        Pointing, heliographic (Stonyhurst), degrees, float64 like the others.
    guider_angle : numpy.ndarray
        Guider angle as logged, degrees.
    scintillation : numpy.ndarray
        Seykora scintillation monitor, arcsec.
    light_level : numpy.ndarray
        Light level, volts.
    solar_radius : numpy.ndarray
        Half of the logged solar diameter, arcsec.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    guider_angle: np.ndarray
    scintillation: np.ndarray
    light_level: np.ndarray
    solar_radius: np.ndarray


@dataclass(frozen=True)
class TelescopeLog:
    """
    Records of a telescope log in the order of time.

    Attributes
    ----------
    times : numpy.ndarray
        (records,) datetime64[us] UTC, ascending, each once.
    values : mapping of str to numpy.ndarray
        (records,) float64 for each field of `TelescopeState`; NaN where a record lacks it.
    findings : tuple of str
        Damaged, repeated and out-of-order records, counted.
    """

    times: np.ndarray
    values: Mapping[str, np.ndarray]
    findings: tuple[str, ...]

    def at(self, times: np.ndarray, max_distance_s: float = 60.0) -> TelescopeState:
        """
        State at given times, by linear interpolation between records.

        Parameters
        ----------
        times : numpy.ndarray
            (n,) datetime64 UTC.
        max_distance_s : float, optional
            A field is NaN where the nearest record that has it is further away, seconds.

        Returns
        -------
        TelescopeState
            (n,) each.
        """
        seconds = (times - times[:1]) / np.timedelta64(1, "s")
        logged = (self.times - times[:1]) / np.timedelta64(1, "s")
        found = {}
        for name, values in self.values.items():
            known = np.isfinite(values)
            found[name] = np.full(seconds.shape, np.nan)
            if known.any():
                found[name] = _interpolate(
                    seconds, logged[known], values[known], max_distance_s, name in _PERIODIC
                )
        return TelescopeState(**found)


_PERIODIC = ("longitude", "guider_angle")


def _interpolate(
    times: np.ndarray, logged: np.ndarray, values: np.ndarray, limit: float, periodic: bool
) -> np.ndarray:
    after = np.clip(np.searchsorted(logged, times), 0, logged.size - 1)
    before = np.maximum(after - 1, 0)
    gap_after = np.abs(logged[after] - times)
    gap_before = np.abs(times - logged[before])
    nearest = np.where(gap_before <= gap_after, before, after)
    # Across a hole in the log the nearest record is better than a line to the far side.
    usable = np.maximum(gap_before, gap_after) <= limit
    series = np.unwrap(values, period=360.0) if periodic else values
    result = np.where(usable, np.interp(times, logged, series), series[nearest])
    if periodic:
        result = values[nearest] + (result - series[nearest])
    result[np.minimum(gap_before, gap_after) > limit] = np.nan
    return result


def read_telescope_log(path: Path) -> TelescopeLog:
    """
    Read a telescope log, DCSS or ICC style.

    Parameters
    ----------
    path : Path
        Text file.

    Returns
    -------
    TelescopeLog
        Its records, perhaps none; lines that cannot be read are counted in the findings.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    path = Path(path)
    text = read_text(
        path, _LARGEST, remedy="Correct observation.telescope_log, or set it to null to do without"
    )
    records, damaged = _records(text)
    findings = [f"{path.name}: {damaged} damaged lines or records left out"] if damaged else []
    if not records:
        findings.append(
            f"{path.name}: no record; expected DST_TIME and DST_SLAT, DST_SLNG, … (DCSS), or TIME, DATE and "
            "VTT … (ICC)"
        )
    times = np.array([time for time, _ in records], dtype="datetime64[us]")
    back = int((np.diff(times) < np.timedelta64(0, "us")).sum())
    if back:
        findings.append(f"{path.name}: {back} records out of order")
    unique, first = np.unique(times, return_index=True)
    if unique.size < times.size:
        findings.append(f"{path.name}: {times.size - unique.size} repeated records left out")
    values = {name: np.array([records[k][1].get(key, np.nan) for k in first]) for key, name in FIELDS.items()}
    radius = values["solar_radius"]
    values["solar_radius"] = np.where(radius > _RADIUS_LIMIT, radius / 2, radius)
    return TelescopeLog(unique, values, tuple(findings))


def _records(text: str) -> tuple[list[tuple[np.datetime64, dict[str, float]]], int]:
    """Records with a readable time, and the count of lines and records that are damaged."""
    records: list[tuple[np.datetime64, dict[str, float]]] = []
    damaged = 0
    fields: dict[str, str] = {}

    def finish() -> None:
        nonlocal damaged
        time = _time(fields)
        numbers: dict[str, float] = {}
        for name in FIELDS:
            if name in fields:
                try:
                    numbers[name] = float(fields[name])
                except ValueError:
                    damaged += 1
        if time is not None:
            records.append((time, numbers))
        elif fields:
            damaged += 1
        fields.clear()

    for line in text.splitlines():
        entry = _entry(line)
        if entry is None:
            continue
        if entry[0] in fields:
            finish()
        fields[entry[0]] = entry[1]
    finish()
    return records, damaged


def _entry(line: str) -> tuple[str, str] | None:
    """Name and value of a line that matters."""
    card = _CARD.match(line)
    if card:
        name = card[1].upper()
        value = (card[2] if card[2] is not None else card[3]).strip()
        return (name, value) if name in FIELDS or name == "TIME" else None
    if "DST_" in line:
        return None
    *before, last = line.split() or [""]
    if before[:1] == ["VTT"]:
        word = _WORD.match(before[1]) if len(before) > 1 else None
        return (word[0].upper(), last) if word and word[0].upper() in FIELDS else None
    clock = _CLOCK.findall(" ".join(before))
    return (clock[-1], last) if clock and not any("_" in word for word in before) else None


def _time(fields: Mapping[str, str]) -> np.datetime64 | None:
    text = fields.get("TIME", "")
    if "DATE" in fields:
        date = re.fullmatch(r"(\d\d?)/(\d\d?)/(\d\d)(\d\d)?", fields["DATE"])
        if date is None:
            return None
        year = f"20{date[3]}" if date[4] is None else date[3] + date[4]
        text = f"{year}-{int(date[1]):02d}-{int(date[2]):02d}T{text}"
    time = read_time(text)
    return None if np.isnat(time) else time
