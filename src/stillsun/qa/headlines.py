"""What a person must know of a channel before anything else, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stillsun.config.schema import AlignEngine
from stillsun.io.source import ranges_text
from stillsun.products.base import StoreProduct, find, series
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.placement import utc
from stillsun.products.pointing import SolarPointing
from stillsun.products.registration import Registration
from stillsun.qa.metrics import SeriesQuality, dim_frames
from stillsun.qa.products import Headline, percent, times_of

_LOGGED = {
    "pointing": Bursts.latitude,
    "guider angle": Bursts.guider_angle,
    "seeing": Bursts.scintillation,
    "light level": Bursts.light_level,
}
# How the stage `align` begins its note on why there is no match.
_NOT_ALIGNED = "not aligned to the Sun: "
_NOT_REGISTERED = "not registered, "


def headlines(channel: Channel, statistics: SeriesQuality | None, dim_fraction: float) -> list[Headline]:
    """
    Find what makes a channel's result less than it should be, although every stage has done its work.

    Parameters
    ----------
    channel : Channel
        The channel.
    statistics : SeriesQuality or None
        Of its last frames.
    dim_fraction : float
        A frame darker than this share of the series' median is dim.

    Returns
    -------
    list of Headline
        Telescope log, clouds, registration, place on the Sun; nothing for what is as it should be.
    """
    found = [*_telescope_log(channel), *_clouds(channel, statistics, dim_fraction)]
    found += _on_the_sun(channel) if channel.is_reference else _registration(channel)
    return found


def _telescope_log(channel: Channel) -> Iterator[Headline]:
    bursts = channel.get(Bursts)
    values = {label: find(bursts, dataset) for label, dataset in _LOGGED.items()}
    known = {label: np.isfinite(found) for label, found in values.items() if found is not None}
    lost = [label for label, there in known.items() if not there.all()]
    if bursts is None or not lost:
        return
    unknown = ~np.all(list(known.values()), axis=0)
    if not any(there.any() for there in known.values()):
        reason = next((note for note in bursts.notes if "telescope log" in note), "")
        yield Headline(
            "Telescope log: it tells nothing of this observation; pointing, guider angle, seeing and light "
            f"level are not known{f' ({reason})' if reason else ''}.",
            "Give the log of that time with observation.telescope_log=PATH and run again. Without one, "
            "align.pointing=[x,y] gives the pointing by hand.",
        )
        return
    times = times_of(channel)
    when = "" if times is None else f", from {utc(times[np.flatnonzero(unknown)[0]])[11:]} UTC on"
    yield Headline(
        f"Telescope log: it fails for {int(unknown.sum())} of {len(unknown)} bursts{when}; {_listed(lost)} "
        "are not known there, and the nearest pointing is carried on with the Sun's rotation.",
        "See whether there is a whole log (observation.telescope_log=PATH) and run again, or check the "
        "coordinates of these frames.",
    )


def _clouds(channel: Channel, statistics: SeriesQuality | None, fraction: float) -> Iterator[Headline]:
    dim = np.array([], int) if statistics is None else dim_frames(statistics.mean, fraction)
    if statistics is None or len(dim) == 0:
        return
    level = series(channel.get(Bursts), Bursts.light_level)
    cause = "Clouds, or a shutter?"
    if level is not None and len(level) == len(statistics.mean) and np.isfinite(level[dim]).any():
        fell = np.nanmedian(level[dim]) < fraction * np.nanmedian(level)
        cause = (
            "Clouds: the telescope's light level fell, and"
            if fell
            else "A shutter? The telescope's light level stayed, but"
        )
    lowest = percent(statistics.mean[dim].min() / np.nanmedian(statistics.mean), 0)
    numbers = ranges_text(dim).rpartition(" (")[0]
    yield Headline(
        f"{cause} {len(dim)} of {len(statistics.mean)} frames {'is' if len(dim) == 1 else 'are'} darker than "
        f"{percent(fraction, 0)} of the median: number {numbers}, down to {lowest}.",
        "Leave these frames out of photometry, and be careful with their fine structure.",
    )


def _registration(channel: Channel) -> Iterator[Headline]:
    found = channel.get(Registration)
    if found is None or int(found.accepted):
        return
    error = float(found.uncertainty)
    yield Headline(
        f"Registration: the channel is not laid onto the reference channel{_reason(found, _NOT_REGISTERED)}; "
        f"its place is known to some {error:.0f} arcsec only.",
        "Give target frames of both channels (keys target.directory and target.pattern of the channel), or "
        "see register.png for why they do not match.",
    )


def _on_the_sun(channel: Channel) -> Iterator[Headline]:
    found = channel.get(SolarPointing)
    if found is None:
        return
    if found.method == "unknown":
        yield Headline(
            "Pointing: it is not known where the telescope looked; the coordinates of all channels are as if "
            "the field were at disk centre.",
            "Give the place with align.pointing=[x,y] (helioprojective, arcsec) and run again.",
        )
    if channel.options["align"].engine is not AlignEngine.hmi or int(found.aligned):
        return
    error = float(np.nanmedian(found.uncertainty))
    far = f"off by some {error:.0f} arcsec perhaps" if error < 1000 else "anywhere"
    yield Headline(
        f"Place on the Sun: not matched to a full-disk image (HMI){_reason(found, _NOT_ALIGNED)}; the "
        f"coordinates are those of the {found.method}, {far}.",
        "Give an image with align.file=PATH (continuum, within minutes of the data) and run again; what is "
        "finished stays.",
    )


def _reason(product: StoreProduct, beginning: str) -> str:
    """First sentence of the note that says why."""
    notes = [note.removeprefix(beginning) for note in product.notes if note.startswith(beginning)]
    return f" ({notes[0].partition('; ')[0].partition('. ')[0]})" if notes else ""


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
