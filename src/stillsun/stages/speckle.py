"""Stage speckle: each burst becomes one image, through the engine that the configuration names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from stillsun.config.schema import SpeckleConfig, SpeckleEngine
from stillsun.core.backend import to_host
from stillsun.core.bursts import unix_seconds
from stillsun.io.bursts import BurstReader
from stillsun.io.store import StoreWriter
from stillsun.products.reconstructed import SERIES, SUBFIELDS, Reconstructed
from stillsun.speckle.engine import Engine, Reconstruction
from stillsun.speckle.masking import reconstruct
from stillsun.speckle.masking.flicker import Flicker
from stillsun.speckle.masking.geometry import subfield_lattice, subfield_size
from stillsun.speckle.masking.noise import FlatFrames
from stillsun.speckle.masking.series import diffraction_limit, flicker_of
from stillsun.speckle.stack import tile_aligned_mean, tile_centres
from stillsun.stages._beside import read_ahead
from stillsun.stages._burstfiles import BurstFiles
from stillsun.stages._external import ExternalRun
from stillsun.stages._steady import SteadyRows, image_quality, sizes
from stillsun.stages.base import StageContext

# What the reconstruction has in common with the stage's options: a key that both know is handed on.
_OPTIONS = tuple(f.name for f in fields(SpeckleConfig) if f.name in signature(reconstruct).parameters)
_OF_TELESCOPE = ("ao_field_arcsec", "ao_order", "ao_lag_ms")
_Centres = tuple[np.ndarray, np.ndarray]


def run(ctx: StageContext) -> None:
    """
    Reconstruct every burst.

    Rows that an earlier run completed are kept. In-process engines hold two bursts in memory, the one
    that is reconstructed and the next; the external program finds its bursts on disk. When all images are
    there, those of the open reconstruction are held to the running power of their neighbours.

    Parameters
    ----------
    ctx : StageContext
        Context; reads ``calibration`` and ``bursts``.

    Raises
    ------
    ConfigError
        If the external program is not there.
    ReconstructionError
        If bursts cannot be reconstructed, or the disk is too small for their files.
    """
    config: SpeckleConfig = ctx.config
    reader = ctx.open_bursts(ctx.backend)
    if config.engine is SpeckleEngine.kisip:
        external = ExternalRun(ctx, reader)
        external.make()
        _store(ctx, reader, external.centres, lambda bursts: map(external.read, bursts))
        external.finish()
        return
    engine, centres = _engine(ctx, reader)
    if not config.keep_bursts:
        _store(ctx, reader, centres, lambda bursts: map(engine, _in_memory(reader, bursts)))
        return
    files = BurstFiles(ctx, reader)
    files.tidy()
    files.check_space(len(reader), 4 * math.prod((len(reader), *reader.shape[1:])))
    files.write_noise()

    def kept(bursts: Sequence[int]) -> Iterator[Reconstruction]:
        for burst, frames in zip(bursts, _in_memory(reader, bursts), strict=True):
            files.keep(burst, to_host(frames))
            yield engine(frames)

    _store(ctx, reader, centres, kept)
    # Of bursts that an earlier run reconstructed without keeping them.
    files.write(range(len(reader)))
    files.finish()


def _in_memory(reader: BurstReader, bursts: Sequence[int]) -> Iterator[Any]:
    """Calibrated bursts; while one is reconstructed, the next is read and calibrated in one more thread."""
    correction = replace(reader.correction, backend=replace(reader.correction.backend, threads=1))
    beside = BurstReader(reader.source, correction, reader.first, reader.frames)
    stream = correction.backend.side_stream()

    def read(burst: int) -> Any:
        with stream:
            return beside.read(burst)

    return read_ahead(read, bursts, depth=1)


def _engine(ctx: StageContext, reader: BurstReader) -> tuple[Engine, _Centres]:
    """The engine with everything bound, and the centres of its subfields."""
    config: SpeckleConfig = ctx.config
    shape = reader.shape[1:]
    if config.engine is SpeckleEngine.none:
        return partial(tile_aligned_mean, backend=ctx.backend), tile_centres(shape)
    scale_x, scale_y = (float(v) for v in ctx.calibration.plate_scale)
    engine = partial(
        reconstruct,
        plate_scale=(scale_x, scale_y),
        wavelength=ctx.settings.wavelength_nm,
        diameter=ctx.observation.telescope.diameter_mm,
        noise=FlatFrames(ctx.calibration.noise),
        backend=ctx.backend,
        exposure_ms=ctx.settings.exposure_ms,
        **{name: getattr(ctx.observation.telescope, name) for name in _OF_TELESCOPE},
        **{**{name: getattr(config, name) for name in _OPTIONS}, "method": config.method.value},
    )
    size = subfield_size(config.subfield_arcsec, (scale_y, scale_x), shape)
    return engine, subfield_lattice(shape, size, config.apodisation / 100).centres


def _flicker(ctx: StageContext, reader: BurstReader) -> Flicker | None:
    """What holds the images to their running power; None where nothing does."""
    config: SpeckleConfig = ctx.config
    if config.engine is not SpeckleEngine.masking or not config.series:
        return None
    scale_x, scale_y = (float(v) for v in ctx.calibration.plate_scale)
    limit = diffraction_limit(ctx.observation.telescope.diameter_mm, ctx.settings.wavelength_nm)
    return flicker_of(reader.shape[1:], (scale_y, scale_x), limit, config.subfield_arcsec)


def _store(
    ctx: StageContext,
    reader: BurstReader,
    centres: _Centres,
    results_of: Callable[[Sequence[int]], Iterator[Reconstruction]],
) -> None:
    bursts = len(reader)
    frames, rows, columns = reader.shape
    flicker = _flicker(ctx, reader)
    fields = Reconstructed.fields(
        SUBFIELDS,
        *(() if flicker is None else (SERIES,)),
        frames=frames,
        rows=rows,
        columns=columns,
        y=len(centres[0]),
        x=len(centres[1]),
        **({} if flicker is None else sizes(flicker)),
    )
    with ctx.create(bursts, fields, {"engine": ctx.config.engine.name}) as store:
        for name, values in zip(("centres_y", "centres_x"), centres, strict=True):
            store.write(name, values)
        unix, exposure_s = unix_seconds(reader.source.start_times), reader.source.exposure_s
        middles = unix[np.asarray(reader.first) + reader.frames // 2]
        steady = None if flicker is None else SteadyRows(store, flicker, middles, ctx.backend)
        wanted = ~store.done() if steady is None else ~store.done() | steady.half_filtered()
        missing = [int(burst) for burst in np.flatnonzero(wanted)]
        ctx.progress(bursts - len(missing), bursts)
        for done, (burst, result) in enumerate(zip(missing, results_of(missing), strict=True), start=1):
            if steady is not None:
                steady.begin(burst)
            used = np.arange(reader.frames) if result.used is None else result.used
            begin = unix[int(reader.first[burst]) + used]
            store.write("exposures", len(used), row=burst)
            store.write("time_beg", begin[0], row=burst)
            store.write("time_end", begin[-1] + exposure_s, row=burst)
            store.write("time_avg", begin.mean() + exposure_s / 2, row=burst)
            _write(ctx, store, burst, result)
            if steady is None:
                store.mark(burst)
            else:
                steady.made(burst, result.image)
            ctx.progress(bursts - len(missing) + done, bursts)
        if steady is not None:
            steady.finish()


def _write(ctx: StageContext, store: StoreWriter, burst: int, result: Reconstruction) -> None:
    values: dict[str, Any] = {
        "image": result.image,
        "r0": result.r0,
        "alpha": result.r0 / (ctx.observation.telescope.diameter_mm / 1000),
        "r0_map": result.r0_map,
        "shifts": result.shifts,
        "convergence": result.convergence,
        **image_quality(result.image),
    }
    for name, value in values.items():
        store.write(name, np.nan if value is None else value, row=burst)
    for note in result.notes:
        ctx.note(f"burst {burst}: {note}")
    if result.notes:
        # Before the row is marked: a run that goes on after a kill does not make it again.
        store.write_notes(ctx.notes)
