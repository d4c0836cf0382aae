"""Sky off the limb: where hardly any light comes from, the mean image stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from stillsun.core.backend import Backend
from stillsun.speckle.masking.assembly import Mosaic
from stillsun.speckle.masking.geometry import Lattice
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult

# Brightness, of the frame's brightest part, below which the mean image stands, and above which it does not.
_DARK = (0.03, 0.06)


class SubfieldImages(Protocol):
    """What makes images of spectra, on the host or on a device."""

    def images(
        self, spectrum: Callable[[int], np.ndarray], results: Sequence[SubfieldResult]
    ) -> Iterator[Any]:
        """
        Images of subfields.

        Parameters
        ----------
        spectrum : callable
            Fourier transform, (m,), in the subfield of a number.
        results : sequence of SubfieldResult
            What is left of the tracking.

        Yields
        ------
        array
            (size, size) float32, windowed, without its mean.
        """


def with_dark_sky(
    image: Any,
    surface: Any,
    results: Sequence[SubfieldResult],
    lattice: Lattice,
    geometry: Geometry,
    worker: SubfieldImages,
    backend: Backend,
) -> Any:
    """
    An image whose darkest parts are those of the mean image.

    Parameters
    ----------
    image : array
        Reconstructed frame, (rows, columns).
    surface : array
        Its smooth background, (rows, columns) float32.
    results : sequence of SubfieldResult
        The subfields, row by row.
    lattice : Lattice
        Where they lie.
    geometry : Geometry
        What they share.
    worker : SubfieldImages
        Makes images of spectra.
    backend : Backend
        Where the frame is.

    Returns
    -------
    array
        (rows, columns) float32; the same one where nothing is dark.

    Notes
    -----
    A subfield across the limb is ruled by the edge, and what is wrong with it by a hundredth is more than
    the light of the sky. There is nothing in the sky that the mean image does not show.
    """
    xp = backend.xp
    bright = float(surface.max())
    if not bright > 0 or float(surface.min()) >= _DARK[1] * bright:
        return image
    mosaic = Mosaic(lattice, geometry.window, backend)
    means = worker.images(lambda index: results[index].mean, results)
    for number, (tile, result) in enumerate(zip(means, results, strict=True)):
        mosaic.add(*divmod(number, lattice.counts[1]), tile, result.level)
    mean = mosaic.image() + surface
    share = xp.clip((mean / np.float32(bright) - _DARK[0]) / (_DARK[1] - _DARK[0]), 0, 1)
    return (mean + share * (image - mean)).astype(np.float32)
