"""Every path that the pipeline may write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillsun.stages.base import ChannelPaths

# Products that are sections of one file.
_SHARED = {"registration": ("registration", "register"), "pointing": ("registration", "align")}


@dataclass(frozen=True)
class Layout:
    """
    Places below a work directory.

    Attributes
    ----------
    work : Path
        The work directory.
    """

    work: Path

    def channel(self, name: str) -> ChannelPaths:
        """
        Places of a channel.

        Parameters
        ----------
        name : str
            Channel.

        Returns
        -------
        ChannelPaths
            Its directories.
        """
        return ChannelPaths(self.work / name)

    def store(self, channel: str, product: str) -> tuple[Path, str]:
        """
        File of a product.

        Parameters
        ----------
        channel : str
            Channel.
        product : str
            Product, as a stage declares it.

        Returns
        -------
        Path
            HDF5 file.
        str
            Section of the file.
        """
        name, group = _SHARED.get(product, (product, "/"))
        return self.work / channel / f"{name}.h5", group

    def stamp(self, channel: str, stage: str) -> Path:
        """
        Record of a finished stage whose result is no store.

        Parameters
        ----------
        channel : str
            Channel; empty for a stage of the whole observation.
        stage : str
            Stage.

        Returns
        -------
        Path
            JSON file.
        """
        return self.work / ".stillsun" / f"{channel or 'observation'}.{stage}.json"

    def redo(self, channel: str, stage: str) -> Path:
        """
        Mark of a result that is to be made again, although its digest is right.

        Parameters
        ----------
        channel, stage : str
            Names; no channel for a stage of the whole observation.

        Returns
        -------
        Path
            An empty file.
        """
        return self.work / ".stillsun" / f"{channel or 'observation'}.{stage}.redo"

    def lock(self, channel: str) -> Path:
        """
        File that a run locks while it works on a channel.

        Parameters
        ----------
        channel : str
            Channel; empty for the whole observation.

        Returns
        -------
        Path
            Lock file.
        """
        return self.work / ".stillsun" / f"{channel or 'observation'}.lock"

    def progress(self, channel: str) -> Path:
        """
        How far the task is that works on a channel.

        Parameters
        ----------
        channel : str
            Channel; empty for the whole observation.

        Returns
        -------
        Path
            JSON file, there only while a task runs, and after a kill.
        """
        return self.work / ".stillsun" / f"{channel or 'observation'}.progress.json"

    @property
    def run_lock(self) -> Path:
        """File that every run holds (shared) while it goes on."""
        return self.work / ".stillsun" / "run.lock"

    @property
    def record_lock(self) -> Path:
        """File that is locked while the record is changed."""
        return self.work / ".stillsun" / "manifest.lock"

    @property
    def log(self) -> Path:
        """The log file."""
        return self.work / "stillsun.log"

    @property
    def manifest(self) -> Path:
        """What was run, with which configuration and versions, and how each task ended."""
        return self.work / ".stillsun" / "manifest.json"

    @property
    def report(self) -> Path:
        """Directory of the report."""
        return self.work / "report"

    @property
    def movies(self) -> Path:
        """Directory of the movies."""
        return self.work / "context_movies"
