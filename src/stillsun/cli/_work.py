"""What the verbs share that look at a work directory."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from stillsun.errors import ConfigError

# Directories that are named where the one given is not the right one.
_NAMED = 4


def add_work(parser: argparse.ArgumentParser) -> None:
    """The argument that names the work directory."""
    parser.add_argument(
        "work",
        type=Path,
        metavar="WORK",
        help="work directory of a run, or of a sweep's job (observation.work_dir)",
    )


def record_of(work: Path) -> Mapping[str, Any]:
    """The record of a work directory, or where else to look for one."""
    from stillsun.pipeline.places import Places
    from stillsun.pipeline.record import required_record

    if not work.is_dir():
        what = "a file, not a directory" if work.exists() else "no such directory"
        raise ConfigError(what, file=work, remedy="Give the work directory of a run (observation.work_dir)")
    manifest = Places(work).manifest
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
    return required_record(Places(work))


def where_it_ran(record: Mapping[str, Any]) -> chdir[str]:
    """Paths in a configuration are relative to where its run was started."""
    return chdir(record["directory"] if Path(record["directory"]).is_dir() else ".")
