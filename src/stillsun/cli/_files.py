"""What the verbs share that write observation files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stillsun.errors import ConfigError


def refuse_existing(path: Path) -> None:
    """Keep a file that somebody may have filled in, and see that a new one has a place, before long work."""
    if path.exists():
        raise ConfigError("exists already", file=path, remedy="Choose another -o, or remove it")
    if not path.resolve().parent.is_dir():
        raise ConfigError("no such directory", file=path.parent, remedy="Make it, or choose another -o")


def write_text(path: Path, text: str) -> None:
    """Write a small file."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("cannot be written", file=path, found=error.strerror) from error


def tell_findings(path: Path, overrides: Sequence[str] = ()) -> None:
    """Compose a new observation file and say what is still wrong with it."""
    from stillsun.config.compose import load_settings
    from stillsun.pipeline.session import prepare

    try:
        prepare(load_settings([f"observation_file={path.resolve()}", *overrides]))
    except ConfigError as error:
        print(f"Before it runs, put right in {path}:", file=sys.stderr)
        for finding in error.findings or (str(error),):
            print(f"  - {finding}", file=sys.stderr)
