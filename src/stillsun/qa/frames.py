"""Pictures of a channel's frames: the chosen ones, and before against after speckle and destretch."""

from __future__ import annotations

import numpy as np

from stillsun.core.quality import centre_of, frame_quality
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.reconstructed import Reconstructed
from stillsun.qa.metrics import SeriesQuality, dim_frames
from stillsun.qa.page import Picture
from stillsun.qa.plots import encode, grid_figure, image_figure
from stillsun.qa.products import (
    ChannelReport,
    images_after,
    images_before,
    kind_before,
    percent,
    relative,
    relative_mean,
    sample,
    stamp,
)
from stillsun.qa.scaling import intensity_limits

# Frames that are averaged to show how still the series stands: few enough for the Sun to keep its shape.
_MEAN_FRAMES = 20
_THUMB = 400
_GRID = 600


def show_frames(
    channel: Channel,
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
    channel : Channel
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
    old, new = images_before(channel), images_after(channel)
    product, statistics = (old, before) if after is None else (new, after)
    if product is None or statistics is None:
        report.absent("No frames to show: neither reconstructed nor destretched frames were made.")
        return None
    if after is None:
        report.absent("No destretched frames: the frames shown are those before destretch.")
    best = channel.clearest(
        passed_over=dim_frames(statistics.mean, dim_fraction), sharpness=statistics.sharpness
    )
    limits = intensity_limits(relative(channel, product, best))
    chosen = {"First": 0, "Middle": product.rows // 2, "Clearest": best, "Worst": statistics.worst()}
    kind = kind_before(channel) if after is None else "destretched"
    section.pictures(
        [
            _picture(
                channel,
                relative(channel, product, number),
                limits,
                label,
                kind,
                min(size, _THUMB),
                f"{stamp(channel, number)}.",
            )
            for label, number in chosen.items()
        ]
    )
    section.words(
        f"Frames: {kind}, each over its mean, on one grey scale; coordinates from the centre of the field. "
        "The clearest has the largest Fried parameter (or, if none is known, is the sharpest), the worst is "
        "the least sharp.",
        "why",
    )
    _show_steps(channel, report, best, size)
    if after is not None and old is None:
        report.absent("No comparison before and after destretch: the frames before it are not there.")
    if after is None or old is None or new is None or best >= old.rows:
        return None
    return _compare(channel, report, old, new, best, limits, size)


def _show_steps(channel: Channel, report: ChannelReport, best: int, size: int) -> None:
    """The middle burst on its way from the camera to the product; without a raw frame, the best one."""
    old, new = images_before(channel), images_after(channel)
    if old is None:
        report.absent("No comparison before and after speckle: there are no frames before destretch.")
        return
    raw, bursts = sample(channel, Bursts.sample_frame), channel.get(Bursts)
    steps: dict[str, np.ndarray] = {}
    if raw is None or bursts is None:
        number = min(best, old.rows - 1)
        report.absent("No comparison before and after speckle: no raw frame was kept.")
    else:
        number = int(bursts.sample_burst)
        steps["best raw frame"] = raw
        mean = sample(channel, Bursts.sample_mean)
        if mean is not None:
            steps["mean of the burst"] = mean
    made = relative(channel, old, number)
    steps[kind_before(channel)] = made
    if new is not None:
        steps["destretched"] = relative(channel, new, number)
    limits = intensity_limits(made)
    when = stamp(channel, number)

    def picture(kind: str, image: np.ndarray, title: str, largest: int, caption: str) -> Picture:
        return _picture(channel, image, limits, title, kind, largest, caption)

    section = report.section
    section.heading("From the camera to the product")
    section.pictures(
        [
            picture(kind, image, kind.capitalize(), min(size, _THUMB), f"Contrast {_contrast(image)}.")
            for kind, image in steps.items()
        ]
    )
    caption = f"{when}: each over its mean, on the grey scale of the {kind_before(channel)} frame."
    blink = {kind: image for kind, image in steps.items() if kind != "mean of the burst"}
    if len(blink) < 2:
        section.words(caption, "why")
        return
    section.blinks(
        [[picture(kind, image, f"{when}: {kind}", size, caption) for kind, image in blink.items()]],
        [kind.capitalize() for kind in blink],
    )


def _contrast(image: np.ndarray) -> str:
    return percent(_rms_contrast(image))


def _rms_contrast(image: np.ndarray) -> float:
    return float(frame_quality(image[None, *centre_of(image.shape)], backend="numpy")[0][0])


def _compare(
    channel: Channel,
    report: ChannelReport,
    before: Reconstructed,
    after: Destretched,
    best: int,
    limits: tuple[float, float],
    size: int,
) -> tuple[float, float]:
    rows = min(before.rows, after.rows)
    first = max(0, min(best - _MEAN_FRAMES // 2, rows - _MEAN_FRAMES))
    last = min(first + _MEAN_FRAMES, rows)
    single = [relative(channel, before, best), relative(channel, after, best)]
    mean = [relative_mean(channel, product, first, last) for product in (before, after)]
    old, new = (_rms_contrast(image) for image in mean)
    span = f"Mean of frames {first} to {last - 1}"
    stillness = (
        f"The stiller the frames stand, the more fine structure survives the mean: contrast {percent(old)} "
        f"before and {percent(new)} after."
    )
    report.section.heading("Before and after destretch")
    caption = f"{span}. Both over their mean, on the same grey scale. {stillness}"
    pair = [
        _picture(channel, image, limits, f"{span}: {name}", name, size, caption)
        for image, name in zip(mean, (kind_before(channel), "destretched"), strict=True)
    ]
    report.section.blinks([pair], ("Before", "After"))
    titles = [
        [f"{stamp(channel, best)}: {kind_before(channel)}", "Destretched"],
        [f"{span}: before destretch, contrast {percent(old)}", f"After destretch, contrast {percent(new)}"],
    ]
    figure = grid_figure([single, mean], titles, channel.scale, limits, size=min(size, _GRID))
    report.files[f"{channel.name}_before_after.jpg"] = encode(figure, "jpg")
    return old, new


def _picture(
    channel: Channel,
    image: np.ndarray,
    limits: tuple[float, float],
    title: str,
    kind: str,
    size: int,
    caption: str = "",
) -> Picture:
    data = encode(image_figure(image, channel.scale, limits, title, size=size), "jpg")
    return Picture(data, "jpg", f"{channel.name}, {kind}. {title}", caption)
