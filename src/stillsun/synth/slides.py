"""The slides at the prime focus: an Air-Force-like resolution target and the line grid."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from stillsun.synth.channels import rotation

ARCSEC_PER_MM = 3.76
_PIXEL = 0.03  # arcsec, of the drawing
_OPAQUE = 0.05
_LINE_MM = 0.06
# Seven-segment digits: which of top, two right, bottom, two left and middle strokes are drawn.
_SEGMENTS = {1: "bc", 2: "abged", 3: "abgcd", 4: "fgbc", 5: "afgcd", 6: "afgedc"}


def target(x: np.ndarray, y: np.ndarray, *, turn_deg: float = 0.8) -> np.ndarray:
    """
    Transmission of the resolution target.

    Groups of three vertical and three horizontal bars, of 2^(group + (element - 1) / 6) line pairs per
    mm, numbered; each group is nested into the middle of the next coarser one.

    Parameters
    ----------
    x, y : numpy.ndarray
        Position in the telescope's frame, arcsec from the optical axis.
    turn_deg : float
        By how much the slide is turned counter-clockwise.

    Returns
    -------
    numpy.ndarray, float32
        Transmission, 0.05 in bars and 1 elsewhere.
    """
    extent = float(max(np.abs(x).max(), np.abs(y).max())) * 1.05 + 1
    count = 2 * int(np.ceil(extent / _PIXEL)) + 1
    drawing = np.ones((count, count), dtype=np.float32)
    for group in range(-1, 6):
        width = ARCSEC_PER_MM / 2 ** (group + 1)
        for left, right, low, high in _group(width):
            edges = np.rint(np.array([low, high, left, right]) / _PIXEL + count // 2).astype(int)
            r0, r1, c0, c1 = np.clip(edges, 0, count)
            drawing[r0:r1, c0:c1] = _OPAQUE
    turn = rotation(-turn_deg)
    columns = (turn[0, 0] * x + turn[0, 1] * y) / _PIXEL + count // 2
    rows = (turn[1, 0] * x + turn[1, 1] * y) / _PIXEL + count // 2
    return scipy.ndimage.map_coordinates(drawing, [rows, columns], order=1, mode="nearest")


def line_grid(x: np.ndarray, y: np.ndarray, *, turn_deg: float = 0.5) -> np.ndarray:
    """
    Transmission of the line grid: dark lines 1 mm apart both ways.

    Parameters
    ----------
    x, y : numpy.ndarray
        Position in the telescope's frame, arcsec from the optical axis.
    turn_deg : float
        By how much the slide is turned counter-clockwise.

    Returns
    -------
    numpy.ndarray, float32
        Transmission.
    """
    turn = rotation(-turn_deg)
    # The optical axis passes beside the crossing of two lines.
    across = (turn[0, 0] * x + turn[0, 1] * y) / ARCSEC_PER_MM + 0.37
    along = (turn[1, 0] * x + turn[1, 1] * y) / ARCSEC_PER_MM + 0.21
    light = np.ones(np.shape(x))
    for position in (across, along):
        distance = np.abs(position - np.rint(position))
        # Edges a quarter of a line wide keep the sampled line in place to a fraction of a pixel.
        edge = np.clip((distance - 0.5 * _LINE_MM) / (0.25 * _LINE_MM) + 0.5, 0, 1)
        light *= _OPAQUE + (1 - _OPAQUE) * edge
    return light.astype(np.float32)


def _group(width: float) -> list[tuple[float, float, float, float]]:
    """Rectangles (left, right, low, high) of a group whose first element has bars of this width."""
    boxes = []
    for element in range(1, 7):
        bar = width * 2 ** (-(element - 1) / 6)
        side = -1 if element <= 3 else 1
        row = (1 - (element - 1) % 3) * 8 * width
        inner = side * 15 * width
        start = min(inner, inner + side * 11 * bar)
        for k in (-2, 0, 2):
            boxes.append((start + (2 + k) * bar, start + (3 + k) * bar, row - 2.5 * bar, row + 2.5 * bar))
            low = row + (k - 0.5) * bar
            boxes.append((start + 6 * bar, start + 11 * bar, low, low + bar))
        boxes += _digit(element, side * 28.2 * width, row, 0.9 * width)
    # A square and a long bar in the free space tell up from down at a glance.
    square, bar = 3 * width, 0.75 * width
    boxes.append((-9 * width - square, -9 * width + square, 17 * width - square, 17 * width + square))
    boxes.append((-4 * width, 18 * width, -17 * width - bar, -17 * width + bar))
    return boxes


def _digit(digit: int, x: float, y: float, size: float) -> list[tuple[float, float, float, float]]:
    stroke = 0.45 * size
    strokes = {
        "a": (-size, size, 2 * size - stroke, 2 * size),
        "b": (size - stroke, size, 0, 2 * size),
        "c": (size - stroke, size, -2 * size, 0),
        "d": (-size, size, -2 * size, -2 * size + stroke),
        "e": (-size, -size + stroke, -2 * size, 0),
        "f": (-size, -size + stroke, 0, 2 * size),
        "g": (-size, size, -stroke / 2, stroke / 2),
    }
    return [
        (x + left, x + right, y + low, y + high)
        for left, right, low, high in (strokes[s] for s in _SEGMENTS[digit])
    ]
