"""A work directory as its users open it: every product of every channel, by attribute."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillsun.errors import InputError
from stillsun.pipeline.places import Places, workspace_of
from stillsun.pipeline.record import required_record
from stillsun.products.base import StoreProduct
from stillsun.products.channel import Channel
from stillsun.stages.registry import all_stages

if TYPE_CHECKING:
    from stillsun.config.settings import Settings


def open_work(directory: str | os.PathLike[str]) -> Work:
    """
    Open a work directory.

    Nothing is read before it is asked for, and nothing is changed.

    Parameters
    ----------
    directory : path
        Work directory of a run, or of a sweep's job.

    Returns
    -------
    Work
        Its channels by name.

    Raises
    ------
    InputError
        If no run has been there.

    Examples
    --------
    >>> import stillsun
    >>> with stillsun.open_work("WORK") as work:  # doctest: +SKIP
    ...     channel = work["ROSA_GBAND"]
    ...     image = channel.destretched.image(3)
    ...     times, r0 = channel.times, channel.reconstructed.r0
    ...     best = channel.destretched.image(channel.clearest())
    ...     wcs = channel.wcs(3)
    """
    return Work(Path(directory).expanduser().resolve())


class Work(Mapping[str, Channel]):
    """
    The channels of a work directory by name, the reference channel first.

    Products are opened when they are first read; what a later run makes is seen by a `Work` opened anew.

    Parameters
    ----------
    directory : Path
        Work directory of a run, or of a sweep's job.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record: Mapping[str, Any] = required_record(Places(directory))
        self._channels: dict[str, Channel] = {}

    @cached_property
    def settings(self) -> Settings:
        """The configuration of the last run, for all channels and stages."""
        from stillsun.config.build import settings_from_record

        work = Path(self.record["work"]) if self.record["is_job"] else self.directory
        settings = settings_from_record(self.record["configuration"], work)
        # Paths are relative to where the run was started.
        raw = Path(self.record["directory"]) / Path(settings.run.observation.raw_dir).expanduser()
        observation = replace(settings.run.observation, raw_dir=str(raw))
        return replace(settings, run=replace(settings.run, observation=observation))

    def __getitem__(self, name: str) -> Channel:
        if name not in self._channels:
            if name not in self.settings.channels:
                raise InputError(
                    f"no channel {name!r}",
                    file=self.directory,
                    expected=f"one of {', '.join(self.settings.channels)}",
                )
            stages = all_stages()
            space = workspace_of(self.record, self.directory)
            products = [space.product(stage, name) for stage in stages.values()]
            stores = [product for product in products if isinstance(product, StoreProduct)]
            paths = space.target(stages["export"]).channel(name)
            self._channels[name] = Channel.of(self.settings, name, paths, stores)
        return self._channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings.channels)

    def __len__(self) -> int:
        return len(self.settings.channels)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of all products."""
        for channel in self._channels.values():
            channel.close()
