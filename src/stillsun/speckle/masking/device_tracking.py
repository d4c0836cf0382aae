"""Tracking and registration of many subfields at once, in the array namespace; the same formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.backend import Backend
from stillsun.speckle.masking.phases import STEPS


def track_subfields(low: Any, turns_y: Any, turns_x: Any, passes: int, xp: Any) -> Any:
    """
    Whole-pixel shifts of the frames of subfields; see `stillsun.speckle.masking.tracking.track`.

    Parameters
    ----------
    low : array
        Low-frequency spectra, (subfields, frames, fy, fx) complex64.
    turns_y, turns_x : array
        ``exp(2 pi i f d / size)``, (fy, d) and (fx, d) complex64.
    passes : int
        Times that the mean is formed anew.
    xp : module
        Array namespace.

    Returns
    -------
    array
        (subfields, frames, 2) int64, order y, x: content moves by +shift.
    """
    subfields, count = low.shape[:2]
    width = turns_y.shape[1]
    reach = width // 2
    centre = reach * width + reach
    # Half-plane spectrum: the columns but the first stand for two frequencies.
    weight = xp.full(low.shape[-1], 2, dtype=np.float32)
    weight[0] = 1
    shifts = xp.zeros((subfields, count, 2), dtype=np.int64)
    for _ in range(passes):
        turn_y = turns_y.T[shifts[..., 0] + reach].conj()
        turn_x = turns_x.T[shifts[..., 1] + reach].conj()
        mean = (low * turn_y[..., :, None] * turn_x[..., None, :]).sum(axis=1)
        cross = low.conj() * (mean * weight)[:, None]
        plane = (turns_y.T @ (cross @ turns_x)).real.reshape(subfields, count, width * width)
        peak = plane.argmax(axis=-1)
        # Of equal values the one of no shift counts.
        peak = xp.where(plane.max(axis=-1) > plane[..., centre], peak, centre)
        shifts = xp.stack([peak // width - reach, peak % width - reach], axis=-1)
    return shifts


def coherent_means(
    spectra: Any, rows: Any, columns: Any, size: int, used: int, passes: int, xp: Any
) -> tuple[Any, Any]:
    """
    Mean spectra aligned to a fraction of a pixel; see `stillsun.speckle.masking.tracking.coherent_mean`.

    Parameters
    ----------
    spectra : array
        Of subfields tracked to whole pixels, (subfields, m, frames) complex64.
    rows, columns : array
        Their frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfields, pixels.
    used : int
        So many frequencies, the first ones, decide on the shifts.
    passes : int
        Steps of Newton's method; the mean is formed anew for each.
    xp : module
        Array namespace.

    Returns
    -------
    shifts : array
        What is left to whole-pixel tracking, (subfields, frames, 2) float64, order y, x, mean zero.
    means : array
        (subfields, m) complex64.
    """
    subfields, _, count = spectra.shape
    turn = 2 * np.pi / size
    shifts = xp.zeros((subfields, count, 2), dtype=np.float64)
    low = spectra[:, :used], rows[:used], columns[:used]
    ky, kx = ((turn * f)[None, :, None].astype(np.float32) for f in low[1:])
    for _ in range(passes):
        turned = turn_spectra(*low, size, shifts, xp)
        mean = turned.sum(axis=2) / np.float32(count)
        cross = turned.conj() * mean[..., None]
        down, across = -(ky * cross.imag).sum(axis=1), -(kx * cross.imag).sum(axis=1)
        yy, yx, xx = ((k * cross.real).sum(axis=1) for k in (ky * ky, ky * kx, kx * kx))
        determinant = yy * xx - yx * yx
        good = (determinant > 0) & (yy > 0)
        determinant = xp.where(good, determinant, np.float32(1))
        step = (
            xp.stack([(xx * down - yx * across), (yy * across - yx * down)], axis=-1) / determinant[..., None]
        )
        # Farther than a pixel from the best whole one is no maximum of the same peak.
        shifts = xp.where(good[..., None], xp.clip(shifts + step, -1.0, 1.0), shifts)
        shifts = shifts - shifts.mean(axis=1, keepdims=True)
    return shifts, turn_spectra(spectra, rows, columns, size, shifts, xp).sum(axis=2) / np.float32(count)


def turn_spectra(spectra: Any, rows: Any, columns: Any, size: int, shifts: Any, xp: Any) -> Any:
    """
    Move frames of subfields, by their phases, back by a shift.

    Parameters
    ----------
    spectra : array
        (subfields, m, frames) complex64.
    rows, columns : array
        Their frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfields, pixels.
    shifts : array
        (subfields, frames, 2) float64, order y, x.
    xp : module
        Array namespace.

    Returns
    -------
    array
        Spectra times ``exp(-2 pi i f shift / size)``, (subfields, m, frames) complex64.
    """
    # One factor a row and one a column: far fewer exponentials than frequencies.
    axis = xp.arange(-(size // 2), size // 2 + 1, dtype=np.float64)[None, :, None]
    down, across = (
        xp.exp((-2j * np.pi / size) * axis * shifts[:, None, :, i]).astype(np.complex64) for i in (0, 1)
    )
    return spectra * down[:, rows + size // 2] * across[:, columns + size // 2]


def register_subfields(phases: Any, means: Any, rows: Any, columns: Any, size: int, backend: Backend) -> Any:
    """
    Move objects to where the mean images have them; see `stillsun.speckle.masking.phases.register`.

    Parameters
    ----------
    phases : array
        Unit phasors, (subfields, m) complex64.
    means : array
        Mean spectra at the same frequencies, (subfields, m) complex64.
    rows, columns : array
        The frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfields, pixels.
    backend : Backend
        Where they are.

    Returns
    -------
    array
        Unit phasors, (subfields, m) complex64.
    """
    xp = backend.xp
    cross = (means * phases.conj()).astype(np.complex128) * xp.abs(means)
    surface = backend.fft.irfft2(half_planes(cross, rows, columns, size, xp), s=(size, size))
    peak = surface.reshape(len(cross), -1).argmax(axis=1)
    shift = xp.stack([peak // size, peak % size], axis=1).astype(np.float64)
    shift = (shift + size / 2) % size - size / 2
    wave = (2 * np.pi / size) * xp.stack([rows, columns], axis=1).astype(np.float64)
    squares = xp.stack([wave[:, 0] ** 2, wave[:, 0] * wave[:, 1], wave[:, 1] ** 2], axis=1)
    moving = xp.ones(len(cross), dtype=bool)
    for _ in range(STEPS):
        turned = cross * xp.exp(1j * (shift @ wave.T))
        yy, yx, xx = (turned.real @ squares).T
        down, across = (turned.imag @ wave).T
        determinant = yy * xx - yx * yx
        moving = moving & (determinant > 0) & (yy > 0)
        determinant = xp.where(moving, determinant, 1.0)
        step = xp.stack([xx * down - yx * across, yy * across - yx * down], axis=1) / determinant[:, None]
        shift = xp.where(moving[:, None], shift - step, shift)
    return (phases * xp.exp(-1j * (shift @ wave.T))).astype(np.complex64)


def half_planes(values: Any, rows: Any, columns: Any, size: int, xp: Any) -> Any:
    """
    Half-plane spectra of real images from the values at the frequencies in use.

    Parameters
    ----------
    values : array
        (subfields, m) complex.
    rows, columns : array
        Frequencies, cycles per subfield, (m,) int32; columns not negative.
    size : int
        Side of the subfields, pixels.
    xp : module
        Array namespace.

    Returns
    -------
    array
        (subfields, size, size / 2 + 1) in the type of `values`, 0 elsewhere.
    """
    planes = xp.zeros((len(values), size * (size // 2 + 1)), dtype=values.dtype)
    planes[:, rows % size * (size // 2 + 1) + columns] = values
    edge = xp.flatnonzero(columns == 0)
    planes[:, -rows[edge] % size * (size // 2 + 1)] = values[:, edge].conj()
    return planes.reshape(len(values), size, size // 2 + 1)
