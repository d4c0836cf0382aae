"""The Sun as it is: brightness at any point and time, from a model or from an image file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path

import numba
import numpy as np
import scipy.ndimage
from astropy.io import fits

from stillsun.errors import ConfigError, InputError
from stillsun.synth.flow import Flow
from stillsun.synth.granulation import Components, DarkSpot, Granulation

# Granules live for minutes: in between, the pattern is interpolated in time.
KEYFRAME_SECONDS = 10.0
DEFAULT_IMAGE_SCALE = 0.048


class Appearance(Enum):
    """What a filter shows."""

    continuum = "continuum"
    gband = "gband"
    cak = "cak"
    halpha = "halpha"


@dataclass
class Scene:
    """
    A periodic pattern carried along by a known flow.

    Positions are arcsec on the plane of the sky, x to solar west and y to solar north, from the centre
    of the field.

    Attributes
    ----------
    source : Granulation or numpy.ndarray
        The model, or a fixed periodic image (rows from south to north).
    period : tuple of float
        Period (y, x), arcsec.
    flow : Flow
        Carries everything that is seen.
    """

    source: Granulation | np.ndarray
    period: tuple[float, float]
    flow: Flow = field(default_factory=Flow)

    def __post_init__(self) -> None:
        self._keyframe = lru_cache(maxsize=4)(self._make_keyframe)
        self._components = lru_cache(maxsize=2)(self._make_components)

    def image(
        self,
        centre: np.ndarray,
        jacobian: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        seconds: float,
        look: Appearance = Appearance.continuum,
    ) -> np.ndarray:
        """
        Brightness at the pixels of an image, without telescope or atmosphere.

        Parameters
        ----------
        centre : array_like, shape (2,)
            Sky position (x, y) of row 0, column 0, arcsec.
        jacobian : array_like, shape (2, 2)
            Sky step (x, y) for one (column, row).
        rows, columns : array_like
            Evenly spaced row and column numbers; they may lie outside the image.
        seconds : float
            Time since the beginning of the observation.
        look : Appearance
            What the filter shows.

        Returns
        -------
        numpy.ndarray, shape (rows, columns), float32
            Brightness, mean of the quiet Sun near 1.
        """
        x, y = self.flow.origin_on_grid(
            np.asarray(centre, dtype=np.float64),
            np.asarray(jacobian, dtype=np.float64),
            np.asarray(rows),
            np.asarray(columns),
            seconds,
        )
        pattern = self.pattern(seconds, look)
        return _sample(
            pattern, y * (pattern.shape[0] / self.period[0]), x * (pattern.shape[1] / self.period[1])
        )

    def pattern(self, seconds: float, look: Appearance = Appearance.continuum) -> np.ndarray:
        """
        The periodic pattern of one time, before the flow carries it away.

        Parameters
        ----------
        seconds : float
            Time since the beginning of the observation.
        look : Appearance
            What the filter shows.

        Returns
        -------
        numpy.ndarray, float32
            Brightness on the pattern's own grid; row 0, column 0 lies at the origin.
        """
        if isinstance(self.source, np.ndarray):
            return self.source
        before = int(np.floor(seconds / KEYFRAME_SECONDS))
        part = np.float32(seconds / KEYFRAME_SECONDS - before)
        first = self._keyframe(before, look)
        return first if part == 0 else first + part * (self._keyframe(before + 1, look) - first)

    def _make_keyframe(self, number: int, look: Appearance) -> np.ndarray:
        assert isinstance(self.source, Granulation)
        return _mix(self._components(number), look, self.source.pixel)

    def _make_components(self, number: int) -> Components:
        assert isinstance(self.source, Granulation)
        return self.source.at(number * KEYFRAME_SECONDS)


def granulation_scene(
    side: float, seed: int, *, flow: Flow | None = None, spots: Sequence[DarkSpot] = ()
) -> Scene:
    """
    A scene of model granulation.

    Parameters
    ----------
    side : float
        Period, arcsec; rounded up to whole granules.
    seed : int
        Seed of everything random.
    flow : Flow, optional
        Flow that carries the pattern; none by default.
    spots : sequence of DarkSpot
        Pores and sunspots.

    Returns
    -------
    Scene
        The scene.
    """
    model = Granulation(side, seed, tuple(spots))
    return Scene(model, (model.period, model.period), flow or Flow())


def image_scene(path: Path, *, scale: float | None = None, flow: Flow | None = None) -> Scene:
    """
    A scene from the first two-dimensional image of a FITS file, mirrored at its edges.

    A constant border is cropped. ``BZERO = 32768`` on floating-point data is a relic of the raw file
    in reconstructed frames of this instrument and is not applied.

    Parameters
    ----------
    path : Path
        FITS file.
    scale : float, optional
        Arcsec per pixel; by default that of the header (CDELT1 in arcsec), else 0.048.
    flow : Flow, optional
        Flow that carries the image; none by default.

    Returns
    -------
    Scene
        The scene, its brightness divided by its mean.

    Raises
    ------
    ConfigError
        If there is no such file.
    InputError
        If there is no usable image in it.
    """
    if not Path(path).is_file():
        raise ConfigError("no such scene file", file=path, remedy="Give a FITS file that holds an image")
    remedy = "Give a FITS file that holds an image of the Sun"
    try:
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            hdu = next(
                (h for h in hdus if h.header.get("NAXIS") == 2 and getattr(h, "data", None) is not None), None
            )
            if hdu is None:
                raise InputError("no two-dimensional image in the scene file", file=path, remedy=remedy)
            header, data = hdu.header.copy(), np.asarray(hdu.data, dtype=np.float64)
            if hdu.header["BITPIX"] > 0:
                data = data * header.get("BSCALE", 1) + header.get("BZERO", 0)
    except OSError as error:
        raise InputError(f"the scene cannot be read ({error})", file=path, remedy=remedy) from error
    data = _crop_constant_border(data)
    if min(data.shape) < 16 or not np.isfinite(data).all() or not data.mean() > 0:
        raise InputError(
            "the scene image cannot be used",
            file=path,
            expected="at least 16 x 16 finite pixels with a positive mean",
            found=f"{data.shape[0]} x {data.shape[1]} pixels inside a constant border",
            remedy=remedy,
        )
    if scale is None:
        in_arcsec = str(header.get("CUNIT1", "")).strip().lower() in ("arcsec", "arcsecond")
        scale = abs(float(header["CDELT1"])) if in_arcsec and header.get("CDELT1") else DEFAULT_IMAGE_SCALE
    image = (data / data.mean()).astype(np.float32)
    # Point-symmetric continuation would change the mean; mirroring keeps it and is continuous.
    tile = np.block([[image, image[:, ::-1]], [image[::-1], image[::-1, ::-1]]])
    # The centre of the image, not its corner, is the centre of the field.
    tile = np.roll(tile, (-(image.shape[0] // 2), -(image.shape[1] // 2)), axis=(0, 1))
    return Scene(np.ascontiguousarray(tile), (tile.shape[0] * scale, tile.shape[1] * scale), flow or Flow())


def _crop_constant_border(data: np.ndarray) -> np.ndarray:
    while min(data.shape) > 1:
        top, bottom, left, right = (
            int(np.ptp(edge) == 0) for edge in (data[0], data[-1], data[:, 0], data[:, -1])
        )
        if not top + bottom + left + right:
            break
        data = data[top : data.shape[0] - bottom, left : data.shape[1] - right]
    return data


def _mix(parts: Components, look: Appearance, pixel: float) -> np.ndarray:
    """Combine the components as a filter would."""
    keep = 1 - parts.spots
    if look is Appearance.continuum:
        image = parts.granules + 0.25 * parts.points
    elif look is Appearance.gband:
        image = 1 + 1.05 * (parts.granules - 1) + 0.85 * parts.points
    elif look is Appearance.cak:
        # Above the photosphere granulation is reversed and blurred; the network glows.
        reversed_ = 1 - 0.80 * (_blur(parts.granules, 0.20, pixel) - 1)
        glow = _blur(parts.points, 0.22, pixel) + 0.25 * _blur(parts.network, 0.8, pixel)
        above = (reversed_ + 1.3 * glow + 0.03 * parts.fibrils) * keep
        image = above + (0.25 + 0.6 * parts.granules) * parts.spots
    else:
        faint = 1 + 0.25 * (_blur(parts.granules, 0.4, pixel) - 1)
        glow = _blur(parts.points, 0.35, pixel)
        threads = 0.13 * parts.fibrils * (0.5 + 0.8 * parts.network)
        above = (faint + 0.7 * glow) * keep
        image = above + (0.45 + 0.45 * parts.granules) * parts.spots + threads * (1 - 0.6 * parts.spots)
    return np.maximum(image, 0.05).astype(np.float32)


def _blur(image: np.ndarray, arcsec: float, pixel: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(image, arcsec / pixel, mode="wrap", truncate=3.0)


@numba.njit(cache=True, nogil=True)
def _sample(pattern, y, x):  # type: ignore[no-untyped-def]
    """Bicubic (Catmull-Rom) interpolation of a periodic pattern."""
    rows, columns = pattern.shape
    out = np.empty(y.shape, np.float32)
    for i in range(y.shape[0]):
        wy = np.empty(4)
        wx = np.empty(4)
        for j in range(y.shape[1]):
            fy = np.floor(y[i, j])
            fx = np.floor(x[i, j])
            for t, w in ((y[i, j] - fy, wy), (x[i, j] - fx, wx)):
                w[0] = 0.5 * t * (-1 + t * (2 - t))
                w[1] = 0.5 * (2 + t * t * (3 * t - 5))
                w[2] = 0.5 * t * (1 + t * (4 - 3 * t))
                w[3] = 0.5 * t * t * (t - 1)
            r0 = int(fy) - 1
            c0 = int(fx) - 1
            total = 0.0
            for a in range(4):
                r = (r0 + a) % rows
                line = 0.0
                for b in range(4):
                    line += wx[b] * pattern[r, (c0 + b) % columns]
                total += wy[a] * line
            out[i, j] = total
    return out
