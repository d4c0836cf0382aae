"""Data frames and the calibration to an index of bursts, with times, quality and telescope state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.config.schema import AssembleConfig
from stillsun.core.backend import to_host
from stillsun.core.bursts import BurstIndex, burst_times, find_bursts
from stillsun.core.quality import centre_of, frame_quality
from stillsun.io.bursts import BurstReader, stored_correction
from stillsun.io.inventory import open_source
from stillsun.io.source import FrameSource
from stillsun.io.store import StoreWriter
from stillsun.stages._telescope import STATE, telescope_state
from stillsun.stages.base import Field, StageContext


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
    correction = stored_correction(ctx.inputs["calibration"], backend=ctx.backend)
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
    with ctx.create(len(index), _fields(index.frames, reader.shape[1:]), attributes) as store:
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
    total = np.zeros(reader.shape[1:])
    for number in range(reader.frames):
        frame = to_host(frames.read(number)[0])
        total += frame
        if number == best:
            store.write("sample_frame", frame)
    store.write("sample_mean", total / reader.frames)
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


def _fields(frames: int, shape: tuple[int, ...]) -> dict[str, Field]:
    unix = "Unix time, UTC: "
    return {
        "time_beg": Field((), "float64", "s", unix + "start of the first exposure"),
        "time_end": Field((), "float64", "s", unix + "end of the last exposure"),
        "time_avg": Field((), "float64", "s", unix + "mean of the middles of the exposures"),
        "first_frame": Field((), "int64", "", "first raw frame, counted over all files"),
        "frames_used": Field((), "int64", "", "frames in the burst"),
        "first_file": Field((), "str", "", "raw file of the first frame", length=255),
        "last_file": Field((), "str", "", "raw file of the last frame", length=255),
        "contrast": Field((), "float64", "", "rms contrast of the sharpest frame, centre of the field"),
        "sharpness": Field((), "float64", "1/px", "rms gradient over the mean, sharpest frame"),
        "best_frame": Field((), "int64", "", "sharpest frame, counted within the burst"),
        "frame_contrast": Field((frames,), "float64", "", "rms contrast of each frame"),
        "frame_sharpness": Field((frames,), "float64", "1/px", "rms gradient over the mean, each frame"),
        **{name: Field((), "float64", unit, meaning) for name, (unit, meaning) in STATE.items()},
        "sample_burst": Field((), "int64", "", "burst that the sample is of, the middle one", stack=False),
        "sample_frame": Field(
            shape, "float32", "DN", "its sharpest frame, calibrated, camera orientation", stack=False
        ),
        "sample_mean": Field(
            shape, "float32", "DN", "mean of its frames, calibrated, camera orientation", stack=False
        ),
    }
