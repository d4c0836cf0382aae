"""What the page says of one channel: frames, curves, calibration, geometry, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stillsun.core.badpixels import DEAD, HOT
from stillsun.io.store import StoreReader
from stillsun.qa.curves import show_curves
from stillsun.qa.frames import show_frames
from stillsun.qa.metrics import FrameStatistics, frame_statistics
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
# What the page says of the geometry, by product and dataset.
_GEOMETRY = {
    "registration": {
        "orientation": "Orientation",
        "shape": "Oriented frame (rows, columns)",
        "plate_scale": "Plate scale (x, y)",
        "translation": "Offset from the reference channel (x, y)",
        "uncertainty": "Error of the offset",
        "rotation_deg": "Rotation against the reference channel",
        "rotation_error_deg": "Error of the rotation",
        "residual_px": "Residual of the match",
        "correlation": "Correlation of the matched targets",
        "significance": "Peak of the correlation over the others",
    },
    "pointing": {
        "method": "Source of the pointing",
        "crval": "Pointing (helioprojective x, y; first … last frame)",
        "crota2": "Rotation to solar north (first … last frame)",
        "uncertainty": "Systematic error of the pointing",
    },
}
_IMAGES = {"dark": "dark", "flat": "flat", "gain": "gain", "target": "target", "linegrid": "line grid"}


def channel_report(
    products: ChannelProducts, *, picture_size: int, dim_fraction: float, progress: Progress | None = None
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
    show_curves(products, report, before, after, dim_fraction)
    _show_calibration(products, report)
    _show_geometry(products, report)
    _show_settings(products, report)
    report.summary = _summary(products, before, after, contrasts)
    return report


def _statistics(
    store: StoreReader | None, progress: Progress | None, start: int, total: int
) -> FrameStatistics | None:
    if store is None:
        return None

    def step(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)

    return frame_statistics(store, step)


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
        counts = [int(np.count_nonzero(bad & kind)) for kind in (DEAD, HOT)]
        section.words(
            f"{np.count_nonzero(bad)} bad pixels of {bad.size} ({percent(np.mean(bad != 0), 3)}), filled "
            f"from their neighbours: {counts[0]} dead, {counts[1]} hot."
        )


def _show_geometry(products: ChannelProducts, report: ChannelReport) -> None:
    report.section.heading("Geometry")
    rows = [
        row
        for product, labels in _GEOMETRY.items()
        for row in _small_values(products.inputs.get(product), labels)
    ]
    if rows:
        report.section.table(("Quantity", "Value"), rows)
    if "registration" not in products.inputs:
        report.absent("The channel was not registered to the reference channel.")
    if "pointing" not in products.inputs:
        report.absent("The pointing on the Sun is not known: the stage align has no result.")


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
    before: FrameStatistics | None,
    after: FrameStatistics | None,
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


def _small_values(store: StoreReader | None, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Datasets in words, without those not known; of what is stored for each frame, first and last."""
    rows: list[tuple[str, str]] = []
    for name, label in labels.items() if store is not None else ():
        if store is None or name not in store:
            continue
        value = np.asarray(store.read(name))
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            continue
        unit = f" {store.unit(name)}" if store.unit(name) else ""
        if store.describe(name).stack and len(value):
            changes = len(value) > 1 and (value != value[0]).any()
            text = f"{_show(value[0])} … {_show(value[-1])}" if changes else _show(value[0])
        else:
            text = _show(value)
        rows.append((label, f"{text}{unit}"))
    return rows


def _show(value: np.ndarray) -> str:
    return ", ".join(v if isinstance(v, str) else f"{v:.6g}" for v in np.ravel(value).tolist())
