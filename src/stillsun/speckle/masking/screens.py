"""Makes the table of transfer functions: von Karman phase screens over a circular pupil, tracked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft

from stillsun.speckle.engine import Progress
from stillsun.speckle.masking.transfer import TransferTable

STRENGTHS = np.concatenate(
    [np.arange(0.0, 4.0, 0.5), np.arange(4.0, 16.0), np.arange(16.0, 24.0, 2.0), [24.0, 28.0, 32.0]]
)

# Pixels over the pupil; the grid holds the whole transfer function, the autocorrelation of the pupil.
_PUPIL = 96
_GRID = 2 * _PUPIL
_SCREEN = 2048
_SPECTRUM = 0.0228955


def phase_screen(
    rng: np.random.Generator, size: int, pixel: float, outer_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Two independent periodic von Karman phase screens for a Fried parameter of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side in pixels.
    pixel : float
        Side of a pixel, in units of the Fried parameter.
    outer_scale : float
        Outer scale in the same units.

    Returns
    -------
    tuple of numpy.ndarray
        Phases in radians, each (size, size) float64. Scale by ``(1 / r0) ** (5 / 6)`` for another Fried
        parameter.

    Notes
    -----
    Spectrum ``0.0229 r0^(-5/3) (f^2 + 1/L0^2)^(-11/6)``. The screen is periodic: use pieces much smaller
    than the whole.
    """
    frequency = scipy.fft.fftfreq(size, pixel)
    square = frequency[:, None] ** 2 + frequency**2 + outer_scale**-2
    amplitude = np.sqrt(_SPECTRUM) * square ** (-11 / 12) / (size * pixel)
    amplitude[0, 0] = 0.0
    noise = rng.standard_normal((2, size, size))
    screen = scipy.fft.fft2(amplitude * (noise[0] + 1j * noise[1]))
    return screen.real, screen.imag


