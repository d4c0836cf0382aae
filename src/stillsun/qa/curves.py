"""A channel's quantities against time."""

from __future__ import annotations

import numpy as np

from stillsun.qa.metrics import SeriesQuality
from stillsun.qa.page import Picture
from stillsun.qa.plots import encode
from stillsun.qa.products import ChannelProducts, ChannelReport
from stillsun.qa.series import AFTER_COLOUR, BEFORE_COLOUR, RAW_COLOUR, Line, Panel, series_figure

_KERNEL_COLOURS = ("#1660a8", "#3a9bd1", "#2a9d6f", "#d98c1f", "#b3423a", "#7a4fa3", "#5a6472")
_NO_LOG = "there is no telescope log for these times."


def show_curves(
    products: ChannelProducts,
    report: ChannelReport,
    before: SeriesQuality | None,
    after: SeriesQuality | None,
) -> None:
    """
    Draw what is known of each frame against time.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    report : ChannelReport
        Where the picture goes.
    before, after : SeriesQuality or None
        Statistics of the frames before and after destretch.
    """
    report.section.heading("Against time")
    times = products.times
    if times is None:
        report.absent("Nothing is drawn against time: the times of the bursts are not there.")
        return
    panels: list[Panel] = []
    reasons: list[str] = []
    for panel, reason in _panels(products, before, after):
        lines = [x for x in panel.lines if len(x.values) == len(times) and np.isfinite(x.values).any()]
        if lines:
            panels.append(Panel(panel.label, lines))
        else:
            reasons.append(reason)
    if panels:
        names = ", ".join(panel.label.replace("\n", " ") for panel in panels)
        picture = Picture(encode(series_figure(times, panels), "png"), "png", f"{products.name}: {names}")
        report.section.parts.append(picture.html())
    for reason in reasons:
        report.absent(reason)


def _panels(
    products: ChannelProducts, before: SeriesQuality | None, after: SeriesQuality | None
) -> list[tuple[Panel, str]]:
    """What is drawn, each with the words for its absence."""

    def both(name: str, factor: float = 1.0) -> list[Line]:
        # The wider curve below stays in sight where both agree.
        styles = ((before, ("before", BEFORE_COLOUR, 2.6)), (after, ("after", AFTER_COLOUR, 1.1)))
        return [
            Line(label, factor * getattr(s, name), colour, width)
            for s, (label, colour, width) in styles
            if s is not None
        ]

    def raw(name: str, factor: float = 1.0) -> list[Line]:
        values = products.series("bursts", name)
        return [] if values is None else [Line("best raw frame", factor * values, RAW_COLOUR)]

    def one(product: str, name: str, factor: float = 1.0) -> list[Line]:
        values = products.series(product, name)
        return [] if values is None else [Line("", factor * values)]

    def unit(name: str) -> str:
        store = products.inputs.get("bursts")
        text = store.unit(name) if store is not None and name in store else ""
        return f"\n({text})" if text else ""

    arcsec = float(np.mean(products.scale))
    left = products.series("destretch", "residual_px")
    residual = [] if left is None else [Line("left over", arcsec * left, BEFORE_COLOUR, 2.6)]
    levels = [Line("", s.mean / np.nanmedian(s.mean)) for s in (after or before,) if s is not None]
    engine = products.options["speckle"].engine.name
    no_r0 = (
        "there are no reconstructed frames." if products.before is None else f"speckle={engine} gave none."
    )
    return [
        (Panel("Fried parameter\n(cm)", one("speckle", "r0", 100.0)), f"No Fried parameter: {no_r0}"),
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
            Panel("rms shift\n(arcsec)", [*residual, *_by_kernel(products, "rms_px", arcsec)]),
            "No shifts: there is no destretch product.",
        ),
        (
            Panel("repaired tiles\n(%)", _by_kernel(products, "repaired", 100.0)),
            "No share of repaired tiles: there is no destretch product.",
        ),
        (Panel("frame's mean\n(of median)", levels), "No mean intensity: there are no frames."),
        (
            Panel(f"light level{unit('light_level')}", one("bursts", "light_level")),
            f"No light level: {_NO_LOG}",
        ),
        (
            Panel(f"scintillation{unit('scintillation')}", one("bursts", "scintillation")),
            f"No scintillation: {_NO_LOG}",
        ),
    ]


def _by_kernel(products: ChannelProducts, name: str, factor: float) -> list[Line]:
    """Curves of a quantity that destretch keeps for each of its kernels, (frames, kernels)."""
    store = products.after
    if store is None or name not in store:
        return []
    kernels = products.options["destretch"].kernels
    values = factor * store.read(name).T
    return [
        Line(f"{kernel} px" if kernel else "frame", line, _KERNEL_COLOURS[number % len(_KERNEL_COLOURS)])
        for number, (kernel, line) in enumerate(zip(kernels, values, strict=False))
    ]
