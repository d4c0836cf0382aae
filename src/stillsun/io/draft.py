"""
A draft of an observation file from sorted raw sequences.

What the files do not tell (filters, orientation, HARDcam's exposure) is filled in by the convention of
the telescope and marked with `CHECK`, or left open and marked with `FILL IN`; what else could have been
chosen stands beside it as a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.errors import InputError
from stillsun.io.classify import Role, Sorted, Sureness
from stillsun.io.observationfile import Key, observation_text
from stillsun.io.rawdirectory import RawDirectory
from stillsun.io.rawsequence import HARDCAM, RawSequence
from stillsun.io.telemetry import read_telescope_log

# Arcsec per mm at the prime focus, where the lines of the grid are 1 mm apart.
ARCSEC_PER_MM = 3.76
# Camera to the known channel that it usually is (SSOSoft manual, 2025-10-14, section 2.1).
_USUAL = {
    "das1": ("ROSA_GBAND", "rosa_gband"),
    "das2": ("ROSA_4170", "rosa_4170"),
    "das3": ("ROSA_CAK", "rosa_cak"),
    "das4": ("ROSA_3500", "rosa_3500"),
    HARDCAM: ("HARDCAM", "hardcam"),
}
# Since then das4 looks at the fibres of another instrument through a G-band filter.
_DAS4_CHANGED = np.datetime64("2022-01-01")
_OTHER_CLOCKS = ("das3", "das4", "das5", "das6")
_SAME_SEQUENCE_S = 60.0
_SAME_NIGHT_S = 12 * 3600.0
_LISTED = 6


@dataclass
class _Draft:
    tree: dict[str, Any] = field(default_factory=dict)
    defaults: list[Any] = field(default_factory=list)
    comments: dict[Key, list[str]] = field(default_factory=dict)


def draft_text(directory: RawDirectory, found: Sequence[Sorted], work: Path) -> str:
    """
    Write the draft.

    Parameters
    ----------
    directory : RawDirectory
        What lies in the raw directory.
    found : sequence of Sorted
        Its sequences with their roles.
    work : Path
        Work directory to be proposed.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    InputError
        If there are no data.
    """
    chosen, left_out = _choose_data(found)
    if not chosen:
        raise InputError(
            "no sequence of data",
            file=directory.path,
            expected="ROSA's .fit files or HARDcam's spool directories of the Sun",
            found=f"{len(found)} other sequences",
        )
    # The clocks of das1 and das2 keep UTC, those of the others follow daylight saving time.
    reference = next(iter(chosen.values())).sequence
    draft = _Draft()
    start = reference.start
    name = "observation" if np.isnat(start) else str(start)[:19].translate(str.maketrans("T", "_", "-:"))
    draft.tree = {"name": name, "raw_dir": str(directory.path), "work_dir": str(work)}
    draft.comments["work_dir",] = ["CHECK: where the results go."]
    _log(draft, directory, start)
    channels: dict[str, Any] = {}
    for camera, data in chosen.items():
        channel, group = _channel_of(camera, data.sequence)
        key = f"/channel@channels.{channel}" if group else f"/camera@channels.{channel}.camera"
        draft.defaults.append({key: group or "rosa"})
        channels[channel] = _channel(draft, channel, group, data, found, reference)
    draft.tree["reference_channel"] = next(iter(channels))
    draft.comments["reference_channel",] = ["CHECK: the others are registered to this one."]
    draft.tree["defaults"] = [*draft.defaults, "_self_"]
    draft.tree["channels"] = channels
    if left_out:
        draft.comments["channels",] = [
            "CHECK: left out, as what they saw is of another night:",
            *(f"  {item.sequence.camera}: {item.sequence.name}" for item in left_out),
        ]
    header = [
        f"Draft by stillsun sort of {directory.path}.",
        "CHECK marks what is convention and not told by the files, FILL IN what could not be known.",
    ]
    return observation_text(draft.tree, header=header, comments=draft.comments)


def _choose_data(found: Sequence[Sorted]) -> tuple[dict[str, Sorted], list[Sorted]]:
    """
    The longest sequence of data, and of each other camera the one at its time, else the nearest of the night.

    Cameras that have none of that night are left out, with their longest.
    """
    data = [s for s in found if s.role is Role.data and s.sequence.shape is not None]
    if not data:
        return {}, []
    rosa = [s for s in data if s.sequence.camera != HARDCAM] or data
    longest = max(rosa, key=lambda s: s.sequence.seconds)
    chosen = {longest.sequence.camera: longest}
    left_out = []
    for camera in dict.fromkeys(s.sequence.camera for s in data):
        if camera in chosen:
            continue
        own = [s for s in data if s.sequence.camera == camera]
        together = [s for s in own if _simultaneous(s.sequence, longest.sequence)]
        near = [s for s in own if not _of_another_night(s.sequence, longest.sequence)]
        if together:
            chosen[camera] = max(together, key=lambda s: s.sequence.seconds)
        elif near:
            chosen[camera] = min(near, key=lambda s: abs(_between(s.sequence, longest.sequence)))
        else:
            left_out.append(max(own, key=lambda s: s.sequence.seconds))
    return dict(sorted(chosen.items(), key=lambda item: (item[0] == HARDCAM, item[0]))), left_out


def _of_another_night(one: RawSequence, other: RawSequence) -> bool:
    known = not (np.isnat(one.start) or np.isnat(other.start))
    return known and abs(_between(one, other)) > _SAME_NIGHT_S


def _simultaneous(one: RawSequence, other: RawSequence) -> bool:
    """Started together, by clocks that may be an hour apart."""
    apart = _between(one, other)
    return abs(apart - round(apart / 3600) * 3600) < _SAME_SEQUENCE_S and abs(apart) < 1.5 * 3600


def _hours(one: RawSequence, other: RawSequence) -> int:
    """Whole hours between the clocks of two cameras that started together."""
    return round(_between(one, other) / 3600)


def _between(one: RawSequence, other: RawSequence) -> float:
    """Seconds from the start of the other; infinite where unknown."""
    step = (one.start - other.start) / np.timedelta64(1, "s")
    return float(step) if np.isfinite(step) else 1e12


def _channel_of(camera: str, sequence: RawSequence) -> tuple[str, str | None]:
    if camera == "das4" and not sequence.start < _DAS4_CHANGED:
        return "ROSA_DAS4", None
    return _USUAL.get(camera, (f"ROSA_{camera.upper()}", None))


def _log(draft: _Draft, directory: RawDirectory, start: np.datetime64) -> None:
    """The log that says something of the time of the data, or of the time nearest to it."""
    logs = sorted(directory.logs, key=lambda log: (_distance(log, start), str(log)))
    draft.tree["telescope_log"] = str(logs[0]) if logs else None
    if not logs:
        draft.comments["telescope_log",] = ["CHECK: none was found; without it there is no pointing."]
    elif _distance(logs[0], start) > _SAME_SEQUENCE_S:
        draft.comments["telescope_log",] = ["CHECK: it says nothing of the time of the data.", *_also(logs)]
    elif logs[1:]:
        draft.comments["telescope_log",] = [f"CHECK: one of {len(logs)} logs, by its times.", *_also(logs)]


def _also(logs: Sequence[Path]) -> list[str]:
    return ["Also:", *map(str, logs[1:])] if logs[1:] else []


def _distance(log: Path, start: np.datetime64) -> float:
    """Seconds from a time to the nearest record of a log."""
    try:
        times = read_telescope_log(log).times
    except InputError:
        return float("inf")
    apart = np.abs((times - start) / np.timedelta64(1, "s"))
    return float(np.nanmin(apart)) if np.isfinite(apart).any() else float("inf")


def _channel(
    draft: _Draft,
    channel: str,
    group: str | None,
    data: Sorted,
    found: Sequence[Sorted],
    reference: RawSequence,
) -> dict[str, Any]:
    sequence = data.sequence
    assert sequence.shape is not None
    here: Key = ("channels", channel)
    tree: dict[str, Any] = {"camera": {"shape": list(sequence.shape)}}
    if sequence.file_shape is not None:
        tree["camera"]["file_shape"] = list(sequence.file_shape)
    if group is None:
        tree |= {"wavelength_nm": "???", "filter": ""}
        draft.comments[*here, "wavelength_nm"] = [
            "FILL IN: the filter of this camera differs from night to night."
        ]
        draft.comments[here] = [f"CHECK the channel's name: camera {sequence.camera}."]
    else:
        said = f"CHECK: {sequence.camera} is usually this channel; filter, wavelength and width are its own."
        draft.comments[here] = [said] if sequence.camera != HARDCAM else []
    same = [s for s in found if s.sequence.camera == sequence.camera and s.sequence.shape == sequence.shape]
    _scale(draft, here, tree, same, group, sequence)
    _exposure(draft, here, tree, sequence)
    tree["orientation"] = "FILL IN"
    draft.comments[*here, "orientation"] = [
        "FILL IN: what brings the target upright: [...] of rot90, flipud, fliplr, flip; none for nothing."
    ]
    if sequence.camera == HARDCAM:
        _start(draft, here, tree, sequence, reference)
        _groups(draft, here, tree, sequence, reference)
    elif _simultaneous(sequence, reference) and (hours := _hours(sequence, reference)):
        tree["clock_offset_h"] = float(hours)
        draft.comments[*here, "clock_offset_h"] = [
            f"CHECK: its files' times differ by this from those of {reference.camera} in the same sequence."
        ]
    if sequence is reference and sequence.camera in _OTHER_CLOCKS:
        draft.comments[here].append(
            "CHECK: the clock of its computer may be an hour ahead; set clock_offset_h."
        )
    for role in (Role.data, Role.dark, Role.flat, Role.target, Role.linegrid):
        _files(draft, here, tree, role, data, same, reference)
    return tree


def _scale(
    draft: _Draft,
    here: Key,
    tree: dict[str, Any],
    same: list[Sorted],
    group: str | None,
    sequence: RawSequence,
) -> None:
    grids = [s for s in same if s.role is Role.linegrid and np.isfinite(s.spacing).any()]
    if grids:
        grid = min(grids, key=lambda s: abs(_between(s.sequence, sequence)))
        across, along = grid.spacing
        spacings = (along if np.isfinite(along) else across, across if np.isfinite(across) else along)
        tree["plate_scale"] = [round(ARCSEC_PER_MM / spacing, 5) for spacing in spacings]
        said = f"x, y from {grid.sequence.name}: {grid.evidence}; {ARCSEC_PER_MM} arcsec each."
    elif group is None:
        tree["plate_scale"] = "???"
        said = "FILL IN: x, y in arcsec per pixel; there is no line grid to tell."
    else:
        return
    draft.comments[*here, "plate_scale"] = [said]


def _exposure(draft: _Draft, here: Key, tree: dict[str, Any], sequence: RawSequence) -> None:
    if np.isfinite(sequence.exposure_s):
        tree["exposure_ms"] = round(sequence.exposure_s * 1e3, 6)
    elif sequence.camera == HARDCAM:
        tree["exposure_ms"] = 29.4
        draft.comments[*here, "exposure_ms"] = ["CHECK: the files do not tell; it times the frames."]
    else:
        tree["exposure_ms"] = "???"
        draft.comments[*here, "exposure_ms"] = ["FILL IN: the files do not tell."]


def _start(
    draft: _Draft, here: Key, tree: dict[str, Any], sequence: RawSequence, reference: RawSequence
) -> None:
    """HARDcam starts with the first ROSA frame; its directory's name is a few seconds late."""
    if reference.camera != HARDCAM and _simultaneous(sequence, reference):
        # Its computer's clock may follow daylight saving time too.
        late = _between(sequence, reference) - 3600 * _hours(sequence, reference)
        start = reference.start
        said = f"first frame of {reference.name}; the directory's name is {late:+.0f} s from it."
    elif not np.isnat(sequence.start):
        start = sequence.start
        said = "CHECK: from the directory's name, when the first file was written: seconds late."
    else:
        tree["start"] = None
        draft.comments[*here, "start"] = ["FILL IN: UTC start of the first frame; no file tells it."]
        return
    tree["start"] = str(start.astype("datetime64[ms]"))
    draft.comments[*here, "start"] = [said]


