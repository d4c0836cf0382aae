"""Figure that compares the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stillsun.qa.plots import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 48  # letters of a job's name


def comparison_figure(jobs: Sequence[str], panels: Mapping[str, Sequence[tuple[str, str, float]]]) -> Figure:
    """
    Draw one panel a quantity, one line a job, one mark a channel.

    Parameters
    ----------
    jobs : sequence of str
        The jobs, from top to bottom.
    panels : mapping of str to sequence of tuple
        Label of the quantity to (job, channel, value).

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.figure import Figure

    channels = list(dict.fromkeys(channel for rows in panels.values() for _, channel, _ in rows))
    places = {job: number for number, job in enumerate(jobs)}
    figure = Figure(figsize=(13, 1.5 + 0.32 * len(jobs)), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (label, rows) in zip(axes, panels.items(), strict=True):
        for number, channel in enumerate(channels):
            marks = [(value, places[job]) for job, name, value in rows if name == channel]
            axis.plot(*zip(*marks, strict=True), "os^Dv"[number % 5], ms=6, alpha=0.85, label=channel)
        axis.set_xlabel(label)
        axis.set_ylim(len(jobs) - 0.5, -0.5)
        axis.margins(x=0.12)
        axis.grid(alpha=0.3)
    names = [job if len(job) <= _LONGEST else "…" + job[-_LONGEST:] for job in jobs]
    axes[0].set_yticks(range(len(jobs)), names)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(channels))
    return figure
