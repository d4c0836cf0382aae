"""Means of the calibration frames, of all sequences together or of each for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stillsun.config.schema import Combine
from stillsun.core.bursts import unix_seconds
from stillsun.core.statistics import FrameStatistics, average_frames, pooled
from stillsun.errors import InputError
from stillsun.io.hardcam import directory_time
from stillsun.io.source import FrameSource, ranges_text, sequence_edges
from stillsun.stages.base import StageContext

# Roles of which there may be sequences from before and after the data.
_COMBINED = ("dark", "flat")


@dataclass(frozen=True)
class Average:
    """
    Mean frames of one role.

    Attributes
    ----------
    whole : FrameStatistics
        Over the frames of all sequences.
    parts : list of FrameStatistics
        Over those of each sequence, in the order of time; all in one where they are not told apart.
    times : numpy.ndarray
        (parts,) float64: middle of each, Unix seconds UTC; NaN where unknown.
    """

    whole: FrameStatistics
    parts: list[FrameStatistics]
    times: np.ndarray


def average_roles(ctx: StageContext, sources: Mapping[str, FrameSource]) -> dict[str, Average]:
    """
    Average the frames of each role.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage calibrate.
    sources : mapping of str to FrameSource
        Frames of each role.

    Returns
    -------
    dict of str to Average
        By role.

    Raises
    ------
    InputError
        If frames cannot be averaged, or the times of sequences to be interpolated are unknown.
    """
    total = sum(source.shape[0] for source in sources.values())
    done = 0
    averages = {}
    for role, source in sources.items():
        edges = sequence_edges(source)
        apart = role in _COMBINED and ctx.config.combine is Combine.interpolate
        parts, times = [], []
        for start, stop in pairwise(edges if apart else [0, source.shape[0]]):
            parts.append(_average(ctx, role, source, start, stop, done, total))
            times.append(_middle(ctx, source, start, stop))
            done += stop - start
        if len(parts) > 1 and np.isnan(times).any():
            unknown = source.files[source.file_index[edges[int(np.flatnonzero(np.isnan(times))[0])]]]
            raise InputError(
                f"{role}: the time of a sequence is not known",
                file=unknown.parent,
                expected="hhmmss in the name of the directory, and the date in that of one above it",
                remedy="Name it so, or set calibrate.combine=mean",
            )
        order = np.argsort(times, kind="stable")
        averages[role] = Average(pooled(parts), [parts[k] for k in order], np.array(times)[order])
        _note_frames(ctx, role, edges, averages[role])
    return averages


def _average(
    ctx: StageContext, role: str, source: FrameSource, start: int, stop: int, done: int, total: int
) -> FrameStatistics:
    try:
        return average_frames(
            lambda first, last: source.blocks(start + first, start + last),
            stop - start,
            saturation=ctx.settings.camera.saturation,
            saturated_fraction=ctx.config.saturated_fraction,
            outlier_sigma=ctx.config.outlier_sigma,
            backend=ctx.backend,
            progress=lambda count, _: ctx.progress(done + count, total),
        )
    except InputError as error:
        raise InputError(
            f"{role}: {error.message}",
            file=error.file or source.files[source.file_index[start]].parent,
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error


def _middle(ctx: StageContext, source: FrameSource, start: int, stop: int) -> float:
    """Middle of a sequence, by its frames' times or by the name of its directory; NaN where unknown."""
    times = source.start_times[[start, stop - 1]]
    if not np.isnat(times).any():
        return float(unix_seconds(times).mean())
    time = directory_time(source.files[source.file_index[start]].parent)
    if np.isnat(time):
        return float("nan")
    length = (stop - start) * source.exposure_s
    return float(unix_seconds(np.asarray(time)) - 3600 * ctx.settings.clock_offset_h + length / 2)


def _note_frames(ctx: StageContext, role: str, edges: list[int], average: Average) -> None:
    whole = average.whole
    for frames, why in ((whole.outliers, "their light lies off"), (whole.saturated, "they are saturated")):
        if frames:
            ctx.note(f"{role}: frames {ranges_text(frames)} are left out, for {why}")
    if len(average.parts) > 1:
        means = ", ".join(
            f"{np.median(part.levels):.1f} DN at {_text(time)}"
            for part, time in zip(average.parts, average.times, strict=True)
        )
        ctx.note(f"{role}: {len(average.parts)} sequences are interpolated in time; their levels are {means}")
    elif len(edges) > 2:
        levels = ", ".join(f"{np.median(whole.levels[start:stop]):.1f}" for start, stop in pairwise(edges))
        ctx.note(f"{role}: {len(edges) - 1} sequences are combined; their levels are {levels} DN")
    elif role in _COMBINED and ctx.config.combine is Combine.interpolate:
        ctx.note(f"{role}: one sequence only, the same for all times: there is nothing to interpolate")


def _text(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))
