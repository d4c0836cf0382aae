"""Pictures of a channel's frames: the chosen ones, and before against after speckle and destretch."""

from __future__ import annotations

import numpy as np

from stillsun.core.quality import centre_of, frame_quality
from stillsun.io.store import StoreReader
from stillsun.qa.metrics import SeriesQuality
from stillsun.qa.page import Picture
from stillsun.qa.plots import encode, grid_figure, image_figure
from stillsun.qa.products import ChannelProducts, ChannelReport, percent
from stillsun.qa.scaling import intensity_limits

# Frames that are averaged to show how still the series stands: few enough for the Sun to keep its shape.
_MEAN_FRAMES = 20
_THUMB = 400
_GRID = 600


def show_frames(
    products: ChannelProducts,
    report: ChannelReport,
    before: SeriesQuality | None,
    after: SeriesQuality | None,
    size: int,
    dim_fraction: float,
) -> tuple[float, float] | None:
    """
    Show the first, middle, clearest and worst frame, and what destretch did.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    report : ChannelReport
        Where the pictures go.
    before, after : SeriesQuality or None
        Statistics of the frames before and after destretch.
    size : int
        Longest side of a frame in the pictures, pixels.
    dim_fraction : float
        A frame darker than this share of the series' median is not taken for the clearest.

    Returns
    -------
    tuple of float or None
        Contrast of the mean frame before and after destretch; None where there are not both.
    """
    section = report.section
    section.heading("Frames")
    store, statistics = (products.before, before) if after is None else (products.after, after)
    if store is None or statistics is None:
        report.absent("No frames to show: neither reconstructed nor destretched frames were made.")
        return None
    if after is None:
        report.absent("No destretched frames: the frames shown are those before destretch.")
    best = statistics.clearest(dim_fraction)
    limits = intensity_limits(products.frame(store, best))
    chosen = {"First": 0, "Middle": store.rows // 2, "Clearest": best, "Worst": statistics.worst()}
    kind = products.kind if after is None else "destretched"
    section.pictures(
        [
            _picture(
                products,
                products.frame(store, number),
                limits,
                label,
                kind,
                min(size, _THUMB),
                f"{products.stamp(number)}.",
            )
            for label, number in chosen.items()
        ]
    )
    section.words(
        f"Frames: {kind}, each over its mean, on one grey scale; coordinates from the centre of the field. "
        "Clearest and worst are those of highest and lowest sharpness.",
        "why",
    )
    _show_steps(products, report, best, size)
    if after is not None and products.before is None:
        report.absent("No comparison before and after destretch: the frames before it are not there.")
    if after is None or products.before is None or best >= products.before.rows:
        return None
    return _compare(products, report, products.before, store, best, limits, size)


def _show_steps(products: ChannelProducts, report: ChannelReport, best: int, size: int) -> None:
    """The middle burst on its way from the camera to the product; without a raw frame, the best one."""
    if products.before is None:
        report.absent("No comparison before and after speckle: there are no frames before destretch.")
        return
    raw, bursts = products.sample("sample_frame"), products.inputs.get("bursts")
    steps: dict[str, np.ndarray] = {}
    if raw is None or bursts is None:
        number = min(best, products.before.rows - 1)
        report.absent("No comparison before and after speckle: no raw frame was kept.")
    else:
        number = int(bursts.read("sample_burst"))
        steps["best raw frame"] = raw
        mean = products.sample("sample_mean")
        if mean is not None:
            steps["mean of the burst"] = mean
    made = products.frame(products.before, number)
    steps[products.kind] = made
    if products.after is not None:
        steps["destretched"] = products.frame(products.after, number)
    limits = intensity_limits(made)
    stamp = products.stamp(number)

    def picture(kind: str, image: np.ndarray, title: str, largest: int, caption: str) -> Picture:
        return _picture(products, image, limits, title, kind, largest, caption)

    section = report.section
    section.heading("From the camera to the product")
    section.pictures(
        [
            picture(kind, image, kind.capitalize(), min(size, _THUMB), f"Contrast {_contrast(image)}.")
            for kind, image in steps.items()
        ]
    )
    caption = f"{stamp}: each over its mean, on the grey scale of the {products.kind} frame."
    blink = {kind: image for kind, image in steps.items() if kind != "mean of the burst"}
    if len(blink) < 2:
        section.words(caption, "why")
        return
    section.blinks(
        [[picture(kind, image, f"{stamp}: {kind}", size, caption) for kind, image in blink.items()]],
        [kind.capitalize() for kind in blink],
    )


def _contrast(image: np.ndarray) -> str:
    return percent(_rms_contrast(image))


def _rms_contrast(image: np.ndarray) -> float:
    return float(frame_quality(image[None, *centre_of(image.shape)], backend="numpy")[0][0])


def _compare(
    products: ChannelProducts,
    report: ChannelReport,
    before: StoreReader,
    after: StoreReader,
    best: int,
    limits: tuple[float, float],
    size: int,
) -> tuple[float, float]:
    rows = min(before.rows, after.rows)
    first = max(0, min(best - _MEAN_FRAMES // 2, rows - _MEAN_FRAMES))
    last = min(first + _MEAN_FRAMES, rows)
    single = [products.frame(before, best), products.frame(after, best)]
    mean = [products.mean(before, first, last), products.mean(after, first, last)]
    old, new = (_rms_contrast(image) for image in mean)
    span = f"Mean of frames {first} to {last - 1}"
    stillness = (
        f"The stiller the frames stand, the more fine structure survives the mean: contrast {percent(old)} "
        f"before and {percent(new)} after."
    )
    report.section.heading("Before and after destretch")
    caption = f"{span}. Both over their mean, on the same grey scale. {stillness}"
    pair = [
        _picture(products, image, limits, f"{span}: {name}", name, size, caption)
        for image, name in zip(mean, (products.kind, "destretched"), strict=True)
    ]
    report.section.blinks([pair], ("Before", "After"))
    titles = [
        [f"{products.stamp(best)}: {products.kind}", "Destretched"],
        [f"{span}: before destretch, contrast {percent(old)}", f"After destretch, contrast {percent(new)}"],
    ]
    figure = grid_figure([single, mean], titles, products.scale, limits, size=min(size, _GRID))
    report.files[f"{products.name}_before_after.jpg"] = encode(figure, "jpg")
    return old, new


def _picture(
    products: ChannelProducts,
    image: np.ndarray,
    limits: tuple[float, float],
    title: str,
    kind: str,
    size: int,
    caption: str = "",
) -> Picture:
    data = encode(image_figure(image, products.scale, limits, title, size=size), "jpg")
    return Picture(data, "jpg", f"{products.name}, {kind}. {title}", caption)
