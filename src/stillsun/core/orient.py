"""The eight flips and quarter turns: pixels, reference pixel, plate scale and shape by one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.errors import ConfigError

# What each step does to offsets from the centre of the frame, in (x, y): new = matrix @ old.
_Matrix = tuple[tuple[int, int], tuple[int, int]]
_STEPS: dict[str, _Matrix] = {
    "rot90": ((0, 1), (-1, 0)),
    "flipud": ((1, 0), (0, -1)),
    "fliplr": ((-1, 0), (0, 1)),
    "flip": ((-1, 0), (0, -1)),
}
STEPS = tuple(_STEPS)


@dataclass(frozen=True)
class Orientation:
    """
    One of the eight ways to lay a camera frame on the sky, applied without interpolation.

    The steps are those of NumPy on arrays ``(y, x)``: ``rot90`` is `numpy.rot90`, ``flipud`` and
    ``fliplr`` turn the rows or the columns round, ``flip`` both. Shown with row 0 at the bottom, as
    solar images are, ``rot90`` turns the picture clockwise. Frames that went through a channel's
    orientation are by definition north up and west right, but for the small angle in ``CROTA2``.

    Attributes
    ----------
    matrix : tuple of tuple of int
        Signed permutation of (x, y) offsets from the frame's centre, new from old.

    Examples
    --------
    >>> Orientation.from_steps(["rot90", "fliplr"]).shape((1002, 1004))
    (1004, 1002)
    """

    matrix: _Matrix = ((1, 0), (0, 1))

    @classmethod
    def from_steps(cls, steps: Sequence[str]) -> Orientation:
        """
        Orientation from the steps of the configuration, done one after the other.

        Parameters
        ----------
        steps : sequence of str
            Names out of `STEPS`; none for frames that are right as they are.

        Returns
        -------
        Orientation
            All steps together.

        Raises
        ------
        ConfigError
            If a step is unknown.
        """
        result = cls()
        for step in steps:
            if step not in _STEPS:
                raise ConfigError("unknown orientation step", expected=" | ".join(STEPS), found=repr(step))
            result = result.then(cls(_STEPS[step]))
        return result

    @classmethod
    def from_text(cls, text: str) -> Orientation:
        """
        Orientation from its `text`.

        Parameters
        ----------
        text : str
            Steps joined by ``+``, or ``"none"``.

        Returns
        -------
        Orientation
            The element.
        """
        return cls.from_steps([] if text == "none" else text.split("+"))

    @classmethod
    def all(cls) -> tuple[Orientation, ...]:
        """
        The eight elements.

        Returns
        -------
        tuple of Orientation
            Quarter turns first, then the same of the mirrored frame.
        """
        turns = [["rot90"] * k for k in range(4)]
        return tuple(cls.from_steps(s) for s in turns + [["fliplr", *t] for t in turns])

    @property
    def steps(self) -> tuple[str, ...]:
        """The same orientation in as few steps as possible; two are always enough."""
        ways = ((), *((a,) for a in STEPS), *(("rot90", b) for b in STEPS))
        return next(w for w in ways if Orientation.from_steps(w) == self)

    @property
    def text(self) -> str:
        """The steps in one word, ``"none"`` where there are none."""
        return "+".join(self.steps) or "none"

    @property
    def mirrored(self) -> bool:
        """The handedness of the frame changes."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c < 0

    @property
    def swaps_axes(self) -> bool:
        """Rows become columns."""
        return self.matrix[0][0] == 0

    def then(self, other: Orientation) -> Orientation:
        """
        This orientation followed by another.

        Parameters
        ----------
        other : Orientation
            What is done afterwards.

        Returns
        -------
        Orientation
            Both together.
        """
        product = np.array(other.matrix) @ np.array(self.matrix)
        return Orientation(tuple(tuple(int(v) for v in row) for row in product))  # type: ignore[arg-type]

    def inverse(self) -> Orientation:
        """
        The orientation that undoes this one.

        Returns
        -------
        Orientation
            The inverse element.
        """
        (a, b), (c, d) = self.matrix
        return Orientation(((a, c), (b, d)))

    def apply(self, array: Any) -> Any:
        """
        Turn an image or a stack of images.

        Parameters
        ----------
        array : array, shape (..., y, x)
            NumPy or CuPy array.

        Returns
        -------
        array
            View of the input with the last two axes turned; same pixels, same dtype.
        """
        if self.swaps_axes:
            array = array.swapaxes(-1, -2)
        sign_x, sign_y = (sum(row) for row in self.matrix)
        return array[..., ::sign_y, ::sign_x]

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """
        Shape after the turn.

        Parameters
        ----------
        shape : tuple of int
            Shape (..., rows, columns) of the frame as the camera gives it.

        Returns
        -------
        tuple of int
            Shape of the oriented frame.
        """
        return (*shape[:-2], shape[-1], shape[-2]) if self.swaps_axes else tuple(shape)

    def plate_scale(self, scale: Sequence[float]) -> tuple[float, float]:
        """
        Plate scale after the turn: always positive, because the oriented frame is north up.

        Parameters
        ----------
        scale : (float, float)
            Plate scale along the camera's (x, y), arcsec per pixel.

        Returns
        -------
        tuple of float
            Plate scale along (x, y) of the oriented frame.
        """
        x, y = (abs(float(s)) for s in scale)
        return (y, x) if self.swaps_axes else (x, y)

    def pixel(self, position: Any, shape: tuple[int, ...]) -> np.ndarray:
        """
        Where a point of the camera frame lies in the oriented frame.

        Parameters
        ----------
        position : array_like, shape (..., 2)
            Pixel coordinates (x, y), FITS style: the centre of the first pixel is 1.
        shape : tuple of int
            Shape (rows, columns) of the camera frame.

        Returns
        -------
        numpy.ndarray, shape (..., 2)
            The same point in the oriented frame, float64, FITS style.
        """
        centre = _centre(shape)
        offset = np.asarray(position, dtype=np.float64) - centre
        return _centre(self.shape(shape)) + offset @ np.array(self.matrix, dtype=np.float64).T

    def wcs(
        self, crpix: Any, cdelt: Any, crota2: float, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """
        Coordinates of the oriented frame from true ones of the camera frame.

        Every pixel keeps its world coordinates; a mirrored frame has a negative first scale. Channels
        whose orientation *defines* north up use `plate_scale` and the guider's angle instead.

        Parameters
        ----------
        crpix : array_like, shape (2,)
            Reference pixel (x, y), FITS style.
        cdelt : array_like, shape (2,)
            Signed scale along (x, y).
        crota2 : float
            Angle of the frame, degrees.
        shape : tuple of int
            Shape (rows, columns) of the camera frame.

        Returns
        -------
        crpix, cdelt : numpy.ndarray, shape (2,)
            Reference pixel and signed scale of the oriented frame.
        crota2 : float
            Its angle, in (-180, 180].

        Notes
        -----
        With S = diag(CDELT) and the rotation R, world = R S (p - CRPIX). The turn M gives
        R S M^T (p' - CRPIX'), and S M^T is again a rotation by a multiple of 90 degrees times a
        diagonal matrix; the sign of the determinant goes to the first scale.
        """
        parity = -1 if self.mirrored else 1
        turn = np.array(self.matrix).T @ np.diag([parity, 1])
        scale = np.asarray(cdelt, dtype=np.float64)[:: -1 if self.swaps_axes else 1] * (parity, 1)
        angle = float(crota2) + float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
        return self.pixel(crpix, shape), scale, 180.0 - (180.0 - angle) % 360.0


def _centre(shape: tuple[int, ...]) -> np.ndarray:
    return (np.array([shape[-1], shape[-2]], dtype=np.float64) + 1.0) / 2.0


def rotation(angle_deg: float) -> np.ndarray:
    """
    Matrix that turns (x, y) counter-clockwise.

    Parameters
    ----------
    angle_deg : float
        Angle, degrees.

    Returns
    -------
    numpy.ndarray, shape (2, 2)
        ``[[cos, -sin], [sin, cos]]``.
    """
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[cos, -sin], [sin, cos]])
