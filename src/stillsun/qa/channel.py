"""What the page says of one channel: frames, curves, calibration, geometry, settings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stillsun.core.badpixels import DEAD, HOT, UNSTABLE
from stillsun.products.base import find, series
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import Calibration
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.placement import utc
from stillsun.products.reconstructed import Reconstructed
from stillsun.qa.curves import show_curves
from stillsun.qa.frames import show_frames
from stillsun.qa.geometry import show_geometry
from stillsun.qa.headlines import headlines
from stillsun.qa.metrics import SeriesQuality, series_quality
from stillsun.qa.page import Picture, Section
from stillsun.qa.plots import camera_figure, encode
from stillsun.qa.products import ChannelReport, images_after, images_before, percent, relative, times_of

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
_IMAGES = {
    "dark": Calibration.dark,
    "flat": Calibration.flat,
    "gain": Calibration.gain,
    "target": Calibration.target,
    "line grid": Calibration.linegrid,
}


def channel_report(
    channel: Channel,
    *,
    picture_size: int,
    dim_fraction: float,
    progress: Progress | None = None,
) -> ChannelReport:
    """
    Make the report of one channel from whatever products there are.

    Parameters
    ----------
    channel : Channel
        The channel.
    picture_size : int
        Longest side of a frame in the pictures, pixels.
    dim_fraction : float
        A frame darker than this share of the series' median is reported as dim.
    progress : callable, optional
        Called with (frames looked at, frames to look at).

    Returns
    -------
    ChannelReport
        The report.
    """
    report = ChannelReport(Section(channel.name))
    products = (images_before(channel), images_after(channel))
    rows = [0 if product is None else product.rows for product in products]
    before = _statistics(products[0], progress, 0, sum(rows))
    after = _statistics(products[1], progress, rows[0], sum(rows))
    contrasts = show_frames(channel, report, before, after, picture_size, dim_fraction)
    show_curves(channel, report, before, after)
    _show_calibration(channel, report)
    show_geometry(channel, report)
    _show_settings(channel, report)
    report.headlines = headlines(channel, after or before, dim_fraction)
    report.summary = _summary(channel, before, after, contrasts)
    return report


def _statistics(
    product: Reconstructed | Destretched | None, progress: Progress | None, start: int, total: int
) -> SeriesQuality | None:
    if product is None:
        return None

    def step(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)

    return series_quality(product, step)


def _show_calibration(channel: Channel, report: ChannelReport) -> None:
    section = report.section
    section.heading("Calibration images")
    calibration = channel.get(Calibration)
    if calibration is None:
        report.absent("No calibration images: the calibration was not made.")
        return
    found = {label: find(calibration, dataset) for label, dataset in _IMAGES.items()}
    images = {label: image for label, image in found.items() if image is not None}
    if images:
        units = {label: _IMAGES[label].unit for label in images}
        text = f"{channel.name}: {', '.join(images)}, as the camera sees them"
        section.parts.append(Picture(encode(camera_figure(images, units), "jpg"), "jpg", text).html())
        section.table(
            ("Image", "Median", "Smallest", "Largest", "Standard deviation"),
            [(label, *_image_numbers(image, units[label])) for label, image in images.items()],
        )
    absent = [label for label in _IMAGES if label not in images]
    if absent:
        section.words(f"Not in the calibration: {', '.join(absent)}.", "why")
    bad = find(calibration, Calibration.bad_pixels)
    if bad is not None:
        counts = [int(np.count_nonzero(bad & kind)) for kind in (DEAD, HOT, UNSTABLE)]
        section.words(
            f"{np.count_nonzero(bad)} bad pixels of {bad.size} ({percent(np.mean(bad != 0), 3)}), filled "
            f"from their neighbours: {counts[0]} dead, {counts[1]} hot, {counts[2]} unstable."
        )


def _show_settings(channel: Channel, report: ChannelReport) -> None:
    settings, options = channel.settings, channel.options
    bursts = channel.get(Bursts)
    rows = [
        ("Camera", f"{settings.camera.name} {settings.camera.model}".strip() or "not named"),
        ("Filter", settings.filter or "not named"),
        ("Wavelength", f"{settings.wavelength_nm:g} nm"),
        ("Exposure", f"{settings.exposure_ms:g} ms"),
        ("Plate scale (x, y), oriented", f"{channel.scale[0]:.5f}, {channel.scale[1]:.5f} arcsec/px"),
        ("Orientation", channel.orientation.text),
        ("Frames in a burst", str(options["assemble"].frames_per_burst)),
        ("Bursts", "not known" if bursts is None else str(bursts.rows)),
        ("Speckle", options["speckle"].engine.name),
        ("Destretch kernels", ", ".join(str(k) for k in options["destretch"].kernels) + " px"),
        ("Destretch reference", options["destretch"].reference.name),
    ]
    report.section.heading("Settings")
    report.section.table(("Setting", "Value"), rows)


def _summary(
    channel: Channel,
    before: SeriesQuality | None,
    after: SeriesQuality | None,
    contrasts: tuple[float, float] | None,
) -> tuple[str, ...]:
    product = images_after(channel) or images_before(channel)
    field = "–"
    if product is not None:
        rows, columns = relative(channel, product, 0).shape
        field = f"{columns * channel.scale[0]:.1f} x {rows * channel.scale[1]:.1f}"
    times, r0 = times_of(channel), series(channel.get(Reconstructed), Reconstructed.r0)
    statistics = (before, after)
    return (
        channel.name,
        "0" if product is None else str(product.rows),
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
