"""What is simulated: everything that can be chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from stillsun.errors import ConfigError
from stillsun.synth.channels import CHANNELS, ChannelSetup
from stillsun.synth.seeing import DEFAULT_LAYERS, Layer


class Size(Enum):
    """Ready-made sizes: for tests, for a demonstration, and that of the instrument."""

    tiny = "tiny"
    small = "small"
    full = "full"


class Features(Enum):
    """What is to be seen on the Sun beside granulation."""

    quiet = "quiet"
    pores = "pores"
    spot = "spot"


@dataclass(frozen=True)
class SimulationSettings:
    """
    Everything that can be chosen; `preset` gives sensible values for three sizes.

    Attributes
    ----------
    channels : tuple of ChannelSetup
        The channels; the first is the reference, and fixes the length of the sequence.
    seed : int
        Seed of everything random.
    scene : Path or None
        FITS image to be observed; None for model granulation.
    scene_scale : float or None
        Arcsec per pixel of that image; None takes its header, else 0.048.
    features : Features
        What the model Sun shows beside granulation.
    flow_km_s : float
        Largest speed of the solar flow.
    scene_speed : float
        How much faster than real the Sun evolves and flows.
    bursts, frames_per_burst : int
        Length of the sequence of the reference channel.
    hardcam_groups : (int, float) or None
        HARDcam takes so many frames in one go, and the next ones so many seconds after the first, as on
        filaments; None: without a pause.
    dark_frames, flat_frames, fiducial_frames : int
        Frames of the dark, flat, and of the target and line-grid sequences.
    frames_per_file : int
        Image extensions of a ROSA file.
    r0_m : float
        Mean Fried parameter at 500 nm, m.
    r0_variation : float
        Relative variation of the Fried parameter in time.
    layers : tuple of Layer
        Turbulence over height.
    frozen : bool
        Turbulence drifts with the wind; False: frames are independent.
    ao_modes : int
        Zernike modes after piston that the adaptive optics correct; 0 for none.
    ao_efficiency : float
        Share of tip and tilt that is corrected.
    ao_order : float
        Radial order of which half that share is corrected.
    ao_field_arcsec : float
        Side of the wavefront sensor's field, arcsec.
    ao_lag_ms : float
        By how much the mirror is behind the sensor, milliseconds.
    electrons : float
        Mean signal in a frame; electrons.
    read_noise : float
        Read noise; electrons.
    cloud : (float, float) or None
        Seconds after the trigger at which a cloud comes and goes.
    cloud_transmission : float
        Share of the light that the cloud lets through.
    relock : (float, float, float) or None
        Seconds after the trigger at which the adaptive optics lose their lock and find another, and by how
        much the field of every channel lies further from then on, (x, y) in the telescope's frame, arcsec.
        Neither the telescope log nor a burst that is half over knows of it.
    drift_arcsec : (float, float)
        By how much the fields of the other channels wander against that of the reference channel until
        the end of the sequence, (x, y) in the telescope's frame; slides are taken before.
    start : datetime
        UTC of the trigger pulse.
    latitude_deg, longitude_deg : float
        True Stonyhurst position of the centre of the field at the start.
    crota2_deg : float
        True angle of the telescope's frame.
    pointing_error_arcsec : (float, float)
        By how much the telescope log is off in (x, y).
    guider_error_deg : float
        By how much the logged guider angle is off.
    fulldisk_pixels : int
        Side of the full-disk image; 4096 is that of HMI.
    threads : int or None
        Threads; None for as many as the process may use.
    """

    channels: tuple[ChannelSetup, ...]
    seed: int = 1
    scene: Path | None = None
    scene_scale: float | None = None
    features: Features = Features.pores
    flow_km_s: float = 1.0
    scene_speed: float = 1.0
    bursts: int = 12
    frames_per_burst: int = 32
    hardcam_groups: tuple[float, float] | None = None
    dark_frames: int = 64
    flat_frames: int = 64
    fiducial_frames: int = 16
    frames_per_file: int = 256
    r0_m: float = 0.10
    r0_variation: float = 0.15
    layers: tuple[Layer, ...] = field(default=DEFAULT_LAYERS)
    frozen: bool = True
    ao_modes: int = 54
    ao_efficiency: float = 0.95
    ao_order: float = 8.0
    ao_field_arcsec: float = 8.0
    ao_lag_ms: float = 2.0
    electrons: float = 12000.0
    read_noise: float = 10.0
    cloud: tuple[float, float] | None = None
    cloud_transmission: float = 0.4
    relock: tuple[float, float, float] | None = None
    drift_arcsec: tuple[float, float] = (0.0, 0.0)
    start: datetime = datetime(2025, 9, 3, 14, 21, 52)
    latitude_deg: float = -11.3
    longitude_deg: float = 17.6
    crota2_deg: float = 0.72
    pointing_error_arcsec: tuple[float, float] = (8.5, -5.5)
    guider_error_deg: float = 0.35
    fulldisk_pixels: int = 4096
    threads: int | None = None

    def __post_init__(self) -> None:
        findings = [
            f"{name}={getattr(self, name)}: must be at least {least}"
            for name, least in (
                ("bursts", 1), ("frames_per_burst", 1), ("dark_frames", 1), ("flat_frames", 1),
                ("fiducial_frames", 1), ("frames_per_file", 1), ("fulldisk_pixels", 64), ("ao_modes", 0),
                ("seed", 0),
            )
            if getattr(self, name) < least
        ]  # fmt: skip
        if not self.ao_order > 1:
            findings.append(f"ao_order={self.ao_order}: must be above 1")
        findings += [
            f"{name}={getattr(self, name)}: must be positive"
            for name in ("r0_m", "electrons")
            if not getattr(self, name) > 0
        ]
        if self.cloud is not None and not self.cloud[0] < self.cloud[1]:
            findings.append(f"cloud={self.cloud}: must go after it has come")
        if not 0 < self.cloud_transmission <= 1:
            findings.append(f"cloud_transmission={self.cloud_transmission}: must be between 0 and 1")
        if self.hardcam_groups is not None:
            frames, seconds = self.hardcam_groups
            if any(
                frames * c.interval_ms > 1000 * seconds or frames < 1 for c in self.channels if not c.is_rosa
            ):
                findings.append(
                    f"hardcam_groups={frames:g},{seconds:g}: the frames do not fit into the seconds"
                )
        if not self.channels:
            findings.append("channels: at least one is needed")
        if findings:
            raise ConfigError(findings=findings)

    @classmethod
    def preset(
        cls, size: Size | str, channels: Sequence[str] | None = None, **changes: Any
    ) -> SimulationSettings:
        """
        Settings for a ready-made size.

        Parameters
        ----------
        size : Size or str
            ``tiny``: seconds; ``small``: a demonstration; ``full``: real chip sizes. Smaller chips keep
            the plate scale, so they see a smaller field.
        channels : sequence of str, optional
            Names out of `CHANNELS`; by default two, three and four of them.
        **changes
            Any other attribute; None is ignored.

        Returns
        -------
        SimulationSettings
            The settings.

        Raises
        ------
        ConfigError
            If the size or a channel is unknown, or a value is out of range.
        """
        try:
            size = Size(size)
        except ValueError:
            raise ConfigError(
                "unknown size", expected=" | ".join(s.value for s in Size), found=repr(size)
            ) from None
        values: dict[str, Any] = dict(_PRESETS[size])
        default = values.pop("channels")
        names = list(default if channels is None else channels)
        unknown = [name for name in names if name not in CHANNELS]
        if unknown:
            raise ConfigError(
                "unknown channel", expected=" | ".join(CHANNELS), found=", ".join(map(repr, unknown))
            )
        if len(set(names)) < len(names):
            raise ConfigError("a channel stands twice", found=", ".join(names))
        shapes, intervals = values.pop("shapes"), values.pop("intervals")
        setups = []
        for name in names:
            setup = CHANNELS[name]
            setups.append(
                dataclasses.replace(
                    setup,
                    shape=shapes["rosa" if setup.is_rosa else "hardcam"],
                    interval_ms=intervals.get(name, setup.interval_ms),
                )
            )
        values.update({key: value for key, value in changes.items() if value is not None})
        return cls(channels=tuple(setups), **values)

    def burst_length(self, setup: ChannelSetup) -> int:
        """
        Frames in a burst of a channel.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.

        Returns
        -------
        int
            Its own number where it is smaller than that of the observation.
        """
        own = setup.frames_per_burst
        return self.frames_per_burst if own is None else min(own, self.frames_per_burst)

    def frame_count(self, setup: ChannelSetup) -> int:
        """
        Data frames of a channel: as many as fit into the sequence of the reference channel.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.

        Returns
        -------
        int
            Number of frames, one burst at least.
        """
        duration = self.bursts * self.frames_per_burst * self.channels[0].interval_ms
        return max(self.burst_length(setup), int(duration / setup.interval_ms + 1e-9))

    def frame_seconds(self, setup: ChannelSetup, number: int) -> float:
        """
        When a data frame of a channel is taken.

        Parameters
        ----------
        setup : ChannelSetup
            The channel.
        number : int
            Number of the frame, from 0.

        Returns
        -------
        float
            Start of its exposure after that of the first one, seconds.
        """
        if setup.is_rosa or self.hardcam_groups is None:
            return number * setup.interval_ms / 1000
        group, within = divmod(number, int(self.hardcam_groups[0]))
        return group * self.hardcam_groups[1] + within * setup.interval_ms / 1000


_PRESETS: dict[Size, dict[str, Any]] = {
    Size.tiny: {
        "channels": ["ROSA_GBAND", "HARDCAM"],
        "shapes": {"rosa": (152, 160), "hardcam": (144, 144)},
        "intervals": {"ROSA_CAK": 66.0},
        "bursts": 6,
        "frames_per_burst": 16,
        "dark_frames": 16,
        "flat_frames": 32,
        "fiducial_frames": 4,
        "frames_per_file": 40,
        "fulldisk_pixels": 512,
    },
    Size.small: {
        "channels": ["ROSA_GBAND", "ROSA_CAK", "HARDCAM"],
        "shapes": {"rosa": (360, 368), "hardcam": (320, 320)},
        "intervals": {"ROSA_CAK": 66.0},
        "bursts": 12,
        "frames_per_burst": 32,
    },
    Size.full: {
        "channels": ["ROSA_GBAND", "ROSA_4170", "ROSA_CAK", "HARDCAM"],
        "shapes": {"rosa": (1002, 1004), "hardcam": (2048, 2048)},
        "intervals": {},
        "bursts": 8,
        "frames_per_burst": 64,
        "dark_frames": 256,
        "flat_frames": 512,
        "fiducial_frames": 32,
    },
}
