"""From a scene to what a camera sees through telescope and turbulence."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import scipy.fft

from stillsun.core.zernike import zernike_basis
from stillsun.errors import ConfigError
from stillsun.synth.seeing import Atmosphere

ARCSEC = np.pi / 180 / 3600
_BOX = 128  # side of a point-spread function, px
_CHUNK = 8  # point-spread functions at a time: they stay in the cache


@dataclass(frozen=True)
class PreparedScene:
    """
    A scene made ready for one camera.

    Attributes
    ----------
    mean : float
        Mean brightness; it needs no convolution.
    spectra : numpy.ndarray, shape (field points, rows, columns), complex64
        Fourier transforms of the rest under every field point's window.
    """

    mean: float
    spectra: np.ndarray


@dataclass(frozen=True)
class AdaptiveOptics:
    """
    A mirror that takes away what a wavefront sensor sees at the lock point.

    The correction is the same for the whole field, so that it fades with the distance from the lock
    point as the high layers' contributions drift apart.

    Attributes
    ----------
    modes : int
        Corrected Zernike modes after piston (2: tip and tilt only).
    efficiency : float
        Share of each mode that is removed.
    lock : (float, float)
        Lock point (x, y), arcsec from the centre of the field.
    """

    modes: int
    efficiency: float = 0.9
    lock: tuple[float, float] = (0.0, 0.0)


class Imager:
    """
    One camera's view: point-spread functions on a grid of field points, blended smoothly.

    Every field point's window of the scene (twice as wide as the grid's step, all windows sum to one)
    is convolved with the point-spread function of its own direction, and the results are added. One thread
    makes a frame; several frames may be made at the same time.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the camera image.
    jacobian : numpy.ndarray, shape (2, 2)
        Sky step (x, y), arcsec, for one (column, row).
    centre : array_like, shape (2,)
        Sky position (x, y) of the middle of the image, arcsec.
    wavelength : float
        Wavelength, m.
    diameter : float
        Diameter of the telescope, m.
    optics : AdaptiveOptics, optional
        Adaptive optics; none by default.
    step : int, optional
        Distance of the field points, px, at most 64. Between them the image is a mean of differently blurred
        ones, which takes power from fine detail where the seeing changes within that distance: 32 px take
        half as much as 64 do, at four times the cost.

    Attributes
    ----------
    rows, columns : numpy.ndarray
        Row and column numbers at which the scene must be given: the image and a margin around it.
    point_rows, point_columns : numpy.ndarray
        The grid of field points, px.

    Raises
    ------
    ConfigError
        If pixels are so large that the point-spread function of the telescope is badly undersampled.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        jacobian: np.ndarray,
        centre: tuple[float, float] | np.ndarray,
        wavelength: float,
        diameter: float = 0.762,
        optics: AdaptiveOptics | None = None,
        step: int = 64,
    ) -> None:
        self.shape = shape
        self._step = step
        self._padded = _BOX + step
        self._margin = (self._padded - 2 * step) // 2
        self._wavelength = wavelength
        counts = [-(-n // step) + 1 for n in shape]
        self.point_rows, self.point_columns = (np.arange(c) * step for c in counts)
        self.rows, self.columns = (np.arange(-step, c * step) for c in counts)
        middle = (np.array(shape[::-1]) - 1) / 2
        point_columns, point_rows = np.meshgrid(self.point_columns, self.point_rows)
        offsets = np.stack([point_columns.ravel(), point_rows.ravel()], axis=1) - middle
        self._directions = (np.asarray(centre) + offsets @ np.asarray(jacobian).T) * ARCSEC
        self._pupil_index, self._pupil, unit = _pupil(jacobian, wavelength, diameter)
        self._windows = [_windows(c, step) for c in counts]
        tilts = zernike_basis(unit[:, 0], unit[:, 1], 3)
        self._tilt_solver = np.linalg.pinv(tilts.T).astype(np.float32)
        # Tilt coefficients (m) to the image's motion in px: slope (m/m) on the sky, then to pixels.
        self._tilt_to_pixels = np.linalg.inv(jacobian) / ARCSEC * (2.0 / (diameter / 2))
        self._optics = optics if optics is not None and optics.modes else None
        if self._optics is not None:
            basis = zernike_basis(unit[:, 0], unit[:, 1], self._optics.modes + 1)
            self._solver = np.linalg.pinv(basis.T)[1:].astype(np.float32)
            self._modes = (self._optics.efficiency * basis[1:]).astype(np.float32)
        self.diffraction = self._spectra(np.zeros((1, len(self._pupil)), dtype=np.float32))[0]

    def prepare(self, scene: np.ndarray) -> PreparedScene:
        """
        Fourier transforms of the windowed scene, to be used for all frames of a burst.

        Parameters
        ----------
        scene : numpy.ndarray, shape (rows, columns)
            Scene at `rows` and `columns`.

        Returns
        -------
        PreparedScene
            To be handed to `expose` and `ideal`.
        """
        mean = float(scene.mean(dtype=np.float64))
        rest = scene.astype(np.float32) - np.float32(mean)
        size = (len(self.point_rows), len(self.point_columns))
        step, padded = self._step, self._padded
        boxes = np.zeros((*size, padded, padded), dtype=np.float32)
        inside = slice(self._margin, self._margin + 2 * step)
        wy, wx = self._windows
        for i, j in np.ndindex(*size):
            part = rest[i * step : (i + 2) * step, j * step : (j + 2) * step]
            boxes[i, j, inside, inside] = part * wy[i][:, None] * wx[j]
        spectra = scipy.fft.rfft2(boxes.reshape(-1, padded, padded))
        return PreparedScene(mean, spectra)

    def ideal(self, scene: PreparedScene) -> np.ndarray:
        """
        The image that a perfect telescope of the same diameter gives in space.

        Parameters
        ----------
        scene : PreparedScene
            From `prepare`.

        Returns
        -------
        numpy.ndarray, shape (rows, columns), float32
            Diffraction-limited image.
        """
        canvas = self._canvas()
        self._add(canvas, scene.spectra * self.diffraction, 0)
        return self._crop(canvas, scene.mean)

    def expose(
        self, scene: PreparedScene, atmosphere: Atmosphere, seconds: float, strength: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        One short exposure through the atmosphere.

        Parameters
        ----------
        scene : PreparedScene
            From `prepare`.
        atmosphere : Atmosphere
            The turbulence.
        seconds : float
            Time of the exposure; it is taken as instantaneous.
        strength : float
            Factor on the path differences of the atmosphere.

        Returns
        -------
        image : numpy.ndarray, shape (rows, columns), float32
            The image; flux is kept.
        shifts : numpy.ndarray, shape (2, point rows, point columns), float32
            Motion (y, x) of the image at the field points in px: Zernike tilt over the pupil. What a
            perfect telescope shows at p is seen at p + shift.
        """
        paths = atmosphere.path(self._pupil, self._directions, seconds, strength)
        if self._optics is not None:
            lock = np.array([self._optics.lock]) * ARCSEC
            sensed = atmosphere.path(self._pupil, lock, seconds, strength)[0]
            paths -= (self._solver @ sensed) @ self._modes
        canvas = self._canvas()
        for start in range(0, len(paths), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._add(canvas, self._spectra(paths[part]) * scene.spectra[part], start)
        tilts = (paths @ self._tilt_solver[1:].T) @ self._tilt_to_pixels.T
        shifts = tilts[:, ::-1].T.reshape(2, len(self.point_rows), len(self.point_columns))
        return self._crop(canvas, scene.mean), shifts.astype(np.float32)

    def _spectra(self, paths: np.ndarray) -> np.ndarray:
        """Optical transfer functions of path differences over the pupil."""
        fields = _fields(paths, self._pupil_index, np.float32(2 * np.pi / self._wavelength), _BOX)
        amplitude = scipy.fft.fft2(fields, overwrite_x=True)
        scale = np.float32(1.0 / (_BOX**2 * len(self._pupil)))  # Parseval: the sum of every function is 1
        return scipy.fft.rfft2(_intensity(amplitude, scale, self._padded))

    def _canvas(self) -> np.ndarray:
        rows, columns = (
            (len(p) - 1) * self._step + self._padded for p in (self.point_rows, self.point_columns)
        )
        return np.zeros((rows, columns), dtype=np.float32)

    def _add(self, canvas: np.ndarray, spectra: np.ndarray, first: int) -> None:
        step, padded = self._step, self._padded
        boxes = scipy.fft.irfft2(spectra, s=(padded, padded), overwrite_x=True)
        for number, box in enumerate(boxes, first):
            i, j = divmod(number, len(self.point_columns))
            canvas[i * step : i * step + padded, j * step : j * step + padded] += box

    def _crop(self, canvas: np.ndarray, mean: float) -> np.ndarray:
        first = self._step + self._margin
        rows, columns = self.shape
        return canvas[first : first + rows, first : first + columns] + np.float32(mean)


def _pupil(
    jacobian: np.ndarray, wavelength: float, diameter: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the pupil in the Fourier array, in metres, and in units of its radius."""
    axis = np.arange(-_BOX // 2, _BOX // 2)
    columns, rows = np.meshgrid(axis, axis)
    # Element k of the array transforms to pixels m by exp(-2 pi i k m / N): a direction J m on the sky
    # belongs to the pupil position (wavelength / N) J^-T k.
    places = np.stack([columns.ravel(), rows.ravel()], axis=1)
    metres = places @ np.linalg.inv(np.asarray(jacobian) * ARCSEC) * (wavelength / _BOX)
    unit = metres / (diameter / 2)
    inside = np.hypot(unit[:, 0], unit[:, 1]) <= 1.0
    edge = np.abs(places).max(axis=1) == _BOX // 2
    if (inside & edge).any():
        limit = wavelength / diameter / ARCSEC
        raise ConfigError(
            "the pixels are too large for the simulator",
            expected=f"a plate scale below {limit:.3f} arcsec at {wavelength * 1e9:.1f} nm",
            found=f"{np.sqrt(abs(np.linalg.det(jacobian))):.3f} arcsec",
        )
    index = (places[inside, 1] % _BOX) * _BOX + places[inside, 0] % _BOX
    return index, metres[inside], unit[inside]


def _windows(count: int, step: int) -> np.ndarray:
    """Windows along one axis that sum to one; the outer ones stay at one towards the outside."""
    rise = np.sin(np.pi / 2 * (np.arange(step) + 0.5) / step) ** 2
    windows = np.tile(np.concatenate([rise, rise[::-1]]), (count, 1))
    windows[0, :step] = 1.0
    windows[-1, step:] = 1.0
    return windows.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _fields(paths, index, wave_number, box):  # type: ignore[no-untyped-def]
    """Complex amplitude in the pupil, laid into the array to be transformed."""
    out = np.zeros((paths.shape[0], box * box), np.complex64)
    for d in range(paths.shape[0]):
        for p in range(index.size):
            phase = wave_number * paths[d, p]
            out[d, index[p]] = np.complex64(complex(np.cos(phase), np.sin(phase)))
    return out.reshape((paths.shape[0], box, box))


@numba.njit(cache=True, nogil=True)
def _intensity(amplitude, scale, size):  # type: ignore[no-untyped-def]
    """Squared modulus with its centre at [0, 0], padded with zeros to a larger array."""
    box = amplitude.shape[1]
    half = box // 2
    out = np.zeros((amplitude.shape[0], size, size), np.float32)
    for d in range(amplitude.shape[0]):
        for i in range(box):
            r = i if i < half else i + size - box
            for j in range(box):
                c = j if j < half else j + size - box
                a = amplitude[d, i, j]
                out[d, r, c] = scale * (a.real * a.real + a.imag * a.imag)
    return out
