"""Stage `movie`: context movies of each channel, and one of all side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stillsun.config.schema import MovieConfig
from stillsun.core.bursts import nearest
from stillsun.core.orient import Orientation
from stillsun.errors import InputError
from stillsun.io.goes import XrayFlux, read_goes
from stillsun.products.base import series
from stillsun.products.bursts import Bursts
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.placement import System, placement, utc
from stillsun.products.reconstructed import Reconstructed
from stillsun.qa.film import Film
from stillsun.qa.metrics import inner_field, series_quality
from stillsun.qa.products import images_after, images_before, kind_before, times_of
from stillsun.qa.scaling import fit
from stillsun.qa.series import AFTER_COLOUR, Line, Panel
from stillsun.qa.stills import SHEET_SIDE, write_picture, write_sheet
from stillsun.qa.video import encoder_missing, write_video
from stillsun.qa.view import View, common_raster, frame_raster
from stillsun.sky.download import default_cache
from stillsun.sky.xrays import xray_flux
from stillsun.stages.base import StageContext

Progress = Callable[[int, int], None]

TOGETHER = "all_channels"
_SHEET = "_sheet.png"
# Frames of the series from which the common grey scale is taken.
_SAMPLE = 25
# Side by side, images are so much smaller.
_SMALLER = 0.6
_COLOURS = ("#1660a8", "#d98c1f", "#2a9d6f", "#b3423a", "#7a4fa3", "#5a6472")


@dataclass(frozen=True)
class _Series:
    """Frames of a channel that make a movie."""

    name: str
    what: str
    channel: Channel
    frames: Reconstructed | Destretched
    times: np.ndarray
    orientation: Orientation
    config: MovieConfig

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.orientation.shape(self.frames.image.shape[1:])
        return rows, columns

    @property
    def title(self) -> str:
        return f"{self.channel.name}, {self.channel.settings.wavelength_nm:g} nm, {self.what}"

    def read(self, number: int) -> np.ndarray:
        return np.asarray(self.orientation.apply(self.frames.image(number)))


def run(ctx: StageContext) -> list[Path] | None:
    """
    Write a movie of the destretched frames of every channel that has some, and one of all together.

    Parameters
    ----------
    ctx : StageContext
        What the stage may use.

    Returns
    -------
    list of Path or None
        The movies, then the pictures that were asked for; None where there is no encoder.
    """
    encodes = not encoder_missing()
    if not encodes:
        ctx.note(
            "no movies: the encoder is not installed; get it with pip install 'stillsun[movie]' "
            "and run the same command again"
        )
    directory = ctx.work / "context_movies"
    series = [s for name in ctx.channels for s in _series(ctx, name)]
    together = [s for s in series if s.name == s.channel.name]
    makes = [s.name for s in series]
    if encodes and ctx.config.together and len(together) > 1:
        makes.append(TOGETHER)
    _remove_old(directory, makes)
    if not encodes and not any(s.config.frame_pictures or s.config.contact_sheet for s in series):
        return None
    flux = _flux(ctx, series)
    written: list[Path] = []
    levels: dict[str, np.ndarray] = {}
    for number, one in enumerate(series):
        progress = partial(_progress, ctx, number, len(makes))
        light = series_quality(one.frames, partial(_halfway, progress)).mean
        levels[one.name] = light / np.nanmedian(light)
        pictures = _pictures(one, levels[one.name], flux, progress)
        written += _write(one, directory, pictures, encodes)
    if TOGETHER in makes:
        progress = partial(_progress, ctx, len(series), len(makes))
        film = _together(ctx, together, levels, flux, progress)
        if film is not None:
            written.append(write_video(directory / f"{TOGETHER}.mp4", film, ctx.config.frame_rate))
        else:
            (directory / f"{TOGETHER}.mp4").unlink(missing_ok=True)
    return written if encodes else None


def _progress(ctx: StageContext, before: int, movies: int, done: int, total: int) -> None:
    ctx.progress(100 * before + 100 * done // total, 100 * movies)


def _halfway(progress: Progress, done: int, total: int) -> None:
    progress(done, 2 * total)


def _remove_old(directory: Path, makes: Sequence[str]) -> None:
    """What an earlier run made would pass for the result of this one."""
    for old in [p for p in directory.glob("*.mp4") if p.stem not in makes]:
        old.unlink()
    for old in [*directory.glob(f"*{_SHEET}"), *directory.glob("*/[0-9]*.png")]:
        old.unlink()


def _series(ctx: StageContext, name: str) -> Iterator[_Series]:
    channel = ctx.channels[name]
    config: MovieConfig = channel.options["movie"]
    frames: Reconstructed | Destretched | None = images_after(channel)
    kinds = [(name, "destretched", frames, Orientation())]
    if config.reconstructed:
        kinds.append(
            (f"{name}_reconstructed", kind_before(channel), images_before(channel), channel.orientation)
        )
    times = times_of(channel)
    for file, what, frames, orientation in kinds:
        if frames is None or times is None:
            ctx.note(f"no movie of {name}: there are no {what} frames, or their times are not known")
            continue
        yield _Series(file, what, channel, frames, times, orientation, config)


def _flux(ctx: StageContext, series: Sequence[_Series]) -> XrayFlux | None:
    given = ctx.config.goes_file
    if not series or (given is None and not ctx.config.goes_download):
        ctx.note("no X-ray flux in the movies: movie.goes_file is not given, nor a download wanted")
        return None
    try:
        times = np.concatenate([s.times for s in series])
        flux = xray_flux(times, default_cache()) if given is None else read_goes(Path(given))
    except InputError as error:
        if given is not None:
            raise
        ctx.note(f"no X-ray flux in the movies: {error}")
        return None
    if not any(np.isfinite(flux.at(s.times)[1]).any() for s in series):
        ctx.note(f"no X-ray flux in the movies: {given or 'the archive'} says nothing of these times")
    return flux


def _write(one: _Series, directory: Path, pictures: Iterator[np.ndarray], encodes: bool) -> list[Path]:
    """The movie of a series, and the pictures that are asked for."""
    written: list[Path] = []
    kept: list[Path] = []
    if one.config.frame_pictures:
        pictures = _keeping(pictures, directory / one.name, kept)
    if encodes:
        written.append(write_video(directory / f"{one.name}.mp4", pictures, one.config.frame_rate))
    elif one.config.frame_pictures:
        deque(pictures, maxlen=0)
    if one.config.contact_sheet:
        kept.append(_sheet(one, directory / f"{one.name}{_SHEET}"))
    return written + kept


def _keeping(pictures: Iterator[np.ndarray], directory: Path, kept: list[Path]) -> Iterator[np.ndarray]:
    """Pictures that go by, each into a file of its own too."""
    for number, picture in enumerate(pictures):
        kept.append(write_picture(directory / f"{number:05d}.png", picture))
        yield picture


def _sheet(one: _Series, path: Path) -> Path:
    rows = one.frames.rows
    numbers = np.unique(np.linspace(0, rows - 1, min(rows, one.config.contact_sheet)).round().astype(int))
    frames = [fit(one.read(int(n)), SHEET_SIDE) for n in numbers]
    # Binned by a whole number, or enlarged by one.
    step = one.shape[0] // frames[0].shape[0] or one.shape[0] / frames[0].shape[0]
    # Without the date, which finds no room above a small frame.
    titles = [f"{n}: {utc(one.times[n])[11:]} UTC" for n in numbers]
    return write_sheet(path, frames, titles, [step * s for s in one.channel.scale], _limits(one))


def _pictures(
    one: _Series, light: np.ndarray, flux: XrayFlux | None, progress: Progress
) -> Iterator[np.ndarray]:
    place = placement(one.channel, one.shape)
    view = View(place, frame_raster(place, one.shape, one.config.size), _limits(one))
    curves = _curves(one.channel, one.times, [Line("", light)], flux)
    film = Film([(one.title, view)], one.times, curves)
    rows = one.frames.rows
    for number in range(rows):
        yield film.frame([one.read(number)], number)
        progress(rows + number + 1, 2 * rows)


def _together(
    ctx: StageContext,
    series: Sequence[_Series],
    levels: dict[str, np.ndarray],
    flux: XrayFlux | None,
    progress: Progress,
) -> Iterator[np.ndarray] | None:
    """Pictures of all side by side, at the times of the first; None where they see nothing in common."""
    middle = float(series[0].times[len(series[0].times) // 2])
    places = [placement(s.channel, s.shape, middle) for s in series]
    system = places[0].system
    apart = [
        s.channel.name
        for s, place in zip(series, places, strict=True)
        if place.system is not system or system is System.own
    ]
    if apart:
        ctx.note(f"no movie of all channels: it is not known how {', '.join(apart)} lie on the others")
        return None
    shapes = [s.shape for s in series]
    raster = common_raster(list(zip(places, shapes, strict=True)), int(_SMALLER * ctx.config.size))
    if raster is None:
        ctx.note("no movie of all channels: they see no field in common")
        return None
    times = series[0].times
    near = [nearest(s.times, times) for s in series]
    images = [(s.title, View(p, raster, _limits(s))) for s, p in zip(series, places, strict=True)]
    lines = [
        Line(s.channel.name, levels[s.name][rows], _COLOURS[k % len(_COLOURS)])
        for k, (s, rows) in enumerate(zip(series, near, strict=True))
    ]
    film = Film(images, times, _curves(series[0].channel, times, lines, flux))

    def pictures() -> Iterator[np.ndarray]:
        for number in range(len(times)):
            rows = [int(numbers[number]) for numbers in near]
            yield film.frame([s.read(n) for s, n in zip(series, rows, strict=True)], number, rows)
            progress(number + 1, len(times))

    return pictures()


def _curves(channel: Channel, times: np.ndarray, light: list[Line], flux: XrayFlux | None) -> list[Panel]:
    """What is drawn below the images: brightness, and what is known of sky and Sun."""
    panels = [Panel("relative\nbrightness", light)]
    for dataset in (Bursts.light_level, Bursts.scintillation):
        values = series(channel.get(Bursts), dataset)
        label = f"{dataset.name.replace('_', ' ')}\n({dataset.unit})"
        if values is not None and len(values) == len(times):
            panels.append(Panel(label, [Line("", values)]))
    if flux is not None:
        short, long = flux.at(times)
        if np.isfinite(long).any():
            lines = [Line("0.1-0.8 nm", long, "#b3423a"), Line("0.05-0.4 nm", short, AFTER_COLOUR)]
            panels.append(Panel("GOES flux\n(W/m²)", [x for x in lines if np.isfinite(x.values).any()], True))
    return panels


def _limits(one: _Series) -> tuple[float, float]:
    """One grey scale for the whole series, robust against single bad frames and pixels."""
    frames, clip = one.frames, one.config.clip
    numbers = np.unique(np.linspace(0, frames.rows - 1, _SAMPLE).round().astype(int))
    limits = [
        np.percentile(values[np.isfinite(values)], [clip, 100 - clip])
        for values in (inner_field(frames.image(int(n))) for n in numbers)
        if np.isfinite(values).any()
    ]
    if not limits:
        return 0.0, 1.0
    low, high = (float(v) for v in np.median(limits, axis=0))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
