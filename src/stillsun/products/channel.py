"""A channel: its products, with the settings that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.core.orient import Orientation
from stillsun.errors import InputError
from stillsun.products.base import StoreProduct
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import Calibration
from stillsun.products.destretched import Destretched
from stillsun.products.pointing import SolarPointing
from stillsun.products.reconstructed import Reconstructed
from stillsun.products.registration import Registration
from stillsun.sky.observer import Observer, Site, observe
from stillsun.sky.pointing import Pointing, pointing_from_log
from stillsun.sky.wcs import ChannelGeometry, frame_cards, register_channel

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from stillsun.config.settings import Settings
    from stillsun.core.backend import Backend
    from stillsun.io.bursts import BurstReader

#: The products of this package, in the order in which they are made.
PRODUCTS: tuple[type[StoreProduct], ...] = (
    Calibration,
    Bursts,
    Reconstructed,
    Destretched,
    Registration,
    SolarPointing,
)
P = TypeVar("P", bound=StoreProduct)


@dataclass(frozen=True)
class ChannelPaths:
    """The places of one channel that are not stores; an external program is started in `directory`."""

    directory: Path

    @property
    def speckle_bursts(self) -> Path:
        """Binary bursts for an external program."""
        return self.directory / "preSpeckle"

    @property
    def speckle_output(self) -> Path:
        """Output of an external program."""
        return self.directory / "speckle"

    @property
    def post_speckle(self) -> Path:
        """FITS files of images before destretch."""
        return self.directory / "postSpeckle"

    @property
    def destretched(self) -> Path:
        """FITS files of the final images."""
        return self.directory / "splineDestretch"


@dataclass
class Channel:
    """
    The products of one channel with its settings; `products` holds those that are there, by name.

    Attributes of a product that is not there raise an InputError; `get` gives None.
    """

    name: str
    observation: ObservationConfig
    settings: ChannelConfig
    options: Mapping[str, Any]
    paths: ChannelPaths
    products: Mapping[str, StoreProduct] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: Settings, name: str, paths: ChannelPaths, products: Iterable[StoreProduct]
    ) -> Channel:
        """A channel of a run, with those of the products that are there."""
        there = {product.name: product for product in products if product.digest is not None}
        observation = settings.run.observation
        return cls(name, observation, settings.channel(name), settings.stages[name], paths, there)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, kind: type[P]) -> P | None:
        """A product, or None."""
        found: Any = self.products.get(kind.name)
        return found

    def has(self, *kinds: type[StoreProduct]) -> bool:
        """Whether all these products are there."""
        return all(kind.name in self.products for kind in kinds)

    def need(self, kind: type[P]) -> P:
        """A product; an InputError if it is not there."""
        found = self.get(kind)
        if found is None:
            raise InputError(
                f"{self.name or 'the channel'} has no product {kind.name!r}",
                file=self.paths.directory,
                remedy="Run the stage that makes it",
            )
        return found

    @property
    def calibration(self) -> Calibration:
        """Dark, flat, gain, bad pixels, target, plate scale."""
        return self.need(Calibration)

    @property
    def bursts(self) -> Bursts:
        """Times, raw frames, quality, the telescope's state."""
        return self.need(Bursts)

    @property
    def reconstructed(self) -> Reconstructed:
        """Images before destretch, in camera orientation."""
        return self.need(Reconstructed)

    @property
    def destretched(self) -> Destretched:
        """Images after destretch, oriented."""
        return self.need(Destretched)

    @property
    def registration(self) -> Registration:
        """Where the channel lies on the reference channel."""
        return self.need(Registration)

    @property
    def pointing(self) -> SolarPointing:
        """Where on the Sun it looked."""
        return self.need(SolarPointing)

    @property
    def is_reference(self) -> bool:
        """It is the reference channel."""
        return self.name == self.observation.reference

    @property
    def orientation(self) -> Orientation:
        """From the camera's frames to oriented ones."""
        return Orientation.from_steps([turn.value for turn in self.settings.orientation])

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Plate scale (x, y) of the oriented frames, arcsec per pixel; measured if possible."""
        calibration = self.get(Calibration)
        camera = self.settings.plate_scale if calibration is None else calibration.plate_scale
        return self.orientation.plate_scale([float(v) for v in camera])

    @cached_property
    def times(self) -> np.ndarray:
        """(frames,) float64: mean time of each burst and image, Unix seconds UTC."""
        return self.bursts.times

    @property
    def site(self) -> Site:
        """Where the telescope is."""
        telescope = self.observation.telescope
        return Site(telescope.latitude_deg, telescope.longitude_deg, telescope.height_m)

    @cached_property
    def observer(self) -> Observer:
        """The telescope, seen from the Sun, at the times of the frames."""
        return observe(self.times, self.site)

    def open_bursts(self, backend: Backend | str | None = None) -> BurstReader:
        """Calibrated bursts, from the raw frames."""
        from stillsun.io.inventory import open_source

        source = open_source(self.observation, self.settings, "data")
        return self.bursts.open(source, self.calibration.correction(backend))

    def image(self, number: int) -> np.ndarray:
        """An image before destretch, oriented."""
        return np.ascontiguousarray(self.orientation.apply(self.reconstructed.image(number)))

    def clearest(
        self,
        first: int = 0,
        end: int | None = None,
        *,
        passed_over: Sequence[int] | np.ndarray = (),
        sharpness: np.ndarray | None = None,
    ) -> int:
        """
        The image with the largest Fried parameter; if none is known, the sharpest.

        Parameters
        ----------
        first, end : int
            Part of the sequence; images are counted from its first one.
        passed_over : sequence of int
            Images that are not taken.
        sharpness : numpy.ndarray, optional
            Of each image; that which destretch, or speckle, has stored by default.

        Returns
        -------
        int
            Its number; the middle of the part, if nothing is known.
        """
        made, after = self.get(Reconstructed), self.get(Destretched)
        quality = None if made is None else np.array(made.r0, np.float64)
        if quality is None or not np.isfinite(quality).any():
            if sharpness is None:
                sharpness = self.reconstructed.sharpness if after is None else after.sharpness_after
            quality = np.array(sharpness, np.float64)
        quality[np.asarray(passed_over, int)] = np.nan
        part = quality[first:end]
        return first + (int(np.nanargmax(part)) if np.isfinite(part).any() else len(part) // 2)

    def geometry_at(self, times: np.ndarray, shape: Sequence[int]) -> ChannelGeometry:
        """Where oriented frames lie on the reference channel's field; centre on centre if that is unknown."""
        found = self.get(Registration)
        if found is not None:
            return found.geometry_at(times)
        return register_channel(shape, self.scale, *(self.bursts.header_place or ((0.0, 0.0), 0.0)))

    def logged_pointing(self) -> Pointing:
        """Pointing of each frame by the telescope's log, or by headers of images that were reduced before."""
        bursts, telescope = self.bursts, self.observation.telescope
        pointing = pointing_from_log(
            bursts.latitude,
            bursts.longitude,
            bursts.guider_angle,
            self.observer,
            self.site,
            guider_zero_deg=telescope.guider_zero_deg,
            guider_sign=telescope.guider_sign or 1,
        )
        source = bursts.pointing_source
        if source is None or pointing.method == "unknown":
            return pointing
        return replace(pointing, method=source)

    def best_pointing(self) -> Pointing:
        """Pointing of each frame by the stage align, or else by the telescope's log."""
        found = self.get(SolarPointing)
        return self.logged_pointing() if found is None else found.values

    def wcs(self, number: int) -> WCS:
        """World coordinates of a destretched image, as in the header of its file."""
        from astropy.wcs import WCS

        geometry = self.geometry_at(self.times, self.destretched.shape)
        cards = frame_cards(geometry, self.best_pointing(), number)
        for axis, name in ((1, "LN"), (2, "LT")):
            cards |= {f"CTYPE{axis}": f"HP{name}-TAN", f"CUNIT{axis}": "arcsec"}
        return WCS({**cards, "NAXIS": 2})

    def close(self) -> None:
        """Close the files of its products."""
        for product in self.products.values():
            product.close()
