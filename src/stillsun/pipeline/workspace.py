"""Where products of a run are looked for and written: the work directory, or a sweep's job in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillsun.io.atomic import write_whole
from stillsun.io.store import stored_digest
from stillsun.pipeline.layout import Layout
from stillsun.stages.base import Stage


@dataclass(frozen=True)
class Workspace:
    """
    The places of one run.

    A sweep's job keeps what its overrides change in its own directory, and everything else in the work
    directory, where all jobs find it.

    Attributes
    ----------
    work : Path
        The work directory.
    job : Path or None
        Directory of a sweep's job.
    changed : callable
        ``changed(stage)``: the job's overrides change this stage's result.
    swept : tuple of str
        The overrides that the sweep's jobs differ in.
    """

    work: Path
    job: Path | None = None
    changed: Callable[[Stage], bool] = lambda stage: False
    swept: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where the run as a whole belongs."""
        return self.job or self.work

    def target(self, stage: Stage) -> Layout:
        """
        Where a stage's result is written.

        Parameters
        ----------
        stage : Stage
            Stage.

        Returns
        -------
        Layout
            Its places.
        """
        return Layout(self.job if self.job is not None and self.changed(stage) else self.work)

    def find(self, stage: Stage, channel: str, wanted: str | None) -> tuple[Layout, str] | None:
        """
        Look for a stage's result.

        Parameters
        ----------
        stage : Stage
            Stage.
        channel : str
            Channel.
        wanted : str or None
            Digest that it must have; None: any.

        Returns
        -------
        tuple or None
            Its places and digest.
        """
        layout = self.target(stage)
        if stage.writes:
            found = stored_digest(*layout.store(channel, stage.writes))
        else:
            found = read_stamp(layout.stamp(channel, stage.name), layout.work).get("digest")
        return None if found is None or wanted not in (None, found) else (layout, found)


def read_stamp(path: Path, work: Path) -> dict[str, Any]:
    """
    Read the record of a stage whose result is files.

    Parameters
    ----------
    path : Path
        JSON file.
    work : Path
        Directory that the files' names are relative to.

    Returns
    -------
    dict
        The record; empty if there is none or a file is missing or of another size.
    """
    try:
        stamp: dict[str, Any] = json.loads(path.read_text())
        intact = all((work / name).stat().st_size == size for name, size in stamp["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return stamp if intact else {}


def write_stamp(
    path: Path, work: Path, digest: str, files: Sequence[Path], notes: Sequence[str], told: str = ""
) -> None:
    """
    Record a finished stage whose result is files.

    Parameters
    ----------
    path : Path
        JSON file.
    work : Path
        Directory that the files' names are kept relative to.
    digest : str
        What they are made from.
    files : sequence of Path
        The files.
    notes : sequence of str
        What the stage noted.
    told : str
        Digest of what the files say of other tasks.
    """
    names = {str(f.relative_to(work)): f.stat().st_size for f in files}
    write_json(path, {"digest": digest, "files": names, "notes": list(notes), "told": told})


def write_json(path: Path, value: Any) -> None:
    """
    Write JSON under a temporary name and rename it.

    Parameters
    ----------
    path : Path
        File.
    value : object
        Plain value.
    """
    write_whole(path, json.dumps(value, indent=1) + "\n")
