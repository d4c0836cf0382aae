"""A sequence in changing seeing over a flowing Sun, all motion known: the yardstick of flows kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage as ndimage

_LENGTHS = (128.0, 64.0, 32.0, 16.0)  # correlation lengths of the seeing, pixels
_SHARES = (0.4, 0.3, 0.2, 0.1)  # of its variance
_POINTING = 2.0  # pixels, largest shift of the whole frame
_SLOW = 10  # frames, over which slow motion is averaged


@dataclass(frozen=True)
class FlowFigures:
    """
    How a corrected sequence treats flow and seeing.

    Attributes
    ----------
    survival : float
        Share of the flow that is left, 1 at best.
    jitter : float
        What changes from frame to frame, pixels rms per axis.
    swim : float
        Slow false motion (means over 10 frames, without what follows the flow), pixels rms per axis.
    """

    survival: float
    jitter: float
    swim: float


class FlowSeries:
    """
    Frames of a Sun whose pattern is carried by a steady flow, each in seeing of its own.

    Parameters
    ----------
    scene : numpy.ndarray
        (rows, columns), an image at least as large as the frames, from which the pattern is taken.
    flow : numpy.ndarray
        (2, rows, columns), order y, x, pixels per frame: velocity of the pattern at the pixels of a frame.
    seeing : float
        Displacement by seeing, pixels rms per axis.
    life : int, optional
        Frames after which the pattern has been replaced; a flow that converges needs it, for it would
        carry one and the same pattern into its sinks. None: one pattern for ever.
    noise : float, optional
        White noise as a fraction of the contrast.
    seed : int, optional
        Of the random numbers.
    """

    def __init__(
        self,
        scene: np.ndarray,
        flow: np.ndarray,
        seeing: float,
        life: int | None = None,
        noise: float = 0.02,
        seed: int = 1,
    ) -> None:
        self.flow = np.asarray(flow, np.float64)
        self._scene = np.asarray(scene, np.float64)
        self._seeing, self._life, self._noise, self._seed = seeing, life, noise, seed
        self._shape = self.flow.shape[1:]
        self._grid = np.mgrid[: self._shape[0], : self._shape[1]].astype(np.float64)
        self._spectrum = _seeing_spectrum(*self._shape)
        self._origins = [np.zeros((2, *self._shape), np.float32)]

    def frame(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """
        One frame, and what the seeing did to it.

        Parameters
        ----------
        number : int
            Frame, from 0.

        Returns
        -------
        frame : numpy.ndarray
            (rows, columns) float32.
        push : numpy.ndarray
            (2, rows, columns) float64: ``frame(p) = sun(p + push(p))``.
        """
        push = self.push(number)
        at = self._grid + push
        if self._life is None:
            frame = self._pattern(0, number, at)
        else:
            # Two patterns at a time, each grows and fades within its life, half a life apart.
            half = self._life // 2
            young, age = divmod(number, half)
            phase = 0.5 * np.pi * age / half
            frame = np.sin(phase) * self._pattern(young + 1, age, at)
            frame += np.cos(phase) * self._pattern(young, age + half, at)
        rng = np.random.default_rng((self._seed, 4, number))
        frame += self._noise * rng.standard_normal(self._shape)
        return (1000 * (1 + 0.1 * frame)).astype(np.float32), push

    def push(self, number: int) -> np.ndarray:
        """
        What the seeing does to a frame.

        Parameters
        ----------
        number : int
            Frame, from 0.

        Returns
        -------
        numpy.ndarray
            (2, rows, columns) float64: ``frame(p) = sun(p + push(p))``.
        """
        rng = np.random.default_rng((self._seed, 1, number))
        white = scipy.fft.rfft2(rng.standard_normal(self.flow.shape))
        push = scipy.fft.irfft2(white * self._spectrum, s=self._shape)
        return self._seeing * push + rng.uniform(-_POINTING, _POINTING, 2)[:, None, None]

    def judge(self, displacements: Iterable[np.ndarray], first: int = 0, margin: int = 32) -> FlowFigures:
        """
        Tell what a correction left of flow and seeing.

        Parameters
        ----------
        displacements : iterable of numpy.ndarray
            (2, rows, columns) for each frame from `first` on: ``out(p) = frame(p - d(p))``.
        first : int, optional
            Number of the first of them.
        margin : int, optional
            Pixels at the edges that are not looked at.

        Returns
        -------
        FlowFigures
            The figures.
        """
        errors = np.stack(list(self._errors(displacements, first, margin)))
        flow = self.flow[:, margin:-margin, margin:-margin]
        flow = flow - flow.mean(axis=(1, 2), keepdims=True)
        time = np.arange(len(errors)) - (len(errors) - 1) / 2
        slope = np.tensordot(time, errors, (0, 0)) / (time**2).sum()
        lost = float((slope * flow).sum() / (flow**2).sum())
        errors -= (lost * time[:, None, None, None]) * flow
        errors -= errors.mean(axis=0)
        sums = np.cumsum(np.concatenate([np.zeros((1, *errors.shape[1:])), errors]), axis=0)
        slow = (sums[_SLOW:] - sums[:-_SLOW]) / _SLOW
        bends = errors[1:-1] - 0.5 * (errors[:-2] + errors[2:])
        return FlowFigures(1 - lost, float(bends.std() / np.sqrt(1.5)), float(slow.std()))

    def _errors(self, displacements: Iterable[np.ndarray], first: int, margin: int) -> Iterator[np.ndarray]:
        """Place of the Sun that every pixel shows, less its own."""
        for number, field in enumerate(displacements, start=first):
            push = self.push(number)
            at = self._grid - field
            error = np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in push]) - field
            error = error[:, margin:-margin, margin:-margin]
            yield error - error.mean(axis=(1, 2), keepdims=True)

    def _pattern(self, generation: int, age: int, at: np.ndarray) -> np.ndarray:
        """Pattern of a generation, carried by the flow for a time, at points of the Sun; variance 1."""
        rng = np.random.default_rng((self._seed, 2, generation))
        rows, columns = (
            int(rng.integers(0, size - need + 1))
            for size, need in zip(self._scene.shape, self._shape, strict=True)
        )
        part = self._scene[rows : rows + self._shape[0], columns : columns + self._shape[1]]
        part = part[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
        origin = self._origin(age)
        there = at + np.stack([ndimage.map_coordinates(o, at, order=1, mode="nearest") for o in origin])
        values = ndimage.map_coordinates(part, there, order=3, mode="mirror")
        return np.asarray((values - part.mean()) / part.std())

    def _origin(self, age: int) -> np.ndarray:
        """Where the matter was so many frames ago, less where it is, (2, rows, columns)."""
        while len(self._origins) <= age:
            back = self._grid - self.flow
            last = self._origins[-1]
            moved = [ndimage.map_coordinates(part, back, order=1, mode="nearest") for part in last]
            self._origins.append((np.stack(moved) - self.flow).astype(np.float32))
        return self._origins[age]


def _seeing_spectrum(rows: int, columns: int) -> np.ndarray:
    """Amplitudes that make white noise to seeing of variance 1 and mean 0, for `scipy.fft.rfft2`."""
    k = 2 * np.pi * np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    power = np.zeros(k.shape)
    for length, share in zip(_LENGTHS, _SHARES, strict=True):
        part = np.exp(-((k * length / 2) ** 2))
        part[0, 0] = 0
        power += share * part / part.mean()
    return np.sqrt(power)[:, : columns // 2 + 1]


def cells(shape: tuple[int, int], speed: float, size: float) -> np.ndarray:
    """
    Flow of supergranules: out of the middle of square cells, into their edges.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    speed : float
        Pixels per frame, rms per axis.
    size : float
        Side of a cell, pixels.

    Returns
    -------
    numpy.ndarray
        (2, rows, columns) float64, order y, x.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64) * (2 * np.pi / size)
    flow = np.stack([np.sin(y) * (1 + np.cos(x)), np.sin(x) * (1 + np.cos(y))])
    return speed * flow / flow.std()


def wandering(shape: tuple[int, int], speed: float, length: float, seed: int = 1) -> np.ndarray:
    """
    A smooth random flow.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    speed : float
        Pixels per frame, rms per axis.
    length : float
        Correlation length, pixels.
    seed : int, optional
        Of the random numbers.

    Returns
    -------
    numpy.ndarray
        (2, rows, columns) float64, order y, x, mean 0.
    """
    rng = np.random.default_rng((seed, 3))
    flow = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, length / 2, length / 2), mode="wrap")
    flow -= flow.mean(axis=(1, 2), keepdims=True)
    return speed * flow / flow.std(axis=(1, 2), keepdims=True)