def simulate_table(
    *,
    strengths: np.ndarray = STRENGTHS,
    exposures: int = 1000,
    outer_scale: float = 26.0,
    object_slopes: Sequence[float] = (3.0, 5.0, 10.0, 15.0),
    bins: int = 96,
    seed: int = 1,
    progress: Progress | None = None,
) -> TransferTable:
    """
    Monte Carlo of the speckle and the tracked long-exposure transfer function.

    Parameters
    ----------
    strengths : array_like, optional
        Values of D/r0; the first must be 0.
    exposures : int, optional
        Independent wavefronts, the same ones for every D/r0.
    outer_scale : float, optional
        Outer scale in telescope diameters (26 is 20 m for 0.76 m).
    object_slopes : sequence of float, optional
        The tracker sees objects with power ``10 ** (-slope * q)``: granulation in the G band has 5, the
        chromosphere in Ca K 12.
    bins : int, optional
        Rings in frequency.
    seed : int, optional
        Seed of the random numbers.
    progress : callable, optional
        Called with (values of D/r0 done, in all).

    Returns
    -------
    TransferTable
        Ratios to the transfer function of the telescope, means over rings.

    Notes
    -----
    Removing Zernike tilt, the usual model of tracking (Fried 1966), is not what a correlation tracker does
    and biases the Fried parameter by 20 %; here each exposure is shifted, to a fraction of a pixel, to the
    maximum of its correlation with the tracked mean, as seen through the object's power.
    """
    fields = _wavefronts(exposures, outer_scale, seed)
    axis = np.arange(_GRID) - _GRID // 2
    radius = np.hypot(axis[:, None], axis)
    pupil = round_pupil(_PUPIL)
    q = scipy.fft.ifftshift(radius) / _PUPIL
    slopes = np.asarray(object_slopes, dtype=np.float64)
    weights = np.where((q > 0) & (q < 0.5), 10.0 ** np.multiply.outer(-slopes, q), 0.0).astype(np.float32)
    ring = np.minimum((q * bins).astype(np.intp), bins)
    telescope = exposure_transfer(pupil, np.zeros((1, _PUPIL, _PUPIL), dtype=np.float32))[0].real

    def ring_ratio(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
        above = np.bincount(ring.ravel(), values.ravel(), bins + 1)
        below = np.bincount(ring.ravel(), reference.ravel(), bins + 1)
        return above[:bins] / below[:bins]

    speckle = np.ones((len(strengths), bins))
    long_exposure = np.ones((len(slopes), len(strengths), bins))
    # The means at one strength are the first references at the next.
    means = np.repeat(telescope[None].astype(np.complex128), len(slopes), axis=0)
    for number, strength in enumerate(strengths):
        if strength > 0:
            for _ in range(2):
                power = np.zeros((_GRID, _GRID))
                total = np.zeros((len(slopes), _GRID, _GRID), dtype=np.complex128)
                references = (weights * means).astype(np.complex64)
                for part in np.array_split(fields, max(1, len(fields) // 32)):
                    transfer = exposure_transfer(pupil, part * np.float32(strength ** (5 / 6)))
                    power += (transfer.real**2 + transfer.imag**2).sum(axis=0)
                    for k, reference in enumerate(references):
                        total[k] += tracked(transfer, reference).sum(axis=0)
                means = total / len(fields)
            speckle[number] = ring_ratio(power / len(fields), telescope**2)
            for k, mean in enumerate(means):
                long_exposure[k, number] = np.maximum(ring_ratio(mean.real, telescope), 1e-4)
        if progress is not None:
            progress(number + 1, len(strengths))
    centres = np.bincount(ring.ravel(), q.ravel(), bins + 1)[:bins] / np.bincount(ring.ravel())[:bins]
    q_axis = np.concatenate([[0.0], centres])
    one = np.ones((len(strengths), 1))
    return TransferTable(
        np.asarray(strengths, dtype=np.float64),
        q_axis,
        np.hstack([one, speckle]),
        slopes,
        np.concatenate([np.ones((len(slopes), len(strengths), 1)), long_exposure], axis=2),
    )


def _wavefronts(count: int, outer_scale: float, seed: int) -> np.ndarray:
    """Phases over squares of one diameter, (count, pupil, pupil) float32, for D/r0 = 1."""
    rng = np.random.default_rng(seed)
    pieces = np.empty((count, _PUPIL, _PUPIL), dtype=np.float32)
    per_screen = 32
    screens: list[np.ndarray] = []
    for number in range(count):
        if number % per_screen == 0:
            if not screens:
                screens = list(phase_screen(rng, _SCREEN, 1.0 / _PUPIL, outer_scale))
            screen = screens.pop()
        y, x = rng.integers(0, _SCREEN - _PUPIL, 2)
        piece = screen[y : y + _PUPIL, x : x + _PUPIL]
        pieces[number] = piece - piece.mean()
    return pieces


def round_pupil(width: int) -> np.ndarray:
    """
    A round pupil with soft edge, in an array that holds its autocorrelation.

    Parameters
    ----------
    width : int
        Its diameter, pixels.

    Returns
    -------
    numpy.ndarray
        Share of each pixel that lies in it, (2 width, 2 width) float64.
    """
    axis = np.arange(2 * width) - width + 0.5
    return np.clip(width / 2 + 0.5 - np.hypot(axis[:, None], axis), 0.0, 1.0)


def exposure_transfer(pupil: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """
    Instantaneous transfer functions of wavefronts.

    Parameters
    ----------
    pupil : numpy.ndarray
        Share of each pixel that lies in the pupil, (2 width, 2 width).
    phases : numpy.ndarray
        Radians, (n, width, width).

    Returns
    -------
    numpy.ndarray
        (n, 2 width, 2 width) complex64, origin first, 1 there.
    """
    grid, width = len(pupil), phases.shape[-1]
    start = (grid - width) // 2
    inner = slice(start, start + width)
    field = np.zeros((len(phases), grid, grid), dtype=np.complex64)
    field[:, inner, inner] = pupil[inner, inner] * np.exp(1j * phases)
    image = np.abs(scipy.fft.fft2(field)) ** 2
    transfer = scipy.fft.fft2(image)
    return transfer / transfer[:, :1, :1].real


def tracked(transfer: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """
    Transfer functions of exposures that a correlation tracker has aligned.

    Parameters
    ----------
    transfer : numpy.ndarray
        (n, grid, grid) complex64, origin first.
    reference : numpy.ndarray
        Spectrum that they are correlated with, (grid, grid) complex64, weights included.

    Returns
    -------
    numpy.ndarray
        (n, grid, grid) complex64: each without the tilt that maximises the correlation.
    """
    # The reference holds nothing beyond half the diffraction limit: pixels of wavelength / 2D are fine.
    cube = scipy.fft.ifft2(transfer * np.conj(reference)).real
    count, grid = cube.shape[:2]
    rows, columns = np.divmod(cube.reshape(count, -1).argmax(axis=1), grid)
    number = np.arange(count)

    def vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
        curvature = before - 2.0 * at + after
        return np.where(curvature < 0, 0.5 * (before - after) / np.minimum(curvature, -1e-30), 0.0)

    at = cube[number, rows, columns]
    y = rows + vertex(cube[number, rows - 1, columns], at, cube[number, (rows + 1) % grid, columns])
    x = columns + vertex(cube[number, rows, columns - 1], at, cube[number, rows, (columns + 1) % grid])
    frequency = scipy.fft.fftfreq(grid)
    ramp_y = np.exp(2j * np.pi * frequency * y[:, None]).astype(np.complex64)
    ramp_x = np.exp(2j * np.pi * frequency * x[:, None]).astype(np.complex64)
    return transfer * ramp_y[:, :, None] * ramp_x[:, None, :]
