"""Tracking: whole-pixel shifts that align the frames of a burst, for the frame and for a subfield."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numba import njit

from stillsun.core.backend import Backend, to_host
from stillsun.speckle.masking.geometry import blend, cut
from stillsun.speckle.masking.launch import cut_subfields

# Side of the central part that is used for the frame's own shift.
_CENTRE = 512
_COARSE = 192
_REACH = 64


def frame_shifts(burst: Any, scale: np.ndarray, backend: Backend) -> np.ndarray:
    """
    Coarse shift of each frame against the tracked mean of the burst.

    Parameters
    ----------
    burst : array
        (frames, rows, columns) float32, on the backend.
    scale : numpy.ndarray
        Factor of each frame, (frames,) float32.
    backend : Backend
        Where to compute.

    Returns
    -------
    numpy.ndarray
        (frames, 2) int64, order y, x: content moves by +shift. Multiples of the search's pixels of 4 x 4 (of
        2 x 2 in small frames), since subfields are tracked again; their mean over the burst is zero to
        one of these.

    Notes
    -----
    Windowed cross-correlation with the sharpest frame, then twice with the tracked mean.
    """
    xp, fft = backend.xp, backend.fft
    count, rows, columns = burst.shape
    binning = 4 if min(rows, columns) >= _COARSE else 2
    size = min(_CENTRE, rows, columns) // binning // 2 * 2
    binned = _centre(burst, scale, size, binning, backend)
    spectra = fft.rfft2(binned)
    reference = spectra[int(binned.var(axis=(1, 2)).argmax())]
    reach = min(_REACH // binning, size // 4)
    fy = backend.asarray(scipy.fft.fftfreq(size))[:, None]
    fx = backend.asarray(scipy.fft.rfftfreq(size))
    near = backend.asarray(np.r_[0 : reach + 1, size - reach : size])
    for _ in range(3):
        planes = fft.irfft2(spectra.conj() * reference, s=(size, size))[:, near[:, None], near]
        peak = planes.reshape(count, -1).argmax(axis=1)
        shifts = (near[xp.stack([peak // len(near), peak % len(near)], axis=1)] + reach) % size - reach
        reference = xp.zeros_like(reference)
        for spectrum, shift in zip(spectra, shifts, strict=True):
            reference += spectrum * xp.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1])).astype(np.complex64)
        reference /= np.float32(count)
    found = to_host(shifts).astype(np.int64)
    return binning * (found - np.rint(found.mean(axis=0)).astype(np.int64))


def _centre(burst: Any, scale: np.ndarray, size: int, binning: int, backend: Backend) -> Any:
    """Central part of each frame, windowed and binned, (frames, size, size) float32."""
    count, rows, columns = burst.shape
    side = size * binning
    corner = np.array([(rows - side) // 2, (columns - side) // 2])
    window = blend(side).astype(np.float32)
    if backend.is_gpu:
        still = backend.xp.zeros((count, 2), dtype=np.int32)
        first = backend.asarray(corner[None], dtype=np.int32)
        put = backend.asarray(scale), None, first, still, backend.asarray(window)
        return cut_subfields(burst, *put, binning, backend)[0][0]
    binned = np.empty((count, size, size), dtype=np.float32)
    nothing = np.zeros((rows, columns), dtype=np.float32)
    still = np.zeros((count, 2), dtype=np.int64)
    cut(burst, scale, nothing, np.arange(count), *corner, still, window, binning, binned, np.empty(count))
    return binned


def low_frequencies(size: int, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Frequencies that tracking uses, as indices into a half-plane spectrum.

    Parameters
    ----------
    size : int
        Side of the (binned) subfield.
    highest : int
        Largest frequency along an axis, cycles per subfield.

    Returns
    -------
    rows, columns : numpy.ndarray
        Signed frequencies (2 highest + 1,) and frequencies (highest + 1,), int64.
    """
    highest = min(highest, size // 2 - 1)
    return np.arange(-highest, highest + 1), np.arange(highest + 1)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def track(low, turns_y, turns_x, passes, shifts):  # type: ignore[no-untyped-def]
    """
    Whole-pixel shifts that maximise each frame's correlation with the tracked mean.

    Parameters
    ----------
    low : numpy.ndarray
        Low-frequency spectra, (frames, fy, fx) complex64.
    turns_y, turns_x : numpy.ndarray
        ``exp(2 pi i f d / size)`` for each frequency and each shift d of the search, (fy, d) and (fx, d)
        complex64; the search is the same range, symmetric about zero, along both axes.
    passes : int
        Times that the mean is formed anew.
    shifts : numpy.ndarray
        Result, (frames, 2) int64, order y, x: content moves by +shift.
    """
    count, ny, nx = low.shape
    width = turns_y.shape[1]
    reach = width // 2
    mean_re = np.empty((ny, nx), dtype=np.float32)
    mean_im = np.empty((ny, nx), dtype=np.float32)
    yr, yi = turns_y.real.copy(), turns_y.imag.copy()
    xr, xi = turns_x.real.copy(), turns_x.imag.copy()
    ar = np.empty(width, dtype=np.float32)
    ai = np.empty(width, dtype=np.float32)
    plane = np.empty((width, width), dtype=np.float32)
    shifts[:] = 0
    for _ in range(passes):
        mean_re[:] = 0.0
        mean_im[:] = 0.0
        for k in range(count):
            for a in range(ny):
                turn_y = np.conj(turns_y[a, shifts[k, 0] + reach])
                for b in range(nx):
                    value = low[k, a, b] * turn_y * np.conj(turns_x[b, shifts[k, 1] + reach])
                    mean_re[a, b] += value.real
                    mean_im[a, b] += value.imag
        for k in range(count):
            plane[:] = 0.0
            for a in range(ny):
                ar[:] = 0.0
                ai[:] = 0.0
                for b in range(nx):
                    # Half-plane spectrum: the columns but the first stand for two frequencies.
                    weight = np.float32(1.0 if b == 0 else 2.0)
                    lr, li = low[k, a, b].real * weight, low[k, a, b].imag * weight
                    gr = lr * mean_re[a, b] + li * mean_im[a, b]
                    gi = lr * mean_im[a, b] - li * mean_re[a, b]
                    for d in range(width):
                        ar[d] += gr * xr[b, d] - gi * xi[b, d]
                        ai[d] += gr * xi[b, d] + gi * xr[b, d]
                for e in range(width):
                    row = plane[e]
                    cr, ci = yr[a, e], yi[a, e]
                    for d in range(width):
                        row[d] += ar[d] * cr - ai[d] * ci
            best = plane[reach, reach]
            best_y, best_x = reach, reach
            for e in range(width):
                for d in range(width):
                    if plane[e, d] > best:
                        best = plane[e, d]
                        best_y, best_x = e, d
            shifts[k, 0] = best_y - reach
            shifts[k, 1] = best_x - reach


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def coherent_mean(real, imag, rows, columns, size, used, passes, shifts, mean):  # type: ignore[no-untyped-def]
    """
    Mean of spectra that are aligned to a fraction of a pixel, by phases, for the spectral ratio only.

    Parameters
    ----------
    real, imag : numpy.ndarray
        Spectra of a subfield tracked to whole pixels, (m, frames) float32.
    rows, columns : numpy.ndarray
        Their frequencies, cycles per subfield, (m,) int32.
    size : int
        Side of the subfield, pixels.
    used : int
        So many frequencies, the first ones, decide on the shifts.
    passes : int
        Steps of Newton's method; the mean is formed anew for each.
    shifts : numpy.ndarray
        Result: what is left to whole-pixel tracking, (frames, 2) float64, order y, x, mean zero.
    mean : numpy.ndarray
        Result, (m,) complex64.

    Notes
    -----
    Maximises each frame's correlation with the mean, as the simulated exposures of the transfer-function
    table are tracked. Without it the mean holds the jitter of whole pixels.
    """
    count, frames = real.shape
    mean_re = np.zeros(count, dtype=np.float32)
    mean_im = np.zeros(count, dtype=np.float32)
    cosine = np.ones(frames, dtype=np.float32)
    sine = np.zeros(frames, dtype=np.float32)
    sums = np.zeros((5, frames), dtype=np.float32)
    turn = 2.0 * np.pi / size
    shifts[:] = 0.0
    for step in range(passes + 1):
        last = step == passes
        for f in range(count if last else used):
            ky, kx = turn * rows[f], turn * columns[f]
            re = np.float32(0.0)
            im = np.float32(0.0)
            for k in range(frames):
                angle = np.float32(ky * shifts[k, 0] + kx * shifts[k, 1])
                cosine[k] = np.cos(angle)
                sine[k] = np.sin(angle)
            for k in range(frames):
                re += real[f, k] * cosine[k] + imag[f, k] * sine[k]
                im += imag[f, k] * cosine[k] - real[f, k] * sine[k]
            mean_re[f] = re / frames
            mean_im[f] = im / frames
        if last:
            break
        sums[:] = 0.0
        for f in range(used):
            ky, kx = np.float32(turn * rows[f]), np.float32(turn * columns[f])
            for k in range(frames):
                angle = np.float32(ky * shifts[k, 0] + kx * shifts[k, 1])
                cosine[k] = np.cos(angle)
                sine[k] = np.sin(angle)
            for k in range(frames):
                a = real[f, k] * cosine[k] + imag[f, k] * sine[k]
                b = imag[f, k] * cosine[k] - real[f, k] * sine[k]
                even = a * mean_re[f] + b * mean_im[f]
                odd = a * mean_im[f] - b * mean_re[f]
                sums[0, k] -= ky * odd
                sums[1, k] -= kx * odd
                sums[2, k] += ky * ky * even
                sums[3, k] += ky * kx * even
                sums[4, k] += kx * kx * even
        for k in range(frames):
            determinant = sums[2, k] * sums[4, k] - sums[3, k] * sums[3, k]
            if determinant > 0.0 and sums[2, k] > 0.0:
                y = (sums[4, k] * sums[0, k] - sums[3, k] * sums[1, k]) / determinant
                x = (sums[2, k] * sums[1, k] - sums[3, k] * sums[0, k]) / determinant
                # Farther than a pixel from the best whole one is no maximum of the same peak.
                shifts[k, 0] = min(max(shifts[k, 0] + y, -1.0), 1.0)
                shifts[k, 1] = min(max(shifts[k, 1] + x, -1.0), 1.0)
        for axis in range(2):
            centre = shifts[:, axis].mean()
            for k in range(frames):
                shifts[k, axis] -= centre
    for f in range(count):
        mean[f] = complex(mean_re[f], mean_im[f])
