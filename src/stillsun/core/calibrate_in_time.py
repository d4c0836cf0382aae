"""Darks and flats of several sequences, interpolated to the time of a burst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend
from stillsun.core.calibrate import LEAST_RESPONSE, Correction, make_correction


@dataclass(frozen=True)
class DriftingCorrection:
    """
    A correction that changes in time; made by `make_drifting`.

    Between two sequences dark and response of each pixel change linearly; before the first and after the
    last they stay what they are. The gain is the inverse of the response. The response and not the flat is
    interpolated: the light at which flats are taken changes with the height of the Sun, and says nothing
    about the camera.

    Attributes
    ----------
    dark_times, flat_times : numpy.ndarray
        (d,) and (f,) float64, ascending: middle of each sequence, Unix seconds UTC.
    darks : array
        (d, rows, columns) float32 of the backend: mean darks, DN.
    responses : array
        (f, rows, columns) float32 of the backend: flat less dark over its median; 0 where not above the dark.
    first : Correction
        Of the first sequences; its bad pixels are those of all times.
    backend : Backend
        Where the arrays are.
    """

    dark_times: np.ndarray
    darks: Any
    flat_times: np.ndarray
    responses: Any
    first: Correction
    backend: Backend

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.first.shape

    def at(self, seconds: float) -> Correction:
        """
        Correction for a time.

        Parameters
        ----------
        seconds : float
            Unix seconds UTC.

        Returns
        -------
        Correction
            For `stillsun.core.calibrate.correct_frames`.
        """
        before, after, share = _place(self.dark_times, seconds)
        early, late, part = _place(self.flat_times, seconds)
        maps = (self.darks[before], self.darks[after], self.responses[early], self.responses[late])
        dark, gain = _interpolate(*maps, np.float32(share), np.float32(part), self.backend)
        return replace(self.first, dark=dark, gain=gain, backend=self.backend)

    def crop(self, rows: slice, columns: slice) -> DriftingCorrection:
        """
        The correction of a part of the frames.

        Parameters
        ----------
        rows, columns : slice
            Part.

        Returns
        -------
        DriftingCorrection
            Bad pixels are filled from neighbours within the part.
        """
        xp = self.backend.xp
        return replace(
            self,
            darks=xp.ascontiguousarray(self.darks[:, rows, columns]),
            responses=xp.ascontiguousarray(self.responses[:, rows, columns]),
            first=self.first.crop(rows, columns),
        )


def make_drifting(
    dark_sequences: np.ndarray,
    dark_times: np.ndarray,
    flat_responses: np.ndarray,
    flat_times: np.ndarray,
    bad_pixels: np.ndarray,
    *,
    backend: Backend | str | None = None,
) -> DriftingCorrection:
    """
    Prepare a correction that changes in time.

    Parameters
    ----------
    dark_sequences : numpy.ndarray
        (d, rows, columns) mean dark of each sequence, DN.
    dark_times : numpy.ndarray
        (d,) middle of each, Unix seconds UTC, ascending.
    flat_responses : numpy.ndarray
        (f, rows, columns) response of each sequence of flats, see `stillsun.core.calibrate.response_table`.
    flat_times : numpy.ndarray
        (f,) middle of each, as of the darks.
    bad_pixels : numpy.ndarray
        (rows, columns), non-zero where a pixel is to be filled from its neighbours.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    DriftingCorrection
        For any time.
    """
    backend = get_backend(backend)
    xp = backend.xp
    drifting = DriftingCorrection(
        np.asarray(dark_times, dtype=np.float64),
        xp.ascontiguousarray(backend.asarray(dark_sequences, dtype=np.float32)),
        np.asarray(flat_times, dtype=np.float64),
        xp.ascontiguousarray(backend.asarray(flat_responses, dtype=np.float32)),
        make_correction(dark_sequences[0], flat_responses[0], bad_pixels, backend=backend),
        backend,
    )
    return replace(drifting, first=drifting.at(-np.inf))


def between(maps: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """
    Interpolate maps in time.

    Parameters
    ----------
    maps : numpy.ndarray
        (n, rows, columns).
    times : numpy.ndarray
        (n,) ascending, seconds.
    seconds : float
        Time; before the first and after the last the map does not change.

    Returns
    -------
    numpy.ndarray
        (rows, columns).
    """
    before, after, share = _place(times, seconds)
    return np.asarray(maps[before] + share * (maps[after] - maps[before]))


def _place(times: np.ndarray, seconds: float) -> tuple[int, int, float]:
    """Numbers of the sequences before and after, and how far between them."""
    after = int(np.searchsorted(times, seconds))
    if after == 0 or after == times.size:
        end = min(after, times.size - 1)
        return end, end, 0.0
    return after - 1, after, float((seconds - times[after - 1]) / (times[after] - times[after - 1]))


def _interpolate(
    dark: Any,
    later_dark: Any,
    response: Any,
    later: Any,
    share: np.float32,
    part: np.float32,
    backend: Backend,
) -> tuple[Any, Any]:
    """Dark and gain between two sequences each."""
    if backend.is_gpu:
        between = response + part * (later - response)
        good = between > LEAST_RESPONSE
        gain = backend.xp.where(good, np.float32(1) / backend.xp.where(good, between, 1), np.float32(0))
        return dark + share * (later_dark - dark), gain.astype(np.float32)
    result = np.empty((2, *dark.shape), dtype=np.float32)

    def work(top: int, bottom: int) -> None:
        _interpolate_rows(dark, later_dark, response, later, share, part, result, top, bottom)

    over_blocks(work, dark.shape[0], backend)
    return result[0], result[1]


@njit(nogil=True, cache=True)
def _interpolate_rows(dark, later_dark, response, later, share, part, result, top, bottom):  # type: ignore[no-untyped-def]
    one, none, least = np.float32(1), np.float32(0), np.float32(LEAST_RESPONSE)
    for row in range(top, bottom):
        for column in range(dark.shape[1]):
            first = dark[row, column]
            result[0, row, column] = first + share * (later_dark[row, column] - first)
            value = response[row, column] + part * (later[row, column] - response[row, column])
            result[1, row, column] = one / value if value > least else none
