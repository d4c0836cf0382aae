"""Where the parts of a simulated observation lie in time and on disk, and its observation file."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from stillsun.io.observationfile import observation_text as as_yaml
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
        Directory of the full-disk images.

    Returns
    -------
    str
        Text of the file; all paths are absolute.
    """
    tree = {
        "name": f"{settings.start:%Y%m%d_%H%M%S}",
        "raw_dir": str(out / "level0"),
        "work_dir": str(out / "work"),
        "telescope_log": str(log),
        "reference_channel": settings.channels[0].name,
        "object": "simulated Sun",
        "channels": {setup.name: _channel(settings, setup, fulldisk) for setup in settings.channels},
    }
    return as_yaml(tree, header=["A simulated observation; the truth is in truth.h5."])


def _channel(settings: SimulationSettings, setup: ChannelSetup, fulldisk: Path) -> dict[str, Any]:
    rows, columns = setup.shape
    camera: dict[str, Any] = {"shape": [rows, columns], "saturation": setup.saturation_dn}
    if setup.is_rosa:
        camera |= {"name": "ROSA", "model": "Andor iXon+ DU-885K", "reader": "rosa"}
    else:
        camera |= {"name": "HARDCAM", "model": "Andor Zyla 4.2", "reader": "hardcam"}
        camera["file_shape"] = [rows + OVERSCAN[0], columns + OVERSCAN[1]]
    channel: dict[str, Any] = {
        "camera": camera,
        "wavelength_nm": setup.wavelength_nm,
        "wavelength_width_nm": setup.width_nm,
        "filter": setup.filter,
        "plate_scale": [setup.nominal_scale, setup.nominal_scale],
        "exposure_ms": setup.exposure_ms,
        "orientation": list(setup.orientation),
    }
    if not setup.is_rosa:
        start = settings.start + timedelta(seconds=first_exposure(settings, setup))
        channel["frame_interval_ms"] = setup.interval_ms
        channel["start"] = start.isoformat(timespec="milliseconds")
        if settings.hardcam_groups is not None:
            frames, interval = settings.hardcam_groups
            channel |= {"group_frames": int(frames), "group_interval_s": float(interval)}
    if not settings.ao_modes:
        channel["speckle"] = {"ao_used": False}
    if setup.clock_offset_hours:
        channel["clock_offset_h"] = setup.clock_offset_hours
    for role in ROLES:
        if setup.is_rosa:
            kind = f"{role}_" if role in ("dark", "flat") else ""
            stamp = f"{sequence_start(settings, setup, role):%Y-%m-%d_%H.%M.%S}"
            pattern = f"{setup.computer}_rosa_{kind}{stamp}_*.fit"
            channel[role] = {"directory": setup.computer, "pattern": pattern}
        else:
            channel[role] = {"directory": str(spool_directory(settings, role)), "pattern": "*spool.dat"}
    channel["assemble"] = {"frames_per_burst": settings.burst_length(setup)}
    # Simulated exposures are instants.
    channel["speckle"] = {"wind": 0.0}
    if setup is settings.channels[0]:
        # The simulated Sun, not that of the day.
        channel["align"] = {"cache": str(fulldisk)}
    return channel
