"""A small night with known truth: products as the stages leave them, without running the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from tests._channels import KINDS

from stillsun.config.schema import (
    AlignConfig,
    AlignEngine,
    AssembleConfig,
    CalibrateConfig,
    ChannelConfig,
    DestretchConfig,
    MovieConfig,
    ObservationConfig,
    ReportConfig,
    SpeckleConfig,
    Turn,
)
from stillsun.core.backend import get_backend
from stillsun.core.badpixels import DEAD, HOT
from stillsun.core.orient import Orientation
from stillsun.io.store import Field
from stillsun.products.channel import Channel, ChannelPaths
from stillsun.stages.base import StageContext

START = 1_725_000_000.0
CADENCE = 2.0
SCALE = (0.05, 0.06)
KERNELS = (0, 32)


class Night:
    """
    Two products' worth of frames: a still scene that seeing moves, and the same without the motion.

    `levels` is each frame's brightness, `motion` each frame's shift (y, x) in pixels.
    """

    def __init__(self, frames: int = 6, shape: tuple[int, int] = (96, 128), seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        scene = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), 1.5, mode="wrap")
        self.scene = 1.0 + 0.12 * scene / scene.std()
        self.levels = np.full(frames, 1000.0)
        self.motion = rng.normal(0.0, 1.5, (frames, 2))
        self.times = START + CADENCE * np.arange(frames)
        self.r0 = 0.05 + 0.01 * np.arange(frames)
        self.seeing_blur = np.linspace(1.5, 0.5, frames)
        self.orientation = [Turn.rot90, Turn.fliplr]
        self.telescope_log = True
        # On the Sun: angle, and by how many pixels (x, y) the reference pixel lies off the centre.
        self.angle = 0.0
        self.offset = np.zeros(2)

    def after(self) -> np.ndarray:
        """Destretched frames, oriented."""
        blurred = [scipy.ndimage.gaussian_filter(self.scene, s, mode="wrap") for s in self.seeing_blur]
        return (self.levels[:, None, None] * np.array(blurred)).astype(np.float32)

    def before(self) -> np.ndarray:
        """Frames before destretch, as the camera sees them."""
        moved = [
            scipy.ndimage.shift(f, d, mode="grid-wrap")
            for f, d in zip(self.after(), self.motion, strict=True)
        ]
        back = Orientation.from_steps([turn.name for turn in self.orientation]).inverse()
        return np.ascontiguousarray(back.apply(np.array(moved)))

    def write(self, work: Path, channel: str, products: tuple[str, ...]) -> None:
        """Write products of a channel."""
        for product in products:
            kind = KINDS[product](work, channel)
            values = getattr(self, f"_{product}")()
            fields = {
                name: Field(np.shape(v)[1:] if s else np.shape(v), _dtype(v), unit, "", s)
                for name, (v, unit, s) in values.items()
            }
            with kind.create(product, len(self.times), fields, {}) as store:
                for name, (value, _, _) in values.items():
                    store.write(name, value.decode() if isinstance(value, bytes) else value)
                store.mark(slice(None))

    def _calibration(self) -> dict[str, Any]:
        shape = self.before().shape[1:]
        bad = np.zeros(shape, np.uint8)
        bad[3, 4:9] = HOT
        bad[5, 5] = DEAD
        flat = np.full(shape, 4000.0, np.float32)
        return {
            "dark": (np.full(shape, 90.0, np.float32), "DN", False),
            "flat": (flat, "DN", False),
            "gain": (flat / 4000, "", False),
            "bad_pixels": (bad, "", False),
            "plate_scale": (np.array(SCALE), "arcsec/px", False),
        }

    def _bursts(self) -> dict[str, Any]:
        known = np.ones(len(self.times)) if self.telescope_log else np.full(len(self.times), np.nan)
        return {
            "time_avg": (self.times, "s", True),
            "contrast": (np.full(len(self.times), 0.03), "", True),
            "light_level": (4.0 * known, "", True),
            "scintillation": (0.5 * known, "arcsec", True),
            "sample_burst": (len(self.times) // 2, "", False),
            "sample_frame": (self.raw(), "DN", False),
            "sample_mean": (scipy.ndimage.gaussian_filter(self.raw(), 2.0), "DN", False),
        }

    def raw(self) -> np.ndarray:
        """Raw frame of the middle burst."""
        return scipy.ndimage.gaussian_filter(self.before()[len(self.times) // 2], 1.0)

    def _speckle(self) -> dict[str, Any]:
        return {
            "image": (self.before(), "DN", True),
            "r0": (self.r0, "m", True),
        }

    def _destretch(self) -> dict[str, Any]:
        return {
            "image": (self.after(), "DN", True),
            "rms_px": (np.stack([np.hypot(*self.motion.T), 0.3 * np.ones(len(self.times))], 1), "px", True),
            "repaired": (np.tile([0.0, 0.02], (len(self.times), 1)), "", True),
            "residual_px": (np.full(len(self.times), 0.1), "px", True),
        }

    def _pointing(self) -> dict[str, Any]:
        return {
            # Solar rotation, a hundred times too fast.
            "crval": (
                np.stack([100.0 + 0.3 * (self.times - START), -250.0 + 0 * self.times], 1),
                "arcsec",
                True,
            ),
            "crota2": (np.full(len(self.times), self.angle), "deg", True),
            "method": (np.bytes_("telescope log"), "", False),
            "uncertainty": (np.full(len(self.times), 20.0), "arcsec", True),
            "aligned": (np.uint8(0), "", False),
        }

    def _registration(self) -> dict[str, Any]:
        rows, columns = self.scene.shape
        # Destretched frames are oriented: their scales are the other way round.
        return {
            "crpix": (np.array([(columns + 1) / 2, (rows + 1) / 2]) + self.offset, "px", False),
            "plate_scale": (np.array(SCALE[::-1]), "arcsec/px", False),
            "rotation_deg": (np.float64(0.0), "deg", False),
            "uncertainty": (np.float64(0.1), "arcsec", False),
            "accepted": (np.uint8(1), "", False),
        }


def _dtype(value: Any) -> str:
    return "str" if isinstance(value, bytes) else str(np.asarray(value).dtype)


EVERYTHING = ("calibration", "bursts", "speckle", "destretch", "pointing")


def context(
    work: Path, nights: dict[str, tuple[Night, tuple[str, ...]]], config: Any, **more: Any
) -> StageContext:
    """Write the products of each channel; give the context of a stage that sees them all."""
    observation = ObservationConfig(name="test night")
    channels = {}
    for name, (night, products) in nights.items():
        night.write(work, name, products)
        settings = ChannelConfig(
            wavelength_nm=430.5, plate_scale=[0.9, 0.9], exposure_ms=10.0, orientation=night.orientation
        )
        observation.channels[name] = settings
        options = {
            "calibrate": CalibrateConfig(),
            "assemble": AssembleConfig(),
            "speckle": SpeckleConfig(),
            "destretch": DestretchConfig(kernels=list(KERNELS)),
            "align": AlignConfig(engine=AlignEngine.none),
            "movie": config if isinstance(config, MovieConfig) else MovieConfig(),
            "report": config if isinstance(config, ReportConfig) else ReportConfig(),
        }
        stores = {p: KINDS[p](work, name) for p in products}
        channels[name] = Channel(name, observation, settings, options, ChannelPaths(work / name), stores)
    return StageContext(
        "",
        observation,
        ChannelConfig(),
        {},
        ChannelPaths(work),
        channels=channels,
        config=config,
        backend=get_backend("numpy", threads=2),
        work=work,
        create=None,
        progress=more.pop("progress", lambda done, total: None),
        digest="d",
        provenance={"program": "stillsun", "version": "0"},
        **more,
    )
