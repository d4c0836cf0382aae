"""From a scene to what a camera sees through telescope and turbulence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import scipy.fft

from stillsun.core.zernike import zernike_basis
from stillsun.errors import ConfigError
from stillsun.synth.mirror import AdaptiveOptics
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
        Fourier transforms of the rest around every field point.
    """

    mean: float
    spectra: np.ndarray


class Imager:
    """
    One camera's view: point-spread functions on a grid of field points, blended smoothly.

    The scene is convolved with the point-spread function of every field point's own direction, and the images
    are added under windows twice as wide as the grid's step that sum to one. One thread makes a frame;
    several frames may be made at the same time.

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
    integrate : bool, optional
        Pixels integrate over their area, as those of a detector do; if not, they are points, as those of the
        ideal image always are.

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
        integrate: bool = False,
    ) -> None:
        self.shape = shape
        self._step = step
        # A window of the image, and what a point-spread function gathers around it.
        self._side = 2 * step + _BOX
        self._wavelength = wavelength
        counts = [-(-n // step) + 1 for n in shape]
        self.point_rows, self.point_columns = (np.arange(c) * step for c in counts)
        self.rows, self.columns = (np.arange(-_BOX // 2, (c - 1) * step + _BOX // 2) for c in counts)
        middle = (np.array(shape[::-1]) - 1) / 2
        point_columns, point_rows = np.meshgrid(self.point_columns, self.point_rows)
        offsets = np.stack([point_columns.ravel(), point_rows.ravel()], axis=1) - middle
        self._directions = (np.asarray(centre) + offsets @ np.asarray(jacobian).T) * ARCSEC
        self._pupil_index, self._pupil, unit = _pupil(jacobian, wavelength, diameter)
        rise = np.sin(np.pi / 2 * (np.arange(step) + 0.5) / step) ** 2
        window = np.concatenate([rise, rise[::-1]])
        self._window = np.outer(window, window).astype(np.float32)
        tilts = zernike_basis(unit[:, 0], unit[:, 1], 3)
        self._tilt_solver = np.linalg.pinv(tilts.T).astype(np.float32)
        # Tilt coefficients (m) to the image's motion in px: slope (m/m) on the sky, then to pixels.
        self._tilt_to_pixels = np.linalg.inv(jacobian) / ARCSEC * (2.0 / (diameter / 2))
        self._optics = optics if optics is not None and optics.modes else None
        if self._optics is not None:
            basis = zernike_basis(unit[:, 0], unit[:, 1], self._optics.modes + 1)
            self._solver = np.linalg.pinv(basis.T)[1:].astype(np.float32)
            self._modes = (self._optics.shares()[:, None] * basis[1:]).astype(np.float32)
            self._sensed = self._optics.directions() * ARCSEC
        self._pixel = np.float32(1)
        self.diffraction = self._spectra(np.zeros((1, len(self._pupil)), dtype=np.float32))[0]
        if integrate:
            y, x = scipy.fft.fftfreq(self._side)[:, None], scipy.fft.rfftfreq(self._side)
            self._pixel = (np.sinc(y) * np.sinc(x)).astype(np.float32)

    def prepare(self, scene: np.ndarray) -> PreparedScene:
        """
        Fourier transforms of the parts of a scene, to be used for all frames of a burst.

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
        # Half of the outer windows lies outside the image; what they show there is left out.
        rest = np.pad(scene.astype(np.float32) - np.float32(mean), self._step)
        parts = np.lib.stride_tricks.sliding_window_view(rest, (self._side, self._side))
        parts = parts[:: self._step, :: self._step].reshape(-1, self._side, self._side)
        spectra = np.empty((len(parts), self._side, self._side // 2 + 1), dtype=np.complex64)
        for start in range(0, len(parts), _CHUNK):
            part = slice(start, start + _CHUNK)
            spectra[part] = scipy.fft.rfft2(parts[part])
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
        for start in range(0, len(scene.spectra), _CHUNK):
            self._add(canvas, scene.spectra[start : start + _CHUNK] * self.diffraction, start)
        return self._crop(canvas, scene.mean)

    def expose(
        self,
        scene: PreparedScene,
        atmosphere: Atmosphere,
        seconds: float,
        strength: float = 1.0,
        earlier: Sequence[float] = (0.0,),
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
            Time of the exposure.
        strength : float
            Factor on the path differences of the atmosphere.
        earlier : sequence of float
            The exposure is the mean of instants so many seconds earlier; by default it is an instant itself.

        Returns
        -------
        image : numpy.ndarray, shape (rows, columns), float32
            The image; flux is kept.
        shifts : numpy.ndarray, shape (2, point rows, point columns), float32
            Motion (y, x) of the image at the field points in px: Zernike tilt over the pupil. What a
            perfect telescope shows at p is seen at p + shift.
        """
        instants = [self._paths(atmosphere, seconds, strength, before) for before in earlier]
        canvas = self._canvas()
        for start in range(0, len(scene.spectra), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._add(canvas, self._spectra(*(p[part] for p in instants)) * scene.spectra[part], start)
        tilts = (np.mean(instants, axis=0) @ self._tilt_solver[1:].T) @ self._tilt_to_pixels.T
        shifts = tilts[:, ::-1].T.reshape(2, len(self.point_rows), len(self.point_columns))
        return self._crop(canvas, scene.mean), shifts.astype(np.float32)

    def _paths(self, atmosphere: Atmosphere, seconds: float, strength: float, before: float) -> np.ndarray:
        """Path differences over the pupil that are left for every field point."""
        paths = atmosphere.path(self._pupil, self._directions, seconds, strength, before)
        if self._optics is not None:
            before += self._optics.lag
            sensed = atmosphere.path(self._pupil, self._sensed, seconds, strength, before).mean(axis=0)
            paths -= (self._solver @ sensed) @ self._modes
        return paths

    def _spectra(self, *instants: np.ndarray) -> np.ndarray:
        """Optical transfer functions of path differences over the pupil, mean of instants."""
        intensity = np.zeros((len(instants[0]), _BOX, _BOX), dtype=np.float32)
        # Parseval: the sum of every function is 1.
        scale = np.float32(1.0 / (_BOX**2 * len(self._pupil) * len(instants)))
        for paths in instants:
            fields = _fields(paths, self._pupil_index, np.float32(2 * np.pi / self._wavelength), _BOX)
            _add_intensity(scipy.fft.fft2(fields, overwrite_x=True), scale, intensity)
        # Only the first rows hold anything, and in `_add` only the last ones are wanted.
        rows = scipy.fft.rfft(intensity, n=self._side)
        spectra = scipy.fft.fft(rows, n=self._side, axis=1, overwrite_x=True)
        return np.asarray(spectra * self._pixel)

    def _canvas(self) -> np.ndarray:
        counts = (len(self.point_rows) + 1, len(self.point_columns) + 1)
        return np.zeros([c * self._step for c in counts], dtype=np.float32)

    def _add(self, canvas: np.ndarray, spectra: np.ndarray, first: int) -> None:
        step = self._step
        rows = scipy.fft.ifft(spectra, axis=1, overwrite_x=True)[:, _BOX:]
        images = scipy.fft.irfft(rows, n=self._side)[:, :, _BOX:]
        for number, image in enumerate(images, first):
            i, j = divmod(number, len(self.point_columns))
            canvas[i * step : (i + 2) * step, j * step : (j + 2) * step] += image * self._window

    def _crop(self, canvas: np.ndarray, mean: float) -> np.ndarray:
        rows, columns = self.shape
        return canvas[self._step :, self._step :][:rows, :columns] + np.float32(mean)


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
def _add_intensity(amplitude, scale, out):  # type: ignore[no-untyped-def]
    """Squared modulus with its centre in the middle."""
    box = amplitude.shape[1]
    half = box // 2
    for d in range(amplitude.shape[0]):
        for i in range(box):
            for j in range(box):
                a = amplitude[d, i, j]
                out[d, (i + half) % box, (j + half) % box] += scale * (a.real * a.real + a.imag * a.imag)
