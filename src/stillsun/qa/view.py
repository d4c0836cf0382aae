"""Frames laid onto pictures whose sides are coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from stillsun.core.orient import rotation
from stillsun.products.placement import Placement
from stillsun.qa.scaling import binned

# A frame turned by less is shown pixel by pixel; over 1000 pixels it is a fifth of one.
_STRAIGHT_DEG = 0.01
# What lies beside the frame.
_BLANK = 255


@dataclass(frozen=True)
class Raster:
    """
    Pixels of a picture on the axes; row 0 is at the bottom.

    Attributes
    ----------
    left, bottom : float
        Coordinates of the picture's corner, arcsec.
    step : (float, float)
        Size of a pixel (x, y), arcsec.
    shape : (int, int)
        Rows and columns.
    """

    left: float
    bottom: float
    step: tuple[float, float]
    shape: tuple[int, int]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top, arcsec."""
        rows, columns = self.shape
        return (
            self.left,
            self.left + columns * self.step[0],
            self.bottom,
            self.bottom + rows * self.step[1],
        )


def frame_raster(place: Placement, shape: Sequence[int], size: int) -> Raster:
    """
    A picture of a whole frame.

    Parameters
    ----------
    place : Placement
        Where the frame lies.
    shape : sequence of int
        Its rows and columns.
    size : int
        Longest side of the picture, pixels; its pixels are a whole number of the frame's, or the frame's a
        whole number of its.

    Returns
    -------
    Raster
        The picture; the frame's very pixels if it is not turned.
    """
    corners = place.corners(shape)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if abs(place.angle_deg) < _STRAIGHT_DEG:
        native, pixels = np.asarray(place.scale), np.array(shape[::-1])
    else:
        native = np.full(2, min(place.scale))
        pixels = np.ceil((high - low) / native).astype(int)
    factor = -(-pixels.max() // size)
    ratio = factor if factor > 1 else 1 / max(1, size // pixels.max())
    shown = (pixels / ratio + 1e-9).astype(int)
    step = native * ratio
    # What does not fill a pixel of the picture is left out, half of it on either side.
    odd = (pixels - shown * ratio) // 2 if factor > 1 else np.zeros(2)
    left, bottom = low + odd * native
    return Raster(
        float(left), float(bottom), (float(step[0]), float(step[1])), (int(shown[1]), int(shown[0]))
    )


def common_raster(places: Sequence[tuple[Placement, Sequence[int]]], size: int) -> Raster | None:
    """
    A picture of what several channels see in common.

    Parameters
    ----------
    places : sequence of (Placement, shape)
        The channels.
    size : int
        Longest side of the picture, pixels.

    Returns
    -------
    Raster or None
        With square pixels; None where the fields do not overlap.
    """
    corners = [place.corners(shape) for place, shape in places]
    low = np.max([c.min(axis=0) for c in corners], axis=0)
    high = np.min([c.max(axis=0) for c in corners], axis=0)
    if (high <= low).any():
        return None
    step = float((high - low).max() / size)
    columns, rows = (max(1, int(n)) for n in (high - low) / step + 1e-6)
    return Raster(float(low[0]), float(low[1]), (step, step), (rows, columns))


class View:
    """
    Makes a picture of each frame of a channel: binned or enlarged, turned, in grey levels.

    Parameters
    ----------
    place : Placement
        Where the frames lie.
    raster : Raster
        The picture.
    limits : (float, float)
        Intensities shown black and white.
    """

    def __init__(self, place: Placement, raster: Raster, limits: tuple[float, float]) -> None:
        self.place = place
        self.raster = raster
        self.limits = limits
        self._bins = max(1, int(min(s / n for s, n in zip(raster.step, place.scale, strict=True)) + 1e-6))

    def picture(self, frame: np.ndarray, number: int = 0) -> np.ndarray:
        """
        Make the picture of one frame.

        Parameters
        ----------
        frame : numpy.ndarray, shape (y, x)
            The frame, oriented.
        number : int, optional
            Its number, where frames lie differently.

        Returns
        -------
        numpy.ndarray
            (rows, columns) uint8, row 0 at the bottom; white beside the frame, black where it is not finite.
        """
        image, matrix = self._map(frame, self.place.at(number))
        low, high = self.limits
        out = np.empty(self.raster.shape, np.uint8)
        _draw(np.ascontiguousarray(image, np.float32), matrix, low, 255.0 / (high - low), out)
        return out

    def _map(self, frame: np.ndarray, place: Placement) -> tuple[np.ndarray, np.ndarray]:
        """The binned frame, and (y, x) in it as a linear function of 1, row and column of the picture."""
        raster, bins = self.raster, self._bins
        turn = rotation(-place.angle_deg) / np.asarray(place.scale)[:, None]
        corner = np.array([raster.left + raster.step[0] / 2, raster.bottom + raster.step[1] / 2])
        start = turn @ (corner - place.origin) + np.asarray(place.reference) - 1.0
        steps = turn * np.asarray(raster.step)
        # The binned pixel 0 is the mean of `bins` pixels behind those that fill no block.
        odd = np.array([(n % bins) // 2 for n in frame.shape[::-1]])
        start = (start - odd - (bins - 1) / 2) / bins
        matrix = np.array([[start[i], steps[i, 1] / bins, steps[i, 0] / bins] for i in (1, 0)])
        return binned(frame, bins), matrix


@njit(cache=True, nogil=True)
def _draw(image: Any, matrix: Any, low: float, gain: float, out: Any) -> None:
    rows, columns = image.shape
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            y = matrix[0, 0] + matrix[0, 1] * r + matrix[0, 2] * c
            x = matrix[1, 0] + matrix[1, 1] * r + matrix[1, 2] * c
            # Half a pixel around the outermost centres still belongs to the frame.
            if y < -0.501 or x < -0.501 or y > rows - 0.499 or x > columns - 0.499:
                out[r, c] = _BLANK
                continue
            y = min(max(y, 0.0), rows - 1.0)
            x = min(max(x, 0.0), columns - 1.0)
            i, j = min(int(y), max(rows - 2, 0)), min(int(x), max(columns - 2, 0))
            below, right = min(i + 1, rows - 1), min(j + 1, columns - 1)
            v, u = y - i, x - j
            # Rounding must not let a neighbour that is not finite in.
            v = 0.0 if v < 1e-6 else (1.0 if v > 1 - 1e-6 else v)
            u = 0.0 if u < 1e-6 else (1.0 if u > 1 - 1e-6 else u)
            value = 0.0
            if v < 1.0 and u < 1.0:
                value += (1 - v) * (1 - u) * image[i, j]
            if v < 1.0 and u > 0.0:
                value += (1 - v) * u * image[i, right]
            if v > 0.0 and u < 1.0:
                value += v * (1 - u) * image[below, j]
            if v > 0.0 and u > 0.0:
                value += v * u * image[below, right]
            grey = (value - low) * gain
            # False for NaN too.
            out[r, c] = int(min(grey, 255.0)) if grey > 0.0 else 0
