"""Figures: frames on arcsec axes, calibration images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stillsun.qa.scaling import fit, intensity_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
# Room around an image for its labels: left, right, bottom, top, in pixels.
MARGINS = (66, 14, 48, 30)
_JPEG_QUALITY = 75


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
