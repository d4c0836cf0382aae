"""Data frames and the calibration to an index of bursts, with times, quality and telescope state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.config.schema import AssembleConfig
from stillsun.core.backend import to_host
from stillsun.core.bursts import BurstIndex, burst_times, find_bursts
from stillsun.core.exposures import judge_surveyed, survey_exposures
from stillsun.core.quality import centre_of, frame_quality
from stillsun.io.bursts import BurstReader
from stillsun.io.inventory import open_source
from stillsun.io.source import FrameSource
from stillsun.io.store import StoreWriter
from stillsun.products.bursts import QUALITY, SAMPLE, STATE, Bursts
from stillsun.stages._telescope import telescope_state
from stillsun.stages.base import StageContext


def run(ctx: StageContext) -> None:
    """
    Group the data frames into bursts and judge them; of pixels, a sample of the middle burst is stored.

    Contrast and sharpness are those of the central half of the field in each axis, where adaptive
    optics works best and half of the bytes of a frame suffice.

    Parameters
    ----------
    ctx : StageContext
        Context; reads ``calibration``.

    Raises
    ------
    InputError
        If files are missing or damaged, do not fit the calibration, or fill no burst.
    """
    config: AssembleConfig = ctx.config
    source = open_source(ctx.observation, ctx.settings, "data")
    for finding in source.findings:
        ctx.note(f"data: {finding}")
    index = find_bursts(source.start_times, config.frames_per_burst, max_gap=config.max_gap)
    for finding in index.findings:
        ctx.note(f"data: {finding}")
    correction = ctx.calibration.correction(ctx.backend)
    reader = BurstReader(source, correction, index.first, index.frames)
    window = reader.window(*centre_of(reader.shape[1:]))
    columns = _table(ctx, source, index)
    attributes = {
        "frames_per_burst": index.frames,
        "cadence_s": index.cadence_s,
        "exposure_s": source.exposure_s,
        "frames_dropped": index.dropped,
        "gaps": np.asarray(index.gaps, dtype=np.int64),
    }
    middle = len(index) // 2
    rows, frame_columns = reader.shape[1:]
    fields = Bursts.fields(QUALITY, SAMPLE, frames=index.frames, rows=rows, columns=frame_columns)
    with ctx.create(len(index), fields, attributes) as store:
        for name, values in columns.items():
            store.write(name, values)
        done = store.done()
        frames = None
        for burst in (int(k) for k in np.flatnonzero(~done)):
            frames = window.read(burst, out=frames)
            contrast, sharpness = frame_quality(frames, backend=ctx.backend)
            best = int(np.argmax(np.nan_to_num(sharpness, nan=-1.0)))
            store.write("frame_contrast", contrast, row=burst)
            store.write("frame_sharpness", sharpness, row=burst)
            store.write("contrast", contrast[best], row=burst)
            store.write("sharpness", sharpness[best], row=burst)
            store.write("best_frame", best, row=burst)
            if burst == middle:
                _write_sample(store, reader, middle, best)
            store.mark(burst)
            done[burst] = True
            ctx.progress(int(done.sum()), len(index))


def _write_sample(store: StoreWriter, reader: BurstReader, burst: int, best: int) -> None:
    """What the camera saw, to be shown beside what is made of it; one frame is held at a time."""
    numbers = int(reader.first[burst]) + np.arange(reader.frames)
    frames = BurstReader(reader.source, reader.correction.at(reader.middle(burst)), numbers, 1)
    backend = reader.correction.backend
    judged = judge_surveyed(
        np.concatenate([survey_exposures(frames.read(k), backend) for k in range(reader.frames)], axis=1)
    )
    counted = judged.used if len(judged.used) else np.arange(reader.frames)
    total = np.zeros(reader.shape[1:])
    for number in map(int, counted):
        total += to_host(frames.read(number)[0])
    store.write("sample_frame", to_host(frames.read(best)[0]))
    store.write("sample_mean", total / len(counted))
    store.write("sample_burst", burst)


def _table(ctx: StageContext, source: FrameSource, index: BurstIndex) -> dict[str, np.ndarray]:
    """What is known of every burst without its pixels."""
    begin, end, average = burst_times(source.start_times, source.exposure_s, index)
    names = np.array([Path(file).name for file in source.files])
    state = telescope_state(ctx, average)
    return {
        "time_beg": begin,
        "time_end": end,
        "time_avg": average,
        "first_frame": index.first,
        "frames_used": np.full(len(index), index.frames),
        "first_file": names[source.file_index[index.first]],
        "last_file": names[source.file_index[index.first + index.frames - 1]],
        **{name: getattr(state, name) for name in STATE},
    }
