"""Header values of a channel's frames, gathered from the products of the stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stillsun.core.orient import Orientation, rotation
from stillsun.errors import InputError
from stillsun.sky import times
from stillsun.sky.observer import Observer, Site, observe
from stillsun.sky.pointing import Pointing
from stillsun.sky.wcs import ChannelGeometry, frame_cards, register_channel, site_cards
from stillsun.stages._earlierfiles import header_geometry
from stillsun.stages._motion import field_motion
from stillsun.stages._steps import is_aligned
from stillsun.stages._telescope import logged_pointing
from stillsun.stages.base import StageContext

_CM_PER_M = 100.0


@dataclass(frozen=True)
class FrameCards:
    """
    What changes from frame to frame, for all frames of a channel.

    Attributes
    ----------
    channel : str
        Channel.
    shape : tuple of int
        Shape (rows, columns) of the oriented frames.
    orientation : Orientation
        From camera frame to oriented frame.
    geometry : ChannelGeometry
        The channel on the reference channel's field.
    pointing : Pointing
        Of the reference's centre, for each frame.
    observer : Observer
        The telescope at each frame.
    columns : mapping of str to numpy.ndarray
        Further values by keyword, one a frame.
    residual_px : numpy.ndarray
        What remains of the distortion after destretch, rms length, pixels.
    motion : numpy.ndarray, shape (n, 2)
        Shift (x, y) by which destretch moved each frame as a whole, pixels.
    wandering : numpy.ndarray, shape (n, 2)
        What the drift against the reference channel does to the reference pixel (x, y), pixels.
    comments : tuple of str
        ``COMMENT`` cards of every file.
    """

    channel: str
    shape: tuple[int, ...]
    orientation: Orientation
    geometry: ChannelGeometry
    pointing: Pointing
    observer: Observer
    columns: Mapping[str, np.ndarray]
    residual_px: np.ndarray
    motion: np.ndarray
    wandering: np.ndarray
    comments: tuple[str, ...]

    @classmethod
    def read(cls, ctx: StageContext) -> FrameCards:
        """
        Gather the values.

        Parameters
        ----------
        ctx : StageContext
            Context of the export.

        Returns
        -------
        FrameCards
            Values of all frames.

        Raises
        ------
        InputError
            If the products do not belong together.
        """
        bursts, images = ctx.inputs["bursts"], ctx.inputs["destretch"]
        if images.rows != bursts.rows:
            raise InputError(
                "not as many frames as bursts", file=images.path, expected=bursts.rows, found=images.rows
            )
        telescope = ctx.observation.telescope
        orientation = ctx.orientation
        shape = images.shape("image")[-2:]
        expected = orientation.shape(ctx.inputs["calibration"].shape("bad_pixels"))
        if shape != expected:
            raise InputError("frames of another shape", file=images.path, expected=expected, found=shape)
        geometry, registered = _geometry(ctx, orientation, shape)
        observer = observe(
            bursts.read("time_avg"),
            Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m),
        )
        pointing = _pointing(ctx, observer)
        wandering = _wandering(ctx, geometry, observer.time)
        comments = []
        if is_aligned(ctx):
            comments.append(f"POINTING UPDATED ON {datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
        if pointing.method == "unknown":
            comments.append("POINTING UNKNOWN: coordinates are as if the field were at disk centre")
        if not registered and header_geometry(bursts) is not None:
            comments.append("CHANNEL NOT REGISTERED: it is placed as its earlier headers say")
        elif not registered:
            comments.append("CHANNEL NOT REGISTERED: its centre is taken for that of the reference channel")
        columns = _columns(ctx) | {
            "DSUN_OBS": observer.distance_m,
            "HGLN_OBS": observer.hgln_deg,
            "HGLT_OBS": observer.hglt_deg,
            "RSUN_OBS": observer.solar_radius_arcsec,
            "OBS_VR": observer.velocity_m_s,
            "ELEV_ANG": observer.elevation_deg,
        }
        return cls(
            ctx.channel,
            shape,
            orientation,
            geometry,
            pointing,
            observer,
            columns,
            images.read("residual_px"),
            field_motion(images),
            wandering,
            tuple(comments),
        )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.observer.time.size

    @property
    def sequence(self) -> str:
        """Date and time of the first frame, ``YYYYMMDD_HHMMSS``."""
        stamp = re.sub(r"[-:]", "", str(self.columns["DATE-BEG"][0]))
        return f"{stamp[:8]}_{stamp[9:15]}"

    @property
    def name_pattern(self) -> str:
        """Regular expression that the names of this channel's files match."""
        return rf"{re.escape(self.channel.lower())}_\d{{8}}_\d{{6}}_\d{{5}}\.fits"

    def file_name(self, row: int) -> str:
        """
        Name of a frame's file.

        Parameters
        ----------
        row : int
            Frame.

        Returns
        -------
        str
            ``<channel>_<YYYYMMDD>_<HHMMSS>_<NNNNN>.fits``.
        """
        return f"{self.channel.lower()}_{self.sequence}_{row:05d}.fits"

    def values(self, row: int, level: str) -> dict[str, Any]:
        """
        Values of one frame.

        Parameters
        ----------
        row : int
            Frame.
        level : str
            ``"1.5"`` for destretched frames, whose random error of position is known.

        Returns
        -------
        dict
            By keyword.
        """
        own = {name: column[row] for name, column in self.columns.items()}
        if level == "1.5":
            # One of two components of the residual's length.
            each = float(self.residual_px[row]) / np.sqrt(2.0)
            own |= {"CRDER1": each * self.geometry.cdelt[0], "CRDER2": each * self.geometry.cdelt[1]}
        cards = frame_cards(self.geometry, self.pointing, row)
        for number, shift in enumerate(self.wandering[row], start=1):
            cards[f"CRPIX{number}"] += float(shift)
        if level != "1.5":
            # Before destretch, the point that the coordinates belong to lies where the frame had it.
            for number, shift in enumerate(self.motion[row], start=1):
                cards[f"CRPIX{number}"] -= float(shift) if np.isfinite(shift) else 0.0
        return own | cards


