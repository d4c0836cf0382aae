"""What the page says of a channel's geometry: numbers, and the pictures of the matches behind them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from stillsun.config.schema import AlignEngine
from stillsun.io.store import StoreReader
from stillsun.qa.page import Picture
from stillsun.qa.products import ChannelProducts, ChannelReport

# What the page says, by product and dataset.
_GEOMETRY = {
    "calibration": {
        "plate_scale_source": "Plate scale from",
        "plate_scale": "Plate scale (x, y), camera orientation",
        "plate_scale_scatter": "Scatter of it over the lines of the grid",
    },
    "registration": {
        "orientation": "Orientation",
        "shape": "Oriented frame (rows, columns)",
        "plate_scale": "Plate scale (x, y)",
        "translation": "Offset from the reference channel (x, y)",
        "uncertainty": "Error of the offset",
        "rotation_deg": "Rotation against the reference channel",
        "rotation_error_deg": "Error of the rotation",
        "residual_px": "Error of the match of the targets",
        "residual": "Difference left between the targets, of their rms",
        "correlation": "Correlation of the matched targets",
        "significance": "Peak of the correlation over the others",
        "drift_offset": "Science images against the targets (x, y)",
        "drift_offset_error": "Error of that",
        "drift_rate": "Drift of the science images (x, y)",
        "drift_rate_error": "Error of the drift",
        "drift_applied": "Coordinates follow the drift (1: yes)",
    },
    "pointing": {
        "method": "Source of the pointing",
        "crval": "Pointing (helioprojective x, y; first … last frame)",
        "crota2": "Rotation to solar north (first … last frame)",
        "uncertainty": "Systematic error of the pointing",
        "fulldisk": "Full-disk image",
        "matched_frame": "Frame that was matched to it",
        "match_correlation": "Correlation of the match",
        "match_significance": "Peak over wrong places nearby, in their deviations",
        "match_peak_ratio": "Peak over the next one",
        "match_null": "Highest correlation elsewhere on the disk",
        "match_error": "Standard error of the match (x, y)",
        "match_rotation_error_deg": "Standard error of the angle",
        "match_accepted": "Match believed (1: yes)",
    },
}
# Of errors and figures of merit, three digits are enough.
_ROUGH = ("uncertainty", "error", "scatter", "residual", "correlation", "significance", "ratio", "null")
_JPEG_QUALITY = 80


def show_geometry(products: ChannelProducts, report: ChannelReport) -> None:
    """
    Show plate scale, registration and pointing with the pictures that the stages made of their matches.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    report : ChannelReport
        Where it goes.
    """
    report.section.heading("Geometry")
    rows = [
        row
        for product, labels in _GEOMETRY.items()
        for row in _small_values(products.inputs.get(product), labels)
    ]
    if rows:
        report.section.table(("Quantity", "Value"), rows)
    _show_registration(products, report)
    _show_pointing(products, report)


def _show_registration(products: ChannelProducts, report: ChannelReport) -> None:
    store = products.inputs.get("registration")
    if store is None:
        report.absent("The channel was not registered to the reference channel.")
        return
    path = store.path.with_name("register.png")
    matched = "significance" in store and np.isfinite(store.read("significance"))
    refused = "accepted" in store and not int(store.read("accepted"))
    if matched or (refused and path.is_file()):
        _show_file(
            products,
            report,
            path,
            "The reference channel with the outline of this one: targets before and after the match, and "
            "frames of the Sun, where there are some.",
        )
    elif refused:
        report.section.words("No picture of the registration: there was nothing to lay on the other.", "why")


def _show_pointing(products: ChannelProducts, report: ChannelReport) -> None:
    store = products.inputs.get("pointing")
    if store is None:
        report.absent("The pointing on the Sun is not known: the stage align has no result.")
    elif "match_significance" in store:
        significance, least = store.read("match_significance"), products.options["align"].min_significance
        said = ", ".join(f"{value:.1f}" for value in significance)
        _show_file(
            products,
            report,
            store.path.with_name("align.png"),
            "The frame on the Sun with contours of the full-disk image (dark and bright parts): left where "
            f"it was supposed to be, right where it was found. Significance {said}; at least {least:g} is "
            "asked for.",
        )
    elif products.options["align"].engine is AlignEngine.none:
        report.section.words("No overlay on the Sun: align=none, no full-disk image was asked for.", "why")
    else:
        aligned = "aligned" in store and int(store.read("aligned"))
        where = "it stands with the reference channel" if aligned else "no match was tried"
        report.section.words(f"No overlay on the Sun: {where}.", "why")


def _show_file(products: ChannelProducts, report: ChannelReport, path: Path, caption: str) -> None:
    """A picture that a stage left beside its product; smaller as JPEG."""
    from PIL import Image

    if not path.is_file():
        report.absent(f"The picture {path.name} is not beside {products.name}'s products any more.")
        return
    out = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(out, format="jpeg", quality=_JPEG_QUALITY)
    text = f"{products.name}, {path.stem}: {caption}"
    report.section.parts.append(Picture(out.getvalue(), "jpg", text, caption).html())


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
        show = partial(_show, digits=3 if any(word in name for word in _ROUGH) else 6)
        if store.describe(name).stack and len(value):
            changes = len(value) > 1 and (value != value[0]).any()
            text = f"{show(value[0])} … {show(value[-1])}" if changes else show(value[0])
        else:
            text = show(value)
        rows.append((label, f"{text}{unit}"))
    return rows


def _show(value: np.ndarray, digits: int) -> str:
    return ", ".join(v if isinstance(v, str) else f"{v:.{digits}g}" for v in np.ravel(value).tolist())
