"""
Configurations of the superseded system, SSOSoft, as observations of this one.

An ini file has a section ``SHARED``, one for each camera, three for the external speckle program KISIP,
and some for its log (SSOSoft manual, 2025-10-14, section 7). Every keyword is carried over or reported;
none is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillsun.config.ini.camera import CAMERA_KEYWORDS, KNOWN_CAMERAS, IniCamera
from stillsun.config.ini.convert import boolean, number, text, whole
from stillsun.config.ini.draft import Draft, Entry, Fate, IniSection
from stillsun.config.ini.places import ROLES, place_files, place_results
from stillsun.config.ini.read import NoReferenceError, References, read_ini
from stillsun.config.keys import schema_fields
from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.errors import ConfigError

_KISIP = ("KISIP_METHOD", "KISIP_PROPS", "KISIP_ENV")
_PATHS = ("dcsslog", "kisipenvbin", "kisipenvlib", "workbase", *(f"{role}base" for role in ROLES))
_LOGGING = ("loggers", "handlers", "formatters")
_LOGGING_STARTS = ("logger_", "handler_", "formatter_")
# Above this the external program fails.
_LARGEST_SUBFIELD = 10.0
_METHODS = {0: "knox_thompson", 1: "triple_correlation"}
# Keyword, its kind, the key below the stage speckle of every channel.
_PROGRAM = (
    ("kisipEnvBin", text, "kisip.bin"),
    ("kisipEnvLib", text, "kisip.lib"),
    ("kisipEnvMpiprocs", whole, "processes"),
    ("kisipEnvMpirun", text, "kisip.mpirun"),
    ("kisipEnvKisipExe", text, "kisip.executable"),
)
_METHOD = (
    ("kisipMethodPhaseRecLimit", number, "phase_limit"),
    ("kisipMethodUX", number, "u_limit"),
    ("kisipMethodUV", number, "v_limit"),
    ("kisipMethodMaxIter", whole, "max_iterations"),
    ("kisipMethodSNThresh", number, "snr_keep"),
    ("kisipMethodWeightExp", number, "weight_exponent"),
    ("kisipMethodPhaseRecApod", number, "apodisation"),
    ("kisipMethodNoiseFilter", boolean, "noise_filter"),
)
_PROPS = (
    ("kisipPropsHeaderOff", whole, "kisip.header_offset"),
    ("kisipPropsAoLockX", whole, "ao_lock_x"),
    ("kisipPropsAoLockY", whole, "ao_lock_y"),
    ("kisipPropsAoUsed", boolean, "ao_used"),
)


@dataclass(frozen=True)
class Imported:
    """
    What came out of an ini file.

    Attributes
    ----------
    observation : dict
        Keys of the group `observation`.
    entries : tuple of Entry
        What became of each keyword, in the order of the file's sections.
    overrides : tuple of str
        What cannot stand in an observation file and belongs on the command line of ``stillsun run``.
    """

    observation: dict[str, Any]
    entries: tuple[Entry, ...]
    overrides: tuple[str, ...]


def import_ini(path: Path) -> Imported:
    """Read a configuration of the superseded system."""
    draft = Draft()
    sections = {
        name: IniSection(draft, name, {} if _about_logging(name) else _values(draft, name, values))
        for name, values in read_ini(path).items()
    }
    by_name = {_plain(name): section for name, section in sections.items()}
    cameras = _cameras(draft, sections, path)
    place_results(draft, cameras)
    place_files(draft, cameras)
    for camera in cameras:
        camera.carry()
    _shared(draft, by_name.get("SHARED"), cameras)
    _kisip(draft, by_name, cameras)
    _subfields(draft, cameras)
    draft.tree["defaults"] = [*(camera.default for camera in cameras), "_self_"]
    for name, section in sections.items():
        if _about_logging(name):
            draft.say(name, Fate.dropped, "the log needs no configuration; it is WORK/stillsun.log")
            continue
        for keyword in list(section.rest()):
            if section.get(keyword):
                section.note(keyword, Fate.unknown, "not a keyword of this section")
            else:
                section.note(keyword, Fate.dropped, "without a value")
    order = {name: k for k, name in enumerate(sections)}
    entries = sorted(dict.fromkeys(draft.entries), key=lambda entry: order.get(entry.section, -1))
    return Imported(_ordered(draft.tree), tuple(entries), tuple(dict.fromkeys(draft.overrides)))


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    """Keys in the order of the schema, the known channels just before what is set of them."""
    result = {key: tree[key] for key in schema_fields(ObservationConfig) if key in tree}
    channels = result.pop("channels", {})
    result["defaults"] = tree["defaults"]
    result["channels"] = {
        name: {key: channel[key] for key in schema_fields(ChannelConfig) if key in channel}
        for name, channel in channels.items()
    }
    return result


def _values(draft: Draft, section: str, raw: dict[str, str]) -> dict[str, str]:
    """Values of a section, references to other values resolved and paths made absolute."""
    values: dict[str, str] = {}
    spelt: dict[str, str] = {}
    references = References(raw)
    for keyword in raw:
        if twice := spelt.get(keyword.lower()):
            said = f"stands twice; the last one is taken, not {twice} = {values.pop(twice, raw[twice])}"
            draft.entries.append(Entry(section, keyword, raw[keyword], Fate.contradiction, said))
        spelt[keyword.lower()] = keyword
        try:
            values[keyword] = value = references.resolve(keyword)
        except NoReferenceError:
            said = f"the reference in it leads nowhere ({keyword})"
            draft.entries.append(Entry(section, keyword, raw[keyword], Fate.faulty, said))
            continue
        if keyword.lower() in _PATHS and value and not value.startswith(("/", "~")):
            values[keyword] = str(Path(value).absolute())
            said = f"a relative path, taken from where the import is done: {values[keyword]}"
            draft.entries.append(Entry(section, keyword, value, Fate.remarked, said))
    return values


def _plain(name: str) -> str:
    """Name of a section as in the code; the manual's headings have spaces."""
    return "_".join(name.upper().replace("-", " ").split())


