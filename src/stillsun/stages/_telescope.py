"""The telescope while the frames were taken, from its log."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.core.bursts import unix_seconds
from stillsun.errors import InputError
from stillsun.io.telemetry import TelescopeState, read_telescope_log
from stillsun.products.bursts import STATE
from stillsun.stages.base import StageContext

# A log record further away says nothing about a burst.
_LOG_DISTANCE_S = 60.0
# A log that ends or begins so long before or after the data is refused.
_OTHER_DAY_S = 6 * 3600.0


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
