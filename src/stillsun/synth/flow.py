"""A slow, steady flow on the plane of the sky that is known everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KM_PER_ARCSEC = 725.0
_NODES_PER_CELL = 12
_STEP_SECONDS = 60.0


@dataclass(frozen=True)
class FlowCell:
    """
    One cell of the flow: a source, a sink, or a vortex with a Gaussian envelope.

    Attributes
    ----------
    x, y : float
        Centre, arcsec from the centre of the field.
    size : float
        Distance from the centre at which the speed is largest, arcsec.
    radial, azimuthal : float
        Largest outward and largest counter-clockwise speed, km/s.
    """

    x: float
    y: float
    size: float
    radial: float = 0.0
    azimuthal: float = 0.0


@dataclass(frozen=True)
class Flow:
    """
    Sum of flow cells.

    Attributes
    ----------
    cells : sequence of FlowCell
        The cells; none for a Sun at rest.
    """

    cells: Sequence[FlowCell] = ()

    def velocity(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Velocity at points of the sky.

        Parameters
        ----------
        x, y : numpy.ndarray
            Positions, arcsec.

        Returns
        -------
        vx, vy : numpy.ndarray
            Velocity, arcsec per second.
        """
        vx = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
        vy = np.zeros_like(vx)
        for cell in self.cells:
            dx, dy = x - cell.x, y - cell.y
            # The envelope r exp(-r^2 / 2) peaks at r = 1 with exp(-1/2).
            envelope = np.exp(0.5 - 0.5 * (dx * dx + dy * dy) / cell.size**2) / cell.size / KM_PER_ARCSEC
            vx += envelope * (cell.radial * dx - cell.azimuthal * dy)
            vy += envelope * (cell.radial * dy + cell.azimuthal * dx)
        return vx, vy

    def origin(self, x: np.ndarray, y: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """
        Where the matter that is seen at a point now was at time zero.

        Parameters
        ----------
        x, y : numpy.ndarray
            Positions now, arcsec.
        seconds : float
            Time since the flow began to act.

        Returns
        -------
        x, y : numpy.ndarray
            Positions at time zero, arcsec: the path is followed backwards by the classical Runge-Kutta
            scheme.
        """
        x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        if not self.cells or seconds == 0.0:
            return x, y
        steps = max(1, int(np.ceil(abs(seconds) / _STEP_SECONDS)))
        h = -seconds / steps
        for _ in range(steps):
            k1 = self.velocity(x, y)
            k2 = self.velocity(x + h / 2 * k1[0], y + h / 2 * k1[1])
            k3 = self.velocity(x + h / 2 * k2[0], y + h / 2 * k2[1])
            k4 = self.velocity(x + h * k3[0], y + h * k3[1])
            x = x + h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
            y = y + h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        return x, y

    def origin_on_grid(
        self, centre: np.ndarray, jacobian: np.ndarray, rows: np.ndarray, columns: np.ndarray, seconds: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Same as `origin` for the pixels of an image, by way of a coarse lattice.

        Parameters
        ----------
        centre : numpy.ndarray, shape (2,)
            Sky position (x, y) of row 0, column 0, arcsec.
        jacobian : numpy.ndarray, shape (2, 2)
            Sky step (x, y) for one (column, row).
        rows, columns : numpy.ndarray
            Evenly spaced row and column numbers.
        seconds : float
            Time since the flow began to act.

        Returns
        -------
        x, y : numpy.ndarray, shape (rows, columns)
            Positions at time zero, arcsec.
        """
        x, y = _sky(centre, jacobian, rows, columns)
        if not self.cells or seconds == 0.0:
            return x, y
        pixel = float(np.sqrt(abs(np.linalg.det(jacobian))))
        stride = max(1.0, min(cell.size for cell in self.cells) / _NODES_PER_CELL / pixel)
        row_nodes, row_weights = _hat(rows, stride)
        column_nodes, column_weights = _hat(columns, stride)
        node_x, node_y = _sky(centre, jacobian, row_nodes, column_nodes)
        origin_x, origin_y = self.origin(node_x, node_y, seconds)
        x += row_weights @ (origin_x - node_x) @ column_weights.T
        y += row_weights @ (origin_y - node_y) @ column_weights.T
        return x, y


def default_flow(radius: float, speed: float) -> Flow:
    """
    Two sources, a sink between them, and a weak vortex, scaled to a field.

    Parameters
    ----------
    radius : float
        Half the side of the field, arcsec.
    speed : float
        Largest speed of the sources, km/s.

    Returns
    -------
    Flow
        The flow.
    """
    size = 0.38 * radius
    return Flow(
        (
            FlowCell(-0.50 * radius, -0.30 * radius, size, radial=speed),
            FlowCell(0.55 * radius, 0.35 * radius, 0.9 * size, radial=0.8 * speed),
            FlowCell(0.05 * radius, 0.05 * radius, 0.7 * size, radial=-0.7 * speed),
            FlowCell(0.45 * radius, -0.50 * radius, 0.8 * size, azimuthal=0.6 * speed),
        )
    )


def _sky(
    centre: np.ndarray, jacobian: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r, c = np.asarray(rows, dtype=np.float64)[:, None], np.asarray(columns, dtype=np.float64)[None, :]
    return (
        centre[0] + jacobian[0, 0] * c + jacobian[0, 1] * r,
        centre[1] + jacobian[1, 0] * c + jacobian[1, 1] * r,
    )


def _hat(positions: np.ndarray, stride: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a lattice over the positions, and linear interpolation from them as a matrix."""
    positions = np.asarray(positions, dtype=np.float64)
    count = int(np.ceil((positions[-1] - positions[0]) / stride)) + 1
    nodes = positions[0] + stride * np.arange(max(count, 2))
    weights = np.maximum(0.0, 1.0 - np.abs(positions[:, None] - nodes[None, :]) / stride)
    return nodes, weights
