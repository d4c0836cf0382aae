"""One channel as the report sees it: its products, any of which may be missing, and how to show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from stillsun.config.schema import ChannelConfig, SpeckleEngine
from stillsun.core.orient import Orientation
from stillsun.io.store import StoreReader
from stillsun.qa.metrics import inner_field
from stillsun.qa.page import Section

_ENGINES = {
    SpeckleEngine.masking: "reconstructed",
    SpeckleEngine.kisip: "reconstructed",
    SpeckleEngine.none: "tile-aligned mean",
    SpeckleEngine.fits: "reconstructed earlier",
}


@dataclass(frozen=True)
class Headline:
    """
    Something that a person must know, and what to do about it.

    Attributes
    ----------
    what : str
        What there is to know.
    remedy : str
        What to do; empty where there is nothing to be done.
    """

    what: str
    remedy: str = ""


@dataclass
class ChannelReport:
    """
    What was made of a channel.

    Attributes
    ----------
    section : Section
        Part of the page.
    summary : tuple of str
        Row of the table of all channels.
    missing : list of str
        What cannot be shown, and why.
    headlines : list of Headline
        What a person must know first.
    files : dict
        Name of a picture beside the page to its content (JPEG).
    """

    section: Section
    summary: tuple[str, ...] = ()
    missing: list[str] = field(default_factory=list)
    headlines: list[Headline] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def absent(self, text: str) -> None:
        """
        Say why something is not there, in its place and at the top of the page.

        Parameters
        ----------
        text : str
            What is missing, and why.
        """
        self.section.words(text, "why")
        self.missing.append(text)


@dataclass(frozen=True)
class ChannelProducts:
    """
    The products of one channel.

    Attributes
    ----------
    name : str
        Channel.
    settings : ChannelConfig
        Its settings.
    options : mapping of str to object
        Options of every stage for this channel.
    inputs : mapping of str to StoreReader
        The products that exist.
    """

    name: str
    settings: ChannelConfig
    options: Mapping[str, Any]
    inputs: Mapping[str, StoreReader]

    @property
    def before(self) -> StoreReader | None:
        """Frames before destretch, as the camera sees them."""
        return self._filled("speckle")

    @property
    def after(self) -> StoreReader | None:
        """Destretched frames."""
        return self._filled("destretch")

    @cached_property
    def orientation(self) -> Orientation:
        """How the camera's frames are turned."""
        return Orientation.from_steps([turn.name for turn in self.settings.orientation])

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Plate scale along (x, y) of the oriented frames, arcsec per pixel; measured where it was."""
        oriented, camera = (self.inputs.get(p) for p in ("registration", "calibration"))
        if oriented is not None and "plate_scale" in oriented:
            x, y = (float(v) for v in oriented.read("plate_scale"))
            return x, y
        if camera is not None and "plate_scale" in camera:
            return self.orientation.plate_scale([float(v) for v in camera.read("plate_scale")])
        return self.orientation.plate_scale(self.settings.plate_scale)

    @cached_property
    def times(self) -> np.ndarray | None:
        """Mean time of each frame, unix seconds (UTC), (frames,) float64."""
        return self.series("bursts", "time_avg")

    @property
    def kind(self) -> str:
        """What the frames before destretch are, in words."""
        return _ENGINES[self.options["speckle"].engine]

    def series(self, product: str, name: str) -> np.ndarray | None:
        """
        A quantity with one value a frame.

        Parameters
        ----------
        product, name : str
            Product and dataset.

        Returns
        -------
        numpy.ndarray or None
            (frames,) float64; None where it is not stored or nowhere finite.
        """
        store = self.inputs.get(product)
        if store is None or name not in store:
            return None
        values = np.asarray(store.read(name), dtype=np.float64)
        return values if values.ndim == 1 and np.isfinite(values).any() else None

    def frame(self, store: StoreReader, number: int) -> np.ndarray:
        """
        A frame, oriented, over its mean away from the rim.

        Parameters
        ----------
        store : StoreReader
            `before` or `after`.
        number : int
            Frame number.

        Returns
        -------
        numpy.ndarray, shape (y, x)
            The frame, without unit.
        """
        image = store.read("image", number)
        return self._oriented(store, image / _level(image))

    def sample(self, name: str) -> np.ndarray | None:
        """
        What the camera saw in the middle burst, oriented, over its mean away from the rim.

        Parameters
        ----------
        name : str
            ``"sample_frame"`` or ``"sample_mean"``.

        Returns
        -------
        numpy.ndarray or None, shape (y, x)
            The picture, without unit; None where it was not kept.
        """
        store = self.inputs.get("bursts")
        if store is None or name not in store:
            return None
        image = store.read(name)
        return self._oriented(store, image / _level(image))

    def mean(self, store: StoreReader, first: int, last: int) -> np.ndarray:
        """
        Mean of some frames, oriented; each counts alike, whatever its brightness.

        Parameters
        ----------
        store : StoreReader
            `before` or `after`.
        first, last : int
            First frame, and the one behind the last.

        Returns
        -------
        numpy.ndarray, shape (y, x)
            The mean, float64.
        """
        total = np.zeros(store.shape("image")[1:])
        for number in range(first, last):
            image = store.read("image", number)
            total += image / _level(image)
        return self._oriented(store, total / (last - first))

    def stamp(self, number: int) -> str:
        """
        A frame in words.

        Parameters
        ----------
        number : int
            Frame number.

        Returns
        -------
        str
            Number and time.
        """
        if self.times is None or number >= len(self.times):
            return f"Frame {number}"
        return f"Frame {number}, {utc(self.times[number])} UTC"

    def _filled(self, product: str) -> StoreReader | None:
        store = self.inputs.get(product)
        return store if store is not None and store.rows else None

    def _oriented(self, store: StoreReader, image: np.ndarray) -> np.ndarray:
        is_oriented = store is self.inputs.get("destretch")
        return np.asarray(image if is_oriented else self.orientation.apply(image))


def _level(image: np.ndarray) -> float:
    mean = float(inner_field(image).mean(dtype=np.float64))
    return mean if mean > 0 else 1.0


def utc(seconds: float) -> str:
    """
    A time in words.

    Parameters
    ----------
    seconds : float
        Unix seconds (UTC).

    Returns
    -------
    str
        Date and time to the second.
    """
    if not np.isfinite(seconds):
        return "unknown"
    return str(np.datetime64(round(seconds), "s")).replace("T", " ")


def percent(share: float, digits: int = 1) -> str:
    """
    A share in words.

    Parameters
    ----------
    share : float
        Share of one.
    digits : int
        Digits after the point.

    Returns
    -------
    str
        Per cent.
    """
    return f"{100 * share:.{digits}f} %"