def _groups(
    draft: _Draft, here: Key, tree: dict[str, Any], sequence: RawSequence, reference: RawSequence
) -> None:
    """Filaments are observed in groups of frames; where it cannot be seen, it is asked."""
    cadence = sequence.cadence
    if cadence is not None and cadence.clear:
        tree["group_frames"] = cadence.frames
        tree["group_interval_s"] = round(cadence.interval_s, 1)
        draft.comments[*here, "group_frames"] = [f"CHECK: {cadence}."]
    elif cadence is not None or reference.camera == HARDCAM:
        seen = "the files' times show none" if cadence is None else str(cadence)
        draft.comments[*here, "start"].append(
            f"CHECK: was it triggered in groups (64 frames, then a pause)? {seen}. "
            "If so, set group_frames and group_interval_s."
        )


def _files(
    draft: _Draft,
    here: Key,
    tree: dict[str, Any],
    role: Role,
    data: Sorted,
    same: list[Sorted],
    reference: RawSequence,
) -> None:
    """The sequence nearest to the data, and the others of the role in a comment."""
    sequence = data.sequence
    ranked = sorted(
        (s for s in same if s.role is role),
        key=lambda s: (s is not data, s.sureness is Sureness.doubtful, abs(_between(s.sequence, sequence))),
    )
    if not ranked:
        needed = role in (Role.dark, Role.flat)
        tree[role.value] = {"directory": ".", "pattern": None}
        draft.comments[*here, role.value] = [
            f"FILL IN: no {role.value} of this camera and size was found."
            if needed
            else f"No {role.value} was found; none is needed."
        ]
        return
    first = ranked[0]
    tree[role.value] = {"directory": str(first.sequence.directory), "pattern": first.sequence.pattern}
    lines = []
    if first.sureness is Sureness.doubtful:
        lines.append(f"CHECK: doubtful: {first.evidence}.")
    if role is Role.data:
        lines.append(f"{first.sequence.frames} frames, one of {len(ranked)} sequences." if ranked[1:] else "")
        if not _simultaneous(sequence, reference) and not np.isnat(sequence.start):
            apart = _between(sequence, reference) / 60
            lines.append(f"CHECK: begins {apart:+.0f} min from {reference.name}; it is another sequence.")
    elif _of_another_night(first.sequence, sequence):
        lines.append("CHECK: of another night; there is none of this one.")
    if ranked[1:]:
        lines.append("Also:")
        lines += [
            f'  {{directory: {s.sequence.directory}, pattern: "{s.sequence.pattern}"}}'
            for s in ranked[1:_LISTED]
        ]
        if len(ranked) > _LISTED:
            lines.append(f"  and {len(ranked) - _LISTED} more")
    draft.comments[*here, role.value] = [line for line in lines if line]
