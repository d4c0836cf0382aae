"""The verbs that look at a work directory: `status` and `report`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillsun.errors import ConfigError

if TYPE_CHECKING:
    from stillsun.pipeline.status import Status
    from stillsun.pipeline.taskstatus import State, TaskStatus

_STATUS = """\
Says for each channel and stage what is done, running, stopped, failed, stale or missing, how long it took and
what remains, which conditions of the quality checklist do not hold, and what to do next.

  stillsun status WORK             once
  stillsun status WORK --watch     again every few seconds, until the run is over
  stillsun status WORK --json      the same for programs
"""
_REPORT = """\
Makes WORK/report/index.html again, from whatever there is in WORK. The raw files are not needed.

  stillsun report WORK
  stillsun report WORK && firefox WORK/report/index.html
"""
# What is not plain from the word.
_MEANS = {
    "stale": "it is there, but what it depends on has changed since (a key, a raw file, a product before "
    "it, or the program); the next run makes it again",
    "stopped": "a run ended in the midst of it; the next one goes on there",
}
_INTERVAL = 5.0
# Directories that are named where the one given is not the right one.
_NAMED = 4
_CLEAR = "\x1b[H\x1b[2J"


def configure_status(parser: argparse.ArgumentParser) -> None:
    """
    Declare the arguments of ``stillsun status``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The verb's parser.
    """
    _configure(parser, _STATUS)
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.add_argument("--watch", action="store_true", help="print it again until the run is over")


def configure_report(parser: argparse.ArgumentParser) -> None:
    """
    Declare the arguments of ``stillsun report``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The verb's parser.
    """
    _configure(parser, _REPORT)


def _configure(parser: argparse.ArgumentParser, description: str) -> None:
    parser.description = description
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "work",
        type=Path,
        metavar="WORK",
        help="work directory of a run, or of a sweep's job (observation.work_dir)",
    )


def run_status(options: argparse.Namespace) -> None:
    """
    Print how a work directory stands.

    Parameters
    ----------
    options : argparse.Namespace
        Parsed arguments.

    Raises
    ------
    ConfigError
        If no run has been there.
    """
    from stillsun.config.build import settings_from_record
    from stillsun.pipeline.status import look

    work, here = options.work.resolve(), Path.cwd()
    while True:
        with _where_it_ran(_record_of(work)):
            status = look(work, settings_from_record, here)
        text = json.dumps(status.plain(), indent=1) if options.json else status_text(status)
        if options.watch and sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        print(text, flush=True)
        if not options.watch or status.state != "running":
            return
        time.sleep(_INTERVAL)


def run_report(options: argparse.Namespace) -> None:
    """
    Make the report of a work directory again.

    Parameters
    ----------
    options : argparse.Namespace
        Parsed arguments.

    Raises
    ------
    ConfigError
        If no run has been there.
    """
    from stillsun.config.build import settings_from_record
    from stillsun.config.schema import StageName
    from stillsun.pipeline.layout import Layout
    from stillsun.pipeline.session import reduce

    work = options.work.resolve()
    record = _record_of(work)
    with _where_it_ran(record):
        job = work if record["is_job"] else None
        settings = settings_from_record(record["configuration"], Path(record["work"]) if job else work)
        run = replace(settings.run, stages=[StageName.report], force=[StageName.report])
        reduce(replace(settings, run=run), job, record["swept"] if job else None, command="")
    print(Layout(work).report / "index.html")


def _record_of(work: Path) -> Mapping[str, Any]:
    """The record of a work directory, or where else to look for one."""
    from stillsun.pipeline.layout import Layout
    from stillsun.pipeline.record import required_record

    if not work.is_dir():
        what = "a file, not a directory" if work.exists() else "no such directory"
        raise ConfigError(what, file=work, remedy="Give the work directory of a run (observation.work_dir)")
    manifest = Layout(work).manifest
    if not manifest.exists():
        name = manifest.relative_to(work)
        # Work directories, or the jobs of a sweep.
        found = [*work.glob(f"*/{name}"), *work.glob(f"multirun/*/{name}")]
        below = sorted(manifest.parents[1] for manifest in found)
        raise ConfigError(
            "no run has been here",
            file=work,
            expected="a work directory (observation.work_dir)",
            found=f"those in {', '.join(str(place) for place in below[:_NAMED])}" if below else None,
            remedy="Give one of them" if below else "Or start a run: stillsun run observation_file=PATH",
        )
    return required_record(Layout(work))


def _where_it_ran(record: Mapping[str, Any]) -> chdir[str]:
    """Paths in a configuration are relative to where its run was started."""
    return chdir(record["directory"] if Path(record["directory"]).is_dir() else ".")


def status_text(status: Status, width: int | None = None) -> str:
    """
    The status for people.

    Parameters
    ----------
    status : Status
        How a work directory stands.
    width : int, optional
        Columns of the terminal.

    Returns
    -------
    str
        Lines.
    """
    lines = [f"{status.observation} in {status.work}", _headline(status), ""]
    lines += _table(status, width or shutil.get_terminal_size((120, 40)).columns)
    for state in _states(status):
        if state.value in _MEANS:
            lines += ["", f"{state.value}: {_MEANS[state.value]}"]
    for task in status.tasks:
        if task.error or task.notes:
            lines += ["", f"{task.name} {task.state.value}: {task.error or '; '.join(task.notes)}"]
    every = [(name, check) for name, judged in status.checks.items() for check in judged]
    if every:
        wrong = [(name, check) for name, check in every if check.holds is False]
        lines += ["", f"quality: {sum(c.holds is True for _, c in every)} of {len(every)} conditions hold"]
        lines += [
            line for name, check in wrong for line in (f"  {name}/{check.words()}", f"    {check.remedy}")
        ]
    if status.findings:
        lines += ["", "what is stale cannot be told:", *(f"  {finding}" for finding in status.findings)]
    return "\n".join([*lines, "", f"next: {status.next}"])


def _states(status: Status) -> list[State]:
    return list(dict.fromkeys(task.state for task in status.tasks))


def _headline(status: Status) -> str:
    started = (
        ""
        if status.started is None
        else f", started {time.strftime('%F %T', time.localtime(status.started))}"
    )
    where = f" (process {status.pid} on {status.host})" if status.state == "running" else ""
    line = f"{status.state}{started}{where}"
    if status.remaining_s is not None:
        line += f"; about {_duration(status.remaining_s)} of work left"
        line += f" and {status.unknown} tasks of unknown length" if status.unknown else ""
    return line


def _table(status: Status, width: int) -> list[str]:
    channels = list(dict.fromkeys(t.channel for t in status.tasks if t.channel))
    cells = {(t.channel, t.stage): _cell(t) for t in status.tasks}
    stages = list(dict.fromkeys(t.stage for t in status.tasks))
    head = max(len(s) for s in stages) + 2
    wide = {c: max([len(c), *(len(v) for (k, _), v in cells.items() if k == c)]) + 2 for c in channels}
    blocks: list[list[str]] = [[]]
    for channel in channels:
        if blocks[-1] and head + sum(wide[c] for c in blocks[-1]) + wide[channel] > width:
            blocks.append([])
        blocks[-1].append(channel)
    lines: list[str] = []
    for block in blocks:
        lines.append((" " * head + "".join(f"{c:<{wide[c]}}" for c in block)).rstrip())
        lines += [
            (f"{s:<{head}}" + "".join(f"{cells[c, s]:<{wide[c]}}" for c in block)).rstrip()
            for s in stages
            if (block[0], s) in cells
        ]
        lines.append("")
    lines += [f"{s:<{head}}{cells['', s]}" for s in stages if ("", s) in cells]
    return lines


def _cell(task: TaskStatus) -> str:
    text = task.state.value
    if task.done is not None and task.total:
        text += f" {task.done}/{task.total}"
    if task.seconds is not None:
        text += f"{',' if task.total else ''} {_duration(task.seconds)}"
    if task.remaining_s is not None and task.state.value == "running":
        text += f", {_duration(task.remaining_s)} left"
    return text


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
