"""Figure of quantities against time, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stillsun.qa.plots import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE_COLOUR = "#8a8f98"
AFTER_COLOUR = "#1660a8"
RAW_COLOUR = "#d98c1f"
_MANY_POINTS = 80


@dataclass(frozen=True)
class Line:
    """
    One curve of a panel.

    Attributes
    ----------
    label : str
        Text for the legend; empty for none.
    values : numpy.ndarray
        One value a frame.
    colour : str
        Colour.
    width : float
        Width, points.
    """

    label: str
    values: np.ndarray
    colour: str = AFTER_COLOUR
    width: float = 1.1


@dataclass(frozen=True)
class Panel:
    """
    One quantity against time.

    Attributes
    ----------
    label : str
        Quantity and unit, for the axis.
    lines : sequence of Line
        The curves.
    logarithmic : bool
        Logarithmic axis.
    """

    label: str
    lines: Sequence[Line] = field(default_factory=tuple)
    logarithmic: bool = False


def series_figure(times: np.ndarray, panels: Sequence[Panel]) -> Figure:
    """
    Quantities against time, one below the other.

    Parameters
    ----------
    times : numpy.ndarray
        Unix seconds (UTC), (frames,) float64.
    panels : sequence of Panel
        What to draw, at least one.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    moments = (times * 1e3).round().astype("datetime64[ms]")
    height = 0.75 + 1.35 * len(panels)
    figure = Figure(figsize=(10, height), dpi=DPI)
    # Fixed room around the panels: finding it by drawing twice takes longer than all the rest.
    room = {"left": 0.09, "right": 0.88, "bottom": 0.6 / height, "top": 1 - 0.1 / height, "hspace": 0.12}
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw=room)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw_panel(axes, moments, panel)
    locator = AutoDateLocator()
    rows[-1].xaxis.set_major_locator(locator)
    rows[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if len(times) > 1:
        rows[-1].set_xlim(moments[0], moments[-1])
    rows[-1].set_xlabel("time (UTC)", fontsize=9)
    rows[-1].xaxis.get_offset_text().set_fontsize(8)
    for axes in rows:
        axes.yaxis.set_label_coords(-0.065, 0.5)
    return figure


def _draw_panel(axes: Any, moments: np.ndarray, panel: Panel) -> None:
    few = len(moments) <= _MANY_POINTS
    for line in panel.lines:
        axes.plot(
            moments,
            line.values,
            color=line.colour,
            label=line.label or None,
            linewidth=line.width,
            marker="o" if few else None,
            markersize=2.5,
        )
    axes.set_ylabel(panel.label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e2e4e8", linewidth=0.6)
    set_range(axes, np.concatenate([line.values for line in panel.lines]))
    if any(line.label for line in panel.lines):
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def set_range(axes: Axes, values: np.ndarray) -> None:
    """
    Fit the vertical axis to values; what changes by less than one per cent looks constant.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes.
    values : numpy.ndarray
        Everything that is drawn; some of it finite.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    middle, half = (low + high) / 2, (high - low) / 2
    half = max(1.12 * half, 0.005 * abs(middle)) or 1.0
    axes.set_ylim(middle - half, middle + half)
    axes.ticklabel_format(axis="y", useOffset=False)