def _about_logging(section: str) -> bool:
    low = section.lower()
    return low in _LOGGING or low.startswith(_LOGGING_STARTS)


def _cameras(draft: Draft, sections: dict[str, IniSection], path: Path) -> list[IniCamera]:
    cameras: dict[str, IniCamera] = {}
    for name, section in sections.items():
        if _plain(name) in ("SHARED", *_KISIP) or _about_logging(name):
            continue
        if not section.keywords & CAMERA_KEYWORDS and name.upper() not in KNOWN_CAMERAS:
            draft.say(name, Fate.unknown, "not a section that means anything")
        elif not section.get("dataBase") or not section.get("workBase"):
            said = "the camera is left out: it has no dataBase or no workBase, as in a template"
            draft.say(name, Fate.dropped, said)
        else:
            camera = IniCamera(draft, section)
            if cameras.setdefault(camera.channel, camera) is not camera:
                draft.say(name, Fate.contradiction, f"a second section for {camera.channel}; left out")
            continue
        for keyword in section.keywords:
            section.value(keyword, text)
    if not cameras:
        raise ConfigError(
            "no camera section",
            file=path,
            expected="a section such as ROSA_GBAND or ZYLA with dataBase and workBase",
            found=", ".join(list(sections)[:8]) or "no section",
        )
    return list(cameras.values())


