"""Where raw files and results lie, out of an ini file of the superseded system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath

from stillsun.config.ini.camera import IniCamera
from stillsun.config.ini.convert import boolean, text
from stillsun.config.ini.draft import Draft, Fate

ROLES = ("data", "dark", "flat", "target", "linegrid")
# Why the superseded system does not look for a slide.
_NOT_ASKED = {
    "target": "createFiducialMaps does not ask for it",
    "linegrid": "neither createFiducialMaps nor correctPlateScale asks for it",
}


def place_files(draft: Draft, cameras: Sequence[IniCamera]) -> None:
    """Choose the raw directory, and give the files of each channel relative to it."""
    files = [(camera, *found) for camera in cameras for found in _find(draft, camera)]
    root = _common([directory for _, _, directory, _ in files])
    draft.put("raw_dir", str(root or "."))
    for camera, role, directory, pattern in files:
        draft.put(
            camera.key(f"{role}.directory"), os.path.relpath(directory, root) if root else str(directory)
        )
        draft.put(camera.key(f"{role}.pattern"), pattern)


def place_results(draft: Draft, cameras: Sequence[IniCamera]) -> None:
    """Choose name and work directory of the observation."""
    name = "_".join(filter(None, (_agreed(cameras, key) for key in ("obsDate", "obsTime")))) or "observation"
    draft.put("name", name)
    bases = [PurePath(os.path.normpath(camera.section.get("workBase"))) for camera in cameras]
    work = _work_directory(bases, cameras, name)
    draft.put("work_dir", str(work))
    for camera, base in zip(cameras, bases, strict=True):
        place = work / camera.channel
        if place == base:
            said = "also holds the superseded system's results; another work_dir keeps the two apart"
        else:
            said = f"the results lie in {place}"
        camera.section.note("workBase", Fate.remarked, said)


def _agreed(cameras: Sequence[IniCamera], keyword: str) -> str:
    """Value of a keyword that all cameras should have in common."""
    found = [camera.section.value(keyword, text) for camera in cameras]
    first = next((value for value in found if value), "")
    for camera, value in zip(cameras, found, strict=True):
        if value == first:
            camera.section.note(keyword, Fate.carried, "name of the observation")
        elif value:
            camera.section.note(
                keyword,
                Fate.contradiction,
                f"another section has {first}: one observation file is one sequence (the times of ROSA's "
                "frames come from its files)",
            )
    return first


def _find(draft: Draft, camera: IniCamera) -> list[tuple[str, PurePath, str]]:
    """Role, directory and pattern of what the superseded system would read."""
    section = camera.section
    found: dict[str, tuple[PurePath, str]] = {}
    maps = section.value("createFiducialMaps", boolean)
    scale = section.value("correctPlateScale", boolean)
    if maps is not None:
        said = "are declared" if maps else "are not needed for it"
        section.note("createFiducialMaps", Fate.carried, f"target and line-grid files {said}")
    left_out = {"target": not maps, "linegrid": not (maps or scale)}
    for role in ROLES:
        base, pattern = section.get(f"{role}Base"), section.get(f"{role}FilePattern")
        fate, said = Fate.carried, f"channels.{camera.channel}.{role}"
        if left_out.get(role):
            fate, said = Fate.dropped, f"left out: {_NOT_ASKED[role]}"
        elif not (base or pattern):
            do = "left out" if role in _NOT_ASKED else f"set {role}.directory and {role}.pattern"
            camera.say(
                Fate.contradiction,
                f"neither {role}Base nor {role}FilePattern, so that the data would serve; {do}",
            )
        else:
            place = PurePath(
                base or section.get("dataBase"), pattern or section.get("dataFilePattern") or "*"
            )
            found[role] = _split(place)
        for keyword, given in ((f"{role}Base", base), (f"{role}FilePattern", pattern)):
            if given:
                section.note(keyword, fate, said)
    if "linegrid" in found or scale is not None:
        draft.put(camera.key("calibrate.measure_plate_scale"), bool(scale))
        said = f"channels.{camera.channel}.calibrate.measure_plate_scale = {bool(scale)}"
        section.note("correctPlateScale", Fate.carried, said)
    for role in ("dark", "flat"):
        if role in found and found[role] == found["data"]:
            camera.say(
                Fate.contradiction, f"the files of {role} and of the data are the same; narrow {role}.pattern"
            )
    return [(role, *place) for role, place in found.items()]


def _split(place: PurePath) -> tuple[PurePath, str]:
    """Directory without wildcards, and the pattern below it."""
    parts = place.parts
    plain = next((k for k, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    return PurePath(*parts[:plain]), str(PurePath(*parts[plain:]))


def _work_directory(bases: list[PurePath], cameras: Sequence[IniCamera], name: str) -> PurePath:
    """A directory of this observation alone that holds, or lies beside, the old ones."""
    first = bases[0]
    if len(set(bases)) == 1:
        own = {cameras[0].channel, cameras[0].section.name.upper()}
        return first.parent if len(bases) == 1 and first.name.upper() in own else first
    root = _common(bases)
    if root is None:
        return first
    # Sequences below cameras: the common directory is that of all sequences.
    return root if all(base.parent == root for base in bases) else root / name


def _common(directories: Sequence[PurePath]) -> PurePath | None:
    """Deepest directory above all; None where it says nothing."""
    try:
        root = PurePath(os.path.commonpath(directories))
    except ValueError:
        return None
    return None if str(root) in ("/", ".") else root
