"""Frames of a context movie: images on their axes, a time stamp, curves with a moving marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stillsun.qa.plots import DPI
from stillsun.qa.series import Panel, set_range
from stillsun.qa.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Room in pixels around an image for labels and titles, and below the curves.
_LEFT, _RIGHT, _BOTTOM, _TOP = 72, 20, 50, 36
_FOOT = 46
# Height of a curve alone, of one of several, and the room between them.
_ALONE, _CURVE, _GAP = 120, 76, 8
# Room on the right for the names of curves: their line, and a letter.
_KEY, _LETTER = 46, 7
# From the curves to the labels of their axes, which have two lines.
_LABEL = 43
# Narrower than this, the titles do not fit.
_SMALLEST = 400
_MARKER_COLOUR = "#d1351b"


class Film:
    """
    Composes the frames of a movie.

    Everything that does not change is drawn once; for each frame, the images' pixels are put in, and
    the time stamp and the markers drawn over it.

    Parameters
    ----------
    images : sequence of (str, View)
        Title and view of each image, at least one; all views of one shape. They stand side by side.
    times : numpy.ndarray
        Unix seconds (UTC), (frames,) float64.
    curves : sequence of Panel
        What is drawn against time, from the top, at least one.
    """

    def __init__(
        self, images: Sequence[tuple[str, View]], times: np.ndarray, curves: Sequence[Panel]
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._views = [view for _, view in images]
        rows, columns = self._views[0].raster.shape
        side = max(0, _SMALLEST - columns) // 2
        across = len(images) if len(images) < 4 else -(-len(images) // 2)
        down = -(-len(images) // across)
        each = (columns + _LEFT + _RIGHT + 2 * side, rows + _BOTTOM + _TOP)
        curve = _ALONE if len(curves) == 1 else _CURVE
        foot = len(curves) * (curve + _GAP) - _GAP + _FOOT
        # Even, because video stores one colour for two by two pixels.
        width, height = (n + n % 2 for n in (each[0] * across, each[1] * down + foot))
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(figure)
        self._places: list[tuple[slice, slice]] = []
        for number, (title, view) in enumerate(images):
            row, column = divmod(number, across)
            left, top = column * each[0] + _LEFT + side, row * each[1] + _TOP
            bottom = height - top - rows
            axes = figure.add_axes((left / width, bottom / height, columns / width, rows / height))
            _draw_axes(axes, view, title)
            self._places.append(np.s_[top : top + rows, left : left + columns])
            if number == across - 1 or number == len(images) - 1 < across:
                self._stamp = axes.set_title("", fontsize=10, loc="right", family="DejaVu Sans Mono")
        self._stamp.set_animated(True)
        self._moments = (times * 1e3).round().astype("datetime64[ms]")
        self._markers = _draw_curves(figure, self._moments, curves, curve, (width, height))
        self._canvas.draw()
        self._buffer = np.asarray(self._canvas.buffer_rgba())
        self._static = self._buffer.copy()

    @property
    def image_places(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the movie's pictures that show each image."""
        return self._places

    def frame(
        self, frames: Sequence[np.ndarray], number: int, rows: Sequence[int] | None = None
    ) -> np.ndarray:
        """
        Compose one frame.

        Parameters
        ----------
        frames : sequence of numpy.ndarray, shape (y, x)
            A frame for each image.
        number : int
            Its number.
        rows : sequence of int, optional
            Number of each frame in its own series; by default the same.

        Returns
        -------
        numpy.ndarray
            (height, width, 4) uint8, both sides even; the next call draws into the same array.
        """
        np.copyto(self._buffer, self._static)
        own = [number] * len(frames) if rows is None else rows
        for place, view, frame, row in zip(self._places, self._views, frames, own, strict=True):
            self._buffer[place][..., :3] = view.picture(frame, row)[::-1, :, None]
        moment = self._moments[number]
        self._stamp.set_text("" if np.isnat(moment) else f"{str(moment).replace('T', ' ')[:-2]} UTC")
        renderer = self._canvas.get_renderer()
        self._stamp.draw(renderer)
        for marker in self._markers:
            marker.set_xdata([moment, moment])
            marker.draw(renderer)
        return self._buffer


def _draw_axes(axes: Axes, view: View, title: str) -> None:
    axes.imshow(np.zeros((1, 1)), origin="lower", cmap="gray", extent=view.raster.extent, aspect="auto")
    axes.set_xlabel(view.place.labels[0], fontsize=9)
    axes.set_ylabel(view.place.labels[1], fontsize=9)
    axes.tick_params(labelsize=8, direction="out")
    axes.set_title(title, fontsize=10, loc="left")


def _draw_curves(
    figure: Figure, moments: np.ndarray, panels: Sequence[Panel], height: int, size: tuple[int, int]
) -> list[Any]:
    """Draw the curves, the last at the bottom; gives the markers."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    letters = max(len(line.label) for panel in panels for line in panel.lines)
    right = _KEY + _LETTER * letters if letters else _RIGHT
    markers = []
    for number, panel in enumerate(panels):
        bottom = _FOOT + (len(panels) - 1 - number) * (height + _GAP)
        axes = figure.add_axes(
            (_LEFT / size[0], bottom / size[1], 1 - (_LEFT + right) / size[0], height / size[1])
        )
        for line in panel.lines:
            axes.plot(moments, line.values, color=line.colour, linewidth=line.width, label=line.label or None)
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set_fontsize(8)
        axes.set_ylabel(panel.label, fontsize=8)
        axes.yaxis.set_label_coords(-_LABEL / (size[0] - _LEFT - right), 0.5)
        axes.tick_params(labelsize=8, labelbottom=number == len(panels) - 1)
        axes.grid(color="#e2e4e8", linewidth=0.6)
        axes.margins(x=0.01)
        values = np.concatenate([line.values for line in panel.lines])
        if panel.logarithmic:
            axes.set_yscale("log")
        elif np.isfinite(values).any():
            set_range(axes, values)
        if any(line.label for line in panel.lines):
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        if number == len(panels) - 1:
            axes.set_xlabel("time (UTC)", fontsize=9)
        else:
            axes.xaxis.get_offset_text().set_visible(False)
        markers.append(axes.axvline(moments[0], color=_MARKER_COLOUR, linewidth=2, animated=True))
    return markers