def _shared(draft: Draft, shared: IniSection | None, cameras: Sequence[IniCamera]) -> None:
    if shared is None:
        draft.say("SHARED", Fate.dropped, "there is no such section; its keywords are optional")
        return
    shared.carry("DCSSLog", text, "telescope_log")
    _reference(draft, shared, cameras)
    aligned = shared.value("solarAlign", boolean)
    verify = shared.value("verifyPointingUpdate", boolean)
    if aligned is not None:
        engine = "hmi" if aligned else "none"
        remark = "" if aligned else "the channels are registered all the same"
        keys = [camera.key("align.engine") for camera in cameras]
        shared.carry("solarAlign", lambda _: engine, *keys, remark=remark)
    if verify and aligned:
        shared.carry("verifyPointingUpdate", boolean, *(camera.key("align.verify") for camera in cameras))
    elif verify:
        said = "without solarAlign there is nothing to verify"
        shared.note("verifyPointingUpdate", Fate.contradiction, said)
    elif verify is not None:
        shared.note("verifyPointingUpdate", Fate.carried, "align.verify stays false")
    movies = shared.value("contextMovies", boolean)
    if movies is False:
        stages = "stages=[calibrate,assemble,speckle,destretch,register,align,export,report]"
        draft.overrides.append(stages)
        shared.note("contextMovies", Fate.remarked, f"the command line leaves the stage movie out: {stages}")
    elif movies:
        shared.note("contextMovies", Fate.carried, "the stage movie is run unless stages=[…] leaves it out")
    if shared.value("contextMovieDirectory", text):
        shared.note("contextMovieDirectory", Fate.dropped, "movies lie in WORK/context_movies")


def _reference(draft: Draft, shared: IniSection, cameras: Sequence[IniCamera]) -> None:
    wanted = shared.value("referenceChannel", text)
    if not wanted:
        return
    found = [c.channel for c in cameras if wanted.upper() in (c.section.name.upper(), c.channel)]
    if found:
        shared.carry("referenceChannel", lambda _: found[0], "reference_channel")
        return
    draft.tree.pop("reference_channel", None)
    said = f"no usable section of this name; the first channel, {cameras[0].channel}, is taken"
    shared.note("referenceChannel", Fate.contradiction, said)


def _kisip(draft: Draft, sections: dict[str, IniSection], cameras: Sequence[IniCamera]) -> None:
    def every(name: str) -> list[str]:
        return [camera.key(f"speckle.{name}") for camera in cameras]

    method, props, env = (sections.get(name) for name in _KISIP)
    for name, section in zip(_KISIP, (method, props, env), strict=True):
        if section is None:
            draft.say(name, Fate.dropped, "there is no such section")
    if env is not None:
        said = (
            "the open reconstruction is used, with these sections' parameters; speckle=kisip on the command "
            "line runs the external program with them"
        )
        draft.say(env.name, Fate.remarked, said)
        env.carry_all(_PROGRAM, every)
    if method is not None:
        _method(method, every)
    if props is not None:
        props.carry_all(_PROPS, every)
        props.carry("kisipPropsTelescopeDiamm", number, "telescope.diameter_mm")


def _method(section: IniSection, every: Callable[[str], list[str]]) -> None:
    chosen = section.value("kisipMethodMethod", whole)
    if chosen in _METHODS:
        section.carry("kisipMethodMethod", lambda _: _METHODS[chosen], *every("method"))
    elif chosen is not None:
        section.note("kisipMethodMethod", Fate.faulty, "expected 0 or 1")
    carried = section.carry_all(_METHOD, every)
    limits = [carried[keyword] for keyword in ("kisipMethodUX", "kisipMethodUV")]
    if None not in limits and limits[0] != limits[1]:
        said = f"the manual wants kisipMethodUX = kisipMethodUV; carried over as they are, {limits}"
        section.note("kisipMethodUV", Fate.contradiction, said)


def _subfields(draft: Draft, cameras: Sequence[IniCamera]) -> None:
    """Subfields with which the external program fails."""
    said = f"the external program fails above {_LARGEST_SUBFIELD:g} arcsec; kept for the open reconstruction"
    for camera in cameras:
        speckle = draft.tree["channels"][camera.channel].get("speckle", {})
        if speckle.get("subfield_arcsec", 0.0) > _LARGEST_SUBFIELD:
            camera.section.note("kisipMethodSubfieldArcsec", Fate.contradiction, said)
