"""Header values of a channel's frames, gathered from the products of the stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stillsun.core.orient import Orientation
from stillsun.errors import InputError
from stillsun.products.registration import Registration
from stillsun.sky import times
from stillsun.sky.observer import Observer
from stillsun.sky.pointing import Pointing
from stillsun.sky.wcs import ChannelGeometry, frame_cards, site_cards
from stillsun.stages._quality import quality_columns
from stillsun.stages._steps import is_aligned
from stillsun.stages.base import StageContext

_CM_PER_M = 100.0
_OF_DESTRETCH = {"DSRESID", "DSREPAIR"}


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
        The channel on the reference channel's field, with the reference pixel of each frame.
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
        bursts, images = ctx.bursts, ctx.destretched
        if images.rows != bursts.rows:
            raise InputError(
                "not as many frames as bursts", file=images.path, expected=bursts.rows, found=images.rows
            )
        shape, expected = images.shape, ctx.orientation.shape(ctx.calibration.shape)
        if shape != expected:
            raise InputError("frames of another shape", file=images.path, expected=expected, found=shape)
        registration = ctx.get(Registration)
        observer, pointing = ctx.observer, ctx.best_pointing()
        comments = []
        if is_aligned(ctx):
            comments.append(f"POINTING UPDATED ON {datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
        if pointing.method == "unknown":
            comments.append("POINTING UNKNOWN: coordinates are as if the field were at disk centre")
        registered = ctx.is_reference if registration is None else registration.accepted
        if not registered and bursts.header_place is not None:
            comments.append("CHANNEL NOT REGISTERED: it is placed as its earlier headers say")
        elif not registered:
            comments.append("CHANNEL NOT REGISTERED: its centre is taken for that of the reference channel")
        columns = _columns(ctx)
        columns |= quality_columns(ctx, np.asarray(columns["NSUMEXP"]), registered=bool(registered))
        columns |= {
            "DSUN_OBS": observer.distance_m,
            "HGLN_OBS": observer.hgln_deg,
            "HGLT_OBS": observer.hglt_deg,
            "RSUN_OBS": observer.solar_radius_arcsec,
            "OBS_VR": observer.velocity_m_s,
            "ELEV_ANG": observer.elevation_deg,
        }
        return cls(
            ctx.name,
            shape,
            ctx.orientation,
            ctx.geometry_at(ctx.times, shape),
            pointing,
            observer,
            columns,
            images.residual_px,
            images.motion,
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
        else:
            own = {name: value for name, value in own.items() if name not in _OF_DESTRETCH}
        cards = frame_cards(self.geometry, self.pointing, row)
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
        "EXTNAME": re.sub("[,;]", "_", ctx.name),
        "ORIGIN": observation.origin,
        "AUTHOR": observation.author or observation.origin,
        "TELESCOP": telescope.name,
        "OBSRVTRY": telescope.observatory,
        "INSTRUME": settings.camera.name or ctx.name,
        "DETECTOR": ctx.name,
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
    return {
        **shared,
        "NAXIS1": cards.shape[1],
        "NAXIS2": cards.shape[0],
        "OBJECT": observation.object,
        "OBSERVER": observation.observer,
        "POINT_ID": observation.name,
        **_cadence(cards.observer.time),
        "WAVEMIN": settings.wavelength_nm - half_width,
        "WAVEMAX": settings.wavelength_nm + half_width,
        "WAVEBAND": settings.filter,
        "POINTSRC": cards.pointing.method,
        **site_cards(ctx.site),
    }


def _cadence(moments: np.ndarray) -> dict[str, float]:
    steps = np.diff(moments)
    if not steps.size:
        return {}
    return {
        "CADENCE": float(np.median(steps)),
        "CADAVG": float(np.mean(steps)),
        "CADMIN": float(np.min(steps)),
        "CADMAX": float(np.max(steps)),
        "CADVAR": float(np.var(steps)),
    }


def _columns(ctx: StageContext) -> dict[str, np.ndarray]:
    """Times, exposures, telescope state and Fried parameter, one a frame."""
    bursts, made = ctx.bursts, ctx.reconstructed
    # Of the exposures that the image is made of; frames of an earlier system have theirs in the bursts.
    about, frames = (bursts, bursts.frames_used) if made.exposures is None else (made, made.exposures)
    begin = about.time_beg
    moments = {"BEG": begin, "AVG": about.time_avg, "END": about.time_end, "OBS": begin}
    columns: dict[str, np.ndarray] = {}
    for short, moment in moments.items():
        columns[f"DATE-{short}"] = times.iso(moment)
        columns[f"MJD-{short}"] = times.mjd(moment)
    columns |= {
        "STARTOBS": columns["DATE-BEG"],
        "ENDOBS": columns["DATE-END"],
        "DATEREF": columns["DATE-BEG"],
        "MJDREF": columns["MJD-BEG"],
    }
    exposure = frames * (ctx.settings.exposure_ms / 1000.0)
    columns |= {"NSUMEXP": frames, "XPOSURE": exposure, "TEXPOSUR": exposure}
    columns |= {
        "SCINT": bursts.scintillation,
        "LLVL": bursts.light_level,
        "RSUN_ARC": bursts.solar_radius,
    }
    if made.steadied is not None:
        columns["SPKLFLIK"] = made.steadied
    return columns | {"SPKLALPH": made.alpha, "ATMOS_R0": made.r0 * _CM_PER_M}
