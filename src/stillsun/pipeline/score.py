"""How well a run held the frames still: figures for a person, one number for sweepers that search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stillsun.config.settings import Settings
from stillsun.io.store import StoreReader
from stillsun.pipeline.task import Plan

# Noise of a shift from a window of unit width: see `Figures.score`.
_NOISE = 2.0


@dataclass(frozen=True)
class Figures:
    """
    What the destretch of a channel reached.

    Attributes
    ----------
    residual_px : float
        Mean shift that is left against the reference, pixels.
    change_px : float
        Mean change from frame to frame, as a displacement in pixels: temporal stability.
    sharpness : float
        Mean sharpness after destretch, of that before.
    kernel : int
        Finest kernel, pixels; 0 for the whole frame only.
    """

    residual_px: float
    change_px: float
    sharpness: float
    kernel: int

    @property
    def score(self) -> float:
        """
        Estimated error of the frames' geometry, pixels per axis; less is better.

        Two errors are added in quadrature. What is left of the seeing is the residual: large kernels, or
        none, leave much. The other is noise taken for seeing, which no comparison with the reference
        shows, for the frame has been fitted to it: a shift measured in a tile of K pixels has an error of
        about ``2 c / K`` for a change of c pixels in a single pixel (the window holds about ``K**2``
        pixels, of which four share their noise). The sum is divided by the square of the sharpness kept:
        a blurred frame changes less.
        """
        noise = _NOISE * self.change_px / self.kernel if self.kernel else 0.0
        return float(np.hypot(self.residual_px, noise) / min(1.0, self.sharpness) ** 2)


def figures(plan: Plan, settings: Settings) -> dict[str, Figures]:
    """
    Figures of all channels that were destretched.

    Parameters
    ----------
    plan : Plan
        A plan that was carried out.
    settings : Settings
        Checked configuration.

    Returns
    -------
    dict
        Channel to figures.
    """
    found = {}
    for channel in settings.channels:
        task = plan.producer("destretch", channel)
        if task is None:
            continue
        with StoreReader(*task.layout.store(channel, "destretch")) as store:
            before, after = (store.read(f"sharpness_{when}") for when in ("before", "after"))
            live = np.isfinite(before) & (before > 0)
            found[channel] = Figures(
                _mean(store.read("residual_px")),
                _mean(store.read("change_px")),
                _mean(after[live] / before[live]),
                int(min((k for k in store.attributes["kernels"] if k), default=0)),
            )
    return found


def score(found: Mapping[str, Figures]) -> float:
    """
    One number for a run.

    Parameters
    ----------
    found : mapping of str to Figures
        Channel to figures.

    Returns
    -------
    float
        Mean of the channels' scores, pixels, less is better; NaN where nothing was destretched.
    """
    return float(np.mean([f.score for f in found.values()])) if found else float("nan")


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
