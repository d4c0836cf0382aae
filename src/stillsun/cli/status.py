"""The verb `status`: how a work directory stands."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stillsun.cli._work import add_work, record_of, where_it_ran

if TYPE_CHECKING:
    from stillsun.pipeline.status import State, Status, TaskStatus

HELP = "what is done, what is missing, what to do next"
DESCRIPTION = """\
Says for each channel and stage what is done, running, stopped, failed, stale or missing, how long it took and
what remains, which conditions of the quality checklist do not hold, and what to do next.

  stillsun status WORK             once
  stillsun status WORK --watch     again every few seconds, until the run is over
  stillsun status WORK --json      the same for programs
"""
# What is not plain from the word.
_MEANS = {
    "stale": "it is there, but what it depends on has changed since (a key, a raw file, a product before "
    "it, or the program); the next run makes it again",
    "depends": "it is there, and the next run makes it again only if what is stale before it comes out "
    "otherwise in what is read of it",
    "stopped": "a run ended in the midst of it; the next one goes on there",
}
_INTERVAL = 5.0
# How long --watch waits for a run to begin, and how often it looks, seconds.
_PATIENCE, _LOOK = 30.0, 0.5
# The same where a run has ended before: then there may be no other.
_SHORT_PATIENCE = 10.0
_CLEAR = "\x1b[H\x1b[2J"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stillsun status``."""
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.add_argument("--watch", action="store_true", help="print it again until the run is over")


def run(options: argparse.Namespace) -> int:
    """Print how a work directory stands."""
    from stillsun.config.build import settings_from_record
    from stillsun.pipeline.status import look

    work, here = options.work.resolve(), Path.cwd()
    if options.watch:
        _wait_for_a_run(work)
    waited = False
    while True:
        with where_it_ran(record_of(work)):
            status = look(work, settings_from_record, here)
        text = json.dumps(status.plain(), indent=1) if options.json else status_text(status)
        if options.watch and sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        print(text, flush=True)
        if not options.watch:
            return 0
        if status.state == "running":
            waited = True
            time.sleep(_INTERVAL)
        elif waited or not _wait_for_another(work):
            return 0
        else:
            waited = True


def _wait_for_a_run(work: Path) -> None:
    """A run that has just been started checks its files before it leaves a record."""
    from stillsun.pipeline.places import Places

    manifest = Places(work).manifest
    if work.is_file() or manifest.exists():
        return
    print(f"waiting for a run in {work}", file=sys.stderr, flush=True)
    for _ in range(round(_PATIENCE / _LOOK)):
        if manifest.exists():
            return
        time.sleep(_LOOK)


def _wait_for_another(work: Path) -> bool:
    """Wait a while for a run where there was one before; says whether it has begun."""
    from stillsun.pipeline.places import Places

    manifest = Places(work).manifest
    before = manifest.stat().st_mtime_ns
    print(f"no run goes on in {work}; waiting {_SHORT_PATIENCE:g} s for one", file=sys.stderr, flush=True)
    for _ in range(round(_SHORT_PATIENCE / _LOOK)):
        time.sleep(_LOOK)
        if manifest.exists() and manifest.stat().st_mtime_ns != before:
            return True
    return False


def status_text(status: Status, width: int | None = None) -> str:
    """The status for people."""
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
