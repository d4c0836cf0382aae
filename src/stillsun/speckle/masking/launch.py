"""The CUDA kernels of the reconstruction as functions of arrays; each stands for a Numba kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from stillsun.core.backend import Backend

_SOURCE = "stillsun.speckle.masking", "kernels.cu"
_CUT_BLOCK = (32, 8)
_ELEMENT_THREADS = 256
# A frequency has between one and two hundred equations.
_SOLVE_THREADS = 128
_COMPLEX = 8


def cut_subfields(
    frames: Any,
    scale: Any,
    surface: Any,
    first: Any,
    shifts: Any,
    window: Any,
    binning: int,
    backend: Backend,
) -> tuple[Any, Any]:
    """
    Cut subfields out of all frames; see `stillsun.speckle.masking.geometry.cut`.

    Parameters
    ----------
    frames : array
        (n, rows, columns) float32.
    scale : array
        Factor of each frame, (n,) float32.
    surface : array or None
        What to subtract from the scaled frames, (rows, columns) float32.
    first : array
        First row and column of the subfields, (subfields, 2) int32.
    shifts : array
        Of the frames, (n, 2) int32 for all subfields or (subfields, n, 2).
    window : array
        (size,) float32, used along both axes.
    binning : int
        Pixels summed along each axis; must divide the size.
    backend : Backend
        The device.

    Returns
    -------
    tiles : array
        (subfields, n, size / binning, size / binning) float32.
    means : array
        What was subtracted as their means, (subfields, n) float64.
    """
    xp = backend.xp
    count, rows, columns = frames.shape
    size = len(window)
    tiles = xp.empty((len(first), count, size // binning, size // binning), dtype=np.float32)
    means = xp.empty((len(first), count), dtype=np.float64)
    backend.launch(
        *_SOURCE,
        "cut",
        (count, len(first)),
        _CUT_BLOCK,
        (
            *backend.contiguous(np.float32, frames, scale, frames[0] if surface is None else surface),
            *backend.contiguous(np.int32, first, shifts),
            *backend.contiguous(np.float32, window),
            *(tiles, means),
            np.float64(float(window.sum(dtype=np.float64)) ** 2),
            *map(np.int32, (rows, columns, size, binning, surface is not None, shifts.ndim == 2)),
        ),
        _CUT_BLOCK[0] * _CUT_BLOCK[1] * 8,
    )
    return tiles, means


def mean_bispectra(spectra: Any, u: Any, v: Any, w: Any, backend: Backend) -> tuple[Any, Any]:
    """
    Mean bispectra of subfields; see `stillsun.speckle.masking.bispectrum.mean_bispectrum`.

    Parameters
    ----------
    spectra : array
        (subfields, m, frames) complex64.
    u, v, w : array
        Triples, (t,) int32.
    backend : Backend
        The device.

    Returns
    -------
    phasor : array
        Unit phasors, (subfields, t) complex64.
    snr : array
        Signal-to-noise ratios, (subfields, t) float32.
    """
    phasor, snr = _elements(len(spectra), len(u), backend)
    sizes = map(np.int32, (*spectra.shape[1:], len(u)))
    grid = (-(-len(u) // _ELEMENT_THREADS), len(spectra))
    if len(u):
        given = *backend.contiguous(np.complex64, spectra), *backend.contiguous(np.int32, u, v, w)
        backend.launch(*_SOURCE, "mean_bispectrum", grid, (_ELEMENT_THREADS,), (*given, phasor, snr, *sizes))
    return phasor, snr


def mean_cross_spectra(
    spectra: Any, u: Any, w: Any, leak: Any, noise: Any, backend: Backend
) -> tuple[Any, Any]:
    """
    Mean cross-spectra; see `stillsun.speckle.masking.knox_thompson.mean_cross_spectra`.

    Parameters
    ----------
    spectra : array
        Of aligned frames, (subfields, m, frames) complex64.
    u, w : array
        Pairs, (t,) int32.
    leak : array
        Share of the noise in each, (t,) complex64.
    noise : array
        Power of the noise per frequency, (subfields,) float64.
    backend : Backend
        The device.

    Returns
    -------
    phasor : array
        Unit phasors, (subfields, t) complex64.
    snr : array
        Signal-to-noise ratios, (subfields, t) float32.
    """
    phasor, snr = _elements(len(spectra), len(u), backend)
    sizes = map(np.int32, (*spectra.shape[1:], len(u)))
    grid = (-(-len(u) // _ELEMENT_THREADS), len(spectra))
    if len(u):
        given = (
            *backend.contiguous(np.complex64, spectra),
            *backend.contiguous(np.int32, u, w),
            *backend.contiguous(np.complex64, leak),
            *backend.contiguous(np.float64, noise),
        )
        backend.launch(
            *_SOURCE, "mean_cross_spectra", grid, (_ELEMENT_THREADS,), (*given, phasor, snr, *sizes)
        )
    return phasor, snr


def solve_phases(
    weights: Any,
    start: Any,
    known: Any,
    members: Any,
    phases: Any,
    fixed: int,
    sweeps: int,
    tolerance: float,
    backend: Backend,
) -> Any:
    """
    Solve for the phases of subfields in place; see `stillsun.speckle.masking.phases.solve`.

    Parameters
    ----------
    weights : array
        Weight times unit phasor of each equation, (subfields, e) complex64.
    start : array
        First equation of each frequency, (m + 1,) int32.
    known : array
        End of those equations whose members come before, (m,) int32.
    members : array
        Numbers of the two frequencies of each equation, (e, 2) int32.
    phases : array
        Unit phasors, (subfields, m) complex64, contiguous.
    fixed, sweeps, tolerance
        As for the Numba kernel.
    backend : Backend
        The device.

    Returns
    -------
    array
        Rms change of the phases in the last sweep, (subfields,) float32, radians.

    Raises
    ------
    ValueError
        If the phases could not be changed in place.
    """
    if phases.dtype != np.complex64 or not phases.flags.c_contiguous:
        raise ValueError("phases must be contiguous complex64")
    change = backend.xp.zeros(len(weights), dtype=np.float32)
    if weights.shape[1]:
        partial_sums = 2 * _COMPLEX * (_SOLVE_THREADS // 32)
        needed = partial_sums + _COMPLEX * phases.shape[1]
        cached = needed <= backend.shared_memory
        sizes = map(np.int32, (phases.shape[1], weights.shape[1], fixed, sweeps))
        given = (
            *backend.contiguous(np.complex64, weights),
            *backend.contiguous(np.int32, start, known, members),
        )
        backend.launch(
            *_SOURCE,
            "solve_phases",
            (len(weights),),
            (_SOLVE_THREADS,),
            (*given, phases, change, *sizes, np.float32(tolerance), np.int32(cached)),
            needed if cached else partial_sums,
        )
    return change


def _elements(subfields: int, count: int, backend: Backend) -> tuple[Any, Any]:
    shape = subfields, count
    return backend.xp.empty(shape, dtype=np.complex64), backend.xp.empty(shape, dtype=np.float32)
