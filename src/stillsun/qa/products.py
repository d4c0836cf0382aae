"""One channel as the report shows it; any of its products may be missing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stillsun.config.schema import SpeckleEngine
from stillsun.products.base import Dataset, StoreProduct, find, series
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.placement import utc
from stillsun.products.reconstructed import Reconstructed
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


def images_before(channel: Channel) -> Reconstructed | None:
    """Images before destretch, if there are any."""
    found = channel.get(Reconstructed)
    return found if found is not None and found.rows else None


def images_after(channel: Channel) -> Destretched | None:
    """Images after destretch, if there are any."""
    found = channel.get(Destretched)
    return found if found is not None and found.rows else None


def times_of(channel: Channel) -> np.ndarray | None:
    """(frames,) float64: mean time of each, Unix seconds UTC; None if they are not known."""
    return series(channel.get(Bursts), Bursts.time_avg)


def kind_before(channel: Channel) -> str:
    """What the images before destretch are, in words."""
    return _ENGINES[channel.options["speckle"].engine]


def relative(channel: Channel, product: Reconstructed | Destretched, number: int) -> np.ndarray:
    """An image, oriented, over its mean away from the rim."""
    return _relative(channel, product, product.image(number))


def relative_mean(
    channel: Channel, product: Reconstructed | Destretched, first: int, last: int
) -> np.ndarray:
    """Mean of the images before `last`, oriented, float64; each counts alike, whatever its brightness."""
    total = np.zeros(product.image.shape[1:])
    for number in range(first, last):
        image = product.image(number)
        total += image / _level(image)
    return _oriented(channel, product, total / (last - first))


def sample(channel: Channel, dataset: Dataset) -> np.ndarray | None:
    """What the camera saw in the middle burst, oriented, over its mean away from the rim, if it was kept."""
    bursts = channel.get(Bursts)
    image = find(bursts, dataset)
    return None if image is None or bursts is None else _relative(channel, bursts, image)


def stamp(channel: Channel, number: int) -> str:
    """Number and time of an image, in words."""
    times = times_of(channel)
    if times is None or number >= len(times):
        return f"Frame {number}"
    return f"Frame {number}, {utc(times[number])} UTC"


def _relative(channel: Channel, product: StoreProduct, image: np.ndarray) -> np.ndarray:
    return _oriented(channel, product, image / _level(image))


def _oriented(channel: Channel, product: StoreProduct, image: np.ndarray) -> np.ndarray:
    return image if isinstance(product, Destretched) else channel.orientation.apply(image)


def _level(image: np.ndarray) -> float:
    mean = float(inner_field(image).mean(dtype=np.float64))
    return mean if mean > 0 else 1.0


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
