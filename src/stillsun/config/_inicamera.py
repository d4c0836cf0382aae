"""A camera's section of an ini file of the superseded system, as a channel."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from stillsun.config._iniconvert import boolean, kernels, number, text, turns, whole
from stillsun.config._inivalues import Draft, Entry, Fate, Section

# Channel to its group in conf/channel and the wavelength that this group is of.
_KNOWN = {
    "ROSA_GBAND": ("rosa_gband", 430.5),
    "ROSA_4170": ("rosa_4170", 417.0),
    "ROSA_CAK": ("rosa_cak", 393.3),
    "ROSA_3500": ("rosa_3500", 350.0),
    "HARDCAM": ("hardcam", 656.28),
}
KNOWN_CAMERAS = ("ZYLA", *_KNOWN)
_SAME_FILTER_NM = 1.0
# Old keyword for file names, to the reason why it is of no use here.
_NAMES = {
    "burstFileForm": "burst files are named by stillsun, and removed once they are used",
    "speckledFileForm": "the program's files are named by stillsun; speckle.h5 holds the result",
    "destretchedFileForm": "final files are named CHANNEL_DATE_TIME_NUMBER.fits",
    "noiseFile": "the noise is part of calibration.h5; the program's noise file is named by stillsun",
    "filePattern": "the superseded system does not read it either",
    "referenceFilePattern": "the superseded system does not read it either",
}
CAMERA_KEYWORDS = {"database", "workbase", "burstnumber", "datafilepattern", "obsdate", "wavelengthnm"}


class Camera:
    """
    A camera section that is carried over.

    Parameters
    ----------
    draft : Draft
        What is made.
    section : Section
        The section; it has a ``dataBase`` and a ``workBase``.

    Attributes
    ----------
    channel : str
        Name of the channel: that of the section, HARDCAM for ZYLA.
    default : dict or None
        Entry of Hydra's `defaults`: the known channel, or the camera where only that is known.
    is_hardcam : bool
        Read as HARDcam's spool files; as ROSA's FITS files otherwise.
    """

    def __init__(self, draft: Draft, section: Section) -> None:
        self.draft = draft
        self.section = section
        name = section.name.upper()
        self.channel = "HARDCAM" if name == "ZYLA" else re.sub("[^A-Z0-9_-]+", "_", name)
        spools = "spool" in section.get("dataFilePattern").lower()
        rosa = "ROSA" in name or not ("ZYLA" in name or "HARDCAM" in name or spools)
        self.is_hardcam = not rosa
        self.default = self._known()

    def key(self, *path: str) -> tuple[str, ...]:
        """
        Key of the channel.

        Parameters
        ----------
        *path : str
            Names below the channel.

        Returns
        -------
        tuple of str
            Key below `observation`.
        """
        return ("channels", self.channel, *path)

    def carry(self) -> None:
        """Carry over everything but the places of files, which depend on the other cameras."""
        section = self.section
        if section.name.upper() == "ZYLA":
            self._say(Fate.remarked, "the channel is called HARDCAM, its results lie in WORK/HARDCAM")
        elif not re.search("ROSA|ZYLA|HARDCAM", section.name.upper()):
            reader = "hardcam" if self.is_hardcam else "rosa"
            self._say(Fate.remarked, f"no known camera by its name; read as {reader}, from dataFilePattern")
        self._optics()
        if self.is_hardcam:
            self._start()
        section.carry("burstNumber", whole, self.key("assemble", "frames_per_burst"))
        section.carry("channelTranslation", turns, self.key("orientation"))
        section.carry("kisipMethodSubfieldArcsec", number, self.key("speckle", "subfield_arcsec"))
        self._destretch()
        if section.value("progress", boolean) is False:
            self.draft.overrides.append("progress=false")
            section.note("progress", Fate.remarked, "belongs on the command line: progress=false")
        elif section.get("progress"):
            section.note("progress", Fate.carried, "bars are shown where standard error is a terminal")
        for keyword, reason in _NAMES.items():
            if section.value(keyword, text):
                section.note(keyword, Fate.dropped, reason)
        self._clock()

    def _say(self, fate: Fate, message: str) -> None:
        self.draft.entries.append(Entry(self.section.name, "", "", fate, message))

    def _known(self) -> dict[str, str]:
        known = _KNOWN.get(self.channel)
        if known is not None:
            group, wavelength = known
            try:
                same = abs(float(self.section.get("wavelengthnm") or wavelength) - wavelength)
            except ValueError:
                same = 0.0
            if same <= _SAME_FILTER_NM:
                return {f"/channel@channels.{self.channel}": group}
            self._say(
                Fate.contradiction,
                f"{self.channel} is known at {wavelength} nm, not {self.section.get('wavelengthnm')} nm; the "
                "wavelength is taken as given, set filter and wavelength_width_nm",
            )
        group = "hardcam" if self.is_hardcam else "rosa"
        return {f"/camera@channels.{self.channel}.camera": group}

    def _optics(self) -> None:
        section = self.section
        section.carry("wavelengthnm", number, self.key("wavelength_nm"))
        section.carry("expTimems", number, self.key("exposure_ms"))
        scales = [section.value(f"kisipArcsecPerPix{axis}", number) for axis in "XY"]
        if None not in scales:
            wrong = self.draft.put(self.key("plate_scale"), scales)
            for axis in "XY":
                target = f"channels.{self.channel}.plate_scale = {scales}"
                fate = Fate.faulty if wrong else Fate.carried
                section.note(f"kisipArcsecPerPix{axis}", fate, wrong or target)
        elif any(scales):
            axis = "X" if scales[0] else "Y"
            section.note(f"kisipArcsecPerPix{axis}", Fate.contradiction, "the other axis is missing")
        given = self.draft.tree.get("channels", {}).get(self.channel, {})
        for key in ("wavelength_nm", "exposure_ms", "plate_scale"):
            if key not in given:
                if any("/channel" in name for name in self.default):
                    said = f"not given; {key} is that of the known channel"
                else:
                    said = f"not given: {key} must be set in the observation file"
                    self.draft.tree.setdefault("channels", {}).setdefault(self.channel, {})[key] = "???"
                self._say(Fate.remarked, said)

    def _start(self) -> None:
        date, time = (re.sub(r"\D", "", self.section.get(k)) for k in ("obsDate", "obsTime"))
        if len(date) == 8 and len(time) == 6:
            start = f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}"
            self.draft.put(self.key("start"), start)
            self._say(
                Fate.remarked,
                f"start = {start} from obsDate and obsTime, to the second only; the DATE of the first ROSA "
                "frame has the milliseconds",
            )
        else:
            self._say(
                Fate.faulty,
                "obsDate, obsTime are not YYYYMMDD and HHMMSS: set start, the UTC start of the first frame",
            )

    def _destretch(self) -> None:
        section, key = self.section, self.key
        source = section.value("dstrFrom", text)
        if source and source.lower() == "speckle":
            section.note("dstrFrom", Fate.carried, "destretch always follows the reconstruction")
        elif source and source.lower() == "fits":
            directory = str(PurePath(section.get("workBase")) / "postSpeckle")
            self.draft.put(key("speckle", "engine"), "fits")
            self.draft.put(key("reconstructed"), {"directory": directory, "pattern": "*.fits"})
            section.note("dstrFrom", Fate.carried, f"speckle.engine: fits, from the files in {directory}")
        elif source:
            section.note("dstrFrom", Fate.faulty, f"speckle or fits expected, found {source}")
        section.carry("dstrKernel", kernels, key("destretch", "kernels"))
        method = section.value("dstrMethod", _method)
        if method is not None:
            section.carry("dstrMethod", _method, key("destretch", "reference"))
        if method == "fixed":
            section.carry(
                "dstrWindow",
                whole,
                key("destretch", "reference_frame"),
                remark="the number of the frame, the first is 0 as before",
            )
        else:
            section.carry("dstrWindow", whole, key("destretch", "window"))
        flows = section.value("flowWindow", lambda t: 0 if t.lower() == "none" else whole(t))
        if flows:
            section.note(
                "flowWindow",
                Fate.contradiction,
                "not carried over: the manual advises against it, and the window has no counterpart; "
                "destretch.preserve_flows stays false",
            )
        elif flows is not None:
            section.note("flowWindow", Fate.carried, "destretch.preserve_flows stays false")
        section.carry("repairTolerance", number, key("destretch", "repair_tolerance"))

    def _clock(self) -> None:
        wrong = self.section.value("correctTime", boolean)
        if wrong:
            self.section.carry(
                "correctTime",
                lambda _: 1.0,
                self.key("clock_offset_h"),
                remark="the computer's clock is taken to be ahead by an hour of daylight saving time",
            )
        elif wrong is not None:
            self.section.note("correctTime", Fate.carried, "clock_offset_h stays 0")


def _method(value: str) -> Any:
    found = {"running": "running", "reference": "fixed"}.get(value.lower())
    if found is None:
        raise ValueError("running or reference")
    return found
