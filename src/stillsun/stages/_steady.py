"""The second pass of the stage speckle: images held to the running power of their neighbours."""

from __future__ import annotations

import numpy as np

from stillsun.core.backend import Backend
from stillsun.core.quality import centre_of, frame_quality
from stillsun.io.store import StoreWriter
from stillsun.speckle.masking.flicker import Flicker, running_weight

# Neighbours within this time, seconds, go into the running value.
REACH_S = 300.0
# States of a row's filter.
_TO_COME, _BEGUN, _DONE = range(3)


def image_quality(image: np.ndarray) -> dict[str, float]:
    """Contrast and sharpness of an image's centre, by dataset."""
    contrast, sharpness = frame_quality(image[None, *centre_of(image.shape)], backend="numpy")
    return {"contrast": float(contrast[0]), "sharpness": float(sharpness[0])}


class SteadyRows:
    """
    What the stage keeps of each burst to hold its image to those around, and the pass that does so.

    The power of each image before the filter is stored beside it: the filter of an image depends on what is
    stored only, so that a run that was killed goes on to the same bytes. An image is filtered in its place;
    one whose filtering was begun and not finished is made again.

    Parameters
    ----------
    store : StoreWriter
        The stage's store.
    flicker : Flicker
        Measures and filters.
    times : numpy.ndarray
        Of the bursts, seconds.
    backend : Backend
        Where to compute.
    """

    def __init__(self, store: StoreWriter, flicker: Flicker, times: np.ndarray, backend: Backend) -> None:
        self._store, self._flicker, self._times, self._backend = store, flicker, times, backend
        store.write("ring_q", flicker.q)

    def half_filtered(self) -> np.ndarray:
        """Rows whose image is neither that of before the filter nor that of after it."""
        return np.asarray(self._store.read("filter_state") == _BEGUN)

    def begin(self, row: int) -> None:
        """A row is about to be made: what was done to it before counts no more."""
        if int(self._store.read("filter_state", row)) != _TO_COME:
            self._set(row, _BEGUN)

    def made(self, row: int, image: np.ndarray) -> None:
        """A row is complete but for the filter."""
        self._store.write("ring_power", self._flicker.measure(image, self._backend), row=row)
        self._store.mark(row)
        self._set(row, _TO_COME)

    def finish(self) -> None:
        """Filter all images that are to be, when all are there."""
        store, flicker = self._store, self._flicker
        powers: dict[int, np.ndarray] = {}
        for row in map(int, np.flatnonzero(store.read("filter_state") == _TO_COME)):
            near = np.flatnonzero(np.abs(self._times - self._times[row]) <= REACH_S)
            powers = {k: powers[k] if k in powers else store.read("ring_power", k) for k in map(int, near)}
            table = np.stack(list(powers.values()))
            weight = running_weight(self._times[near] - self._times[row], REACH_S)
            correction = flicker.correction(table, int(np.searchsorted(near, row)), weight)
            image = flicker.apply(store.read("image", row), correction, self._backend)
            self._set(row, _BEGUN)
            store.write("image", image, row=row)
            store.write("steadying", correction, row=row)
            store.write("steadied", flicker.strength(correction, powers[row]), row=row)
            for name, value in image_quality(image).items():
                store.write(name, value, row=row)
            store.mark(row)
            self._set(row, _DONE)

    def _set(self, row: int, state: int) -> None:
        self._store.write("filter_state", state, row=row)
        self._store.mark(row)


def sizes(flicker: Flicker) -> dict[str, int]:
    """Sizes of the datasets of a store that is held to its running power."""
    return {"tiles": flicker.tiles, "rings": len(flicker.q), "terms": flicker.terms}
