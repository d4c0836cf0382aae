"""
Configurations of the superseded system, SSOSoft, as observations of this one.

An ini file has a section ``SHARED``, one for each camera, three for the external speckle program KISIP,
and some for its log (SSOSoft manual, 2025-10-14, section 7). Every keyword is carried over or reported;
none is dropped in silence.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillsun.config._inicamera import CAMERA_KEYWORDS, KNOWN_CAMERAS, Camera
from stillsun.config._iniconvert import boolean, number, text, whole
from stillsun.config._iniplaces import ROLES, place_files, place_results
from stillsun.config._inivalues import Draft, Entry, Fate, Section
from stillsun.config.keys import schema_fields
from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.errors import ConfigError

_KISIP = ("KISIP_METHOD", "KISIP_PROPS", "KISIP_ENV")
_PATHS = ("dcsslog", "kisipenvbin", "kisipenvlib", "workbase", *(f"{role}base" for role in ROLES))
_LOGGING = ("loggers", "handlers", "formatters")
_LOGGING_STARTS = ("logger_", "handler_", "formatter_")
# Above this the external program fails.
_LARGEST_SUBFIELD = 10.0


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
    """
    Read a configuration of the superseded system.

    Parameters
    ----------
    path : Path
        The ini file.

    Returns
    -------
    Imported
        The observation and the report.

    Raises
    ------
    ConfigError
        If the file is missing, no ini file, or without a usable camera section.
    """
    parser = _read(path)
    draft = Draft()
    sections = {name: Section(draft, name, _items(draft, parser, name)) for name in parser.sections()}
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
            draft.entries.append(
                Entry(name, "", "", Fate.dropped, "the log needs no configuration; it is WORK/stillsun.log")
            )
            continue
        for keyword, _ in list(section.rest()):
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


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError("cannot be read", file=path, found=error.strerror) from error
    try:
        said = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A name or a comment of before.
        said = content.decode("latin-1")
    try:
        parser.read_string(said, source=str(path))
    except configparser.Error as error:
        raise ConfigError(
            f"not an ini file: {' '.join(str(error).split())}",
            file=path,
            remedy="Correct the line, or remove what stands twice",
        ) from error
    return parser


def _items(draft: Draft, parser: configparser.ConfigParser, section: str) -> dict[str, str]:
    """Values of a section, references to other values resolved."""
    if _about_logging(section):
        return {}
    values: dict[str, str] = {}
    for keyword in parser.options(section):
        twice = next((other for other in values if other.lower() == keyword.lower()), None)
        if twice is not None:
            said = f"stands twice; the last one is taken, not {twice} = {values.pop(twice)}"
            value = parser.get(section, keyword, raw=True)
            draft.entries.append(Entry(section, keyword, value, Fate.contradiction, said))
        try:
            value = parser.get(section, keyword)
            values[keyword] = value
            if keyword.lower() in _PATHS and value and not Path(value).expanduser().is_absolute():
                values[keyword] = str(Path(value).absolute())
                said = f"a relative path, taken from where the import is done: {values[keyword]}"
                draft.entries.append(Entry(section, keyword, value, Fate.remarked, said))
        except configparser.InterpolationError as error:
            raw = parser.get(section, keyword, raw=True)
            draft.entries.append(
                Entry(
                    section, keyword, raw, Fate.faulty, f"the reference in it leads nowhere ({error.option})"
                )
            )
    return values


def _plain(name: str) -> str:
    """Name of a section as in the code; the manual's headings have spaces."""
    return "_".join(name.upper().replace("-", " ").split())


def _about_logging(section: str) -> bool:
    low = section.lower()
    return low in _LOGGING or low.startswith(_LOGGING_STARTS)


def _cameras(draft: Draft, sections: dict[str, Section], path: Path) -> list[Camera]:
    cameras: dict[str, Camera] = {}
    for name, section in sections.items():
        if _plain(name) in ("SHARED", *_KISIP) or _about_logging(name):
            continue
        if not section.keywords & CAMERA_KEYWORDS and name.upper() not in KNOWN_CAMERAS:
            draft.entries.append(Entry(name, "", "", Fate.unknown, "not a section that means anything"))
        elif not section.get("dataBase") or not section.get("workBase"):
            draft.entries.append(
                Entry(
                    name, "", "", Fate.dropped,
                    "the camera is left out: it has no dataBase or no workBase, as in a template",
                )
            )  # fmt: skip
        else:
            camera = Camera(draft, section)
            if camera.channel in cameras:
                draft.entries.append(
                    Entry(
                        name, "", "", Fate.contradiction, f"a second section for {camera.channel}; left out"
                    )
                )
                continue
            cameras[camera.channel] = camera
            continue
        for keyword in list(section.keywords):
            section.value(keyword, text)
    if not cameras:
        raise ConfigError(
            "no camera section",
            file=path,
            expected="a section such as ROSA_GBAND or ZYLA with dataBase and workBase",
            found=", ".join(sections) or "no section",
        )
    return list(cameras.values())


