"""The jobs of a sweep side by side: one table, one plot."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stillsun.io.atomic import write_whole
from stillsun.pipeline.score import Figures, score
from stillsun.pipeline.workspace import write_json
from stillsun.qa.comparison import comparison_figure
from stillsun.qa.plots import encode

_JOB_FILE = "figures.json"
_TABLE = "comparison.csv"
_PLOT = "comparison.png"
_COLUMNS = ("job_score", "job", "channel", "residual_px", "change_px", "sharpness", "score")


def record_job(job: Path, overrides: Sequence[str], found: Mapping[str, Figures]) -> None:
    """
    Keep the figures of a sweep's job.

    Parameters
    ----------
    job : Path
        The job's directory.
    overrides : sequence of str
        In what it differs from the others.
    found : mapping of str to Figures
        Channel to figures.
    """
    channels = {channel: asdict(figures) for channel, figures in found.items()}
    write_json(job / _JOB_FILE, {"overrides": list(overrides), "channels": channels})


def compare_jobs(directory: Path, jobs: Sequence[Path]) -> str:
    """
    Write table and plot of a sweep.

    Parameters
    ----------
    directory : Path
        Directory of the sweep; gets ``comparison.csv`` and ``comparison.png``.
    jobs : sequence of Path
        Directories of its jobs; one that failed has no figures and is left out.

    Returns
    -------
    str
        The table for a person, the best job first; empty if no job has figures.
    """
    found: dict[str, dict[str, Figures]] = {}
    for job in jobs:
        if (job / _JOB_FILE).is_file():
            kept = json.loads((job / _JOB_FILE).read_text())
            name = " ".join(kept["overrides"]) or job.name
            found[name] = {channel: Figures(**values) for channel, values in kept["channels"].items()}
    # NaN last.
    order = sorted(
        (n for n in found if found[n]), key=lambda n: (math.isnan(score(found[n])), score(found[n]))
    )
    if not order:
        return ""
    rows = [
        (score(found[name]), name, channel, f.residual_px, f.change_px, f.sharpness, f.score)
        for name in order
        for channel, f in found[name].items()
    ]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows([f"{v:.5g}" if isinstance(v, float) else v for v in row] for row in rows)
    write_whole(directory / _TABLE, text.getvalue())
    values = {
        "Shift left over (px)": [(name, channel, residual) for _, name, channel, residual, *_ in rows],
        "Change from frame to frame (px)": [(row[1], row[2], row[4]) for row in rows],
        "Sharpness kept": [(row[1], row[2], row[5]) for row in rows],
        "Score (px)": [(row[1], row[2], row[6]) for row in rows],
    }
    write_whole(directory / _PLOT, encode(comparison_figure(order, values), "png"))
    return _text(rows, directory)


def _text(rows: Sequence[tuple[float, str, str, float, float, float, float]], directory: Path) -> str:
    cells = [("score px", "channel", "residual px", "change px", "sharpness", "job")]
    last = ""
    for whole, name, channel, residual, change, sharpness, _ in rows:
        first = (f"{whole:.3f}", name) if name != last else ("", "")
        cells.append((first[0], channel, f"{residual:.3f}", f"{change:.3f}", f"{sharpness:.3f}", first[1]))
        last = name
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, f"Table and plot: {directory / _TABLE}, {_PLOT}"])
