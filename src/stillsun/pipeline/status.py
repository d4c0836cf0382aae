"""How a work directory stands: what is done, under way, stale, missing, failed, and what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.errors import StillsunError
from stillsun.pipeline.console import read_progress
from stillsun.pipeline.places import Places, Workspace, check_files, workspace_of
from stillsun.pipeline.plan import Plan, make_plan
from stillsun.pipeline.record import is_alive, required_record
from stillsun.products.base import StoreProduct
from stillsun.products.channel import Channel
from stillsun.qa.checklist import Check, checklist
from stillsun.stages.base import Stage
from stillsun.stages.registry import all_stages

# Overrides that say what a run is to do, not how.
_LIMITS = ("stages", "channels", "force", "plan")


class State(Enum):
    """How a task stands."""

    done = "done"
    running = "running"
    waits = "waits"
    stopped = "stopped"
    failed = "failed"
    stale = "stale"
    depends = "depends"
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
        How it stands: stale is a product that is there, but that the next run makes again; depends is one
        that it makes again only if what is stale before it comes out otherwise.
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


@dataclass(frozen=True)
class Status:
    """
    A work directory.

    Attributes
    ----------
    work : str
        The directory.
    observation : str
        Name of the sequence.
    state : str
        ``running``, ``stopped`` (a run ended without a word), ``failed``, ``unfinished`` or ``done``.
    command, host : str
        The last run.
    pid : int
        Its process.
    started, ended : float or None
        When it began and ended, Unix seconds.
    remaining_s : float or None
        Estimate of what remains; None where nothing is known.
    unknown : int
        Tasks to be done that the estimate leaves out.
    tasks : list of TaskStatus
        All stages of all channels.
    checks : dict
        Channel to its quality checklist.
    findings : list of str
        Why it cannot be said what is stale.
    next : str
        What to do next.
    """

    work: str
    observation: str
    state: str
    command: str
    host: str
    pid: int
    started: float | None
    ended: float | None
    remaining_s: float | None
    unknown: int
    tasks: list[TaskStatus]
    checks: dict[str, list[Check]]
    findings: list[str]
    next: str

    def plain(self) -> dict[str, Any]:
        """The same as values for JSON."""
        values = asdict(self)
        for task in values["tasks"]:
            task["state"] = task["state"].value
        return values


def look(work: Path, load: Callable[[Mapping[str, Any], Path], Settings], here: Path) -> Status:
    """
    Look at a work directory; nothing is changed in it.

    Parameters
    ----------
    work : Path
        Work directory, or the directory of a sweep's job.
    load : callable
        ``load(configuration, work)`` gives the settings of a record for all stages and channels.
    here : Path
        Where the next command will be given; paths in the last one are relative to where that was given.

    Returns
    -------
    Status
        How it stands.

    Raises
    ------
    InputError
        If nothing was run there.
    """
    places = Places(work)
    record = required_record(places)
    stages, space = all_stages(), workspace_of(record, work)
    settings = load(record["configuration"], space.work)
    alive = is_alive(places, record) and record["ended"] is None
    # While a run goes on, its own plan holds, and the raw files need not be looked at again.
    plan = Plan() if alive else _plan(settings, stages, space, record["backend"])
    tasks = [
        _task_status(stage, channel, plan, space, record["tasks"], places)
        for stage in stages.values()
        for channel in ([""] if stage.per_observation else settings.channels)
    ]
    tasks = _with_estimates(tasks, record["tasks"])
    open_tasks = [t for t in tasks if t.state not in (State.done, State.depends)]
    known = [t.remaining_s for t in open_tasks if t.remaining_s is not None]
    state = _overall(tasks, alive, record)
    checks = {name: _checks(name, settings, space, stages) for name in settings.channels}
    return Status(
        work=str(work),
        observation=settings.run.observation.name,
        state=state,
        command=record["command"],
        host=record["host"],
        pid=record["pid"],
        started=record["started"],
        ended=record["ended"],
        remaining_s=sum(known) if known else None,
        unknown=len(open_tasks) - len(known),
        tasks=tasks,
        checks=checks,
        findings=plan.findings,
        next=_next(state, tasks, checks, record, places, here),
    )


def _task_status(
    stage: Stage,
    channel: str,
    plan: Plan,
    space: Workspace,
    entries: Mapping[str, Mapping[str, Any]],
    places: Places,
) -> TaskStatus:
    """How a task stands; the time that is left only for what is running."""
    name = f"{channel}/{stage.name}" if channel else stage.name
    entry = entries.get(name, {})
    task = None if plan.findings else plan.lookup(stage.name, channel)
    wanted = entry.get("digest") if task is None else task.digest
    product = space.product(stage, channel)
    found, part = product.digest, product.progress(wanted)
    rows = {} if part is None else {"done": part[0], "total": part[1]}
    said, own = entry.get("state"), entry.get("digest") == wanted
    alive = said in ("planned", "running") and is_alive(places, entry if said == "running" else {})
    state: State = State.missing
    more: dict[str, Any] = {}
    if alive:
        state = State.running if said == "running" else State.waits
        more = _progress(name, channel, places) if state is State.running else {}
        if state is State.running and entry.get("started"):
            more["seconds"] = time.time() - entry["started"]
    elif found is not None and found == wanted and (task is None or not task.is_new):
        state = State.depends if task is not None and task.is_open else State.done
        more = {"seconds": entry.get("seconds") if own else None}
    elif own and said == "failed":
        state, more = State.failed, {"error": entry.get("error") or "", **rows}
    elif rows or (own and said == "running"):
        state, more = State.stopped, rows
    elif found is not None:
        state = State.stale
    elif own and said == "empty":
        more = {"notes": list(entry.get("notes") or [])}
    return TaskStatus(channel, stage.name, state, **more)


def _progress(name: str, channel: str, places: Places) -> dict[str, Any]:
    """What a running task says of itself, with the time that the rest will take at its pace."""
    said = read_progress(places.progress(channel))
    if said is None or said["task"] != name:
        return {}
    made, took = said["done"] - said["first"], said["at"] - said["since"]
    more: dict[str, Any] = {"done": said["done"], "total": said["total"]}
    if made > 0:
        more["remaining_s"] = max(
            0.0, took / made * (said["total"] - said["done"]) - (time.time() - said["at"])
        )
    return more


def _with_estimates(
    tasks: Iterable[TaskStatus], entries: Mapping[str, Mapping[str, Any]]
) -> list[TaskStatus]:
    """Add how long what has not begun will take: as long as last time, or as for the other channels."""
    every = list(tasks)
    estimated = []
    for task in every:
        if task.state in (State.done, State.depends) or task.remaining_s is not None:
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


def _plan(settings: Settings, stages: Mapping[str, Stage], space: Workspace, backend: str) -> Plan:
    findings = check_files(settings, stages)
    if findings:
        return Plan(findings=findings)
    try:
        return make_plan(settings, stages, space, backend)
    except StillsunError as error:
        return Plan(findings=[str(error)])


def _overall(tasks: Iterable[TaskStatus], alive: bool, record: Mapping[str, Any]) -> str:
    states = {t.state for t in tasks}
    if alive:
        return "running"
    if states == {State.done}:
        return "done"
    if record["ended"] is None:
        return "stopped"
    return "failed" if State.failed in states else "unfinished"


def _checks(name: str, settings: Settings, space: Workspace, stages: Mapping[str, Stage]) -> list[Check]:
    products = [space.product(stage, name) for stage in stages.values()]
    stores = [product for product in products if isinstance(product, StoreProduct)]
    with Channel.of(settings, name, space.target(stages["export"]).channel(name), stores) as channel:
        files = len(list(channel.paths.destretched.glob("*.fits"))) or None
        return checklist(channel, settings.run.report.quality, files=files)


def _command(record: Mapping[str, Any], work: Path) -> str:
    """The last run's command, for the place where its products are now."""
    command = str(record["command"])
    if record["is_job"] or record["work"] == str(work):
        return command
    words = [w for w in shlex.split(command) if w.partition("=")[0] != "observation.work_dir"]
    return shlex.join([*words, f"observation.work_dir={work}"])


