"""Pictures of one image laid on another: contours of the second over the first, before and after."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.io.atomic import write_whole

_CONTOUR_COLOURS = ("#ff5a36", "#36b4ff")
_INCHES = 6.0
_DPI = 100


@dataclass(frozen=True)
class Overlay:
    """
    One panel.

    Attributes
    ----------
    title : str
        Text above.
    image : numpy.ndarray, shape (y, x)
        Shown in grey; NaN is left out.
    over : numpy.ndarray, shape (v, u)
        Drawn as contours.
    extent, over_extent : tuple of float
        Left, right, bottom and top edge of each, arcsec.
    levels : tuple of float, optional
        Heights of the contours, at most two; one in the dark and one in the bright parts by default.
    """

    title: str
    image: np.ndarray
    over: np.ndarray
    extent: tuple[float, float, float, float]
    over_extent: tuple[float, float, float, float]
    levels: tuple[float, ...] = ()


def write_overlays(
    path: Path,
    panels: Sequence[Overlay],
    *,
    heading: str,
    labels: tuple[str, str] = ("Solar X [arcsec]", "Solar Y [arcsec]"),
) -> Path:
    """
    Draw panels side by side into a PNG file.

    Parameters
    ----------
    path : Path
        The file.
    panels : sequence of Overlay
        The panels.
    heading : str
        Text above all.
    labels : tuple of str, optional
        Names of the axes.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES * len(panels), _INCHES + 0.9), dpi=_DPI, layout="compressed")
    figure.suptitle(heading, fontsize=10)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        low, high = np.nanpercentile(panel.image, (0.5, 99.5))
        axis.imshow(
            panel.image,
            origin="lower",
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            extent=panel.extent,
            interpolation="bilinear",
        )
        left, right, bottom, top = panel.over_extent
        rows, columns = panel.over.shape
        dx, dy = (right - left) / columns, (top - bottom) / rows
        levels = panel.levels or _levels(panel.over)
        if levels:
            axis.contour(
                left + dx * (np.arange(columns) + 0.5),
                bottom + dy * (np.arange(rows) + 0.5),
                panel.over,
                levels=levels,
                colors=_CONTOUR_COLOURS[: len(levels)],
                linewidths=0.7,
            )
        axis.set_xlim(panel.extent[:2])
        axis.set_ylim(panel.extent[2:])
        axis.set_title(panel.title, fontsize=9)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
    out = io.BytesIO()
    # Without the program's version in the file, the same data make the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return write_whole(path, out.getvalue())


def _levels(image: np.ndarray) -> tuple[float, ...]:
    """A dark and a bright contour, where they differ."""
    low, high = (float(v) for v in np.nanpercentile(image, (5.0, 92.0)))
    return (low, high) if np.isfinite([low, high]).all() and high > low else ()
