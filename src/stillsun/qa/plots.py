"""Figures: frames on arcsec axes, quantities against time, calibration images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stillsun.qa.metrics import inner_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
# Room around an image for its labels: left, right, bottom, top, in pixels.
MARGINS = (66, 14, 48, 30)
BEFORE_COLOUR = "#8a8f98"
AFTER_COLOUR = "#1660a8"
RAW_COLOUR = "#d98c1f"
_JPEG_QUALITY = 75
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


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """
    Bin or enlarge an image by a whole number, so that it just fits.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Image.
    size : int
        Longest side to fit into, pixels.

    Returns
    -------
    numpy.ndarray
        Means of square blocks (at the rim, what does not fill a block is left out), or each pixel
        repeated.
    """
    factor = -(-max(image.shape) // size)
    if factor > 1:
        return binned(image, factor)
    times = size // max(image.shape)
    return image if times == 1 else image.repeat(times, axis=0).repeat(times, axis=1)


def binned(image: np.ndarray, factor: int) -> np.ndarray:
    """
    Means of square blocks of an image.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Image.
    factor : int
        Side of a block, pixels.

    Returns
    -------
    numpy.ndarray
        At the rim, what does not fill a block is left out, half of it on either side.
    """
    if factor == 1:
        return image
    rows, columns = (n // factor for n in image.shape)
    top, left = ((n % factor) // 2 for n in image.shape)
    blocks = image[top : top + rows * factor, left : left + columns * factor]
    return blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3))


def intensity_limits(image: np.ndarray, clip: float = 0.3) -> tuple[float, float]:
    """
    Limits of the grey scale from an image away from its rim.

    Parameters
    ----------
    image : numpy.ndarray, shape (..., y, x)
        Image or stack of images.
    clip : float
        Share of the pixels that is clipped at either end, per cent.

    Returns
    -------
    tuple of float
        Lower and upper limit; (0, 1) for an image without finite pixels.
    """
    values = inner_field(image)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, [clip, 100 - clip]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def image_figure(
    image: np.ndarray,
    plate_scale: Sequence[float],
    limits: tuple[float, float],
    title: str,
    *,
    size: int = 1000,
) -> Figure:
    """
    A frame on axes in arcsec from the centre of its field, drawn pixel by pixel.

    Parameters
    ----------
    image : numpy.ndarray, shape (y, x)
        Frame, row 0 at the bottom.
    plate_scale : (float, float)
        Scale along (x, y), arcsec per pixel.
    limits : (float, float)
        Intensities shown black and white.
    title : str
        Line above the frame.
    size : int
        Longest side of the frame in the figure, pixels; see `fit`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.figure import Figure

    shown = fit(image, size)
    left, right, bottom, top = MARGINS
    rows, columns = shown.shape
    width, height = columns + left + right, rows + bottom + top
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((left / width, bottom / height, columns / width, rows / height))
    draw_frame(axes, shown, image.shape, plate_scale, limits)
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def grid_figure(
    frames: Sequence[Sequence[np.ndarray]],
    titles: Sequence[Sequence[str]],
    plate_scale: Sequence[float],
    limits: tuple[float, float],
    *,
    size: int = 600,
) -> Figure:
    """
    Frames of the same field in rows and columns, on the same grey scale.

    Parameters
    ----------
    frames : sequence of sequence of numpy.ndarray
        Rows, from the top, of frames (y, x) of one shape.
    titles : sequence of sequence of str
        Lines above the frames.
    plate_scale : (float, float)
        Scale along (x, y), arcsec per pixel.
    limits : (float, float)
        Intensities shown black and white.
    size : int
        Longest side of a frame in the figure, pixels; see `fit`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.figure import Figure

    left, right, bottom, top = MARGINS
    shape = frames[0][0].shape
    rows, columns = fit(frames[0][0], size).shape
    step_x, step_y = columns + left + right, rows + bottom + top
    width, height = step_x * len(frames[0]), step_y * len(frames)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for j, (images, lines) in enumerate(zip(frames, titles, strict=True)):
        for i, (image, line) in enumerate(zip(images, lines, strict=True)):
            corner_y = (len(frames) - 1 - j) * step_y + bottom
            place = ((i * step_x + left) / width, corner_y / height, columns / width, rows / height)
            axes = figure.add_axes(place)
            draw_frame(axes, fit(image, size), shape, plate_scale, limits)
            axes.set_title(line, fontsize=10, loc="left")
    return figure


def draw_frame(
    axes: Axes,
    shown: np.ndarray,
    shape: tuple[int, ...],
    plate_scale: Sequence[float],
    limits: tuple[float, float],
) -> None:
    """
    Draw a frame into axes of its size, with coordinates in arcsec from the centre of the field.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes.
    shown : numpy.ndarray, shape (y, x)
        The frame, binned or enlarged.
    shape : tuple of int
        Shape of the frame before that.
    plate_scale : (float, float)
        Scale along (x, y) before that, arcsec per pixel.
    limits : (float, float)
        Intensities shown black and white.
    """
    # Frame's pixels in one shown; the rim that binning left out is not on the axes.
    step = shape[0] // shown.shape[0] or shape[0] / shown.shape[0]
    half_x, half_y = (n * step * s / 2 for n, s in zip(shown.shape[::-1], plate_scale, strict=True))
    axes.imshow(
        shown,
        origin="lower",
        cmap="gray",
        vmin=limits[0],
        vmax=limits[1],
        extent=(-half_x, half_x, -half_y, half_y),
        interpolation="nearest",
        aspect="auto",
    )
    axes.set_xlabel("x (arcsec)", fontsize=9)
    axes.set_ylabel("y (arcsec)", fontsize=9)
    axes.tick_params(labelsize=8, direction="out")


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


def camera_figure(images: Mapping[str, np.ndarray], units: Mapping[str, str], *, size: int = 400) -> Figure:
    """
    Calibration images, three in a row, as the camera sees them, each with its own colour bar.

    Parameters
    ----------
    images : mapping of str to numpy.ndarray
        Title to image (y, x), at least one.
    units : mapping of str to str
        Title to the image's unit.
    size : int
        Longest side of an image in the figure, pixels; see `fit`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.figure import Figure

    across, down = min(3, len(images)), -(-len(images) // 3)
    width, height = 4.1 * across, 3.6 * down
    figure = Figure(figsize=(width, height), dpi=DPI)
    room = {"left": 0.7 / width, "right": 1 - 0.6 / width, "bottom": 0.5 / height, "top": 1 - 0.3 / height}
    places = figure.subplots(down, across, squeeze=False, gridspec_kw={**room, "wspace": 0.42, "hspace": 0.3})
    for axes in places.flat[len(images) :]:
        axes.remove()
    for axes, (title, image) in zip(places.flat, images.items(), strict=False):
        low, high = intensity_limits(image, clip=0.5)
        rows, columns = image.shape
        drawn = axes.imshow(
            fit(image, size),
            origin="lower",
            cmap="gray",
            vmin=low,
            vmax=high,
            extent=(-0.5, columns - 0.5, -0.5, rows - 0.5),
        )
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("column (px)", fontsize=9)
        axes.set_ylabel("row (px)", fontsize=9)
        axes.tick_params(labelsize=8)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9, pad=0.03)
        bar.ax.tick_params(labelsize=8)
        bar.set_label(units.get(title, ""), fontsize=8)
    return figure


def encode(figure: Figure, kind: str) -> bytes:
    """
    Draw a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Figure.
    kind : str
        ``"png"`` for lines, ``"jpg"`` for frames.

    Returns
    -------
    bytes
        The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if kind == "jpg" else {}
    figure.savefig(out, format=kind, dpi=DPI, facecolor="white", pil_kwargs=options)
    return out.getvalue()
