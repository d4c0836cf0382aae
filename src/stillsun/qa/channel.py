"""What the page says of one channel: frames, curves, calibration, geometry, settings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stillsun.core.badpixels import DEAD, HOT, UNSTABLE
from stillsun.io.store import StoreReader
from stillsun.qa.curves import show_curves
from stillsun.qa.frames import show_frames
from stillsun.qa.geometry import show_geometry
from stillsun.qa.headlines import headlines
from stillsun.qa.metrics import SeriesQuality, series_quality
from stillsun.qa.page import Picture, Section
from stillsun.qa.plots import camera_figure, encode
from stillsun.qa.products import ChannelProducts, ChannelReport, percent, utc

Progress = Callable[[int, int], None]

SUMMARY = (
    "Channel",
    "Frames",
    "Time (UTC)",
    "Field (arcsec)",
    "Fried parameter, median",
    "Contrast, before / after destretch",
    "Correlation with the frame before, before / after",
    "Contrast of the mean frame, before / after",
)
_IMAGES = {"dark": "dark", "flat": "flat", "gain": "gain", "target": "target", "linegrid": "line grid"}


def channel_report(
    products: ChannelProducts,
    *,
    picture_size: int,
    dim_fraction: float,
    is_reference: bool,
    progress: Progress | None = None,
) -> ChannelReport:
    """
    Make the report of one channel from whatever products there are.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    picture_size : int
        Longest side of a frame in the pictures, pixels.
    dim_fraction : float
        A frame darker than this share of the series' median is reported as dim.
    is_reference : bool
        The channel is the reference channel.
    progress : callable, optional
        Called with (frames looked at, frames to look at).

    Returns
    -------
    ChannelReport
        The report.
    """
    report = ChannelReport(Section(products.name))
    stores = (products.before, products.after)
    total = sum(store.rows for store in stores if store is not None)
    before = _statistics(stores[0], progress, 0, total)
    after = _statistics(stores[1], progress, 0 if stores[0] is None else stores[0].rows, total)
    contrasts = show_frames(products, report, before, after, picture_size, dim_fraction)
    show_curves(products, report, before, after)
    _show_calibration(products, report)
    show_geometry(products, report)
    _show_settings(products, report)
    report.headlines = headlines(products, after or before, dim_fraction, is_reference=is_reference)
    report.summary = _summary(products, before, after, contrasts)
    return report


def _statistics(
    store: StoreReader | None, progress: Progress | None, start: int, total: int
) -> SeriesQuality | None:
    if store is None:
        return None

    def step(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)

    return series_quality(store, step)


def _show_calibration(products: ChannelProducts, report: ChannelReport) -> None:
    section = report.section
    section.heading("Calibration images")
    store = products.inputs.get("calibration")
    if store is None:
        report.absent("No calibration images: the calibration was not made.")
        return
    found = {label: name for name, label in _IMAGES.items() if name in store and len(store.shape(name)) == 2}
    if found:
        images = {label: store.read(name) for label, name in found.items()}
        units = {label: store.unit(name) for label, name in found.items()}
        text = f"{products.name}: {', '.join(found)}, as the camera sees them"
        section.parts.append(Picture(encode(camera_figure(images, units), "jpg"), "jpg", text).html())
        section.table(
            ("Image", "Median", "Smallest", "Largest", "Standard deviation"),
            [(label, *_image_numbers(image, units[label])) for label, image in images.items()],
        )
    absent = [label for label in _IMAGES.values() if label not in found]
    if absent:
        section.words(f"Not in the calibration: {', '.join(absent)}.", "why")
    if "bad_pixels" in store:
        bad = store.read("bad_pixels")
        counts = [int(np.count_nonzero(bad & kind)) for kind in (DEAD, HOT, UNSTABLE)]
        section.words(
            f"{np.count_nonzero(bad)} bad pixels of {bad.size} ({percent(np.mean(bad != 0), 3)}), filled "
            f"from their neighbours: {counts[0]} dead, {counts[1]} hot, {counts[2]} unstable."
        )


def _show_settings(products: ChannelProducts, report: ChannelReport) -> None:
    settings, options = products.settings, products.options
    bursts = products.inputs.get("bursts")
    rows = [
        ("Camera", f"{settings.camera.name} {settings.camera.model}".strip() or "not named"),
        ("Filter", settings.filter or "not named"),
        ("Wavelength", f"{settings.wavelength_nm:g} nm"),
        ("Exposure", f"{settings.exposure_ms:g} ms"),
        ("Plate scale (x, y), oriented", f"{products.scale[0]:.5f}, {products.scale[1]:.5f} arcsec/px"),
        ("Orientation", products.orientation.text),
        ("Frames in a burst", str(options["assemble"].frames_per_burst)),
        ("Bursts", "not known" if bursts is None else str(bursts.rows)),
        ("Speckle", options["speckle"].engine.name),
        ("Destretch kernels", ", ".join(str(k) for k in options["destretch"].kernels) + " px"),
        ("Destretch reference", options["destretch"].reference.name),
    ]
    report.section.heading("Settings")
    report.section.table(("Setting", "Value"), rows)


def _summary(
    products: ChannelProducts,
    before: SeriesQuality | None,
    after: SeriesQuality | None,
    contrasts: tuple[float, float] | None,
) -> tuple[str, ...]:
    store = products.before if products.after is None else products.after
    field = "–"
    if store is not None:
        rows, columns = products.frame(store, 0).shape
        field = f"{columns * products.scale[0]:.1f} x {rows * products.scale[1]:.1f}"
    times, r0 = products.times, products.series("speckle", "r0")
    statistics = (before, after)
    return (
        products.name,
        "0" if store is None else str(store.rows),
        "–" if times is None else f"{utc(times[0])} to {utc(times[-1])[11:]}",
        field,
        "–" if r0 is None else f"{100 * np.nanmedian(r0):.1f} cm",
        " / ".join("–" if s is None else _mean(100 * s.contrast, "{:.1f} %") for s in statistics),
        " / ".join("–" if s is None else _mean(s.steadiness, "{:.3f}") for s in statistics),
        "–" if contrasts is None else " / ".join(percent(c) for c in contrasts),
    )


def _mean(values: np.ndarray, form: str) -> str:
    return form.format(np.nanmean(values)) if np.isfinite(values).any() else "–"


def _image_numbers(image: np.ndarray, unit: str) -> tuple[str, ...]:
    good = image[np.isfinite(image)].astype(np.float64)
    if good.size == 0:
        return ("not finite",) * 4
    values = (np.median(good), good.min(), good.max(), good.std())
    return tuple(f"{v:.5g} {unit}".strip() for v in values)
