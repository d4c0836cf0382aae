"""Stage `movie`: one context movie a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from stillsun.config.schema import MovieConfig
from stillsun.io.store import StoreReader
from stillsun.qa.film import Film
from stillsun.qa.metrics import frame_statistics, inner_field
from stillsun.qa.products import ChannelProducts
from stillsun.qa.video import encoder_missing, write_video
from stillsun.stages.base import ObservationContext, Stage

# Frames of the series from which the common grey scale is taken.
_SAMPLE = 25


def run(ctx: ObservationContext) -> list[Path] | None:
    """
    Write a movie of the destretched frames of every channel that has some.

    Parameters
    ----------
    ctx : ObservationContext
        What the stage may use.

    Returns
    -------
    list of Path or None
        The movies; None where there is no encoder.
    """
    if encoder_missing():
        ctx.note(
            "no movies: the encoder is not installed; get it with pip install 'stillsun[movie]' "
            "and run the same command again"
        )
        return None
    written: list[Path] = []
    for number, (name, view) in enumerate(ctx.channels.items()):

        def progress(done: int, total: int, base: int = 100 * number) -> None:
            ctx.progress(base + 100 * done // total, 100 * len(ctx.channels))

        products = ChannelProducts(name, view.settings, view.options, view.inputs)
        frames, times = products.after, products.times
        path = ctx.directory / "context_movies" / f"{name}.mp4"
        if frames is None or times is None:
            # One of an earlier run would pass for the result of this one.
            path.unlink(missing_ok=True)
            ctx.note(f"no movie of {name}: there are no destretched frames, or their times are not known")
            continue
        pictures = _pictures(products, frames, times, view.options["movie"], progress)
        written.append(write_video(path, pictures, view.options["movie"].frame_rate))
    return written


def _pictures(
    products: ChannelProducts,
    frames: StoreReader,
    times: np.ndarray,
    config: MovieConfig,
    progress: Callable[[int, int], None],
) -> Iterator[np.ndarray]:
    light = frame_statistics(frames, lambda done, total: progress(done, 2 * total)).mean
    settings = products.settings
    film = Film(
        f"{products.name}, {settings.wavelength_nm:g} nm, destretched",
        frames.shape("image")[1:],
        products.scale,
        _limits(frames, config.clip),
        times,
        light / np.nanmedian(light),
        curve_label="relative brightness",
        size=config.size,
    )
    for number in range(frames.rows):
        yield film.frame(frames.read("image", number), number)
        progress(frames.rows + number + 1, 2 * frames.rows)


def _limits(frames: StoreReader, clip: float) -> tuple[float, float]:
    """One grey scale for the whole series, robust against single bad frames and pixels."""
    numbers = np.unique(np.linspace(0, frames.rows - 1, _SAMPLE).round().astype(int))
    limits = [
        np.percentile(values[np.isfinite(values)], [clip, 100 - clip])
        for values in (inner_field(frames.read("image", int(n))) for n in numbers)
        if np.isfinite(values).any()
    ]
    if not limits:
        return 0.0, 1.0
    low, high = (float(v) for v in np.median(limits, axis=0))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


STAGE = Stage(
    name="movie",
    version=1,
    run=run,
    optional=("calibration", "bursts", "destretch", "registration"),
    observation=("channels",),
    whole=True,
)
