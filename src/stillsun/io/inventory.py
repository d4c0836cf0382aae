"""The raw files of a channel by role, and all that is wrong with them, before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillsun.config.schema import ChannelConfig, FileSet, ObservationConfig, ReaderName
from stillsun.errors import ConfigError, InputError
from stillsun.io.andor import FILE, spool_form
from stillsun.io.foreign import reading
from stillsun.io.patterns import pattern_fault, read_path
from stillsun.io.source import FrameSource
from stillsun.io.times import read_time

if TYPE_CHECKING:
    from stillsun.io._filesource import FileSource

ROLES = ("data", "dark", "flat", "target", "linegrid")
REQUIRED_ROLES = ("data", "dark", "flat", "reconstructed")


def directory_of(observation: ObservationConfig, settings: ChannelConfig, role: str) -> Path:
    """
    Where the files of a role lie.

    Parameters
    ----------
    observation : ObservationConfig
        The observation.
    settings : ChannelConfig
        The channel.
    role : {"data", "dark", "flat", "target", "linegrid", "reconstructed"}
        Role of the files.

    Returns
    -------
    Path
        ``raw_dir`` joined with the directory of the role, which may be absolute.
    """
    files: FileSet = getattr(settings, role)
    return read_path(observation.raw_dir, "observation.raw_dir") / read_path(
        files.directory, f"{role}.directory"
    )


def find_files(observation: ObservationConfig, settings: ChannelConfig, role: str) -> list[Path]:
    """
    Find the files of a role.

    Parameters
    ----------
    observation : ObservationConfig
        The observation.
    settings : ChannelConfig
        The channel.
    role : {"data", "dark", "flat", "target", "linegrid", "reconstructed"}
        Role of the files.

    Returns
    -------
    list of Path
        By name; empty where the role has no pattern, no directory or no file.
    """
    files: FileSet = getattr(settings, role)
    if files.pattern is None:
        return []
    if fault := pattern_fault(files.pattern):
        raise ConfigError(f"{role}.pattern {fault}", found=repr(files.pattern))
    return sorted(p for p in directory_of(observation, settings, role).glob(files.pattern) if p.is_file())


def check(observation: ObservationConfig, channel: str, roles: Iterable[str] = ROLES) -> list[str]:
    """
    All faults in the declared files of a channel.

    Parameters
    ----------
    observation : ObservationConfig
        The observation.
    channel : str
        Name of the channel.
    roles : iterable of str, optional
        Roles that will be read.

    Returns
    -------
    list of str
        One line each: the key, the path, what is wrong and what to do.
    """
    settings = observation.channels[channel]
    prefix = f"observation.channels.{channel}"
    findings: list[str] = []
    found: dict[str, set[Path]] = {}
    for role in roles:
        files: FileSet = getattr(settings, role)
        key = f"{prefix}.{role}"
        if files.pattern is None:
            if role in REQUIRED_ROLES:
                findings.append(f"{key}.pattern: must be given: the shell pattern of the {role} files")
            continue
        if fault := pattern_fault(files.pattern):
            findings.append(f"{key}.pattern: {fault}, not {files.pattern!r}")
            continue
        try:
            directory = directory_of(observation, settings, role)
        except ConfigError as error:
            findings.append(f"{prefix}: {error}")
            continue
        raw = Path(observation.raw_dir).expanduser()
        if not raw.is_dir() and not Path(files.directory).expanduser().is_absolute():
            findings.append(
                f"observation.raw_dir: no such directory: {raw.absolute()}; a relative path begins where the "
                "command is given"
            )
            continue
        if not directory.is_dir():
            findings.append(
                f"{key}.directory: no such directory: {directory}; correct it or observation.raw_dir"
            )
            continue
        if not os.access(directory, os.R_OK | os.X_OK):
            findings.append(f"{key}.directory: not readable: {directory}; ask for the right to read it")
            continue
        found[role] = set(find_files(observation, settings, role))
        if not found[role]:
            findings.append(
                f"{key}.pattern: no file matches {files.pattern!r} in {directory}; "
                f"{_hint(directory, settings)}"
            )
    # The data may serve as target images too; a dark among the data is a mistake.
    for one, other in combinations([role for role in REQUIRED_ROLES if role in found], 2):
        shared = found[one] & found[other]
        if shared:
            findings.append(
                f"{prefix}.{one}.pattern: also matches files of {other}, e.g. {min(shared)}; "
                f"narrow {getattr(settings, one).pattern!r} or {getattr(settings, other).pattern!r}"
            )
    if "data" in roles and settings.camera.reader is ReaderName.hardcam:
        findings += [*_check_start(settings, prefix), *_check_groups(settings, prefix)]
    return findings


def _hint(directory: Path, settings: ChannelConfig) -> str:
    names = sorted(entry.name for entry in directory.iterdir() if entry.is_file())
    text = f"it holds {len(names)} files, e.g. {names[0]}" if names else "it holds no files"
    if names and settings.clock_offset_h:
        text += f"; times in names are the camera's, {settings.clock_offset_h:+g} h from UTC"
    return text


def _check_start(settings: ChannelConfig, prefix: str) -> list[str]:
    if settings.start is None:
        return [
            f"{prefix}.start: must be given, for the files of this camera tell no time: the UTC start of the "
            "first frame, e.g. 2025-09-03T14:21:52 (the start in the name of the first ROSA file)"
        ]
    try:
        start_of(settings)
    except ValueError:
        return [f"{prefix}.start: not a time: {settings.start!r}; write YYYY-MM-DDThh:mm:ss.sss"]
    return []


def _check_groups(settings: ChannelConfig, prefix: str) -> list[str]:
    frames, interval_s = settings.group_frames, settings.group_interval_s
    if frames is None and interval_s is None:
        return []
    if frames is None or interval_s is None:
        return [f"{prefix}: group_frames and group_interval_s go together; give both or neither"]
    if interval_s < frames * _interval_s(settings):
        return [
            f"{prefix}.group_interval_s: {frames} frames take {frames * _interval_s(settings):.3f} s, longer "
            f"than {interval_s} s; it is the time from the start of a group to the start of the next"
        ]
    return []


def _interval_s(settings: ChannelConfig) -> float:
    interval_ms = settings.frame_interval_ms
    return (settings.exposure_ms if interval_ms is None else interval_ms) / 1e3


def start_of(settings: ChannelConfig) -> np.datetime64 | None:
    """
    Start of the first frame, where the configuration gives it.

    Parameters
    ----------
    settings : ChannelConfig
        The channel.

    Returns
    -------
    numpy.datetime64 or None
        UTC, microseconds.

    Raises
    ------
    ValueError
        If it is no time.
    """
    if settings.start is None:
        return None
    time = read_time(settings.start)
    if np.isnat(time):
        raise ValueError(f"not a time: {settings.start!r}")
    return time


def open_source(
    observation: ObservationConfig, settings: ChannelConfig, role: str, *, first: bool = False
) -> FrameSource:
    """
    Open the frames of a role.

    Parameters
    ----------
    observation : ObservationConfig
        The observation.
    settings : ChannelConfig
        The channel.
    role : {"data", "dark", "flat", "target", "linegrid"}
        Role of the frames.
    first : bool, optional
        Only those of the first file.

    Returns
    -------
    FrameSource
        The frames in the order of time; nothing is loaded yet.

    Raises
    ------
    InputError
        If there is no file, or one is damaged or of another kind.
    ConfigError
        If frames without time stamps need a start and none is given.
    """
    files = find_files(observation, settings, role)[: 1 if first else None]
    if not files:
        raise InputError(
            f"no {role} files",
            file=directory_of(observation, settings, role),
            expected=f"files that match {getattr(settings, role).pattern!r}",
            remedy=f"Correct {role}.directory or {role}.pattern of the channel",
        )
    camera = settings.camera
    rosa = camera.reader is ReaderName.rosa
    if not rosa and role == "data" and settings.start is None:
        raise ConfigError(
            "the start of the first data frame is not given", remedy="Set start of the channel (UTC)"
        )
    source = _open(settings, role, files, _shape(settings, files))
    configured = _pair(camera.shape)
    if source.shape[1:] != configured and role == "data":
        found, stated = (f"{rows} x {columns}" for rows, columns in (source.shape[1:], configured))
        note = f"the frames are {found} pixels by their files; camera.shape={stated} is not used"
        source = replace(source, findings=(*source.findings, note))
    elif role != "data" and settings.data.pattern is not None:
        _compare(observation, settings, role, source)
    return source


def _shape(settings: ChannelConfig, files: list[Path]) -> tuple[int, int] | None:
    """Size of the image where the files do not tell it: None where they do."""
    camera = settings.camera
    shape = _pair(camera.shape)
    if camera.reader is ReaderName.rosa:
        return None if camera.file_shape is None else shape
    if any((place / FILE).exists() for place in {file.parent for file in files}):
        return None
    whole = spool_form(files[:1], shape, None if camera.file_shape is None else _pair(camera.file_shape))
    with reading(files[0]):
        if any(file.stat().st_size == whole.file_bytes for file in files):
            return shape
    try:
        spool_form(files[:1])
    except InputError:
        # They tell nothing: what the configuration states is what they are held against.
        return shape
    return None


def _open(settings: ChannelConfig, role: str, files: list[Path], shape: tuple[int, int] | None) -> FileSource:
    camera = settings.camera
    file_shape = None if camera.file_shape is None or shape is None else _pair(camera.file_shape)
    exposure_s = settings.exposure_ms / 1e3
    # The readers are loaded when a file is opened: they bring astropy and compiled kernels.
    if camera.reader is ReaderName.rosa:
        from stillsun.io.rosa import open_rosa

        return open_rosa(
            files,
            shape,
            file_shape=file_shape,
            exposure_s=exposure_s,
            clock_offset_h=settings.clock_offset_h,
            verify=camera.verify,
        )
    from stillsun.io.hardcam import open_hardcam

    return open_hardcam(
        files,
        shape,
        file_shape=file_shape,
        start=start_of(settings) if role == "data" else None,
        interval_s=_interval_s(settings),
        exposure_s=exposure_s,
        group_frames=settings.group_frames,
        group_interval_s=math.nan if settings.group_interval_s is None else settings.group_interval_s,
    )


def _compare(observation: ObservationConfig, settings: ChannelConfig, role: str, source: FileSource) -> None:
    """Refuse darks, flats and fiducials of another read-out than the data's, by their first file."""
    data = find_files(observation, settings, "data")[:1]
    if not data:
        return
    try:
        shape = _open(settings, "", data, _shape(settings, data)).shape[1:]
    except InputError:
        # What is wrong with the data is said where they are read.
        return
    if source.shape[1:] != shape:
        raise InputError(
            f"the {role} frames have another size than the data",
            file=source.files[0],
            expected=f"{shape[0]} rows x {shape[1]} columns, as in {data[0]}",
            found=f"{source.shape[1]} rows x {source.shape[2]} columns",
            remedy=f"Set {role}.directory or {role}.pattern to frames of the same read-out",
        )


def _pair(values: list[int]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns
