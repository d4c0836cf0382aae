"""The gain table, and the fused dark and flat correction of raw frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillsun.core import _rawkernels
from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.badpixels import fill_table
from stillsun.core.batch import RawBlock, decode, frames_per_batch, grouped
from stillsun.errors import InputError

# Files of one frame are taken so many at a time, so that dark and gain are fetched once for them; the
# loop is compiled for each of these numbers.
_GROUPS = (16, 4, 1)
# A larger result is no longer in the caches when somebody reads it.
_STREAMED_BYTES = 64 * 2**20
LEAST_RESPONSE = 1e-6
"""Of a smaller response the gain would be one that float32 or the eye cannot bear: it is set to zero."""


def gain_table(flat: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """
    Gain: ``median(flat - dark) / (flat - dark)``.

    Parameters
    ----------
    flat, dark : numpy.ndarray
        (rows, columns) mean flat and mean dark, DN.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32; zero where the flat is not above the dark.

    Raises
    ------
    InputError
        If the flats are not brighter than the darks.
    """
    signal, level = _signal(flat, dark)
    gain = np.zeros(signal.shape, dtype=np.float64)
    np.divide(level, signal, out=gain, where=signal > LEAST_RESPONSE * level)
    return gain.astype(np.float32)


def response_table(flat: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """
    Response of each pixel, the inverse of the gain: ``(flat - dark) / median(flat - dark)``.

    Parameters
    ----------
    flat, dark : numpy.ndarray
        (rows, columns) mean flat and mean dark, DN.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32; zero where the flat is not above the dark.

    Raises
    ------
    InputError
        If the flats are not brighter than the darks.
    """
    signal, level = _signal(flat, dark)
    return np.where(signal > LEAST_RESPONSE * level, signal / level, 0.0).astype(np.float32)


def _signal(flat: np.ndarray, dark: np.ndarray) -> tuple[np.ndarray, float]:
    """Flat less dark, and its median."""
    signal = np.asarray(flat, dtype=np.float64) - np.asarray(dark, dtype=np.float64)
    level = float(np.median(signal))
    if not level > 0:
        raise InputError(
            "the flats are not brighter than the darks",
            expected="median(flat - dark) > 0",
            found=f"{level:.1f} DN",
            remedy="Check that the patterns of dark and flat are not swapped and the shutter was open",
        )
    return signal, level


@dataclass(frozen=True)
class Correction:
    """
    What turns raw frames into calibrated ones; made by `make_correction`.

    Attributes
    ----------
    dark, gain : array
        (rows, columns) float32 of the backend.
    bad : array
        (m,) int64: flat index of each bad pixel.
    neighbours : array
        (m, 8) int64: flat indices of the pixels that replace it.
    weights : array
        (m, 8) float32: their weights.
    backend : Backend
        Where the arrays are.
    """

    dark: Any
    gain: Any
    bad: Any
    neighbours: Any
    weights: Any
    backend: Backend

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.dark.shape
        return int(rows), int(columns)

    def at(self, seconds: float) -> Correction:
        """
        Correction for a time: the same for all.

        Parameters
        ----------
        seconds : float
            Unix seconds UTC; `stillsun.core.calibrate_in_time.DriftingCorrection` looks at it.

        Returns
        -------
        Correction
            This one.
        """
        return self

    def crop(self, rows: slice, columns: slice) -> Correction:
        """
        The correction of a part of the frames.

        Parameters
        ----------
        rows, columns : slice
            Part, as for `RawBlock.window`.

        Returns
        -------
        Correction
            Bad pixels are filled from neighbours within the part.
        """
        host = np.zeros(self.shape, dtype=np.uint8)
        host.reshape(-1)[to_host(self.bad)] = 1
        return make_correction(
            self.dark[rows, columns], self.gain[rows, columns], host[rows, columns], backend=self.backend
        )


def make_correction(
    dark: np.ndarray,
    gain: np.ndarray,
    bad_pixels: np.ndarray | None = None,
    *,
    backend: Backend | str | None = None,
) -> Correction:
    """
    Prepare the correction of raw frames.

    Parameters
    ----------
    dark, gain : numpy.ndarray
        (rows, columns) mean dark and gain table.
    bad_pixels : numpy.ndarray, optional
        (rows, columns), non-zero where a pixel is to be filled from its neighbours.
    backend : Backend or str, optional
        Where to compute.

    Returns
    -------
    Correction
        For `correct_frames`.
    """
    backend = get_backend(backend)
    if bad_pixels is None:
        bad_pixels = np.zeros(np.shape(dark), dtype=np.uint8)
    bad, neighbours, weights = fill_table(np.asarray(bad_pixels) != 0)
    xp = backend.xp
    return Correction(
        xp.ascontiguousarray(backend.asarray(dark, dtype=np.float32)),
        xp.ascontiguousarray(backend.asarray(gain, dtype=np.float32)),
        backend.asarray(bad),
        backend.asarray(neighbours),
        backend.asarray(weights),
        backend,
    )


def correct_frames(blocks: Iterable[RawBlock], correction: Correction, out: Any = None) -> Any:
    """
    Calibrated frames: ``(raw - dark) * gain``, bad pixels filled from their neighbours.

    On the CPU one compiled pass takes the stored bytes to float32; on a device the stored bytes are
    uploaded and the same formula is evaluated there.

    Parameters
    ----------
    blocks : iterable of RawBlock
        Raw frames in order, all of the correction's shape.
    correction : Correction
        From `make_correction`.
    out : array, optional
        (frames, rows, columns) float32 of the correction's backend, C-contiguous, written.

    Returns
    -------
    array
        `out`, or a new array.

    Raises
    ------
    InputError
        If the frames do not fit the calibration.
    """
    blocks = list(blocks)
    backend = correction.backend
    count = sum(block.shape[0] for block in blocks)
    if not count:
        raise InputError("no frames to calibrate")
    for block in blocks:
        if block.shape[1:] != correction.shape:
            raise InputError(
                "frames and calibration differ in shape",
                expected=f"{correction.shape} (calibration)",
                found=block.shape[1:],
                remedy="Use darks and flats of the same camera and read-out",
            )
    if out is None:
        out = backend.xp.empty((count, *correction.shape), dtype=np.float32)
    if out.shape != (count, *correction.shape) or out.dtype != np.float32:
        raise ValueError(f"out must be float32 {(count, *correction.shape)}, not {out.dtype} {out.shape}")
    share = -(-count // backend.threads)
    # Of one size, so that no thread waits for another.
    piece = -(-share // -(-share // frames_per_batch(correction.shape, 6)))
    groups = list(grouped(blocks, piece, next(size for size in _GROUPS if size <= share)))
    ends = np.cumsum([sum(block.shape[0] for block in group) for group in groups]).tolist()
    streamed = out.nbytes > _STREAMED_BYTES

    def work(begin: int, end: int) -> None:
        for group, start, stop in zip(groups[begin:end], [0, *ends][begin:end], ends[begin:end], strict=True):
            if backend.is_gpu:
                _correct_arrays(group, correction, out[start:stop])
            else:
                _correct_compiled(group, correction, out[start:stop], streamed)

    over_blocks(work, len(groups), backend, 1)
    return out


def _correct_compiled(group: list[RawBlock], correction: Correction, out: np.ndarray, streamed: bool) -> None:
    block = group[0]
    _rawkernels.correct(
        tuple(member.words for member in group),
        block.first,
        block.frame_stride,
        block.row_stride,
        block.swapped,
        block.flip,
        correction.dark,
        correction.gain,
        out,
        streamed,
    )
    _fill(correction, out)


def _correct_arrays(group: list[RawBlock], correction: Correction, out: Any) -> None:
    done = 0
    for block in group:
        part = out[done : done + block.shape[0]]
        done += block.shape[0]
        part[...] = decode(block, correction.backend.xp)
        part -= correction.dark
        part *= correction.gain
    _fill(correction, out)


def _fill(correction: Correction, out: Any) -> None:
    if not correction.bad.size:
        return
    pixels = out.reshape(out.shape[0], -1)
    # One neighbour after another: the order in which a library sums depends on the number of frames.
    filled = pixels[:, correction.neighbours[:, 0]] * correction.weights[:, 0]
    for way in range(1, correction.neighbours.shape[1]):
        filled += pixels[:, correction.neighbours[:, way]] * correction.weights[:, way]
    pixels[:, correction.bad] = filled


def correct_image(image: np.ndarray, correction: Correction) -> np.ndarray:
    """
    The same correction for one image in DN, for instance a mean of raw frames.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), DN.
    correction : Correction
        From `make_correction`.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32, on the host.
    """
    backend = correction.backend
    values = ((backend.asarray(image) - correction.dark) * correction.gain).astype(np.float32)
    _fill(correction, values[None])
    return np.asarray(values.get() if backend.is_gpu else values)
