"""What every speckle engine returns, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stillsun.core.backend import Backend

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subfields:
    """
    The subfields of a burst before they are put together.

    Attributes
    ----------
    images : numpy.ndarray
        Reconstructed subfields times their window, (subfields y, subfields x, size, size) float32, in the
        units of the burst.
    amplitudes : numpy.ndarray
        Mean Fourier amplitudes of the exposures, ``<|I|^2>^(1/2)`` of their windowed subfields less the
        smooth background, (subfields y, subfields x, size, size) float32, origin first, unitary
        transform, in the units of the burst; 0 beyond the phase limit.
    ratio : numpy.ndarray
        Spectral ratio ``|<I>|^2 / <|I|^2>``, free of noise, means over rings of frequency, (subfields y,
        subfields x, radii) float32.
    radii : numpy.ndarray
        Frequencies of the rings in units of the diffraction limit, (radii,) float64.
    window : numpy.ndarray
        Window along an axis, (size,) float64.
    """

    images: np.ndarray
    amplitudes: np.ndarray
    ratio: np.ndarray
    radii: np.ndarray
    window: np.ndarray


@dataclass(frozen=True)
class Reconstruction:
    """
    One image made of a burst, and what is known about it.

    Attributes
    ----------
    image : numpy.ndarray
        Reconstructed image, (rows, columns) float32, in the units of the burst and at the photometric
        level of its mean; finite everywhere.
    r0 : float
        Fried parameter of the frame at the observed wavelength, metres; NaN where the engine gives none.
    r0_map : numpy.ndarray or None
        The same for each subfield, (subfields y, subfields x) float32, metres; NaN where it could not be
        found.
    shifts : numpy.ndarray or None
        Subfield tracking, (frames, 2, subfields y, subfields x) float32, pixels, order y, x: the content
        of the frame moves by +shift to lie where the burst's mean has it.
    convergence : numpy.ndarray or None
        Rms change of the phases in the last sweep, radians, (subfields y, subfields x) float32.
    centres : tuple of numpy.ndarray or None
        Rows and columns of the subfields' centres, pixels, zero-based.
    subfields : Subfields or None
        The subfields before they are put together, if they were asked for.
    used : numpy.ndarray or None
        Exposures of the burst that the image is made of, counted from 0; None: all.
    notes : tuple of str
        What a person should know: frames left out, pixels filled, a fit that ended at the edge of its
        models.
    steadied : float
        Rms of what the filter changed that holds the power of a sequence to its running value, over the
        contrast; NaN where there was none.
    steadying : numpy.ndarray or None
        That filter, see `stillsun.speckle.masking.flicker.Flicker.correction`, (terms, rings) float32.
    """

    image: np.ndarray
    r0: float = float("nan")
    r0_map: np.ndarray | None = None
    shifts: np.ndarray | None = None
    convergence: np.ndarray | None = None
    centres: tuple[np.ndarray, np.ndarray] | None = None
    subfields: Subfields | None = None
    used: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    steadied: float = float("nan")
    steadying: np.ndarray | None = None


class Engine(Protocol):
    """
    A speckle engine: all its options bound, it turns one burst into one image.

    Engines keep no state between bursts, so that bursts may be given to them in any order and from
    several threads or processes.
    """

    def __call__(
        self,
        burst: np.ndarray,
        *,
        noise: np.ndarray | None = None,
        backend: Backend | str | None = None,
        progress: Progress | None = None,
    ) -> Reconstruction:
        """
        Reconstruct one burst.

        Parameters
        ----------
        burst : array_like
            Calibrated frames, (frames, rows, columns).
        noise : array_like, optional
            Burst of calibrated flat frames; the noise is estimated from the data without it.
        backend : Backend or str, optional
            Where to compute.
        progress : callable, optional
            Called with (subfields done, subfields in all).

        Returns
        -------
        Reconstruction
            The image and what is known about it.
        """
