"""Adaptive optics: what the mirror takes away of the wavefront."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillsun.core.zernike import noll_indices

_SENSOR_DIRECTIONS = 4  # along each side of the wavefront sensor's field


@dataclass(frozen=True)
class AdaptiveOptics:
    """
    A mirror that takes away what a wavefront sensor sees around the lock point.

    The correction is the same for the whole field, so that it fades with the distance from the lock
    point as the high layers' contributions drift apart.

    Attributes
    ----------
    modes : int
        Corrected Zernike modes after piston (2: tip and tilt only).
    efficiency : float
        Share of a mode that is removed: of tip and tilt, and of the others where `order` is not given.
    lock : (float, float)
        Lock point (x, y), arcsec from the centre of the field.
    order : float or None
        Radial order at which half as much is removed as of tip and tilt; None: the same share of all.
    field : float
        Side of the square that the sensor looks at, arcsec: it sees the mean over these directions.
    lag : float
        By how much the mirror is behind the sensor, seconds.
    """

    modes: int
    efficiency: float = 0.9
    lock: tuple[float, float] = (0.0, 0.0)
    order: float | None = None
    field: float = 0.0
    lag: float = 0.0

    def shares(self) -> np.ndarray:
        """
        Share of each mode that is removed.

        Returns
        -------
        numpy.ndarray, shape (modes,)
            After piston, in Noll's order.
        """
        radial = np.array([n for n, _ in noll_indices(self.modes + 1)[1:]])
        fall = 0.0 if self.order is None else (radial - 1) / (self.order - 1)
        return np.asarray(self.efficiency / (1.0 + np.square(fall)) * np.ones(self.modes))

    def directions(self) -> np.ndarray:
        """
        Where the sensor looks.

        Returns
        -------
        numpy.ndarray, shape (directions, 2)
            Directions (x, y), arcsec from the centre of the field.
        """
        count = _SENSOR_DIRECTIONS if self.field > 0 else 1
        steps = self.field * ((np.arange(count) + 0.5) / count - 0.5)
        return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) + self.lock