def common_cards(ctx: StageContext, cards: FrameCards | None, level: str) -> dict[str, Any]:
    """
    Values that all files of a channel share.

    Parameters
    ----------
    ctx : StageContext
        Context of the export.
    cards : FrameCards or None
        Of the frames; None for calibration images.
    level : str
        Level of the data.

    Returns
    -------
    dict
        By keyword.
    """
    observation, settings, telescope = ctx.observation, ctx.settings, ctx.observation.telescope
    half_width = settings.wavelength_width_nm / 2
    shared = {
        "SIMPLE": True,
        "BITPIX": -32,
        "NAXIS": 2,
        "EXTNAME": re.sub("[,;]", "_", ctx.channel),
        "ORIGIN": observation.origin,
        "AUTHOR": observation.author or observation.origin,
        "TELESCOP": telescope.name,
        "OBSRVTRY": telescope.observatory,
        "INSTRUME": settings.camera.name or ctx.channel,
        "DETECTOR": ctx.channel,
        "CAMERA": settings.camera.model,
        "FILTER": settings.filter,
        "LEVEL": level,
        "EXPFRAME": settings.exposure_ms / 1000.0,
        "WAVE": settings.wavelength_nm,
        "WAVELNTH": settings.wavelength_nm,
        "WAVEUNIT": "nm",
        "CREATOR": ctx.provenance["program"],
        "VERS_SW": ctx.provenance["version"],
        "HASH_SW": ctx.provenance["hash"],
        "DIGEST": ctx.digest,
    }
    if cards is None:
        return shared
    times_avg = cards.observer.time
    return {
        **shared,
        "NAXIS1": cards.shape[1],
        "NAXIS2": cards.shape[0],
        "OBJECT": observation.object,
        "OBSERVER": observation.observer,
        "POINT_ID": observation.name,
        "CADENCE": float(np.median(np.diff(times_avg))) if times_avg.size > 1 else None,
        "WAVEMIN": settings.wavelength_nm - half_width,
        "WAVEMAX": settings.wavelength_nm + half_width,
        "WAVEBAND": settings.filter,
        "POINTSRC": cards.pointing.method,
        **site_cards(Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)),
    }


