"""
A burst without speckle reconstruction: the mean of its frames, aligned tile by tile.

The frames are tracked as a whole, then in overlapping tiles, always in whole pixels: nothing is
interpolated, noise stays white, and the mean keeps the photometry of the burst. What is lost by
rounding (0.29 pixel rms) is small against the seeing that the mean leaves in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from stillsun.core._threads import over_blocks
from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.core.exposures import NOT_FINITE, judge_exposures
from stillsun.core.quality import frame_quality
from stillsun.errors import InputError, ReconstructionError
from stillsun.speckle.engine import Progress, Reconstruction

TILE = 64
"""Side of a tile, pixels."""

_PASSES = 2
_TRACKED = 512
_SURE = 0.2
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class _Lattice:
    """Corners of overlapping tiles that cover a frame, and their weights along each axis."""

    tile: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """(tiles, 2) int64, row and column of each tile's first pixel."""
        return np.stack(np.meshgrid(self.rows, self.columns, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        return self.rows + (self.tile[0] - 1) / 2, self.columns + (self.tile[1] - 1) / 2


def tile_aligned_mean(
    burst: Any,
    *,
    tile: int = TILE,
    noise: Any = None,
    backend: Backend | str | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """
    Mean of a burst, aligned tile by tile.

    Parameters
    ----------
    burst : array_like
        Calibrated frames, (frames, rows, columns).
    tile : int, optional
        Side of a tile in pixels; tiles overlap by half. Shifts of up to a quarter of it relative to
        the frame as a whole are found.
    noise : array_like, optional
        Not needed; accepted as every engine does.
    backend : Backend or str, optional
        Where to compute.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Returns
    -------
    Reconstruction
        The mean, and the tracking of each tile; no Fried parameter.

    Raises
    ------
    InputError
        If the burst is no stack of images, is smaller than 8 x 8 pixels, or an exposure that is used holds
        NaN or infinity.
    ReconstructionError
        If no exposure can be used.
    """
    backend = get_backend(backend)
    frames = backend.asarray(burst, dtype=np.float32)
    if frames.ndim != 3 or len(frames) == 0 or min(frames.shape[1:]) < 8 or tile < 8:
        raise InputError(
            "not a burst", expected="(frames, rows, columns) of 8 x 8 pixels or more", found=frames.shape
        )
    judgement = judge_exposures(frames, backend)
    used, given = judgement.used, len(frames)
    notes = judgement.notes
    if not len(used) and NOT_FINITE not in judgement.reasons.values():
        # A field without structure has a mean as well.
        used, notes = np.arange(given), ("no exposure has light and structure: all are averaged",)
    if not len(used):
        raise ReconstructionError(
            "no exposure of the burst can be used",
            expected="finite exposures with light and structure",
            found="; ".join(notes),
            remedy="Look at the raw frames: clouds, a closed shutter, saturation",
        )
    if len(used) < given:
        frames = frames[backend.asarray(used)]
    if not bool(backend.xp.isfinite(frames.sum(axis=(1, 2))).all()):
        raise InputError("the burst holds values that are not finite", remedy="Fill bad pixels first")
    lattice = _make_lattice(frames.shape[1:], tile)
    corners = lattice.corners
    whole = _track_frames(frames, backend)
    shifts = np.empty((len(corners), len(frames), 2), dtype=np.float32)
    means = backend.xp.empty((len(corners), *lattice.tile), dtype=np.float32)
    done = 0

    def work(start: int, stop: int) -> None:
        nonlocal done
        part = corners[start:stop]
        found = _track_tiles(frames, part, lattice.tile, whole, backend)
        # The tile stays where the burst's mean has it.
        found -= found.mean(axis=1, keepdims=True)
        shifts[start:stop] = found
        means[start:stop] = _mean_tiles(frames, part, lattice.tile, np.rint(found).astype(np.int64), backend)
        done += stop - start
        if progress is not None:
            progress(done, len(corners))

    over_blocks(work, len(corners), backend, _tiles_per_block(len(frames), lattice.tile))
    image = _blend(means, lattice, frames.shape[1:], backend)
    tracking = np.full((given, 2, len(lattice.rows), len(lattice.columns)), np.nan, dtype=np.float32)
    tracking[used] = shifts.reshape(*tracking.shape[2:], len(frames), 2).transpose(2, 3, 0, 1)
    return Reconstruction(
        image=to_host(image), shifts=tracking, centres=lattice.centres, used=used, notes=notes
    )


def tile_centres(shape: tuple[int, int], tile: int = TILE) -> tuple[np.ndarray, np.ndarray]:
    """
    Where the tiles of `tile_aligned_mean` lie.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    tile : int, optional
        Side of a tile in pixels.

    Returns
    -------
    rows, columns : numpy.ndarray
        Centres, pixels, zero-based.
    """
    return _make_lattice(shape, tile).centres


def _make_lattice(shape: tuple[int, int], tile: int) -> _Lattice:
    sides = tuple(min(tile, side) for side in shape)
    starts = []
    for side, length in zip(sides, shape, strict=True):
        count = 1 + -(-2 * (length - side) // side)
        starts.append(np.rint(np.linspace(0, length - side, count)).astype(np.int64))
    return _Lattice((sides[0], sides[1]), *starts)


def _tiles_per_block(frames: int, tile: tuple[int, int]) -> int:
    return max(1, _BLOCK_BYTES // (frames * tile[0] * tile[1] * 12))


def _track_frames(frames: Any, backend: Backend) -> np.ndarray:
    """Shift (y, x) of each frame as a whole to their mean, whole pixels, (frames, 2)."""
    rows, columns = (min(_TRACKED, side) & ~1 for side in frames.shape[1:])
    top, left = (frames.shape[1] - rows) // 2, (frames.shape[2] - columns) // 2
    middle = frames[:, top : top + rows, left : left + columns]
    small = middle.reshape(len(frames), rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
    spectra = _windowed_spectra(small, backend)
    best = int(np.nanargmax(np.nan_to_num(frame_quality(frames, backend=backend)[1], nan=-1.0)))
    reference = spectra[best]
    reach = min(small.shape[1:]) // 4
    for _ in range(_PASSES):
        found, _sure = _find_shifts(spectra, reference, small.shape[1:], reach, backend)
        reference = _shifted_mean(spectra, found, small.shape[1:], backend)
    return np.rint(2 * to_host(found - found.mean(axis=0))).astype(np.int64)


def _track_tiles(
    frames: Any, corners: np.ndarray, tile: tuple[int, int], whole: np.ndarray, backend: Backend
) -> np.ndarray:
    """Shift (y, x) of each frame in each tile to their mean there, (tiles, frames, 2) float64."""
    start = np.broadcast_to(whole, (len(corners), *whole.shape))
    small = _gather(frames, corners, tile, start, backend)
    shape = small.shape[2:]
    spectra = _windowed_spectra(small, backend)
    reference = spectra.mean(axis=1, keepdims=True)
    reach = max(1, min(shape) // 4)
    for _ in range(_PASSES):
        found, sure = _find_shifts(spectra, reference, shape, reach, backend)
        found = found * (sure > _SURE)[..., None]
        reference = _shifted_mean(spectra, found, shape, backend)[:, None]
    return 2 * np.asarray(to_host(found), dtype=np.float64) + start


def _windowed_spectra(tiles: Any, backend: Backend) -> Any:
    """Fourier transforms over the last two axes, without the mean and under a Hann window."""
    xp = backend.xp
    windows = [xp.asarray(_hann(side), dtype=np.float32) for side in tiles.shape[-2:]]
    window = windows[0][:, None] * windows[1]
    level = (tiles * window).sum(axis=(-2, -1), keepdims=True) / window.sum()
    return backend.fft.rfft2((tiles - level) * window)


def _find_shifts(
    spectra: Any, reference: Any, shape: tuple[int, int], reach: int, backend: Backend
) -> tuple[Any, Any]:
    """Where the correlation with the reference is highest: shift (y, x) to it, and the coefficient."""
    xp = backend.xp
    surface = backend.fft.irfft2(reference * spectra.conj(), s=shape)
    steps = xp.arange(-reach, reach + 1)
    near = surface[..., steps[:, None], steps]
    flat = near.reshape(*near.shape[:-2], -1)
    peak = flat.argmax(axis=-1)
    row, column = peak // len(steps), peak % len(steps)
    height = xp.take_along_axis(flat, peak[..., None], axis=-1)[..., 0]
    shift = []
    for place, step in ((row, len(steps)), (column, 1)):
        inside = (place > 0) & (place < len(steps) - 1)
        sides = [
            xp.take_along_axis(flat, (peak + xp.where(inside, sign * step, 0))[..., None], axis=-1)[..., 0]
            for sign in (-1, 1)
        ]
        bend = 2 * height - sides[0] - sides[1]
        fraction = xp.where(inside & (bend > 0), (sides[1] - sides[0]) / xp.where(bend > 0, 2 * bend, 1), 0)
        # A peak at the rim of what was looked at is none.
        shift.append(xp.where(inside, place - reach + fraction, 0))
    power = _power(spectra, shape) * _power(reference, shape)
    sure = height / xp.sqrt(xp.where(power > 0, power, 1))
    return xp.stack(shift, axis=-1), sure


def _power(spectra: Any, shape: tuple[int, int]) -> Any:
    """Sum of squares of the images behind half-plane spectra."""
    squares = spectra.real**2 + spectra.imag**2
    total = 2 * squares.sum(axis=(-2, -1)) - squares[..., 0].sum(axis=-1)
    if shape[1] % 2 == 0:
        total = total - squares[..., -1].sum(axis=-1)
    return total / (shape[0] * shape[1])


def _shifted_mean(spectra: Any, shifts: Any, shape: tuple[int, int], backend: Backend) -> Any:
    """Mean over the frames after each is shifted (y, x), in Fourier space."""
    xp = backend.xp
    fy = xp.asarray(np.fft.fftfreq(shape[0]), dtype=np.float32)
    fx = xp.asarray(np.fft.rfftfreq(shape[1]), dtype=np.float32)
    turns = shifts.astype(np.float32) * np.float32(-2 * np.pi)
    ramp_y = xp.exp(1j * turns[..., 0, None] * fy)
    ramp_x = xp.exp(1j * turns[..., 1, None] * fx)
    return xp.einsum("...fyx,...fy,...fx->...yx", spectra, ramp_y, ramp_x) / spectra.shape[-3]


def _gather(
    frames: Any, corners: np.ndarray, tile: tuple[int, int], shifts: np.ndarray, backend: Backend
) -> Any:
    """
    Cut tiles out of frames moved by whole-pixel shifts, (tiles, frames, y / 2, x / 2).

    Squares of four pixels become one: half the resolution is enough to find the nearest whole pixel.
    The frame's rim is repeated.
    """
    height, width = tile[0] // 2, tile[1] // 2
    out = backend.xp.empty((len(corners), len(frames), height, width), dtype=np.float32)
    if not backend.is_gpu:
        _gather_kernel(frames, corners, np.ascontiguousarray(shifts), out)
        return out
    y, x = _sources(corners, tile, shifts, backend)
    xp = backend.xp
    for number, frame in enumerate(frames):
        inside_y = xp.clip(y[:, number], 0, frames.shape[1] - 1)
        inside_x = xp.clip(x[:, number], 0, frames.shape[2] - 1)
        part = frame[inside_y[:, : 2 * height, None], inside_x[:, None, : 2 * width]]
        upper = part[:, ::2, ::2] + part[:, ::2, 1::2]
        lower = part[:, 1::2, ::2] + part[:, 1::2, 1::2]
        out[:, number] = (upper + lower) * np.float32(0.25)
    return out


def _mean_tiles(
    frames: Any, corners: np.ndarray, tile: tuple[int, int], shifts: np.ndarray, backend: Backend
) -> Any:
    """Mean over the frames of each tile moved by whole-pixel shifts, of the pixels that there are."""
    out = backend.xp.empty((len(corners), *tile), dtype=np.float32)
    if not backend.is_gpu:
        _mean_kernel(frames, corners, shifts, out)
        return out
    xp = backend.xp
    y, x = _sources(corners, tile, shifts, backend)
    total = xp.zeros(out.shape, dtype=np.float64)
    count = xp.zeros(out.shape, dtype=np.int32)
    rough = xp.zeros(out.shape, dtype=np.float64)
    for number, frame in enumerate(frames):
        near_y = xp.clip(y[:, number], 0, frames.shape[1] - 1)
        near_x = xp.clip(x[:, number], 0, frames.shape[2] - 1)
        there = (near_y == y[:, number])[:, :, None] & (near_x == x[:, number])[:, None, :]
        part = frame[near_y[:, :, None], near_x[:, None, :]]
        total += xp.where(there, part, 0)
        rough += part
        count += there
    out[:] = xp.where(count > 0, total / xp.where(count > 0, count, 1), rough / len(frames))
    return out


def _sources(
    corners: np.ndarray, tile: tuple[int, int], shifts: np.ndarray, backend: Backend
) -> tuple[Any, Any]:
    """Rows (tiles, frames, y) and columns (tiles, frames, x) of the frames that tiles are made of."""
    first = backend.asarray(corners[:, None, :] - shifts)
    y = first[..., 0, None] + backend.xp.arange(tile[0])
    x = first[..., 1, None] + backend.xp.arange(tile[1])
    return y, x


def _blend(means: Any, lattice: _Lattice, shape: tuple[int, int], backend: Backend) -> Any:
    """Put tiles together under smooth windows that sum to one."""
    xp = backend.xp
    windows = [_hann(side) for side in lattice.tile]
    weights = []
    for starts, window, length in zip((lattice.rows, lattice.columns), windows, shape, strict=True):
        total = np.zeros(length)
        for start in starts:
            total[start : start + len(window)] += window
        weights.append(np.stack([window / total[start : start + len(window)] for start in starts]))
    wy, wx = (xp.asarray(weight, dtype=np.float32) for weight in weights)
    image = xp.zeros(shape, dtype=np.float32)
    tiles = means.reshape(len(lattice.rows), len(lattice.columns), *lattice.tile)
    height, width = lattice.tile
    for i, row in enumerate(lattice.rows):
        for j, column in enumerate(lattice.columns):
            place = image[row : row + height, column : column + width]
            place += tiles[i, j] * (wy[i][:, None] * wx[j])
    return image


def _hann(side: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2


@njit(nogil=True, cache=True)
def _gather_kernel(frames, corners, shifts, out):  # type: ignore[no-untyped-def]
    rows, columns = frames.shape[1:]
    tiles, count, height, width = out.shape
    quarter = np.float32(0.25)
    for t in range(tiles):
        for k in range(count):
            top = corners[t, 0] - shifts[t, k, 0]
            left = corners[t, 1] - shifts[t, k, 1]
            inside = left >= 0 and left + 2 * width <= columns
            for i in range(height):
                upper = frames[k, min(max(top + 2 * i, 0), rows - 1)]
                lower = frames[k, min(max(top + 2 * i + 1, 0), rows - 1)]
                for j in range(width):
                    first = left + 2 * j
                    second = first + 1
                    if not inside:
                        first = min(max(first, 0), columns - 1)
                        second = min(max(second, 0), columns - 1)
                    total = (upper[first] + upper[second]) + (lower[first] + lower[second])
                    out[t, k, i, j] = total * quarter


@njit(nogil=True, cache=True)
def _mean_kernel(frames, corners, shifts, out):  # type: ignore[no-untyped-def]
    rows, columns = frames.shape[1:]
    tiles, height, width = out.shape
    count = frames.shape[0]
    total = np.empty(width)
    found = np.empty(width, dtype=np.int64)
    for t in range(tiles):
        for i in range(height):
            total[:] = 0.0
            found[:] = 0
            for k in range(count):
                y = corners[t, 0] - shifts[t, k, 0] + i
                left = corners[t, 1] - shifts[t, k, 1]
                if 0 <= y < rows:
                    first = min(max(-left, 0), width)
                    last = max(min(columns - left, width), first)
                    line = frames[k, y, left + first : left + last]
                    for j in range(last - first):
                        total[first + j] += line[j]
                    for j in range(first, last):
                        found[j] += 1
            for j in range(width):
                if found[j]:
                    out[t, i, j] = total[j] / found[j]
                else:
                    # No frame shows this pixel; the nearest that they show stands for it.
                    rough = 0.0
                    for k in range(count):
                        y = min(max(corners[t, 0] - shifts[t, k, 0] + i, 0), rows - 1)
                        x = min(max(corners[t, 1] - shifts[t, k, 1] + j, 0), columns - 1)
                        rough += frames[k, y, x]
                    out[t, i, j] = rough / count
