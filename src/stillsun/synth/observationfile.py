"""Where the parts of a simulated observation lie in time and on disk, and its observation file."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from stillsun.synth.channels import ChannelSetup
from stillsun.synth.rawfiles import OVERSCAN
from stillsun.synth.settings import SimulationSettings

# When the sequences around the data are taken, minutes after the trigger.
_MINUTES = {"data": 0, "dark": -32, "flat": -24, "linegrid": 38, "target": 41}
ROLES = tuple(_MINUTES)


def sequence_start(settings: SimulationSettings, setup: ChannelSetup, role: str) -> datetime:
    """
    Trigger of a sequence by the clock of the camera's computer.

    Parameters
    ----------
    settings : SimulationSettings
        What is simulated.
    setup : ChannelSetup
        The channel.
    role : str
        One of `ROLES`.

    Returns
    -------
    datetime
        UTC plus the clock's offset.
    """
    return settings.start + timedelta(minutes=_MINUTES[role], hours=setup.clock_offset_hours)


def first_exposure(settings: SimulationSettings, setup: ChannelSetup) -> float:
    """
    Start of a channel's first data exposure.

    Parameters
    ----------
    settings : SimulationSettings
        What is simulated.
    setup : ChannelSetup
        The channel.

    Returns
    -------
    float
        Seconds since the trigger: a ROSA camera's first frame comes one interval later, HARDcam starts
        with the first ROSA frame.
    """
    rosa = [c.interval_ms for c in settings.channels if c.is_rosa]
    own = setup.interval_ms if setup.is_rosa else min(rosa, default=0.0)
    return own / 1000


def spool_directory(settings: SimulationSettings, role: str) -> Path:
    """
    Directory of a HARDcam sequence, relative to that of the raw files.

    Parameters
    ----------
    settings : SimulationSettings
        What is simulated.
    role : str
        One of `ROLES`.

    Returns
    -------
    Path
        Named after the time when the first file was written, a few seconds late.
    """
    time = settings.start + timedelta(minutes=_MINUTES[role], seconds=2)
    kind = "observation" if role == "data" else role
    return Path(f"{time:%y%m%d}_ZYLA") / f"DBJ_data_{time:%H%M%S}_{kind}"


def observation_text(settings: SimulationSettings, out: Path, log: Path, fulldisk: Path) -> str:
    """
    The observation file, as YAML.

    Parameters
    ----------
    settings : SimulationSettings
        What is simulated.
    out : Path
        Directory of the observation.
    log : Path
        Telescope log.
    fulldisk : Path
        Full-disk image.

    Returns
    -------
    str
        Text of the file; all paths are absolute.
    """
    lines = [
        "# A simulated observation; the truth is in truth.h5.",
        f"# Full-disk image for the solar alignment: {fulldisk}",
        f"name: {_text(f'{settings.start:%Y%m%d_%H%M%S}')}",
        f"raw_dir: {_text(out / 'level0')}",
        f"work_dir: {_text(out / 'work')}",
        f"telescope_log: {_text(log)}",
        f"reference_channel: {settings.channels[0].name}",
        "object: simulated Sun",
        "channels:",
    ]
    for setup in settings.channels:
        lines += _channel_lines(settings, setup)
    return "\n".join(lines) + "\n"


def _channel_lines(settings: SimulationSettings, setup: ChannelSetup) -> list[str]:
    rows, columns = setup.shape
    camera = [
        f"shape: [{rows}, {columns}]",
        f"saturation: {setup.saturation_dn}",
    ]
    if setup.is_rosa:
        camera += ["name: ROSA", "model: Andor iXon+ DU-885K", "reader: rosa"]
    else:
        camera += ["name: HARDCAM", "model: Andor Zyla 4.2", "reader: hardcam"]
        camera.append(f"file_shape: [{rows + OVERSCAN[0]}, {columns + OVERSCAN[1]}]")
    lines = [
        f"  {setup.name}:",
        "    camera:",
        *(f"      {line}" for line in camera),
        f"    wavelength_nm: {setup.wavelength_nm}",
        f"    wavelength_width_nm: {setup.width_nm}",
        f"    filter: {_text(setup.filter)}",
        f"    plate_scale: [{setup.nominal_scale}, {setup.nominal_scale}]",
        f"    exposure_ms: {setup.exposure_ms}",
        f"    orientation: [{', '.join(setup.orientation)}]",
    ]
    if not setup.is_rosa:
        start = settings.start + timedelta(seconds=first_exposure(settings, setup))
        lines.append(f"    frame_interval_ms: {setup.interval_ms}")
        lines.append(f"    start: {_text(start.isoformat(timespec='milliseconds'))}")
    for role in ROLES:
        lines.append(f"    {role}:")
        if setup.is_rosa:
            kind = f"{role}_" if role in ("dark", "flat") else ""
            stamp = f"{sequence_start(settings, setup, role):%Y-%m-%d_%H.%M.%S}"
            lines.append(f"      directory: {setup.computer}")
            lines.append(f"      pattern: {_text(f'{setup.computer}_rosa_{kind}{stamp}_*.fit')}")
        else:
            lines.append(f"      directory: {_text(spool_directory(settings, role))}")
            lines.append('      pattern: "*spool.dat"')
    lines += ["    assemble:", f"      frames_per_burst: {settings.burst_length(setup)}"]
    return lines


def _text(value: object) -> str:
    # A JSON string is a YAML string.
    return json.dumps(str(value), ensure_ascii=False)
