"""A camera's section of an ini file of the superseded system, as a channel."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePath

from stillsun.config.ini.convert import (
    boolean,
    flow_window,
    kernels,
    number,
    reference,
    text,
    turns,
    whole,
)
from stillsun.config.ini.draft import Draft, Fate, IniSection

# Channel to its group in conf/channel and the wavelength that this group is of.
_KNOWN = {
    "ROSA_GBAND": ("rosa_gband", 430.5),
    "ROSA_4170": ("rosa_4170", 417.0),
    "ROSA_CAK": ("rosa_cak", 393.3),
    "ROSA_3500": ("rosa_3500", 350.0),
    "HARDCAM": ("hardcam", 656.28),
}
KNOWN_CAMERAS = ("ZYLA", *_KNOWN)
CAMERA_KEYWORDS = {"database", "workbase", "burstnumber", "datafilepattern", "obsdate", "wavelengthnm"}
_SAME_FILTER_NM = 1.0
# Keyword, its kind, the key of the channel.
_OPTICS = (("wavelengthnm", number, "wavelength_nm"), ("expTimems", number, "exposure_ms"))
_FRAMES = (
    ("burstNumber", whole, "assemble.frames_per_burst"),
    ("channelTranslation", turns, "orientation"),
    ("kisipMethodSubfieldArcsec", number, "speckle.subfield_arcsec"),
)
# Keywords that are of no use here, and why.
_DROPPED = {
    "burstFileForm": "burst files are named by stillsun, and removed once they are used",
    "speckledFileForm": "the program's files are named by stillsun; speckle.h5 holds the result",
    "destretchedFileForm": "final files are named CHANNEL_DATE_TIME_NUMBER.fits",
    "noiseFile": "the noise is part of calibration.h5; the program's noise file is named by stillsun",
    "filePattern": "the superseded system does not read it either",
    "referenceFilePattern": "the superseded system does not read it either",
}


class IniCamera:
    """
    A section that is carried over; it has a ``dataBase`` and a ``workBase``.

    Attributes
    ----------
    channel : str
        Name of the channel: that of the section, HARDCAM for ZYLA.
    default : dict
        Entry of Hydra's `defaults`: the known channel, or the camera where only that is known.
    """

    def __init__(self, draft: Draft, section: IniSection) -> None:
        self.draft = draft
        self.section = section
        name = section.name.upper()
        self.channel = "HARDCAM" if name == "ZYLA" else re.sub("[^A-Z0-9_-]+", "_", name)
        spools = "spool" in section.get("dataFilePattern").lower()
        self._is_hardcam = "ROSA" not in name and ("ZYLA" in name or "HARDCAM" in name or spools)
        self.default = self._known()

    def key(self, name: str) -> str:
        """Dotted key of the channel, below `observation`."""
        return f"channels.{self.channel}.{name}"

    def say(self, fate: Fate, message: str) -> None:
        """Report something about the whole section."""
        self.draft.say(self.section.name, fate, message)

    def carry(self) -> None:
        """Carry over everything but the places of files, which depend on the other cameras."""
        section = self.section
        if section.name.upper() == "ZYLA":
            self.say(Fate.remarked, "the channel is called HARDCAM, its results lie in WORK/HARDCAM")
        elif not re.search("ROSA|ZYLA|HARDCAM", section.name.upper()):
            reader = "hardcam" if self._is_hardcam else "rosa"
            self.say(Fate.remarked, f"no known camera by its name; read as {reader}, from dataFilePattern")
        self._optics()
        if self._is_hardcam:
            self._start()
        section.carry_all(_FRAMES, self.key)
        self._destretch()
        if section.value("progress", boolean) is False:
            self.draft.overrides.append("progress=false")
            section.note("progress", Fate.remarked, "belongs on the command line: progress=false")
        elif section.get("progress"):
            section.note("progress", Fate.carried, "bars are shown where standard error is a terminal")
        for keyword, reason in _DROPPED.items():
            if section.value(keyword, text):
                section.note(keyword, Fate.dropped, reason)
        wrong = section.value("correctTime", boolean)
        remark = "the computer's clock is taken to be ahead by an hour of daylight saving time"
        if wrong:
            section.carry("correctTime", lambda _: 1.0, self.key("clock_offset_h"), remark=remark)
        elif wrong is not None:
            section.note("correctTime", Fate.carried, "clock_offset_h stays 0")

    def _known(self) -> dict[str, str]:
        given = self.section.get("wavelengthnm")
        if self.channel in _KNOWN:
            group, wavelength = _KNOWN[self.channel]
            try:
                differs = abs((number(given) if given else wavelength) - wavelength) > _SAME_FILTER_NM
            except ValueError:
                differs = False
            if not differs:
                return {f"/channel@channels.{self.channel}": group}
            self.say(
                Fate.contradiction,
                f"{self.channel} is known at {wavelength} nm, not {given} nm; the wavelength is taken as "
                "given, set filter and wavelength_width_nm",
            )
        return {f"/camera@channels.{self.channel}.camera": "hardcam" if self._is_hardcam else "rosa"}

    def _optics(self) -> None:
        section = self.section
        section.carry_all(_OPTICS, self.key)
        keywords = ("kisipArcsecPerPixX", "kisipArcsecPerPixY")
        scales = [section.value(keyword, number) for keyword in keywords]
        if None not in scales:
            wrong = self.draft.put(self.key("plate_scale"), scales)
            said = wrong or f"{self.key('plate_scale')} = {scales}"
            for keyword in keywords:
                section.note(keyword, Fate.faulty if wrong else Fate.carried, said)
        elif any(scales):
            section.note(keywords[not scales[0]], Fate.contradiction, "the other axis is missing")
        channel = self.draft.tree.setdefault("channels", {}).setdefault(self.channel, {})
        for key in ("wavelength_nm", "exposure_ms", "plate_scale"):
            if key in channel:
                continue
            if any("/channel" in name for name in self.default):
                said = f"not given; {key} is that of the known channel"
            else:
                said = f"not given: {key} must be set in the observation file"
                channel[key] = "???"
            self.say(Fate.remarked, said)

    def _start(self) -> None:
        date, time = (re.sub(r"\D", "", self.section.get(k), flags=re.ASCII) for k in ("obsDate", "obsTime"))
        try:
            start = datetime.strptime(f"{date:0>8}T{time:0>6}", "%Y%m%dT%H%M%S").isoformat()
        except ValueError:
            start = ""
        if start and (len(date), len(time)) == (8, 6):
            self.draft.put(self.key("start"), start)
            self.say(
                Fate.remarked,
                f"start = {start} from obsDate and obsTime, to the second only; the DATE of the first ROSA "
                "frame has the milliseconds",
            )
        else:
            self.say(
                Fate.faulty,
                "obsDate, obsTime are not YYYYMMDD and HHMMSS: set start, the UTC start of the first frame",
            )

    def _destretch(self) -> None:
        section, key = self.section, self.key
        source = section.get("dstrFrom").lower()
        if source == "speckle":
            section.note("dstrFrom", Fate.carried, "destretch always follows the reconstruction")
        elif source == "fits":
            directory = str(PurePath(section.get("workBase")) / "postSpeckle")
            self.draft.put(key("speckle.engine"), "fits")
            self.draft.put(key("reconstructed"), {"directory": directory, "pattern": "*.fits"})
            section.note("dstrFrom", Fate.carried, f"speckle.engine: fits, from the files in {directory}")
        elif source:
            found = section.value("dstrFrom", text)
            section.note("dstrFrom", Fate.faulty, f"speckle or fits expected, found {found}")
        section.carry("dstrKernel", kernels, key("destretch.kernels"))
        if section.carry("dstrMethod", reference, key("destretch.reference")) == "fixed":
            number_of = "the number of the frame, the first is 0 as before"
            section.carry("dstrWindow", whole, key("destretch.reference_frame"), remark=number_of)
        else:
            section.carry("dstrWindow", whole, key("destretch.window"))
        flows = section.value("flowWindow", flow_window)
        if flows:
            section.note(
                "flowWindow",
                Fate.contradiction,
                "not carried over: the window has no counterpart; destretch.preserve_flows stays true",
            )
        elif flows is not None:
            self.draft.put(key("destretch.preserve_flows"), False)
            section.note("flowWindow", Fate.carried, "destretch.preserve_flows: false")
        section.carry("repairTolerance", number, key("destretch.repair_tolerance"))
