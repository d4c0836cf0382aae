"""The record of what was run in a work directory, kept up to date while a run goes on."""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillsun.config.schema import LockKind
from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import InputError
from stillsun.pipeline.console import FILE_ONLY
from stillsun.pipeline.digests import plain
from stillsun.pipeline.locks import is_held, locked, present
from stillsun.pipeline.places import Places, Workspace, write_json
from stillsun.pipeline.plan import Action, Plan, Task
from stillsun.pipeline.provenance import versions

_LOG = logging.getLogger(__name__)
# No time in seconds, and no number of a process, is larger.
_LARGEST = 1e11
_NUMBER, _TEXT = (int, float, type(None)), (str, type(None))
# What stands in an entry of a task, and in the record of a run.
_OF_TASK: dict[str, Any] = {
    "stage": str, "channel": str, "digest": str, "work": str, "state": str, "error": _TEXT, "host": _TEXT,
    "seconds": _NUMBER, "expected": _NUMBER, "started": _NUMBER, "ended": _NUMBER, "pid": _NUMBER,
    "notes": (list, type(None)),
}  # fmt: skip
_OF_RUN: dict[str, Any] = {
    "command": str, "directory": str, "work": str, "backend": str, "device": str, "host": str, "swept": list,
    "is_job": bool, "started": _NUMBER, "ended": _NUMBER, "pid": int, "configuration": dict,
}  # fmt: skip
_KEPT = ("seconds", "ended", "error", "notes")


