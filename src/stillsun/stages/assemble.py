"""Data frames and the calibration to an index of bursts, with times, quality and telescope state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.config.schema import AssembleConfig
from stillsun.core.backend import to_host
from stillsun.core.bursts import BurstIndex, burst_times, find_bursts, unix_seconds
from stillsun.core.quality import frame_quality
from stillsun.errors import InputError
from stillsun.io.bursts import BurstReader, stored_correction
from stillsun.io.inventory import open_source
from stillsun.io.source import FrameSource
from stillsun.io.store import StoreWriter
from stillsun.io.telemetry import TelescopeState, read_telescope_log
from stillsun.stages.base import Field, Stage, StageContext

# A log record further away says nothing about a burst.
_LOG_DISTANCE_S = 60.0
# A log that ends or begins so long before or after the data is refused.
_OTHER_DAY_S = 6 * 3600.0


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
    window = reader.window(*_centre(reader.shape[1:]))
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


def _centre(shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = shape
    return slice(rows // 4, rows - rows // 4), slice(columns // 4, columns - columns // 4)


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


def telescope_state(ctx: StageContext, average: np.ndarray) -> TelescopeState:
    """
    What the telescope log says of some times; what it does not say is noted.

    Parameters
    ----------
    ctx : StageContext
        Context.
    average : numpy.ndarray
        (n,) unix seconds, UTC.

    Returns
    -------
    TelescopeState
        Columns of n values, NaN where nothing is known.

    Raises
    ------
    InputError
        If the log cannot be read, or is of another time.
    """
    path = ctx.observation.telescope_log
    if path is None:
        ctx.note("no telescope log: pointing, guider angle, seeing and light level are not known")
        return TelescopeState(**{name: np.full(average.shape, np.nan) for name in STATE})
    log = read_telescope_log(Path(path))
    for finding in log.findings:
        ctx.note(f"telescope log: {finding}")
    if not log.times.size:
        ctx.note(
            "the telescope log is of no use: the channel is reduced without; the pointing must come from "
            "align.pointing or the reference channel"
        )
    state = log.at((average * 1e6).astype(np.int64).astype("datetime64[us]"), _LOG_DISTANCE_S)
    unknown = np.isnan(state.latitude)
    if unknown.all() and log.times.size:
        _check_day(Path(path), log.times, average)
        ctx.note(
            f"the telescope log ({log.times[0]} to {log.times[-1]}) says nothing of the time of the data "
            f"({_text(average[0])} to {_text(average[-1])})"
        )
    elif unknown.any() and log.times.size:
        ctx.note(f"the telescope log has no pointing for {int(unknown.sum())} of {unknown.size} bursts")
    return state


def _check_day(path: Path, logged: np.ndarray, average: np.ndarray) -> None:
    """Refuse a log that is hours away from the data: it is another night's."""
    first, last = unix_seconds(logged[[0, -1]])
    if average[0] > last + _OTHER_DAY_S or average[-1] < first - _OTHER_DAY_S:
        raise InputError(
            "the telescope log is of another time than the data",
            file=path,
            expected=f"records from {_text(average[0])} to {_text(average[-1])}",
            found=f"{logged.size} from {_text(first)} to {_text(last)}",
            remedy="Correct observation.telescope_log, or set it to null to do without",
        )


def _text(seconds: float) -> str:
    return str(np.datetime64(round(seconds * 1e3), "ms"))


#: Columns of the product that tell the telescope's state: unit and meaning.
STATE = {
    "latitude": ("deg", "pointing, heliographic latitude (Stonyhurst)"),
    "longitude": ("deg", "pointing, heliographic longitude (Stonyhurst)"),
    "guider_angle": ("deg", "guider angle as logged"),
    "scintillation": ("arcsec", "Seykora scintillation monitor"),
    "light_level": ("V", "light level"),
    "solar_radius": ("arcsec", "solar radius: half of the logged diameter"),
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


STAGE = Stage(
    name="assemble",
    version=2,
    run=run,
    writes="bursts",
    reads=("calibration",),
    raw=("data",),
    settings=(
        "camera",
        "exposure_ms",
        "frame_interval_ms",
        "start",
        "clock_offset_h",
        "group_frames",
        "group_interval_s",
    ),
    files=("telescope_log",),
)
