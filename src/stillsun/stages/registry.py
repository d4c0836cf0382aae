"""The stages by name, in the order of the data's walk."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from stillsun.config.schema import SpeckleEngine, StageName
from stillsun.stages.base import Stage


def all_stages() -> dict[str, Stage]:
    """
    Load every stage.

    Returns
    -------
    dict
        Name to declaration, in order.

    Raises
    ------
    RuntimeError
        If a stage reads what no stage before it writes.
    """
    stages = {
        name: importlib.import_module(f"stillsun.stages.{name}").STAGE for name in StageName.__members__
    }
    check_wiring(stages.values())
    return stages


def stage_of_channel(stage: Stage, options: Mapping[str, Any], is_reference: bool) -> Stage:
    """
    The stage as it is for a channel.

    One that begins with frames of an earlier system takes those over; one whose destretch follows the
    reference channel reads that channel's shifts.

    Parameters
    ----------
    stage : Stage
        A stage of `all_stages`.
    options : mapping of str to object
        The options of every stage for the channel.
    is_reference : bool
        It is the reference channel.

    Returns
    -------
    Stage
        The stage, or what stands for it.
    """
    from stillsun.stages import _earlier, destretch

    if stage.name == destretch.STAGE.name and destretch.follows(options[stage.name], is_reference):
        return destretch.FOLLOWING
    if options["speckle"].engine is not SpeckleEngine.fits:
        return stage
    return _earlier.STAGES.get(stage.name, stage)


def check_wiring(stages: Iterable[Stage]) -> None:
    """
    Check that every product is written before it is read, and by one stage only.

    Parameters
    ----------
    stages : iterable of Stage
        Stages in their order.

    Raises
    ------
    RuntimeError
        If that is not so.
    """
    written: set[str] = set()
    for stage in stages:
        # The reference channel is done first, so that its result of the same stage can be read.
        missing = ({*stage.reads, *stage.optional} - written) | (
            {*stage.reads_reference} - written - {stage.writes}
        )
        if missing:
            raise RuntimeError(f"stage {stage.name} reads {sorted(missing)}, which no stage before it writes")
        if stage.writes in written:
            raise RuntimeError(
                f"stage {stage.name} writes {stage.writes}, which another stage writes already"
            )
        if stage.writes:
            written.add(stage.writes)
