"""Flicker: the power of a sequence's images held to its running value, by a filter for each image."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.fft

from stillsun.core.backend import Backend, get_backend, to_host

# Rings of frequency: from, to, in units of the diffraction limit, and how many.
_FIRST_Q, _LAST_Q = 0.045, 0.9
_RINGS = 14
# Below the first nothing is changed, from the second on all of it: brightness is not contrast.
_UNTOUCHED_Q = (0.025, 0.05)
# Above these frequencies noise has its part in the power; it fades.
_NOISY_Q = (0.55, 0.8)
# Fewest frequency pixels across a ring: the window's spectrum is as wide.
_LEAST_WIDTH = 2.0
# With fewer tiles the same filter for all of the field.
_LEAST_TILES = 12
# Tiles darker than this, of the brightest, lie in the sky.
_SKY = 0.2
# Residuals beyond so many times the usual one count less: a part of the field that changes by itself.
_UNUSUAL = 1.5
_ROUNDS = 6
_LARGEST = 1.0
# Continued by its mirror image, the frame has no edge.
_MARGIN = 32


class Flicker:
    """
    Measures the power of images in rings of frequency over the field, and filters images to change it.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the images.
    limits : tuple of float
        Diffraction limit along y and x, cycles per pixel.
    size : int
        Side of a tile in which the power is measured, pixels; that of a subfield.

    Attributes
    ----------
    q : numpy.ndarray
        Frequencies of the rings, of the diffraction limit, (rings,) float64.
    terms : int
        How many functions over the field a filter has: 1, or 4 with those of position (y, x) and of the
        distance from the middle squared.

    Notes
    -----
    An image has the power of the Sun times the ratio of the burst's transfer function to the one that it was
    divided by. From burst to burst the Sun cancels, tile by tile and ring by ring; what all tiles have in
    common is the error of the transfer function.
    """

    def __init__(self, shape: tuple[int, int], limits: tuple[float, float], size: int) -> None:
        self.shape, self._limits = shape, limits
        self.size = min(size, *shape)
        self._starts = [self._lay(length) for length in shape]
        self._corners = [(y, x) for y in self._starts[0] for x in self._starts[1]]
        self.terms = 4 if len(self._corners) >= _LEAST_TILES else 1
        middles = np.array(self._corners) + (self.size - 1) / 2
        self._tile_terms = self._field(*middles.T)
        fall = np.sin(np.pi * (np.arange(self.size) + 0.5) / self.size) ** 2
        self._window = np.outer(fall, fall)
        y = scipy.fft.fftfreq(self.size)[:, None] / limits[0]
        x = scipy.fft.rfftfreq(self.size) / limits[1]
        radius = np.hypot(y, x).ravel()
        least = _LEAST_WIDTH / (self.size * min(limits))
        edges = [_FIRST_Q]
        step = (_LAST_Q / _FIRST_Q) ** (1 / _RINGS)
        while edges[-1] < _LAST_Q:
            edges.append(max(edges[-1] * step, edges[-1] + least))
        ring = np.digitize(radius, edges) - 1
        ring[ring == len(edges) - 1] = -1
        members = ring == np.arange(len(edges) - 1)[:, None]
        self._ring_size = np.maximum(members.sum(axis=1), 1)
        self._rings = (members / self._ring_size[:, None]).T
        self.q = np.where(members.any(axis=1), radius @ self._rings, edges[1:])

    @property
    def tiles(self) -> int:
        """Number of tiles in which the power is measured."""
        return len(self._corners)

    def measure(self, image: Any, backend: Backend | str | None = None) -> np.ndarray:
        """
        Power of an image in rings of frequency.

        Parameters
        ----------
        image : array
            (rows, columns).
        backend : Backend or str, optional
            Where to compute.

        Returns
        -------
        numpy.ndarray
            Logarithm of the power of the contrast, (tiles, rings) float32; NaN in the sky.
        """
        backend = get_backend(backend)
        backend.use()
        xp, size = backend.xp, self.size
        image = backend.asarray(image, np.float32)
        window = backend.asarray(self._window, np.float32)
        rings = backend.asarray(self._rings, np.float32)
        found: list[list[np.ndarray]] = [[], []]
        for y in self._starts[0]:
            tiles = xp.stack([image[y : y + size, x : x + size] for x in self._starts[1]])
            level = (tiles * window).sum(axis=(1, 2), dtype=np.float64) / float(self._window.sum())
            spectra = backend.fft.rfft2((tiles - level.astype(np.float32)[:, None, None]) * window)
            power = (spectra.real**2 + spectra.imag**2).reshape(len(tiles), -1)
            found[0].append(to_host(level))
            found[1].append(to_host(power @ rings))
        levels, means = (np.concatenate(part).astype(np.float64) for part in found)
        lit = (levels > _SKY * max(levels.max(), 0.0)) & (means > 0).all(axis=1)
        table = np.full(means.shape, np.nan, dtype=np.float32)
        table[lit] = np.log(means[lit] / levels[lit, None] ** 2)
        return table

    def correction(self, powers: np.ndarray, own: int, weight: np.ndarray) -> np.ndarray:
        """
        The filter that brings an image's power to its running value.

        Parameters
        ----------
        powers : numpy.ndarray
            What `measure` gives for the images around, (images, tiles, rings).
        own : int
            Which of them is the image's.
        weight : numpy.ndarray
            Of each image in the running value, (images,).

        Returns
        -------
        numpy.ndarray
            Logarithm of the factor on the amplitudes for each term over the field, (terms, rings) float32; 0
            where nothing is known.
        """
        change = np.asarray(powers, np.float64) - powers[own]
        lit = np.isfinite(change)
        # An image that is unlike all others, under a cloud or in bad seeing, counts less.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            common = np.nanmedian(change, axis=1)
        share = _usual(common, np.asarray(weight, np.float64)[:, None] * np.isfinite(common))
        counts = np.where(lit, share[:, None], 0.0)
        total = counts.sum(axis=0)
        running = np.einsum("itr,itr->tr", counts, np.where(lit, change, 0.0)) / np.maximum(total, 1e-30)
        found = [self._common(running[:, ring], total[:, ring] > 0) for ring in range(len(self.q))]
        filtered = 0.5 * np.stack(found, axis=1)
        return np.clip(filtered, -_LARGEST, _LARGEST).astype(np.float32)

    def _common(self, change: np.ndarray, lit: np.ndarray) -> np.ndarray:
        """Terms over the field of what tiles have in common, (terms,): outliers count less."""
        terms, values = self._tile_terms[:, lit], change[lit]
        found = np.zeros(self.terms)
        if not len(values):
            return found
        if len(values) < _LEAST_TILES:
            terms = terms[:1]
        used = len(terms)
        found[0] = np.median(values)
        for _ in range(_ROUNDS):
            away = np.abs(values - found[:used] @ terms)
            usual = _UNUSUAL * 1.4826 * np.median(away) + 1e-12
            root = np.sqrt(np.minimum(1.0, usual / np.maximum(away, 1e-30)))
            found[:used] = np.linalg.lstsq((root * terms).T, root * values, rcond=None)[0]
        return found

    def apply(self, image: Any, correction: np.ndarray, backend: Backend | str | None = None) -> np.ndarray:
        """
        Filter an image.

        Parameters
        ----------
        image : array
            (rows, columns).
        correction : numpy.ndarray
            From `correction`, (terms, rings).
        backend : Backend or str, optional
            Where to compute.

        Returns
        -------
        numpy.ndarray
            (rows, columns) float32. Phases, brightness and the lowest frequencies are what they were.
        """
        backend = get_backend(backend)
        backend.use()
        xp = backend.xp
        sides = [self._padded(length) for length in self.shape]
        pads = [
            ((whole - n) // 2, whole - n - (whole - n) // 2)
            for whole, n in zip(sides, self.shape, strict=True)
        ]
        image = backend.asarray(image, np.float32)
        spectrum = backend.fft.rfft2(xp.pad(image - image.mean(), pads, mode="symmetric"))
        y = scipy.fft.fftfreq(sides[0])[:, None] / self._limits[0]
        q = np.hypot(y, scipy.fft.rfftfreq(sides[1]) / self._limits[1])
        fields = self._field(np.arange(self.shape[0])[:, None], np.arange(self.shape[1]))
        inside = tuple(slice(before, before + n) for (before, _), n in zip(pads, self.shape, strict=True))
        share = self._share(q)
        common = np.exp(np.interp(q, self.q, correction[0]) * share)
        for term, values in enumerate(correction):
            # What differs over the field is small: to first order.
            gain = common * np.interp(q, self.q, values) * share if term else common - 1
            part = backend.fft.irfft2(spectrum * backend.asarray(gain, np.float32), s=tuple(sides))[inside]
            image = image + backend.asarray(fields[term], np.float32) * part
        return to_host(image.astype(np.float32))

    def strength(self, correction: np.ndarray, powers: np.ndarray) -> float:
        """
        How strong a filter is.

        Parameters
        ----------
        correction : numpy.ndarray
            From `correction`, (terms, rings).
        powers : numpy.ndarray
            What `measure` gives for the image, (tiles, rings).

        Returns
        -------
        float
            Rms of what it changes in the image, over the image's contrast in its rings.
        """
        change = np.expm1(np.tensordot(self._tile_terms.T, correction, 1) * self._share(self.q))
        power = np.where(np.isfinite(powers), np.exp(np.float64(powers)), 0.0) * self._ring_size
        return float(np.sqrt((power * change**2).sum() / max(power.sum(), 1e-300)))

    def _lay(self, length: int) -> list[int]:
        count = max(1, int(np.ceil((length - self.size) / (0.5 * self.size))) + 1)
        return [int(start) for start in np.rint(np.linspace(0, length - self.size, count))]

    def _padded(self, length: int) -> int:
        return int(scipy.fft.next_fast_len(length + 2 * min(_MARGIN, length), real=True))

    def _field(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The terms at places in the field, (terms, ...); the means of all but the first are about 0."""
        y, x = (2 * np.asarray(p) / max(n - 1, 1) - 1 for p, n in zip((y, x), self.shape, strict=True))
        y, x = np.broadcast_arrays(y, x)
        return np.stack([np.ones_like(y), y, x, y**2 + x**2 - 2 / 3][: self.terms])

    def _share(self, q: np.ndarray) -> np.ndarray:
        rise = (q - _UNTOUCHED_Q[0]) / (_UNTOUCHED_Q[1] - _UNTOUCHED_Q[0])
        fall = (_NOISY_Q[1] - q) / (_NOISY_Q[1] - _NOISY_Q[0])
        return np.asarray(np.clip(np.minimum(rise, fall), 0.0, 1.0))


