"""A channel's quantities against time."""

from __future__ import annotations

import numpy as np

from stillsun.products.base import Dataset, StoreProduct, find, series
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.reconstructed import Reconstructed
from stillsun.qa.metrics import SeriesQuality
from stillsun.qa.page import Picture
from stillsun.qa.plots import encode
from stillsun.qa.products import ChannelReport, images_after, images_before, times_of
from stillsun.qa.series import AFTER_COLOUR, BEFORE_COLOUR, RAW_COLOUR, Line, Panel, series_figure

_KERNEL_COLOURS = ("#1660a8", "#3a9bd1", "#2a9d6f", "#d98c1f", "#b3423a", "#7a4fa3", "#5a6472")
_NO_LOG = "there is no telescope log for these times."


def show_curves(
    channel: Channel,
    report: ChannelReport,
    before: SeriesQuality | None,
    after: SeriesQuality | None,
) -> None:
    """
    Draw what is known of each frame against time.

    Parameters
    ----------
    channel : Channel
        The channel.
    report : ChannelReport
        Where the picture goes.
    before, after : SeriesQuality or None
        Statistics of the frames before and after destretch.
    """
    report.section.heading("Against time")
    times = times_of(channel)
    if times is None:
        report.absent("Nothing is drawn against time: the times of the bursts are not there.")
        return
    panels: list[Panel] = []
    reasons: list[str] = []
    for panel, reason in _panels(channel, before, after):
        lines = [x for x in panel.lines if len(x.values) == len(times) and np.isfinite(x.values).any()]
        if lines:
            panels.append(Panel(panel.label, lines))
        else:
            reasons.append(reason)
    if panels:
        names = ", ".join(panel.label.replace("\n", " ") for panel in panels)
        picture = Picture(encode(series_figure(times, panels), "png"), "png", f"{channel.name}: {names}")
        report.section.parts.append(picture.html())
    for reason in reasons:
        report.absent(reason)


def _panels(
    channel: Channel, before: SeriesQuality | None, after: SeriesQuality | None
) -> list[tuple[Panel, str]]:
    """What is drawn, each with the words for its absence."""

    bursts = channel.get(Bursts)

    def both(name: str, factor: float = 1.0) -> list[Line]:
        # The wider curve below stays in sight where both agree.
        styles = ((before, ("before", BEFORE_COLOUR, 2.6)), (after, ("after", AFTER_COLOUR, 1.1)))
        return [
            Line(label, factor * getattr(s, name), colour, width)
            for s, (label, colour, width) in styles
            if s is not None
        ]

    def raw(name: str, factor: float = 1.0) -> list[Line]:
        values = series(bursts, getattr(Bursts, name))
        return [] if values is None else [Line("best raw frame", factor * values, RAW_COLOUR)]

    def one(product: StoreProduct | None, dataset: Dataset, factor: float = 1.0) -> list[Line]:
        values = series(product, dataset)
        return [] if values is None else [Line("", factor * values)]

    arcsec = float(np.mean(channel.scale))
    left = series(images_after(channel), Destretched.residual_px)
    residual = [] if left is None else [Line("left over", arcsec * left, BEFORE_COLOUR, 2.6)]
    levels = [Line("", s.mean / np.nanmedian(s.mean)) for s in (after or before,) if s is not None]
    engine = channel.options["speckle"].engine.name
    no_r0 = (
        "there are no reconstructed frames."
        if images_before(channel) is None
        else f"speckle={engine} gave none."
    )
    return [
        (
            Panel("Fried parameter\n(cm)", one(channel.get(Reconstructed), Reconstructed.r0, 100.0)),
            f"No Fried parameter: {no_r0}",
        ),
        (
            Panel("contrast (%)", [*raw("contrast", 100.0), *both("contrast", 100.0)]),
            "No contrast: no frames.",
        ),
        (Panel("sharpness\n(1/px)", [*raw("sharpness"), *both("sharpness")]), "No sharpness: no frames."),
        (
            Panel("correlation with\nthe frame before", both("steadiness")),
            "No correlation from frame to frame: there are fewer than two frames.",
        ),
        (
            Panel("rms shift\n(arcsec)", [*residual, *_by_kernel(channel, Destretched.rms_px, arcsec)]),
            "No shifts: there is no destretch product.",
        ),
        (
            Panel("repaired tiles\n(%)", _by_kernel(channel, Destretched.repaired, 100.0)),
            "No share of repaired tiles: there is no destretch product.",
        ),
        (Panel("frame's mean\n(of median)", levels), "No mean intensity: there are no frames."),
        (
            Panel(f"light level\n({Bursts.light_level.unit})", one(bursts, Bursts.light_level)),
            f"No light level: {_NO_LOG}",
        ),
        (
            Panel(f"scintillation\n({Bursts.scintillation.unit})", one(bursts, Bursts.scintillation)),
            f"No scintillation: {_NO_LOG}",
        ),
    ]


def _by_kernel(channel: Channel, dataset: Dataset, factor: float) -> list[Line]:
    """Curves of a quantity that destretch keeps for each of its kernels, (frames, kernels)."""
    found = find(images_after(channel), dataset)
    if found is None:
        return []
    kernels = channel.options["destretch"].kernels
    values = factor * found.T
    return [
        Line(f"{kernel} px" if kernel else "frame", line, _KERNEL_COLOURS[number % len(_KERNEL_COLOURS)])
        for number, (kernel, line) in enumerate(zip(kernels, values, strict=False))
    ]
