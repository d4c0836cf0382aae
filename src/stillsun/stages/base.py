"""What a stage is: a declaration, and a function of a context that holds all it may use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillsun.io.store import StoreWriter
from stillsun.products.base import FilesProduct, Product, StoreProduct
from stillsun.products.channel import Channel, ChannelPaths

if TYPE_CHECKING:
    from stillsun.core.backend import Backend

Progress = Callable[[int, int], None]
_NOTES = logging.getLogger("stillsun.notes")


@dataclass(kw_only=True)
class StageContext(Channel):
    """
    All that a stage may use: the channel that it works on, with the products it declared, and its tools.

    A stage of the whole observation has no channel of its own, but sees them all.

    Attributes
    ----------
    config : object
        The stage's own options, with the channel's overrides.
    backend : Backend or None
        Where to compute; None for a stage of the whole observation.
    reference : Channel or None
        The reference channel with the products that the stage declared and that are there; None for the
        reference channel itself.
    channels : mapping of str to Channel
        For a stage of the whole observation: all channels of the run, the reference channel first.
    work : Path
        The work directory.
    create : callable
        ``create(rows, fields, attributes={})`` is a context manager that gives the stage's `StoreWriter`; a
        part file of the same digest is taken over.
    progress : callable
        ``progress(done, total)``.
    digest : str
        Digest of what the stage is about to make.
    provenance : mapping
        ``program``, ``version`` and ``hash`` of the sources of what runs.
    notes : list of str
        What was assumed, dropped, retried or refused.
    told : mapping of str to sequence of str
        What every task noted so far, by ``CHANNEL/stage``.
    failed : mapping of str to str
        Tasks that failed, and why.
    seconds : mapping of str to float
        Time that every task took.
    """

    config: Any
    backend: Backend
    reference: Channel | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)
    work: Path = Path()
    create: Callable[..., AbstractContextManager[StoreWriter]]
    progress: Progress
    digest: str
    provenance: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """
        Record, in one sentence, what a person should know: assumed, dropped, retried, refused.

        Notes made before the store is finished are kept in it.
        """
        self.notes.append(text)
        _NOTES.warning("%s: %s" if self.name else "%s%s", self.name, text)


def _nothing_named(options: Any) -> None:
    """The options name nothing that must be there."""


@dataclass(frozen=True)
class Stage:
    """
    Declaration of a stage.

    Attributes
    ----------
    name : str
        Name as in the configuration.
    version : int
        Raised whenever the stage's result changes for the same input.
    run : callable
        Does the work with its context; a stage that writes no store returns the files it wrote, or
        None if it could not do its work: then nothing counts as done, and the next run tries again.
    writes : class of a StoreProduct or None
        What it makes; None for a stage whose result is files.
    reads : tuple of classes of products
        Products of the same channel; for a stage of the whole observation, of every channel.
    optional : tuple of classes of products
        Products that are used if they are there.
    reads_reference : tuple of classes of products
        Products of the reference channel.
    raw : tuple of str
        Roles of the raw files that are read.
    settings : tuple of str
        Keys of the channel's settings that the result depends on.
    observation : tuple of str
        Keys of the observation that the result depends on.
    files : tuple of str
        Keys of the observation or of the stage's options that name files the result depends on.
    frame_independent_files : tuple of str
        Those of `files` that the frames in the product do not depend on.
    uses_frames_only : tuple of classes of products
        Products of which only the frames and their times are read.
    parts : mapping of classes of products to tuple of str
        Products of which only these datasets are read, and which are those.
    ignores : tuple of str
        Keys of the stage's options that do not change the result; dotted below the stage.
    per_observation : bool
        True: runs once for the whole observation.
    implicit : bool
        True: belongs to every run of its channel, whatever stages are chosen.
    reports_on_run : bool
        True: the result also says how all tasks before it ended, and is made again if that has changed.
    check : callable
        ``check(options)`` raises ConfigError where something is not there that the stage's options name, such
        as a program; called before any work.
    """

    name: str
    version: int
    run: Callable[[Any], Sequence[Path] | None]
    writes: type[StoreProduct] | None = None
    reads: tuple[type[StoreProduct], ...] = ()
    optional: tuple[type[StoreProduct], ...] = ()
    reads_reference: tuple[type[StoreProduct], ...] = ()
    raw: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    observation: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    frame_independent_files: tuple[str, ...] = ()
    uses_frames_only: tuple[type[StoreProduct], ...] = ()
    parts: Mapping[type[StoreProduct], tuple[str, ...]] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    per_observation: bool = False
    implicit: bool = False
    reports_on_run: bool = False
    check: Callable[[Any], None] = _nothing_named

    @property
    def product_name(self) -> str:
        """Name of what it makes; empty for files."""
        return self.writes.name if self.writes else ""

    def product(self, work: Path, channel: str) -> Product:
        """What it makes, or has made, for a channel."""
        return self.writes(work, channel) if self.writes else FilesProduct(work, channel, self.name)


__all__ = ["ChannelPaths", "Progress", "Stage", "StageContext"]
