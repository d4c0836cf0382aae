"""How one task stands: its product, its entry in the record, and what a run says of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stillsun.io.store import part_progress, stored_digest
from stillsun.pipeline.console import read_progress
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.record import is_alive
from stillsun.pipeline.task import Action, Plan
from stillsun.pipeline.workspace import Workspace, read_stamp
from stillsun.stages.base import Stage


class State(Enum):
    """How a task stands."""

    done = "done"
    running = "running"
    waits = "waits"
    stopped = "stopped"
    failed = "failed"
    stale = "stale"
    missing = "missing"


@dataclass(frozen=True)
class TaskStatus:
    """
    One stage of one channel.

    Attributes
    ----------
    channel : str
        Channel; empty for a stage of the whole observation.
    stage : str
        Stage.
    state : State
        How it stands: stale is a product that is there, but that the next run makes again.
    done, total : int or None
        Units of an unfinished task (rows of its store, mostly).
    seconds : float or None
        Time it took, or has taken so far.
    remaining_s : float or None
        Estimate of the time that is left.
    error : str
        Why it failed.
    notes : list of str
        What its stage noted when it ended without a result.
    """

    channel: str
    stage: str
    state: State
    done: int | None = None
    total: int | None = None
    seconds: float | None = None
    remaining_s: float | None = None
    error: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Channel and stage."""
        return f"{self.channel}/{self.stage}" if self.channel else self.stage


def task_status(
    stage: Stage,
    channel: str,
    plan: Plan,
    space: Workspace,
    entries: Mapping[str, Mapping[str, Any]],
    layout: Layout,
) -> TaskStatus:
    """
    Look how a task stands.

    Parameters
    ----------
    stage : Stage
        Its stage.
    channel : str
        Its channel; empty for a stage of the whole observation.
    plan : Plan
        What a run would do now; empty while one goes on.
    space : Workspace
        Where products are.
    entries : mapping of str to mapping
        What the record says of the tasks.
    layout : Layout
        Places of the work directory.

    Returns
    -------
    TaskStatus
        How it stands; the time that is left only for what is running.
    """
    name = f"{channel}/{stage.name}" if channel else stage.name
    entry = entries.get(name, {})
    task = None if plan.findings else plan.lookup(stage.name, channel)
    wanted = entry.get("digest") if task is None else task.digest
    places = space.target(stage)
    found = _found(stage, channel, places)
    said, own = entry.get("state"), entry.get("digest") == wanted
    alive = said in ("planned", "running") and is_alive(layout, entry if said == "running" else {})
    rows = _rows(stage, channel, places, wanted)
    state: State = State.missing
    more: dict[str, Any] = {}
    if alive:
        state = State.running if said == "running" else State.waits
        more = _progress(name, channel, layout) if state is State.running else {}
        if state is State.running and entry.get("started"):
            more["seconds"] = time.time() - entry["started"]
    elif found is not None and found == wanted and (task is None or task.action is Action.reuse):
        state, more = State.done, {"seconds": entry.get("seconds") if own else None}
    elif own and said == "failed":
        state, more = State.failed, {"error": entry.get("error") or "", **rows}
    elif rows or (own and said == "running"):
        state, more = State.stopped, rows
    elif found is not None:
        state = State.stale
    elif own and said == "empty":
        more = {"notes": list(entry.get("notes") or [])}
    return TaskStatus(channel, stage.name, state, **more)


def _found(stage: Stage, channel: str, places: Layout) -> str | None:
    if stage.writes:
        return stored_digest(*places.store(channel, stage.writes))
    return read_stamp(places.stamp(channel, stage.name), places.work).get("digest")


def _rows(stage: Stage, channel: str, places: Layout, digest: str | None) -> dict[str, Any]:
    """Rows of an unfinished store that the next run will go on with."""
    if not stage.writes:
        return {}
    path, group = places.store(channel, stage.writes)
    own = path if group == "/" else path.with_name(f"{path.stem}.{group}{path.suffix}")
    rows = part_progress(own, digest)
    return {} if rows is None else {"done": rows[0], "total": rows[1]}


def _progress(name: str, channel: str, layout: Layout) -> dict[str, Any]:
    """What a running task says of itself, with the time that the rest will take at its pace."""
    said = read_progress(layout.progress(channel))
    if said is None or said["task"] != name:
        return {}
    made, took = said["done"] - said["first"], said["at"] - said["since"]
    more: dict[str, Any] = {"done": said["done"], "total": said["total"]}
    if made > 0:
        more["remaining_s"] = max(
            0.0, took / made * (said["total"] - said["done"]) - (time.time() - said["at"])
        )
    return more


def with_estimates(tasks: Iterable[TaskStatus], entries: Mapping[str, Mapping[str, Any]]) -> list[TaskStatus]:
    """
    Add how long what has not begun will take: as long as last time, or as for the other channels.

    Parameters
    ----------
    tasks : iterable of TaskStatus
        All tasks.
    entries : mapping of str to mapping
        What the record says of them.

    Returns
    -------
    list of TaskStatus
        The tasks in the same order.
    """
    every = list(tasks)
    estimated = []
    for task in every:
        if task.state is State.done or task.remaining_s is not None:
            estimated.append(task)
            continue
        entry = entries.get(task.name, {})
        last = entry.get("seconds") or entry.get("expected")
        others = [t.seconds for t in every if t.stage == task.stage and t.state is State.done and t.seconds]
        guess = last if last is not None else (sum(others) / len(others) if others else None)
        if guess is not None and task.state is State.running:
            guess = max(0.0, guess - (task.seconds or 0.0))
        elif guess is not None and task.total:
            guess *= 1 - (task.done or 0) / task.total
        estimated.append(TaskStatus(**{**task.__dict__, "remaining_s": guess}))
    return estimated