class RunRecord:
    """
    What the runs in a work directory did, and are doing, one entry a task.

    Runs on different channels of a work directory share it: each changes its own tasks only. The file is
    replaced whole, so that it can be read at any time; what a killed run leaves says ``running``, and
    `is_alive` tells that it is not.

    Parameters
    ----------
    places : Places
        Places of the work directory.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._begun = False
        self._lock = LockKind.flock

    @contextmanager
    def kept(
        self, settings: Settings, backend: Backend, space: Workspace, plan: Plan, command: str
    ) -> Iterator[None]:
        """
        Keep the record while a run goes on, if it has anything to do.

        Parameters
        ----------
        settings : Settings
            Checked configuration.
        backend : Backend
            What computes.
        space : Workspace
            Where products are.
        plan : Plan
            What the run will do.
        command : str
            Command line that does it; empty for what is no run and leaves no record.

        Yields
        ------
        None
            The run.
        """
        if not command or not any(task.action is Action.make for task in plan.tasks):
            yield
            return
        self._lock = settings.run.run.lock
        with present(self._places.run_lock, self._lock):
            self._begun = True
            about = {
                **versions(),
                "backend": backend.name,
                "device": backend.device,
                "command": command,
                "directory": str(Path.cwd()),
                "work": str(space.work),
                "swept": list(space.swept),
                "is_job": space.job is not None,
                "started": time.time(),
                "ended": None,
                **_process(),
                "configuration": plain(settings.run),
            }
            self._change(about, {t.name: _entry(t) for t in plan.tasks})
            try:
                yield
            except KeyboardInterrupt as error:
                said = str(error) or "interrupted"
                _LOG.warning("%s; the same command goes on from here: %s", said, command, extra=FILE_ONLY)
                raise
            self._change({"ended": time.time()}, {})

    def task(self, name: str, **values: Any) -> None:
        """
        Write how a task is.

        Parameters
        ----------
        name : str
            Task.
        **values
            ``state`` (planned, running, done, failed, skipped, empty), ``seconds``, ``error``, ``notes``.
        """
        if self._begun:
            self._change({}, {name: values})

    def earlier(self) -> dict[str, dict[str, Any]]:
        """
        What is known of the tasks.

        Returns
        -------
        dict
            Task to its entry; empty where nothing was run yet.
        """
        tasks: dict[str, dict[str, Any]] = read_record(self._places).get("tasks", {})
        return tasks

    def _change(self, about: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            with locked(self._places.record_lock, self._lock):
                record = read_record(self._places)
                entries = _changed(record.get("tasks", {}), tasks)
                write_json(self._places.manifest, {**record, **about, "tasks": entries})
        except OSError as error:
            # The products count, and who wants to know sees that no run goes on.
            _LOG.warning("%s: the record of the run cannot be written: %s", self._places.manifest, error)


def _changed(
    entries: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    changed = dict(entries)
    for name, values in tasks.items():
        old = entries.get(name, {})
        # How long it took last time, whatever it was made from.
        expected = old.get("seconds") or old.get("expected")
        if values.get("digest", old.get("digest")) != old.get("digest"):
            old = {}
        if values.get("state") == "running":
            values = {**dict.fromkeys(_KEPT), **values, "started": time.time(), **_process()}
        elif values.get("state") in ("done", "failed", "skipped", "empty"):
            values = {"ended": time.time(), **values}
        changed[name] = {**old, "expected": expected, **values}
    return changed


def _process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node()}


def _entry(task: Task) -> dict[str, Any]:
    entry = {
        "stage": task.stage.name,
        "channel": task.channel,
        "digest": task.digest,
        "work": str(task.product.work),
    }
    # What is up to date keeps what the run that made it wrote.
    return {**entry, "state": "planned"} if task.action is Action.make else entry


def read_record(places: Places) -> dict[str, Any]:
    """
    Read the record of a work directory.

    Parameters
    ----------
    places : Places
        Places of the work directory.

    Returns
    -------
    dict
        The record; empty where nothing was run yet, or it is damaged.
    """
    record = _parsed(places.manifest)
    return record if isinstance(record, dict) and not _damage(record) else {}


def _parsed(path: Path) -> Any:
    """What stands in a JSON file: None where there is no such file, a text where it is damaged."""
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError, RecursionError) as error:
        return str(error)


def _damage(record: Mapping[str, Any]) -> str:
    """What is wrong with a record; empty if nothing is."""
    tasks = record.get("tasks")
    if not isinstance(tasks, dict) or not all(isinstance(entry, dict) for entry in tasks.values()):
        return "tasks"
    wrong = [f"tasks.{name}" for name, entry in tasks.items() if not _fits(entry, _OF_TASK)]
    if "is_job" in record:
        wrong += [key for key in _OF_RUN if key not in record or not _fits({key: record[key]}, _OF_RUN)]
        if not wrong and not isinstance(record["configuration"].get("observation"), dict):
            return "configuration"
    return wrong[0] if wrong else ""


def _fits(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> bool:
    try:
        shlex.split(values.get("command", ""))
        texts = [text for key in ("notes", "swept") for text in values.get(key) or ()]
    except (TypeError, ValueError, AttributeError):
        return False
    known = [values[key] for key in kinds if key in values]
    bounded = all(abs(v) < _LARGEST for v in known if isinstance(v, float | int))
    right = all(isinstance(values[key], kind) for key, kind in kinds.items() if key in values)
    return bounded and right and all(isinstance(text, str) for text in texts)


def required_record(places: Places) -> dict[str, Any]:
    """
    Read the record of a work directory that must have one.

    Parameters
    ----------
    places : Places
        Places of the work directory.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    InputError
        If nothing was run there.
    """
    record = _parsed(places.manifest)
    wrong = _damage(record) if isinstance(record, dict) else record
    if wrong:
        raise InputError(
            "the record of the runs is damaged",
            file=places.manifest,
            found=str(wrong)[:200],
            remedy="Delete it: products stay, and the next run writes it again",
        )
    if record is None or "is_job" not in record:
        raise InputError(
            "no run has been here",
            file=places.work,
            expected="a work directory (observation.work_dir) with .stillsun/manifest.json",
            remedy="Give the work directory of a run, or start one: stillsun run observation_file=PATH",
        )
    return record


def is_alive(places: Places, process: Mapping[str, Any]) -> bool:
    """Tell whether a run goes on; `process` is the record, or a task's entry in it (`locks.is_held`)."""
    return is_held(places.run_lock, process)
