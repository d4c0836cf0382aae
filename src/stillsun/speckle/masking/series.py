"""A sequence of bursts becomes images whose photometry does not flicker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stillsun.core.backend import Backend, get_backend
from stillsun.errors import ConfigError, InputError
from stillsun.speckle.engine import Reconstruction
from stillsun.speckle.masking.flicker import Flicker, running_weight
from stillsun.speckle.masking.geometry import subfield_size
from stillsun.speckle.masking.limits import plate_scale_of
from stillsun.speckle.masking.noise import FlatFrames
from stillsun.speckle.masking.reconstruction import reconstruct

_ARCSEC = np.pi / 648_000


def reconstruct_series(
    bursts: Iterable[Any],
    plate_scale: float | tuple[float, float],
    wavelength: float,
    diameter: float = 762.0,
    noise: Any = None,
    deconvolve: bool = True,
    backend: Backend | str | None = None,
    *,
    subfield_arcsec: float = 7.0,
    window: int = 121,
    **options: Any,
) -> Iterator[Reconstruction]:
    """
    Reconstruct a sequence of bursts without flicker.

    Parameters
    ----------
    bursts : iterable of array_like
        Calibrated frames of each burst, (frames, rows, columns), in the order of time; taken one by one.
    plate_scale, wavelength, diameter, noise, deconvolve, backend, subfield_arcsec
        As for `reconstruct`.
    window : int, optional
        Images whose power an image's is held to, itself in the middle: as many as there are in some ten
        minutes, those in the middle half count most. Errors that go with the seeing are taken out where it
        comes and goes within that time. 1: no filter.
    **options
        More arguments of `reconstruct`.

    Returns
    -------
    iterator of Reconstruction
        One a burst, in order, half a window after its burst was taken; `steadied` says how strong the filter
        was.

    Raises
    ------
    ConfigError
        If an option is out of its range.
    InputError
        If the arrays do not fit, or the bursts differ in shape.
    ReconstructionError
        If a burst holds nothing that can be reconstructed.

    Notes
    -----
    Each burst has a transfer function of its own, which is known to some per cent. From one burst to the
    next the Sun cancels in the ratio of their powers, and what all the field has in common is the ratio of
    the errors: the amplitudes of each image are multiplied by a smooth function of frequency and, to second
    order, of the place, that brings its power to the running one. Brightness, the lowest frequencies, and
    what changes in a part of the field, stay as they are.

    Memory: beside that of `reconstruct` half a window of images.
    """
    if window < 1:
        raise ConfigError("window of the series", expected="at least 1", found=window)
    scale = plate_scale_of(plate_scale)
    backend = get_backend(backend)
    flats = FlatFrames(noise) if noise is not None and not isinstance(noise, FlatFrames) else noise
    given: dict[str, Any] = {
        "noise": flats,
        "deconvolve": deconvolve,
        "backend": backend,
        "subfield_arcsec": subfield_arcsec,
    }
    results = (reconstruct(b, plate_scale, wavelength, diameter, **given, **options) for b in bursts)
    limit = diffraction_limit(diameter, wavelength)
    return steady(results, scale, limit, subfield_arcsec, window // 2, backend)


def steady(
    results: Iterable[Reconstruction],
    scale: tuple[float, float],
    limit: float,
    subfield_arcsec: float,
    half: int,
    backend: Backend,
) -> Iterator[Reconstruction]:
    """
    Hold the power of images to its running value.

    Parameters
    ----------
    results : iterable of Reconstruction
        Images in the order of time.
    scale : tuple of float
        Arcsec per pixel along y and x.
    limit : float
        Diffraction limit, cycles per arcsec.
    subfield_arcsec : float
        Side of a subfield, arcsec.
    half : int
        Neighbours on each side that go into the running value; 0: no filter.
    backend : Backend
        Where to compute.

    Yields
    ------
    Reconstruction
        With another image, and what was done to it.

    Raises
    ------
    InputError
        If the images differ in shape.
    """
    if half < 1:
        yield from results
        return
    flicker: Flicker | None = None
    waiting: deque[Reconstruction] = deque()
    powers: deque[np.ndarray] = deque()
    behind = 0
    for result in results:
        shape = result.image.shape
        if flicker is None:
            flicker = flicker_of(shape, scale, limit, subfield_arcsec)
        if shape != flicker.shape:
            raise InputError("bursts of different shapes", expected=flicker.shape, found=shape)
        waiting.append(result)
        powers.append(flicker.measure(result.image, backend))
        if len(waiting) > half:
            yield _held(flicker, waiting.popleft(), powers, behind, half, backend)
            behind = _move_on(powers, behind, half)
    while waiting and flicker is not None:
        yield _held(flicker, waiting.popleft(), powers, behind, half, backend)
        behind = _move_on(powers, behind, half)


def _move_on(powers: deque[np.ndarray], behind: int, half: int) -> int:
    """Forget what the next image has no use for; the number of images before it."""
    if behind < half:
        return behind + 1
    powers.popleft()
    return behind


def _held(
    flicker: Flicker,
    result: Reconstruction,
    powers: Iterable[np.ndarray],
    own: int,
    half: int,
    backend: Backend,
) -> Reconstruction:
    table = np.stack(list(powers))
    correction = flicker.correction(table, own, running_weight(np.arange(len(table)) - own, half))
    return replace(
        result,
        image=flicker.apply(result.image, correction, backend),
        steadied=flicker.strength(correction, table[own]),
        steadying=correction,
    )


def diffraction_limit(diameter: float, wavelength: float) -> float:
    """
    Highest frequency that a telescope passes.

    Parameters
    ----------
    diameter : float
        Of the telescope, millimetres.
    wavelength : float
        Nanometres.

    Returns
    -------
    float
        Cycles per arcsec.
    """
    return diameter * 1e-3 / (wavelength * 1e-9) * _ARCSEC


def flicker_of(
    shape: tuple[int, ...], scale: tuple[float, float], limit: float, subfield_arcsec: float
) -> Flicker:
    """
    What measures and filters the images of a sequence.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the images.
    scale : tuple of float
        Arcsec per pixel along y and x.
    limit : float
        Diffraction limit, cycles per arcsec.
    subfield_arcsec : float
        Side of a subfield, arcsec.

    Returns
    -------
    Flicker
        For images of this shape.
    """
    rows, columns = shape
    size = subfield_size(subfield_arcsec, scale, (rows, columns))
    return Flicker((rows, columns), (limit * scale[0], limit * scale[1]), size)