def _geometry(
    ctx: StageContext, orientation: Orientation, shape: tuple[int, ...]
) -> tuple[ChannelGeometry, bool]:
    """The channel on the reference's field, and whether that is known."""
    store = ctx.inputs.get("registration")
    if store is None:
        scale = orientation.plate_scale(ctx.inputs["calibration"].read("plate_scale"))
        placed = header_geometry(ctx.inputs["bursts"]) or ((0.0, 0.0), 0.0)
        return register_channel(shape, scale, *placed), ctx.is_reference
    (x, y), (dx, dy) = store.read("crpix"), store.read("plate_scale")
    geometry = ChannelGeometry(
        (float(x), float(y)),
        (float(dx), float(dy)),
        float(store.read("rotation_deg")),
        float(store.read("uncertainty")),
    )
    return geometry, bool(store.read("accepted"))


def _wandering(ctx: StageContext, geometry: ChannelGeometry, time: np.ndarray) -> np.ndarray:
    """CRPIX of each frame less that of the registration: -S^-1 R(-d) dt for a translation off by dt."""
    store = ctx.inputs.get("registration")
    if store is None or "drift_applied" not in store or not store.read("drift_applied"):
        return np.zeros((time.size, 2))
    moved = store.read("drift_offset") + np.outer(time - store.read("drift_time"), store.read("drift_rate"))
    return -(moved @ rotation(-geometry.rotation_deg).T) / geometry.cdelt


def _pointing(ctx: StageContext, observer: Observer) -> Pointing:
    store = ctx.inputs.get("pointing")
    if store is None:
        telescope = ctx.observation.telescope
        site = Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)
        return logged_pointing(ctx.inputs["bursts"], telescope, observer, site)
    return Pointing(
        store.read("crval"), store.read("crota2"), store.read("uncertainty"), str(store.read("method"))
    )


def _columns(ctx: StageContext) -> dict[str, np.ndarray]:
    """Times, exposures, telescope state and Fried parameter, one a frame."""
    bursts, speckle = ctx.inputs["bursts"], ctx.inputs["speckle"]
    # Of the exposures that the image is made of; frames of an earlier system have theirs in the bursts.
    about, count = (speckle, "exposures") if "exposures" in speckle else (bursts, "frames_used")
    moments = {"BEG": "time_beg", "AVG": "time_avg", "END": "time_end", "OBS": "time_beg"}
    columns: dict[str, np.ndarray] = {}
    for short, name in moments.items():
        columns[f"DATE-{short}"] = times.iso(about.read(name))
        columns[f"MJD-{short}"] = times.mjd(about.read(name))
    columns |= {
        "STARTOBS": columns["DATE-BEG"],
        "ENDOBS": columns["DATE-END"],
        "DATEREF": columns["DATE-BEG"],
        "MJDREF": columns["MJD-BEG"],
    }
    frames = about.read(count)
    exposure = frames * (ctx.settings.exposure_ms / 1000.0)
    columns |= {"NSUMEXP": frames, "XPOSURE": exposure, "TEXPOSUR": exposure}
    log = {"SCINT": "scintillation", "LLVL": "light_level", "RSUN_ARC": "solar_radius"}
    columns |= {key: bursts.read(name) for key, name in log.items()}
    return columns | {"SPKLALPH": speckle.read("alpha"), "ATMOS_R0": speckle.read("r0") * _CM_PER_M}
