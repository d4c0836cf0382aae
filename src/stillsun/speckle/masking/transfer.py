"""Transfer functions of telescope and atmosphere against D/r0: a table made by Monte Carlo, interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from scipy.interpolate import PchipInterpolator

TABLE = "transfer.npz"
# Power of granulation falls like 10^(-slope q).
GRANULATION_SLOPE = 5.0


def telescope_transfer(q: np.ndarray) -> np.ndarray:
    """
    Transfer function of an unobstructed circular telescope.

    Parameters
    ----------
    q : array_like
        Spatial frequency in units of the diffraction limit D / wavelength.

    Returns
    -------
    numpy.ndarray
        ``T(q)``, 1 at the origin, 0 from q = 1 on; float64.
    """
    q = np.clip(np.abs(np.asarray(q, dtype=np.float64)), 0.0, 1.0)
    return (2.0 / np.pi) * (np.arccos(q) - q * np.sqrt(1.0 - q * q))


@dataclass(frozen=True)
class TransferTable:
    """
    Speckle and tracked long-exposure transfer functions as ratios to the telescope's own.

    Both are ensemble means over the instantaneous transfer function S of telescope and atmosphere: the
    speckle transfer function is ``<|S|^2>``, the long-exposure one ``<S>`` of exposures that a correlation
    tracker has aligned, as the subfields of a burst are. What it aligns best depends on the object.

    Attributes
    ----------
    strength : numpy.ndarray
        Values of D/r0, ascending from 0; (n,) float64.
    q : numpy.ndarray
        Frequencies in units of the diffraction limit, (m,) float64.
    speckle : numpy.ndarray
        ``<|S|^2> / T^2``, (n, m).
    slope : numpy.ndarray
        Slopes of the objects that the tracker sees, ascending, (k,): power ``10 ** (-slope * q)``.
    long_exposure : numpy.ndarray
        ``<S> / T``, (k, n, m).
    """

    strength: np.ndarray
    q: np.ndarray
    speckle: np.ndarray
    slope: np.ndarray
    long_exposure: np.ndarray

    def at(
        self, strength: float, q: np.ndarray, slope: float = GRANULATION_SLOPE
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Both ratios at one D/r0.

        Parameters
        ----------
        strength : float
            D/r0, clipped to the range of the table.
        q : array_like
            Frequencies in units of the diffraction limit, clipped to the range of the table.
        slope : float, optional
            Slope of the object that was tracked, clipped likewise.

        Returns
        -------
        speckle, long_exposure : numpy.ndarray
            ``<|S|^2> / T^2`` and ``<S> / T`` in the shape of `q`, float64.
        """
        strength = float(np.clip(strength, self.strength[0], self.strength[-1]))
        # Logarithms: both fall over many decades, smoothly, with D/r0.
        log_speckle = PchipInterpolator(self.strength, np.log(self.speckle), axis=0)(strength)
        log_long = PchipInterpolator(self.strength, np.log(self.long_exposure), axis=1)(strength)
        log_long = np.tensordot(self.shares(slope), log_long, 1)
        return (
            np.exp(np.interp(q, self.q, log_speckle)),
            np.exp(np.interp(q, self.q, log_long)),
        )

    def shares(self, slope: float) -> np.ndarray:
        """
        Shares of the tabulated slopes in one between them.

        Parameters
        ----------
        slope : float
            Slope of an object, clipped to the range of the table.

        Returns
        -------
        numpy.ndarray
            (k,), two of them not zero at most: the logarithms are interpolated linearly.
        """
        place = np.interp(slope, self.slope, np.arange(len(self.slope)))
        return np.maximum(1.0 - np.abs(np.arange(len(self.slope)) - place), 0.0)


@lru_cache(maxsize=1)
def seeing_table() -> TransferTable:
    """
    The table for uncorrected seeing that comes with the package.

    Returns
    -------
    TransferTable
        Made by `stillsun.speckle.masking.screens.simulate_table`.
    """
    with (
        resources.files("stillsun.speckle.masking").joinpath(TABLE).open("rb") as file,
        np.load(file) as data,
    ):
        return TransferTable(**{name: data[name].astype(np.float64) for name in data.files})
