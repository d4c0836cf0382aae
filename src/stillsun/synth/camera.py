"""The detector: dark and gain patterns, bad pixels, photon and read noise."""

from __future__ import annotations

import numba
import numpy as np
import scipy.ndimage

_DEAD_PER_PIXEL = 2e-5
_HOT_PER_PIXEL = 8e-5


class Detector:
    """
    One camera chip.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    seed : sequence of int
        Seed of the chip's patterns.
    electrons : float
        Signal of brightness 1, electrons.
    read_noise : float
        Read noise, electrons.
    electrons_per_dn : float
        Conversion factor.
    bias : float
        Level of the dark, DN.
    saturation : int
        Largest raw value.
    fringes : bool
        The rounded-square fringes of a window over the chip.

    Attributes
    ----------
    dark : numpy.ndarray, shape (rows, columns), float32
        Dark level, DN.
    gain : numpy.ndarray, shape (rows, columns), float32
        Relative sensitivity: vignetting, dust, fringes and pixels; 0 where dead.
    dead, hot : numpy.ndarray, shape (rows, columns), bool
        Bad pixels.
    level : float
        DN above the dark for brightness 1 and gain 1.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        seed: list[int],
        *,
        electrons: float,
        read_noise: float,
        electrons_per_dn: float,
        bias: float,
        saturation: int,
        fringes: bool = False,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.level = electrons / electrons_per_dn
        self._per_dn = np.float32(electrons_per_dn)
        self._read_dn = np.float32(read_noise / electrons_per_dn)
        self._saturation = np.float32(saturation)
        pixels = shape[0] * shape[1]
        self.dead = _scatter(shape, max(2, round(_DEAD_PER_PIXEL * pixels)), rng)
        self.hot = _scatter(shape, max(3, round(_HOT_PER_PIXEL * pixels)), rng) & ~self.dead
        y, x = (np.linspace(-1, 1, n) for n in shape)
        dark = (
            bias + 2.0 * y[:, None] + 0.6 * rng.standard_normal(shape[1]) + 0.4 * rng.standard_normal(shape)
        )
        dark[self.hot] += rng.uniform(200, 900, int(self.hot.sum()))
        self.dark = dark.astype(np.float32)
        gain = 1 - 0.09 * ((x[None, :] - 0.1) ** 2 + (y[:, None] + 0.15) ** 2)
        gain *= 1 + 0.008 * rng.standard_normal(shape)
        gain *= _dust(shape, rng)
        if fringes:
            radius = (np.abs(x[None, :]) ** 4 + np.abs(y[:, None]) ** 4) ** 0.25
            gain *= 1 + 0.015 * np.cos(2 * np.pi * 9 * radius**2)
        gain /= gain.mean()
        gain[self.dead] = 0.0
        self.gain = gain.astype(np.float32)

    def expose(self, image: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """
        Raw frame of an image.

        Parameters
        ----------
        image : numpy.ndarray, shape (rows, columns), or None
            Brightness; None with the shutter closed.
        rng : numpy.random.Generator
            Source of the noise; photon noise is taken as Gaussian, which it is at these signals.

        Returns
        -------
        numpy.ndarray, shape (rows, columns), uint16
            Raw values, DN.
        """
        noise = rng.standard_normal(self.dark.shape, dtype=np.float32)
        if image is None:
            signal = self.dark + self._read_dn * noise
            return np.clip(np.rint(signal), 0, self._saturation).astype(np.uint16)
        return _digitise(
            image, self.dark, self.gain, noise, np.float32(self.level), self._per_dn, self._read_dn,
            self._saturation,
        )  # fmt: skip


def _scatter(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    # Bad pixels stay off the edge, where nothing could tell what they should show.
    mask[rng.integers(2, shape[0] - 2, count), rng.integers(2, shape[1] - 2, count)] = True
    return mask


def _dust(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Blobs near a focal plane, and rings of grains that are out of focus."""
    cover = np.zeros(shape)
    for _ in range(max(4, shape[0] * shape[1] // 60_000)):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        size = rng.uniform(3, 11)
        depth = rng.uniform(0.02, 0.10)
        top, left = (max(0, int(c - 4 * size)) for c in (row, column))
        part = cover[top : int(row + 4 * size), left : int(column + 4 * size)]
        y, x = np.indices(part.shape)
        distance = np.hypot(y + top - row, x + left - column)
        if rng.random() < 0.5:
            part += depth * np.exp(-((distance / size) ** 2))
        else:
            part += 0.6 * depth * np.exp(-(((distance - size) / (0.25 * size)) ** 2))
    return 1 - scipy.ndimage.gaussian_filter(np.minimum(cover, 0.3), 0.7)


@numba.njit(cache=True, nogil=True)
def _digitise(image, dark, gain, noise, level, per_dn, read_dn, saturation):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    out = np.empty((rows, columns), np.uint16)
    for i in range(rows):
        for j in range(columns):
            signal = max(np.float32(0), level * gain[i, j] * image[i, j])
            spread = np.sqrt(signal / per_dn + read_dn * read_dn)
            value = np.rint(dark[i, j] + signal + spread * noise[i, j])
            out[i, j] = np.uint16(min(max(value, np.float32(0)), saturation))
    return out
