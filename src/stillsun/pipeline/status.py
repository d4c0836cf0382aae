"""How a work directory stands: what is done, under way, stale, missing, failed, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.errors import InputError, StillsunError
from stillsun.io.store import StoreReader
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.plan import changed_by, check_files, make_plan
from stillsun.pipeline.record import is_alive, required_record
from stillsun.pipeline.task import Plan
from stillsun.pipeline.taskstatus import State, TaskStatus, task_status, with_estimates
from stillsun.pipeline.workspace import Workspace
from stillsun.qa.checklist import Check, checklist
from stillsun.qa.products import ChannelProducts
from stillsun.stages.base import Stage
from stillsun.stages.registry import all_stages

# Overrides that say what a run is to do, not how.
_LIMITS = ("stages", "channels", "force", "plan")


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
        """
        The same as values for JSON.

        Returns
        -------
        dict
            All attributes.
        """
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
    layout = Layout(work)
    record = required_record(layout)
    is_job = bool(record["is_job"])
    settings = load(record["configuration"], Path(record["work"]) if is_job else work)
    stages = all_stages()
    changed = changed_by(record["swept"], stages)
    space = Workspace(
        Path(record["work"]) if is_job else work, work if is_job else None, lambda s: s.name in changed
    )
    alive = is_alive(layout, record) and record["ended"] is None
    # While a run goes on, its own plan holds, and the raw files need not be looked at again.
    plan = Plan() if alive else _plan(settings, stages, space, record["backend"])
    tasks = [
        task_status(stage, channel, plan, space, record["tasks"], layout)
        for stage in stages.values()
        for channel in ([""] if stage.whole else settings.channels)
    ]
    tasks = with_estimates(tasks, record["tasks"])
    open_tasks = [t for t in tasks if t.state is not State.done]
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
        next=_next(state, tasks, checks, record, layout, here),
    )


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
    with ExitStack() as stack:
        inputs = {}
        for stage in stages.values():
            if not stage.writes:
                continue
            try:
                reader = StoreReader(*space.target(stage).store(name, stage.writes))
            except InputError:
                continue
            inputs[stage.writes] = stack.enter_context(reader)
        products = ChannelProducts(name, settings.channel(name), settings.stages[name], inputs)
        exported = space.target(stages["export"]).channel(name).destretched
        files = len(list(exported.glob("*.fits"))) or None
        return checklist(
            products, settings.run.report.quality, is_reference=name == settings.reference, files=files
        )


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
    layout: Layout,
    here: Path,
) -> str:
    again = _command(record, layout.work)
    if state == "unfinished":
        # What a run was limited to, or forced to do again, it has done.
        words = [w for w in shlex.split(again) if w.partition("=")[0] not in _LIMITS]
        again = shlex.join(words)
    if record["directory"] != str(here):
        again = f"cd {shlex.quote(record['directory'])} && {again}"
    if state == "running":
        return f"wait: stillsun status {shlex.quote(str(layout.work))} --watch; the log is {layout.log}"
    if state == "stopped":
        return f"the run was stopped or killed; the same command goes on where it was: {again}"
    if state == "failed":
        return (
            f"put right what the errors say (details are in {layout.log}), then the same command goes on "
            f"from there: {again}"
        )
    if state == "unfinished":
        left = [task for task in tasks if task.state is not State.done]
        if all(task.notes for task in left):
            names = ", ".join(task.name for task in left)
            return (
                f"look at {layout.report / 'index.html'}; all is done but {names}: do what is said above, "
                f"then run again: {again}"
            )
        return f"run again to make what is missing or stale: {again}"
    if any(check.holds is False for judged in checks.values() for check in judged):
        return f"look at the conditions that do not hold in {layout.report / 'index.html'}"
    return f"nothing; look at {layout.report / 'index.html'}"