def _shared(draft: Draft, shared: Section | None, cameras: Sequence[Camera]) -> None:
    if shared is None:
        draft.entries.append(
            Entry("SHARED", "", "", Fate.dropped, "there is no such section; its keywords are optional")
        )
        return
    shared.carry("DCSSLog", text, ("telescope_log",))
    _reference(draft, shared, cameras)
    aligned = shared.value("solarAlign", boolean)
    verify = shared.value("verifyPointingUpdate", boolean)
    if aligned is not None:
        engine = "hmi" if aligned else "none"
        remark = "" if aligned else "the channels are registered all the same"
        keys = [c.key("align", "engine") for c in cameras]
        shared.carry("solarAlign", lambda _: engine, *keys, remark=remark)
    if verify and aligned:
        shared.carry("verifyPointingUpdate", boolean, *(c.key("align", "verify") for c in cameras))
    elif verify:
        shared.note(
            "verifyPointingUpdate", Fate.contradiction, "without solarAlign there is nothing to verify"
        )
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


def _reference(draft: Draft, shared: Section, cameras: Sequence[Camera]) -> None:
    wanted = shared.value("referenceChannel", text)
    if not wanted:
        return
    found = [c.channel for c in cameras if wanted.upper() in (c.section.name.upper(), c.channel)]
    if found:
        shared.carry("referenceChannel", lambda _: found[0], ("reference_channel",))
    else:
        draft.tree.pop("reference_channel", None)
        shared.note(
            "referenceChannel",
            Fate.contradiction,
            f"no usable section of this name; the first channel, {cameras[0].channel}, is taken",
        )


def _kisip(draft: Draft, sections: dict[str, Section], cameras: Sequence[Camera]) -> None:
    def every(*key: str) -> list[tuple[str, ...]]:
        return [camera.key("speckle", *key) for camera in cameras]

    method, props, env = (sections.get(name) for name in _KISIP)
    for name, section in zip(_KISIP, (method, props, env), strict=True):
        if section is None:
            draft.entries.append(Entry(name, "", "", Fate.dropped, "there is no such section"))
    if env is not None:
        said = (
            "the open reconstruction is used, with these sections' parameters; speckle=kisip on the command "
            "line runs the external program with them"
        )
        draft.entries.append(Entry(env.name, "", "", Fate.remarked, said))
        env.carry("kisipEnvBin", text, *every("kisip", "bin"))
        env.carry("kisipEnvLib", text, *every("kisip", "lib"))
        env.carry("kisipEnvMpiprocs", whole, *every("processes"))
        env.carry("kisipEnvMpirun", text, *every("kisip", "mpirun"))
        env.carry("kisipEnvKisipExe", text, *every("kisip", "executable"))
    if method is not None:
        _method(method, every)
    if props is not None:
        props.carry("kisipPropsHeaderOff", whole, *every("kisip", "header_offset"))
        props.carry("kisipPropsTelescopeDiamm", number, ("telescope", "diameter_mm"))
        props.carry("kisipPropsAoLockX", whole, *every("ao_lock_x"))
        props.carry("kisipPropsAoLockY", whole, *every("ao_lock_y"))
        props.carry("kisipPropsAoUsed", boolean, *every("ao_used"))


def _method(section: Section, every: Callable[..., list[tuple[str, ...]]]) -> None:
    _algorithm(section, every)
    section.carry("kisipMethodPhaseRecLimit", number, *every("phase_limit"))
    limits = [section.carry(f"kisipMethodU{axis}", number, *every(f"{name}_limit")) for axis, name in _LIMITS]
    if None not in limits and limits[0] != limits[1]:
        section.note(
            "kisipMethodUV",
            Fate.contradiction,
            f"the manual wants kisipMethodUX = kisipMethodUV; carried over as they are, {limits}",
        )
    section.carry("kisipMethodMaxIter", whole, *every("max_iterations"))
    section.carry("kisipMethodSNThresh", number, *every("snr_keep"))
    section.carry("kisipMethodWeightExp", number, *every("weight_exponent"))
    section.carry("kisipMethodPhaseRecApod", number, *every("apodisation"))
    section.carry("kisipMethodNoiseFilter", boolean, *every("noise_filter"))


_LIMITS = (("X", "u"), ("V", "v"))


def _subfields(draft: Draft, cameras: Sequence[Camera]) -> None:
    """Subfields with which the external program fails."""
    for camera in cameras:
        speckle = draft.tree["channels"][camera.channel].get("speckle", {})
        if speckle.get("subfield_arcsec", 0.0) <= _LARGEST_SUBFIELD:
            continue
        camera.section.note(
            "kisipMethodSubfieldArcsec",
            Fate.contradiction,
            f"the external program fails above {_LARGEST_SUBFIELD:g} arcsec; "
            "kept for the open reconstruction",
        )


def _algorithm(section: Section, every: Callable[..., list[tuple[str, ...]]]) -> None:
    """The method of reconstruction."""
    method = section.value("kisipMethodMethod", whole)
    keyword = "kisipMethodMethod"
    names = {0: "knox_thompson", 1: "triple_correlation"}
    if method in names:
        section.carry(keyword, lambda _: names[method], *every("method"))
    elif method is not None:
        section.note(keyword, Fate.faulty, "expected 0 or 1")
