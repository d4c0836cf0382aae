"""What the page says of a channel's geometry: numbers, and the pictures of the matches behind them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stillsun.config.schema import AlignEngine
from stillsun.products.base import Dataset, StoreProduct, find
from stillsun.products.calibration import Calibration
from stillsun.products.channel import Channel
from stillsun.products.pointing import SolarPointing
from stillsun.products.registration import Registration
from stillsun.qa.page import Picture
from stillsun.qa.products import ChannelReport

# What the page says, by product and dataset.
_GEOMETRY: dict[type[StoreProduct], tuple[tuple[Dataset, str], ...]] = {
    Calibration: (
        (Calibration.plate_scale_source, "Plate scale from"),
        (Calibration.plate_scale, "Plate scale (x, y), camera orientation"),
        (Calibration.plate_scale_scatter, "Scatter of it over the lines of the grid"),
    ),
    Registration: (
        (Registration.orientation, "Orientation"),
        (Registration.shape, "Oriented frame (rows, columns)"),
        (Registration.plate_scale, "Plate scale (x, y)"),
        (Registration.translation, "Offset from the reference channel (x, y)"),
        (Registration.uncertainty, "Error of the offset"),
        (Registration.rotation_deg, "Rotation against the reference channel"),
        (Registration.rotation_error_deg, "Error of the rotation"),
        (Registration.residual_px, "Error of the match of the targets"),
        (Registration.residual, "Difference left between the targets, of their rms"),
        (Registration.correlation, "Correlation of the matched targets"),
        (Registration.significance, "Peak of the correlation over the others"),
        (Registration.drift_offset, "Science images against the targets (x, y)"),
        (Registration.drift_offset_error, "Error of that"),
        (Registration.drift_rate, "Drift of the science images (x, y)"),
        (Registration.drift_rate_error, "Error of the drift"),
        (Registration.drift_applied, "Coordinates follow the drift (1: yes)"),
    ),
    SolarPointing: (
        (SolarPointing.method, "Source of the pointing"),
        (SolarPointing.crval, "Pointing (helioprojective x, y; first … last frame)"),
        (SolarPointing.crota2, "Rotation to solar north (first … last frame)"),
        (SolarPointing.uncertainty, "Systematic error of the pointing"),
        (SolarPointing.fulldisk, "Full-disk image"),
        (SolarPointing.matched_frame, "Frame that was matched to it"),
        (SolarPointing.match_correlation, "Correlation of the match"),
        (SolarPointing.match_significance, "Peak over wrong places nearby, in their deviations"),
        (SolarPointing.match_peak_ratio, "Peak over the next one"),
        (SolarPointing.match_null, "Highest correlation elsewhere on the disk"),
        (SolarPointing.match_error, "Standard error of the match (x, y)"),
        (SolarPointing.match_rotation_error_deg, "Standard error of the angle"),
        (SolarPointing.match_accepted, "Match believed (1: yes)"),
    ),
}
# Of errors and figures of merit, three digits are enough.
_ROUGH = ("uncertainty", "error", "scatter", "residual", "correlation", "significance", "ratio", "null")
_JPEG_QUALITY = 80


def show_geometry(channel: Channel, report: ChannelReport) -> None:
    """
    Show plate scale, registration and pointing with the pictures that the stages made of their matches.

    Parameters
    ----------
    channel : Channel
        The channel.
    report : ChannelReport
        Where it goes.
    """
    report.section.heading("Geometry")
    rows = [row for kind, labels in _GEOMETRY.items() for row in _small_values(channel.get(kind), labels)]
    if rows:
        report.section.table(("Quantity", "Value"), rows)
    _show_registration(channel, report)
    _show_pointing(channel, report)


def _show_registration(channel: Channel, report: ChannelReport) -> None:
    found = channel.get(Registration)
    if found is None:
        report.absent("The channel was not registered to the reference channel.")
        return
    path = found.path.with_name("register.png")
    significance = find(found, Registration.significance)
    matched, refused = significance is not None and np.isfinite(significance), not int(found.accepted)
    if matched or (refused and path.is_file()):
        _show_file(
            channel,
            report,
            path,
            "The reference channel with the outline of this one: targets before and after the match, and "
            "frames of the Sun, where there are some.",
        )
    elif refused:
        report.section.words("No picture of the registration: there was nothing to lay on the other.", "why")


def _show_pointing(channel: Channel, report: ChannelReport) -> None:
    found = channel.get(SolarPointing)
    if found is None:
        report.absent("The pointing on the Sun is not known: the stage align has no result.")
    elif found.match_significance is not None:
        significance, least = found.match_significance, channel.options["align"].min_significance
        said = ", ".join(f"{value:.1f}" for value in significance)
        _show_file(
            channel,
            report,
            found.path.with_name("align.png"),
            "The frame on the Sun with contours of the full-disk image (dark and bright parts): left where "
            f"it was supposed to be, right where it was found. Significance {said}; at least {least:g} is "
            "asked for.",
        )
    elif channel.options["align"].engine is AlignEngine.none:
        report.section.words("No overlay on the Sun: align=none, no full-disk image was asked for.", "why")
    else:
        where = "it stands with the reference channel" if int(found.aligned) else "no match was tried"
        report.section.words(f"No overlay on the Sun: {where}.", "why")


def _show_file(channel: Channel, report: ChannelReport, path: Path, caption: str) -> None:
    """A picture that a stage left beside its product; smaller as JPEG."""
    from PIL import Image

    if not path.is_file():
        report.absent(f"The picture {path.name} is not beside {channel.name}'s products any more.")
        return
    out = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(out, format="jpeg", quality=_JPEG_QUALITY)
    text = f"{channel.name}, {path.stem}: {caption}"
    report.section.parts.append(Picture(out.getvalue(), "jpg", text, caption).html())


def _small_values(
    product: StoreProduct | None, labels: Sequence[tuple[Dataset, str]]
) -> list[tuple[str, str]]:
    """Datasets in words, without those not known; of what is stored for each frame, first and last."""
    rows: list[tuple[str, str]] = []
    for dataset, label in labels:
        found = find(product, dataset)
        if found is None:
            continue
        value = np.asarray(found)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            continue
        unit = f" {dataset.unit}" if dataset.unit else ""
        show = partial(_show, digits=3 if any(word in dataset.name for word in _ROUGH) else 6)
        if dataset.stack and len(value):
            changes = len(value) > 1 and (value != value[0]).any()
            text = f"{show(value[0])} … {show(value[-1])}" if changes else show(value[0])
        else:
            text = show(value)
        rows.append((label, f"{text}{unit}"))
    return rows


def _show(value: np.ndarray, digits: int) -> str:
    return ", ".join(v if isinstance(v, str) else f"{v:.{digits}g}" for v in np.ravel(value).tolist())