def _next(
    state: str,
    tasks: Iterable[TaskStatus],
    checks: Mapping[str, Iterable[Check]],
    record: Mapping[str, Any],
    places: Places,
    here: Path,
) -> str:
    again = _command(record, places.work)
    if state == "unfinished":
        # What a run was limited to, or forced to do again, it has done.
        words = [w for w in shlex.split(again) if w.partition("=")[0] not in _LIMITS]
        again = shlex.join(words)
    if record["directory"] != str(here):
        again = f"cd {shlex.quote(record['directory'])} && {again}"
    if state == "running":
        return f"wait: stillsun status {shlex.quote(str(places.work))} --watch; the log is {places.log}"
    if state == "stopped":
        return f"the run was stopped or killed; the same command goes on where it was: {again}"
    if state == "failed":
        return (
            f"put right what the errors say (details are in {places.log}), then the same command goes on "
            f"from there: {again}"
        )
    if state == "unfinished":
        left = [task for task in tasks if task.state is not State.done]
        if all(task.notes for task in left):
            names = ", ".join(task.name for task in left)
            return (
                f"look at {places.report}; all is done but {names}: do what is said above, "
                f"then run again: {again}"
            )
        return f"run again to make what is missing or stale: {again}"
    if any(check.holds is False for judged in checks.values() for check in judged):
        return f"look at the conditions that do not hold in {places.report}"
    return f"nothing; look at {places.report}"
