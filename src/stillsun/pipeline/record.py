"""The record of what was run in a work directory, kept up to date while a run goes on."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillsun.config.settings import Settings
from stillsun.core.backend import Backend
from stillsun.errors import InputError
from stillsun.pipeline.console import FILE_ONLY
from stillsun.pipeline.digest import plain
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.provenance import versions
from stillsun.pipeline.task import Action, Plan, Task
from stillsun.pipeline.workspace import Workspace, write_json

_LOG = logging.getLogger(__name__)
_KEPT = ("seconds", "ended", "error", "notes")


class RunRecord:
    """
    What the runs in a work directory did, and are doing, one entry a task.

    Runs on different channels of a work directory share it: each changes its own tasks only. The file is
    replaced whole, so that it can be read at any time; what a killed run leaves says ``running``, and
    `is_alive` tells that it is not.

    Parameters
    ----------
    layout : Layout
        Places of the work directory.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._begun = False

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
        self._layout.run_lock.parent.mkdir(parents=True, exist_ok=True)
        with self._layout.run_lock.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
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
        tasks: dict[str, dict[str, Any]] = read_record(self._layout).get("tasks", {})
        return tasks

    def _change(self, about: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            with self._layout.record_lock.open("a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                record = read_record(self._layout)
                entries = _changed(record.get("tasks", {}), tasks)
                write_json(self._layout.manifest, {**record, **about, "tasks": entries})
        except OSError as error:
            # The products count, and who wants to know sees that no run goes on.
            _LOG.warning("%s: the record of the run cannot be written: %s", self._layout.manifest, error)


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
        "work": str(task.layout.work),
    }
    # What is up to date keeps what the run that made it wrote.
    return {**entry, "state": "planned"} if task.action is Action.make else entry


def read_record(layout: Layout) -> dict[str, Any]:
    """
    Read the record of a work directory.

    Parameters
    ----------
    layout : Layout
        Places of the work directory.

    Returns
    -------
    dict
        The record; empty where nothing was run yet.
    """
    try:
        record: dict[str, Any] = json.loads(layout.manifest.read_text())
        is_record = isinstance(record["tasks"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return record if is_record else {}


def required_record(layout: Layout) -> dict[str, Any]:
    """
    Read the record of a work directory that must have one.

    Parameters
    ----------
    layout : Layout
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
    record = read_record(layout)
    if "is_job" not in record:
        raise InputError(
            "no run has been here",
            file=layout.work,
            expected="a work directory (observation.work_dir) with .stillsun/manifest.json",
            remedy="Give the work directory of a run, or start one: stillsun run observation_file=PATH",
        )
    return record


def is_alive(layout: Layout, process: Mapping[str, Any]) -> bool:
    """
    Tell whether a run goes on.

    Parameters
    ----------
    layout : Layout
        Places of the work directory.
    process : mapping
        The record, or a task's entry in it: ``pid`` and ``host``.

    Returns
    -------
    bool
        False if no run holds the directory, or the process is gone (seen on its own machine only).
    """
    lock = layout.run_lock
    try:
        # Some file systems lock only what may be written.
        with lock.open("r+" if os.access(lock, os.W_OK) else "r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        pass
    except OSError:
        return False
    if process.get("host") != platform.node():
        return True
    try:
        os.kill(int(process.get("pid") or 0), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
