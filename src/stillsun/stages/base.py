"""What a stage is: a declaration, and a function of a context that holds all it may use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.core.backend import Backend
from stillsun.core.orient import Orientation
from stillsun.io.store import Field, StoreReader, StoreWriter

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ChannelPaths:
    """
    The places of one channel that are not stores.

    Attributes
    ----------
    directory : Path
        The channel's directory; an external program is started here.
    speckle_bursts, speckle_output : Path
        Binary bursts for an external program, and its output.
    post_speckle, destretched : Path
        FITS files before and after destretch.
    """

    directory: Path

    @property
    def speckle_bursts(self) -> Path:
        """Binary bursts."""
        return self.directory / "preSpeckle"

    @property
    def speckle_output(self) -> Path:
        """Output of an external program."""
        return self.directory / "speckle"

    @property
    def post_speckle(self) -> Path:
        """FITS files of reconstructed frames."""
        return self.directory / "postSpeckle"

    @property
    def destretched(self) -> Path:
        """FITS files of the final frames."""
        return self.directory / "splineDestretch"


@dataclass
class StageContext:
    """
    All that a stage may use.

    Attributes
    ----------
    channel : str
        Name of the channel.
    settings : ChannelConfig
        The channel's settings.
    config : object
        The stage's own options, with the channel's overrides.
    observation : ObservationConfig
        The observation.
    backend : Backend
        Where to compute.
    inputs : mapping of str to StoreReader
        The channel's products that the stage declared, open.
    reference : mapping of str to StoreReader
        The reference channel's products that the stage declared, open; missing ones are left out.
    is_reference : bool
        This channel is the reference channel.
    paths : ChannelPaths
        Places that are not stores.
    create : callable
        ``create(rows, fields, attributes={})`` is a context manager that gives the stage's
        `StoreWriter`; a part file of the same digest is taken over.
    progress : callable
        ``progress(done, total)``.
    digest : str
        Digest of what the stage is about to make.
    provenance : mapping
        ``program``, ``version`` and ``hash`` of the sources of what runs.
    notes : list of str
        What was assumed, dropped, retried or refused.
    """

    channel: str
    settings: ChannelConfig
    config: Any
    observation: ObservationConfig
    backend: Backend
    inputs: Mapping[str, StoreReader]
    reference: Mapping[str, StoreReader]
    is_reference: bool
    paths: ChannelPaths
    create: Callable[..., AbstractContextManager[StoreWriter]]
    progress: Progress
    digest: str
    provenance: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def orientation(self) -> Orientation:
        """From the camera's frames to oriented ones."""
        return Orientation.from_steps([turn.value for turn in self.settings.orientation])

    def note(self, text: str) -> None:
        """
        Record something that a person should know: assumed, dropped, retried, refused.

        Notes made before the store is finished are kept in it.

        Parameters
        ----------
        text : str
            One sentence.
        """
        self.notes.append(text)
        logging.getLogger("stillsun.notes").warning("%s: %s", self.channel, text)


@dataclass(frozen=True)
class ChannelView:
    """
    What a stage of the whole observation sees of one channel.

    Attributes
    ----------
    settings : ChannelConfig
        The channel's settings.
    options : mapping of str to object
        The options of every stage for this channel.
    inputs : mapping of str to StoreReader
        The products that the stage declared and that exist, open.
    paths : ChannelPaths
        Places that are not stores.
    """

    settings: ChannelConfig
    options: Mapping[str, Any]
    inputs: Mapping[str, StoreReader]
    paths: ChannelPaths


@dataclass
class ObservationContext:
    """
    All that a stage of the whole observation may use.

    Attributes
    ----------
    config : object
        The stage's options.
    observation : ObservationConfig
        The observation.
    channels : mapping of str to ChannelView
        The channels of the run, the reference channel first.
    directory : Path
        The work directory.
    notes : mapping of str to list of str
        What every stage noted so far, by ``CHANNEL/stage``.
    seconds : mapping of str to float
        Time that every stage took, by ``CHANNEL/stage``, where it ran in this run.
    progress : callable
        ``progress(done, total)``.
    digest : str
        Digest of what the stage is about to make.
    provenance : mapping
        ``program`` and ``version`` of what runs.
    own_notes : list of str
        What this stage itself noted.
    """

    config: Any
    observation: ObservationConfig
    channels: Mapping[str, ChannelView]
    directory: Path
    notes: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]
    progress: Progress
    digest: str
    provenance: Mapping[str, Any]
    own_notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """
        Record something that a person should know: assumed, dropped, refused.

        Parameters
        ----------
        text : str
            One sentence.
        """
        self.own_notes.append(text)
        logging.getLogger("stillsun.notes").warning("%s", text)


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
    writes : str
        Product, a store; ``""`` for a stage whose result is files.
    reads : tuple of str
        Products of the same channel; for a stage of the whole observation, of every channel.
    optional : tuple of str
        Products that are used where they exist.
    reads_reference : tuple of str
        Products of the reference channel.
    raw : tuple of str
        Roles of the raw files that are read.
    settings : tuple of str
        Keys of the channel's settings that the result depends on.
    observation : tuple of str
        Keys of the observation that the result depends on.
    files : tuple of str
        Keys of the observation or of the stage's options that name files the result depends on.
    aside : tuple of str
        Those of `files` from which only what stands beside the frames in the product comes.
    frames_of : tuple of str
        Products of which only the frames are read and their times, not what stands beside them.
    ignores : tuple of str
        Keys of the stage's options that do not change the result; dotted below the stage.
    whole : bool
        True: runs once for the whole observation, with an `ObservationContext`.
    always : bool
        True: belongs to every run of its channel, whatever stages are chosen.
    tells : bool
        True: the result also says how all tasks before it ended, and is made again where that has changed.
    check : callable
        ``check(options)`` raises ConfigError where something is not there that the stage's options name, such
        as a program; called before any work.
    """

    name: str
    version: int
    run: Callable[[Any], Sequence[Path] | None]
    writes: str = ""
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    reads_reference: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    observation: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    frames_of: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    whole: bool = False
    always: bool = False
    tells: bool = False
    check: Callable[[Any], None] = _nothing_named


__all__ = ["ChannelPaths", "ChannelView", "Field", "ObservationContext", "Progress", "Stage", "StageContext"]
