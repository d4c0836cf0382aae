"""One run from checked settings to an outcome: backend, plan, logging, execution."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from stillsun.config.schema import BackendName
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend, get_backend
from stillsun.errors import ConfigError, StillsunError
from stillsun.pipeline.console import ESSENTIAL, FILE_ONLY, bars_wanted, logging_to
from stillsun.pipeline.executors import check_executor
from stillsun.pipeline.places import Places, Workspace, changed_by, check_files
from stillsun.pipeline.plan import Plan, make_plan
from stillsun.pipeline.provenance import PROVENANCE, versions
from stillsun.pipeline.run import Outcome, execute
from stillsun.pipeline.sweep import figures, record_job, score
from stillsun.stages.registry import all_stages

_LOG = logging.getLogger(__name__)


#: A plan, the places of the run, and what computes.
Prepared = tuple[Plan, Workspace, Backend]


class RunFailed(StillsunError):
    """Some tasks of a run failed."""


def prepare(
    settings: Settings, job: Path | None = None, overrides: list[str] | None = None
) -> tuple[Plan, Workspace, Backend]:
    """
    Resolve the backend and plan; nothing is written.

    Parameters
    ----------
    settings : Settings
        Checked configuration.
    job : Path, optional
        Directory of a sweep's job.
    overrides : list of str, optional
        Overrides that the sweep's jobs differ in.

    Returns
    -------
    plan : Plan
        What would be done.
    space : Workspace
        Where.
    backend : Backend
        With what.

    Raises
    ------
    ConfigError
        With all that stands in the way.
    """
    options = settings.run.backend
    backend = get_backend(options.name.name, threads=options.threads, device=options.device)
    stages = all_stages()
    changed = changed_by(overrides or [], stages)
    space = Workspace(
        Path(settings.run.observation.work_dir).resolve(),
        job,
        lambda stage: stage.name in changed,
        tuple(overrides or ()),
    )
    findings = check_executor(settings.run.executor)
    findings += [] if settings.run.plan else _check_place(space.work)
    findings += check_files(settings, stages)
    plan = Plan() if findings else make_plan(settings, stages, space, backend.name)
    findings += plan.findings
    if findings:
        raise ConfigError(findings=list(dict.fromkeys(findings)))
    return plan, space, backend


def _check_place(work: Path) -> list[str]:
    """Look whether results can be written."""
    place = next(p for p in (work, *work.parents) if p.exists())
    if not place.is_dir():
        return [f"observation.work_dir: {place} is a file, not a directory"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"observation.work_dir: {place} cannot be written to; ask for the right, or choose another"]
    return []


def reduce(
    settings: Settings,
    job: Path | None = None,
    overrides: list[str] | None = None,
    *,
    command: str,
    prepared: Prepared | None = None,
) -> float | None:
    """
    Run the pipeline.

    Parameters
    ----------
    settings : Settings
        Checked configuration.
    job : Path, optional
        Directory of a sweep's job.
    overrides : list of str, optional
        Overrides that the sweep's jobs differ in.
    command : str
        Command line, for the record; empty for what leaves none.
    prepared : tuple, optional
        What `prepare` gave for these settings just now.

    Returns
    -------
    float or None
        The run's score, see `stillsun.pipeline.sweep`; None if only the plan was asked for.

    Raises
    ------
    RunFailed
        If a task failed; the others are done.
    """
    plan, space, backend = prepared or prepare(settings, job, overrides)
    if settings.run.plan:
        print(plan.table())
        return None
    bars = bars_wanted(settings.run.progress)
    log = Places(space.directory).log
    with logging_to(log, quiet=bars):
        _LOG.info(
            "stillsun %s: %s in %s",
            PROVENANCE["version"],
            settings.run.observation.name,
            space.directory,
            extra=ESSENTIAL,
        )
        automatic = settings.run.backend.name is BackendName.auto
        fallback = "; no GPU found" if automatic and not backend.is_gpu else ""
        _LOG.info("backend %s: %s%s", backend.name, backend.device, fallback)
        _LOG.debug("with %s", json.dumps(versions()))
        _LOG.debug("plan:\n%s", plan.table())
        if command:
            _LOG.info(
                "how far it is: stillsun status %s --watch; when it was stopped or killed, the same command "
                "goes on where it was: %s",
                space.directory,
                command,
                extra=FILE_ONLY,
            )
        outcome = execute(plan, settings, space, backend, bars=bars, command=command)
        _LOG.info("%s; log: %s%s", _ending(outcome), log, _report(outcome, space), extra=ESSENTIAL)
        if outcome.failed:
            _LOG.error(
                "put right what made these fail: %s; then the same command goes on from there: %s",
                ", ".join(outcome.failed),
                command or "stillsun report",
                extra=FILE_ONLY,
            )
    if outcome.failed:
        raise RunFailed(
            f"{len(outcome.failed)} of {len(plan.tasks)} tasks failed: {_once(outcome.failed)}",
            remedy=f"Details are in {log}. What was finished stays; the same command goes on from there",
        )
    found = figures(plan, settings)
    if job is not None:
        record_job(job, overrides or [], found)
    return score(found)


def _ending(outcome: Outcome) -> str:
    """How many tasks were done, or not."""
    said = [f"{len(outcome.made)} tasks done, {len(outcome.reused) - len(outcome.taken)} up to date"]
    said += [f"{len(outcome.taken)} taken as they are"] if outcome.taken else []
    if outcome.failed:
        said += [f"{len(outcome.failed)} failed, {len(outcome.skipped)} left out"]
    stale = f"; out of date until their stages are run: {', '.join(outcome.stale)}" if outcome.stale else ""
    return f"{', '.join(said)}{stale}"


def _report(outcome: Outcome, space: Workspace) -> str:
    """Where the report is, if it is of this run."""
    page, name = Places(space.directory).report, "report"
    there = name in (*outcome.made, *outcome.reused) and name not in outcome.stale and page.is_file()
    return f"; report: {page}" if there else ""


def _once(failed: Mapping[str, BaseException]) -> str:
    """Each error once, with all tasks that failed for it."""
    tasks: dict[str, list[str]] = {}
    for name, error in failed.items():
        tasks.setdefault(str(error) or repr(error), []).append(name)
    return "; ".join(f"{', '.join(names)}: {error}" for error, names in tasks.items())
