"""A frame and its distorted copy whose displacement is known exactly: the yardstick of the destretch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndimage

from stillsun.core.apodize import valid_box
from stillsun.core.backend import get_backend

_LENGTHS = (128.0, 64.0, 32.0, 16.0)  # correlation lengths in pixels
_SHARES = (0.4, 0.3, 0.2, 0.1)  # of the variance
_BLUR = 2.0  # pixels


@dataclass(frozen=True)
class KnownWarp:
    """
    A pair of frames with its truth.

    Attributes
    ----------
    reference : numpy.ndarray
        (rows, columns) float32, with a constant border.
    distorted : numpy.ndarray
        (rows, columns) float32: moved, blurred in part, with noise and unrelated change.
    undistorted : numpy.ndarray
        (rows, columns) float32: blurred, noisy and changed alike, but not moved.
    clean : numpy.ndarray
        (rows, columns) float32: blurred alike, neither moved nor noisy nor changed.
    displacement : numpy.ndarray
        (2, rows, columns) float64, the truth: ``reference(y, x) ~ distorted(y - d[0], x - d[1])``.
    box : tuple of int
        First row, row behind the last, first column, column behind the last of the valid part.
    """

    reference: np.ndarray
    distorted: np.ndarray
    undistorted: np.ndarray
    clean: np.ndarray
    displacement: np.ndarray
    box: tuple[int, int, int, int]

    def residual(self, displacement: np.ndarray, inner: int = 64, outer: int | None = None) -> float:
        """
        Difference of a recovered field from the truth.

        Parameters
        ----------
        displacement : numpy.ndarray
            (2, rows, columns).
        inner : int, optional
            Only what lies further than this from the valid part's edge, in pixels.
        outer : int, optional
            Instead: only the ring between `outer` and `inner` pixels from the edge.

        Returns
        -------
        float
            Pixels rms per axis.
        """
        y0, y1, x0, x1 = self.box
        inside = np.zeros(self.reference.shape, bool)
        if outer is not None:
            inside[y0 + outer : y1 - outer, x0 + outer : x1 - outer] = True
        inside[y0 + inner : y1 - inner, x0 + inner : x1 - inner] = outer is None
        return float(np.sqrt(np.mean((displacement - self.displacement)[:, inside] ** 2)))

    def fine_power(self, corrected: np.ndarray, limit: float) -> tuple[float, float]:
        """
        Fine detail of a corrected frame against that of the frame that was never distorted.

        Parameters
        ----------
        corrected : numpy.ndarray
            (rows, columns), the distorted frame after correction.
        limit : float
            Band limit of the frame, cycles per pixel.

        Returns
        -------
        power, coherent : float
            Power between 0.5 and 0.9 of the limit, as a fraction of that of `undistorted`; and the part
            that is in phase with `clean`, as a fraction of its. Both 1 for a perfect correction.
        """
        y0, y1, x0, x1 = self.box
        size = min(y1 - y0, x1 - x0) - 160
        place = np.s_[y0 + 80 : y0 + 80 + size, x0 + 80 : x0 + 80 + size]
        window = np.outer(np.hanning(size), np.hanning(size))
        k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
        band = (k > 0.5 * limit) & (k < 0.9 * limit)
        ours, alike, clean = (
            np.fft.rfft2((f[place] - f[place].mean(dtype=np.float64)) * window)[band]
            for f in (corrected, self.undistorted, self.clean)
        )
        power = (np.abs(ours) ** 2).sum() / (np.abs(alike) ** 2).sum()
        return float(power), float((ours * clean.conj()).real.sum() / (np.abs(clean) ** 2).sum())


def known_warp(
    image: np.ndarray,
    seed: int,
    *,
    rms: float = 1.5,
    shift: tuple[float, float] = (4.37, -2.71),
    noise: float = 0.03,
    change: float = 0.10,
    blend: float = 0.20,
    margin: int = 12,
) -> KnownWarp:
    """
    Distort a frame by a smooth random displacement.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), a frame; its constant border is made wider by `margin`, so that what moves in
        from the sides is real, too.
    seed : int
        Of the random numbers.
    rms : float, optional
        Rms of the displacement per axis without the shift, pixels; correlation lengths of 128, 64, 32
        and 16 pixels with shares of 0.4, 0.3, 0.2 and 0.1 of the variance.
    shift : tuple of float, optional
        Global part, order y, x.
    noise : float, optional
        White noise, as a fraction of the contrast.
    change : float, optional
        Unrelated change (the frame turned by 180 degrees), as a fraction of the contrast.
    blend : float, optional
        Share of a copy blurred by a Gaussian of 2 pixels.
    margin : int, optional
        Pixels by which the border is widened; more than the displacement.

    Returns
    -------
    KnownWarp
        Both frames, and the truth to about 1e-3 pixels.
    """
    rng = np.random.default_rng(seed)
    image = np.asarray(image, np.float64)
    shape = image.shape
    y0, y1, x0, x1 = valid_box(image, get_backend("numpy"))
    y0, y1, x0, x1 = y0 + margin, y1 - margin, x0 + margin, x1 - margin
    inside = np.s_[y0:y1, x0:x1]

    push = np.zeros((2, *shape))
    for axis in range(2):
        for length, share in zip(_LENGTHS, _SHARES, strict=True):
            part = ndimage.gaussian_filter(rng.standard_normal(shape), length / 2, mode="wrap")
            push[axis] += np.sqrt(share) * part / part.std()
        push[axis] = rms * (push[axis] - push[axis].mean()) / push[axis].std() + shift[axis]

    grid = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    moved = ndimage.map_coordinates(image, grid + push, order=5, mode="nearest")
    # distorted(p) = image(p + push(p)), so that d(q) = push(q - d(q)) brings it back.
    truth = push
    for _ in range(20):
        truth = np.stack(
            [ndimage.map_coordinates(push[axis], grid - truth, order=1, mode="nearest") for axis in range(2)]
        )

    contrast = image[inside].std()
    other = image[::-1, ::-1] - image[inside].mean()
    other = change * contrast / other[inside].std() * other + noise * contrast * rng.standard_normal(shape)

    def framed(values: np.ndarray) -> np.ndarray:
        out = np.full(shape, image[inside].mean(), np.float32)
        out[inside] = values[inside]
        return out

    def blurred(values: np.ndarray) -> np.ndarray:
        return (1 - blend) * values + blend * ndimage.gaussian_filter(values, _BLUR)

    return KnownWarp(
        framed(image),
        framed(blurred(moved) + other),
        framed(blurred(image) + other),
        framed(blurred(image)),
        truth,
        (y0, y1, x0, x1),
    )
