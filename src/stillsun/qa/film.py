"""Frames of a context movie: the image on its axes, a time stamp, a light curve with a marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stillsun.qa.plots import AFTER_COLOUR, DPI, draw_frame, fit, set_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Room in pixels around the image for labels and titles, and the height of the light curve.
_LEFT, _RIGHT, _BOTTOM, _TOP = 72, 20, 50, 36
_CURVE, _FOOT = 120, 46
# Narrower than this, the titles do not fit.
_SMALLEST = 400
_MARKER_COLOUR = "#d1351b"


class Film:
    """
    Composes the frames of a movie.

    Everything that does not change is drawn once; for each frame, the image's pixels are put in, and
    the time stamp and the marker drawn over it.

    Parameters
    ----------
    title : str
        What is seen.
    shape : tuple of int
        Rows and columns of the frames.
    plate_scale : (float, float)
        Scale along (x, y), arcsec per pixel.
    limits : (float, float)
        Intensities shown black and white, in all frames.
    times : numpy.ndarray
        Unix seconds (UTC), (frames,) float64.
    curve : numpy.ndarray
        Light curve, (frames,).
    curve_label : str
        Its quantity and unit.
    size : int
        Longest side of the image in the movie, pixels; see `stillsun.qa.plots.fit`.
    """

    def __init__(
        self,
        title: str,
        shape: tuple[int, ...],
        plate_scale: Sequence[float],
        limits: tuple[float, float],
        times: np.ndarray,
        curve: np.ndarray,
        *,
        curve_label: str,
        size: int,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._size = size
        self._limits = limits
        blank = self._pixels(np.full(shape, limits[0], np.float32))
        rows, columns = blank.shape
        side = max(0, _SMALLEST - columns) // 2
        foot = _CURVE + _FOOT
        # Even, because video stores one colour for two by two pixels.
        width, height = (
            n + n % 2 for n in (columns + _LEFT + _RIGHT + 2 * side, rows + _BOTTOM + foot + _TOP)
        )
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(figure)
        left = _LEFT + side
        image = figure.add_axes((left / width, (foot + _BOTTOM) / height, columns / width, rows / height))
        draw_frame(image, blank, shape, plate_scale, (0, 255))
        image.set_title(title, fontsize=10, loc="left")
        self._stamp = image.set_title("", fontsize=10, loc="right", family="DejaVu Sans Mono")
        self._stamp.set_animated(True)
        moments = (times * 1e3).round().astype("datetime64[ms]")
        light = figure.add_axes(
            (_LEFT / width, _FOOT / height, 1 - (_LEFT + _RIGHT) / width, _CURVE / height)
        )
        _draw_curve(light, moments, curve, curve_label)
        self._marker = light.axvline(moments[0], color=_MARKER_COLOUR, linewidth=2, animated=True)
        self._moments = moments
        self._canvas.draw()
        self._buffer = np.asarray(self._canvas.buffer_rgba())
        self._static = self._buffer.copy()
        top = height - foot - _BOTTOM - rows
        self._place = np.s_[top : top + rows, left : left + columns]

    @property
    def image_place(self) -> tuple[slice, slice]:
        """Rows and columns of the movie's pictures that show the image."""
        return self._place

    def frame(self, image: np.ndarray, number: int) -> np.ndarray:
        """
        Compose one frame.

        Parameters
        ----------
        image : numpy.ndarray, shape (y, x)
            The frame.
        number : int
            Its number.

        Returns
        -------
        numpy.ndarray
            (height, width, 4) uint8, both sides even; the next call draws into the same array.
        """
        np.copyto(self._buffer, self._static)
        self._buffer[self._place][..., :3] = self._pixels(image)[::-1, :, None]
        moment = self._moments[number]
        self._stamp.set_text("" if np.isnat(moment) else f"{str(moment).replace('T', ' ')[:-2]} UTC")
        self._marker.set_xdata([moment, moment])
        renderer = self._canvas.get_renderer()
        self._stamp.draw(renderer)
        self._marker.draw(renderer)
        return self._buffer

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        """Grey levels of the image at the movie's size."""
        low, high = self._limits
        grey = (fit(image, self._size) - np.float32(low)) * np.float32(255 / (high - low))
        # These two, unlike clip, take NaN for the lower limit.
        np.fmin(np.fmax(grey, 0, out=grey), 255, out=grey)
        return grey.astype(np.uint8)


def _draw_curve(axes: Axes, moments: np.ndarray, curve: np.ndarray, label: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.plot(moments, curve, color=AFTER_COLOUR, linewidth=1.1)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("time (UTC)", fontsize=9)
    axes.set_ylabel(label, fontsize=8)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e2e4e8", linewidth=0.6)
    axes.margins(x=0.01)
    if np.isfinite(curve).any():
        set_range(axes, curve)
