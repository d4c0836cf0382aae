"""What a sequence is held still against: a fixed frame, or a mean of corrected ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, to_host
from stillsun.errors import ConfigError


class Reference(Protocol):
    """What the destretch of a sequence asks of its reference."""

    def current(self) -> Any:
        """Reference for the next frame, (rows, columns) float32 on the backend; None: none yet."""

    def update(self, corrected: Any, valid: Any) -> None:
        """
        Take a corrected frame into account.

        Parameters
        ----------
        corrected : array
            (rows, columns) float32 on the backend.
        valid : array
            (rows, columns) bool: where it can be trusted.
        """

    def state(self) -> np.ndarray:
        """All it remembers, as one plain array."""

    def restore(self, state: np.ndarray) -> None:
        """
        Remember what `state` told.

        Parameters
        ----------
        state : numpy.ndarray
            What `state` returned.
        """


class FixedReference:
    """
    The same frame for the whole sequence.

    Parameters
    ----------
    image : array_like
        (rows, columns).
    backend : Backend
        Where it is kept.
    """

    def __init__(self, image: Any, backend: Backend) -> None:
        self._image = backend.asarray(image, dtype=np.float32)

    def current(self) -> Any:
        """
        Reference for the next frame.

        Returns
        -------
        array
            (rows, columns) float32 on the backend; always the same object.
        """
        return self._image

    def update(self, corrected: Any, valid: Any) -> None:
        """
        Do nothing: it is fixed.

        Parameters
        ----------
        corrected, valid : array
            Not looked at.
        """

    def state(self) -> np.ndarray:
        """
        Nothing to remember.

        Returns
        -------
        numpy.ndarray
            (0, rows, columns) float32.
        """
        return np.empty((0, *self._image.shape), np.float32)

    def restore(self, state: np.ndarray) -> None:
        """
        Do nothing: it is fixed.

        Parameters
        ----------
        state : numpy.ndarray
            As from `state`.
        """


class RunningReference:
    """
    Mean of the last corrected frames.

    Parameters
    ----------
    window : int
        Number of frames, at least 1.
    backend : Backend
        Where they are kept.

    Raises
    ------
    ConfigError
        If the window is smaller than 1.

    Notes
    -----
    The mean is summed anew, in the order of time and in float64, for every frame: a sum that is only
    updated would depend on where a sequence was interrupted. A pixel's mean is over the frames in
    which it is valid; NaN where there is none.
    """

    def __init__(self, window: int, backend: Backend) -> None:
        if window < 1:
            raise ConfigError(
                "the running reference needs a window", expected="1 frame or more", found=window
            )
        self._backend = backend
        self._window = window
        # Allocated with the first frame: (window, rows, columns) of values, 0 where a frame is not valid,
        # and where it is; (rows, columns), in how many it is.
        self._ring: Any = None
        self._there: Any = None
        self._count: Any = None
        self._order: list[int] = []  # slots of the ring, the oldest first

    def current(self) -> Any:
        """
        Reference for the next frame.

        Returns
        -------
        array or None
            (rows, columns) float32 on the backend; None before the first frame.
        """
        if not self._order:
            return None
        if self._backend.is_gpu:
            return _mean_generic(self._ring, self._order, self._count, self._backend.xp)
        out = np.empty(self._ring.shape[1:], np.float32)
        order = np.array(self._order)
        over_blocks(
            lambda a, b: _mean(self._ring, order, self._count, out, a, b), out.shape[0], self._backend
        )
        return out

    def update(self, corrected: Any, valid: Any) -> None:
        """
        Take a corrected frame in, and drop the oldest where there are enough.

        Parameters
        ----------
        corrected : array
            (rows, columns) float32 on the backend.
        valid : array
            (rows, columns) bool on the backend. A frame without a valid pixel is left out.
        """
        if bool(valid.any()):
            self._append(corrected, valid)

    def state(self) -> np.ndarray:
        """
        The frames that it remembers.

        Returns
        -------
        numpy.ndarray
            (n, rows, columns) float32, the oldest first, NaN where a frame is not valid.
        """
        if not self._order:
            return np.empty((0, 0, 0), np.float32)
        return np.stack(
            [
                np.where(to_host(self._there[slot]), to_host(self._ring[slot]), np.float32(np.nan))
                for slot in self._order
            ]
        )

    def restore(self, state: np.ndarray) -> None:
        """
        Remember frames.

        Parameters
        ----------
        state : numpy.ndarray
            (n, rows, columns) float32, the oldest first, NaN where a frame is not valid: as from
            `state`, or the last frames of a stored sequence.
        """
        self._order = []
        for frame in state:
            values = self._backend.asarray(frame, dtype=np.float32)
            self._append(values, self._backend.xp.isfinite(values))

    def _append(self, frame: Any, valid: Any) -> None:
        xp = self._backend.xp
        if self._ring is None or self._ring.shape[1:] != frame.shape:
            self._ring = xp.zeros((self._window, *frame.shape), np.float32)
            self._there = xp.zeros(self._ring.shape, bool)
        if not self._order:
            self._count = xp.zeros(frame.shape, np.uint16)
        if len(self._order) == self._window:
            slot = self._order.pop(0)
            self._count -= self._there[slot]
        else:
            slot = len(self._order)
        self._ring[slot] = frame
        self._ring[slot][~valid] = 0
        self._there[slot] = valid
        self._count += valid
        self._order.append(slot)


def mean_frame(frames: Iterable[np.ndarray]) -> np.ndarray:
    """
    Mean of all corrected frames of a sequence, to be its reference in a second pass.

    Parameters
    ----------
    frames : iterable of numpy.ndarray
        (rows, columns) float32 each, NaN where a frame is not valid; at least one.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32: for each pixel the mean of the frames in which it is valid, summed in
        float64 in the order given; NaN where there is none.
    """
    total = count = np.zeros(())
    for frame in frames:
        there = np.isfinite(frame)
        total = total + np.where(there, frame, np.float32(0))
        count = count + there
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _mean_generic(ring: Any, order: list[int], count: Any, xp: Any) -> Any:
    total = xp.zeros(ring.shape[1:])
    for slot in order:
        total += ring[slot]
    return xp.where(count > 0, total / xp.maximum(count, 1), np.nan).astype(np.float32)


@njit(cache=True, nogil=True)
def _mean(ring, order, count, out, start, stop):  # type: ignore[no-untyped-def]
    columns = out.shape[1]
    total = np.empty(columns)
    for y in range(start, stop):
        total[:] = 0
        for slot in order:
            line = ring[slot, y]
            for x in range(columns):
                total[x] += np.float64(line[x])
        for x in range(columns):
            number = np.float64(count[y, x])
            out[y, x] = total[x] / number if number > 0 else np.nan
