"""The verbs that write observation files: `sort` and `import-ini`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stillsun.errors import ConfigError

_IMPORT = """\
Turns an ini file of the superseded system, SSOSoft, into an observation file. Every keyword of the ini file
is carried over, or reported with the reason why not; the report also stands at the top of the new file.

  stillsun import-ini 142152.ini -o 142152.yaml
  stillsun run observation_file=142152.yaml plan=true
"""


def configure_import(parser: argparse.ArgumentParser) -> None:
    """
    Declare the arguments of ``stillsun import-ini``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The verb's parser.
    """
    parser.description = _IMPORT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("ini", type=Path, metavar="FILE.ini", help="configuration of the superseded system")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OBS.yaml", help="observation file to be written"
    )


def run_import(options: argparse.Namespace) -> None:
    """
    Import, write, check and report.

    Parameters
    ----------
    options : argparse.Namespace
        Parsed arguments.

    Raises
    ------
    ConfigError
        If the ini file cannot be used, or the observation file exists.
    """
    from stillsun.config.importini import Fate, import_ini
    from stillsun.io.observationfile import observation_text

    refuse_existing(options.output)
    imported = import_ini(options.ini)
    kept = [entry for entry in imported.entries if entry.fate is Fate.carried]
    others = [f for f in Fate if f is not Fate.carried]
    command = ["stillsun", "run", f"observation_file={options.output}", *imported.overrides]
    report = []
    for fate in others:
        entries = [entry for entry in imported.entries if entry.fate is fate]
        if entries:
            report += [f"{fate.value}:", *(f"  {entry}" for entry in entries), ""]
    header = [
        f"Made by stillsun import-ini from {options.ini}.",
        f"Run it with: {' '.join(command)}",
        f"{len(kept)} keywords are carried over as they were.",
        "",
        *report,
    ]
    write_text(options.output, observation_text(imported.observation, header=header))
    print(f"{options.output}: {len(kept)} keywords carried over as they were")
    for line in report:
        print(line)
    tell_findings(options.output, imported.overrides)
    print(f"Run it with: {' '.join(command)}")


def refuse_existing(path: Path) -> None:
    """
    Keep a file that somebody may have filled in.

    Parameters
    ----------
    path : Path
        File to be written.

    Raises
    ------
    ConfigError
        If it exists.
    """
    if path.exists():
        raise ConfigError("exists already", file=path, remedy="Choose another -o, or remove it")


def write_text(path: Path, text: str) -> None:
    """
    Write a small file.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its content.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("cannot be written", file=path, found=error.strerror) from error


def tell_findings(path: Path, overrides: Sequence[str] = ()) -> None:
    """
    Compose a new observation file and say what is still wrong with it.

    Parameters
    ----------
    path : Path
        Observation file.
    overrides : sequence of str
        What it is run with.
    """
    from stillsun.config.compose import load_settings
    from stillsun.pipeline.session import prepare

    try:
        prepare(load_settings([f"observation_file={path.resolve()}", *overrides]))
    except ConfigError as error:
        print(f"Before it runs, put right in {path}:", file=sys.stderr)
        for finding in error.findings or (str(error),):
            print(f"  - {finding}", file=sys.stderr)
