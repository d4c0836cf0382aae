"""The jobs of a sweep: how still each held the frames, one number for sweepers, a table, a plot."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stillsun.config.settings import Settings
from stillsun.io.atomic import write_whole
from stillsun.pipeline.places import write_json
from stillsun.pipeline.plan import Plan
from stillsun.products.destretched import Destretched

# Noise of a shift from a window of unit width: see `Figures.score`.
_NOISE = 2.0
_JOB_FILE = "figures.json"
_TABLE = "comparison.csv"
_PLOT = "comparison.png"
_COLUMNS = ("job_score", "job", "channel", "residual_px", "change_px", "sharpness", "score")


@dataclass(frozen=True)
class Figures:
    """
    What the destretch of a channel reached.

    Attributes
    ----------
    residual_px : float
        Mean shift that is left against the reference, pixels.
    change_px : float
        Mean change from frame to frame, as a displacement in pixels: temporal stability.
    sharpness : float
        Mean sharpness after destretch, of that before.
    kernel : int
        Finest kernel, pixels; 0 for the whole frame only.
    """

    residual_px: float
    change_px: float
    sharpness: float
    kernel: int

    @property
    def score(self) -> float:
        """
        Estimated error of the frames' geometry, pixels per axis; less is better.

        Two errors are added in quadrature. What is left of the seeing is the residual: large kernels, or
        none, leave much. The other is noise taken for seeing, which no comparison with the reference
        shows, for the frame has been fitted to it: a shift measured in a tile of K pixels has an error of
        about ``2 c / K`` for a change of c pixels in a single pixel (the window holds about ``K**2``
        pixels, of which four share their noise). The sum is divided by the square of the sharpness kept:
        a blurred frame changes less.
        """
        noise = _NOISE * self.change_px / self.kernel if self.kernel else 0.0
        return float(np.hypot(self.residual_px, noise) / min(1.0, self.sharpness) ** 2)


def figures(plan: Plan, settings: Settings) -> dict[str, Figures]:
    """Figures of all channels that a plan, which was carried out, has destretched."""
    found = {}
    for channel in settings.channels:
        task = plan.producer(Destretched, channel)
        if task is None:
            continue
        with Destretched(task.product.work, channel) as product:
            before, after = product.sharpness_before, product.sharpness_after
            live = np.isfinite(before) & (before > 0)
            found[channel] = Figures(
                _mean(product.residual_px),
                _mean(product.change_px),
                _mean(after[live] / before[live]),
                min((k for k in product.kernels if k), default=0),
            )
    return found


def score(found: Mapping[str, Figures]) -> float:
    """Mean of the channels' scores, pixels, less is better; NaN if nothing was destretched."""
    return float(np.mean([f.score for f in found.values()])) if found else float("nan")


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def record_job(job: Path, overrides: Sequence[str], found: Mapping[str, Figures]) -> None:
    """Keep the figures of a sweep's job, and the overrides in which it differs from the others."""
    channels = {channel: asdict(figures) for channel, figures in found.items()}
    write_json(job / _JOB_FILE, {"overrides": list(overrides), "channels": channels})


def compare_jobs(directory: Path, jobs: Sequence[Path]) -> str:
    """
    Write table and plot of a sweep, ``comparison.csv`` and ``comparison.png``, into its directory.

    Gives the table for a person, the best job first; a job that failed is left out, and the table is empty if
    all did.
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
    from stillsun.qa.comparison import comparison_figure
    from stillsun.qa.plots import encode

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
