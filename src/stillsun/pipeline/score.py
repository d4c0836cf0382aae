"""One number for a run, for sweepers that search."""

from __future__ import annotations

import numpy as np

from stillsun.config.settings import Settings
from stillsun.io.store import StoreReader
from stillsun.pipeline.plan import Plan

_FIGURE = "residual_px"


def score(plan: Plan, settings: Settings) -> float:
    """
    Mean residual shift of the destretched frames against their references, over all channels.

    Parameters
    ----------
    plan : Plan
        A plan that was carried out.
    settings : Settings
        Checked configuration.

    Returns
    -------
    float
        Pixels, less is better; NaN where nothing was destretched.
    """
    values = []
    for channel in settings.channels:
        task = plan.producer("destretch", channel)
        if task is None:
            continue
        with StoreReader(*task.layout.store(channel, "destretch")) as store:
            values.append(float(np.nanmean(store.read(_FIGURE))))
    return float(np.mean(values)) if values else float("nan")