def running_weight(offsets: np.ndarray, half: float) -> np.ndarray:
    """
    Weights of neighbours in the running value.

    Parameters
    ----------
    offsets : numpy.ndarray
        Their distances in time, or in images, (images,).
    half : float
        Distance within which neighbours count, in the same unit.

    Returns
    -------
    numpy.ndarray
        (images,) float64: a raised cosine, above 0 up to `half`.
    """
    reach = np.clip(np.abs(np.asarray(offsets, np.float64)) / (1.001 * max(half, 1e-9)), 0.0, 1.0)
    return np.asarray(np.cos(0.5 * np.pi * reach) ** 2)


def _usual(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights (images, rings) by which values are like the others of their ring; their sum is 1, or 0."""
    values = np.where(weight > 0, values, 0.0)
    middle = _median(values, weight)
    own = weight
    for _ in range(_ROUNDS):
        away = np.abs(values - middle)
        usual = _UNUSUAL * 1.4826 * _median(away, weight) + 1e-12
        own = weight * np.minimum(1.0, usual / np.maximum(away, 1e-30))
        middle = (own * values).sum(axis=0) / np.maximum(own.sum(axis=0), 1e-30)
    return np.asarray(own / np.maximum(own.sum(axis=0), 1e-30))


def _median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted median along the first axis."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(np.take_along_axis(weight, order, 0), axis=0)
    place = np.minimum((below < 0.5 * below[-1]).sum(axis=0), len(values) - 1)
    return np.asarray(np.take_along_axis(np.take_along_axis(values, order, 0), place[None], 0)[0])
