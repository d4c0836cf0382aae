"""The verbs that write observation files: `sort` and `import-ini`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stillsun.errors import ConfigError

if TYPE_CHECKING:
    from stillsun.io.classify import Sorted

_SORT = """\
Looks through a directory of raw files. Darks and flats of ROSA are told by name, HARDcam's sequences by the
name of their directory; all are looked at as well, which tells data, target, line grid, dot grid and
pinhole apart. Prints what was found and how sure it is, and writes a draft of an observation file with the
longest sequence of data. What the files do not tell is marked in it with CHECK and FILL IN.

  stillsun sort /data/2025/09/03/level0 -o night.yaml
  stillsun run observation_file=night.yaml plan=true
"""
_IMPORT = """\
Turns an ini file of the superseded system, SSOSoft, into an observation file. Every keyword of the ini file
is carried over, or reported with the reason why not; the report also stands at the top of the new file.

  stillsun import-ini 142152.ini -o 142152.yaml
  stillsun run observation_file=142152.yaml plan=true
"""


def configure_sort(parser: argparse.ArgumentParser) -> None:
    """
    Declare the arguments of ``stillsun sort``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The verb's parser.
    """
    parser.description = _SORT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("raw", type=Path, metavar="RAW", help="directory of raw files")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("observation.yaml"),
        metavar="OBS.yaml",
        help="draft to be written (default: observation.yaml here)",
    )


def run_sort(options: argparse.Namespace, progress: Callable[[int, int], None]) -> None:
    """
    Look through a directory, print the table and write the draft.

    Parameters
    ----------
    options : argparse.Namespace
        Parsed arguments.
    progress : callable
        Called with (sequences done, sequences in all).

    Raises
    ------
    ConfigError
        If the draft exists already, or there is no such directory.
    InputError
        If there are no data.
    """
    from stillsun.io.classify import sort_sequences
    from stillsun.io.draft import draft_text
    from stillsun.io.rawdirectory import find_sequences

    refuse_existing(options.output)
    if not options.raw.is_dir():
        raise ConfigError("no such directory", file=options.raw, remedy="Give the directory of the raw files")
    directory = find_sequences(options.raw.resolve())
    found = sort_sequences(directory.sequences, progress)
    print(_table(found))
    for path, reason in directory.unreadable:
        print(f"cannot be used: {path}: {reason}")
    for log in directory.logs:
        print(f"telescope log: {log}")
    if directory.others:
        print(f"{len(directory.others)} other files, e.g. {directory.others[0]}")
    work = options.output.resolve().with_suffix("").with_name(f"{options.output.stem}_work")
    write_text(options.output, draft_text(directory, found, work))
    print(f"{options.output}: a draft; see what is marked with CHECK and FILL IN in it")
    tell_findings(options.output)


def _table(found: Sequence[Sorted]) -> str:
    """One line a sequence."""
    heads = ("camera", "role", "known by", "frames", "files", "first", "last", "shape", "sequence", "seen")
    rows = [heads]
    for item in found:
        s = item.sequence
        shape = "?" if s.shape is None else f"{s.shape[0]}x{s.shape[1]}"
        seen = "; ".join((item.evidence, *s.notes))
        times = ["?" if str(t) == "NaT" else str(t)[:19].replace("T", " ") for t in (s.start, s.end)]
        rows.append(
            (s.camera, item.role.value, item.sureness.value, str(s.frames), str(len(s.files)), times[0],
             times[1][11:] or "?", shape, s.name, seen)
        )  # fmt: skip
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


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
    command = shlex.join(["stillsun", "run", f"observation_file={options.output}", *imported.overrides])
    report = []
    for fate in others:
        entries = [entry for entry in imported.entries if entry.fate is fate]
        if entries:
            report += [f"{fate.value}:", *(f"  {entry}" for entry in entries), ""]
    header = [
        f"Made by stillsun import-ini from {options.ini}.",
        f"Run it with: {command}",
        f"{len(kept)} keywords are carried over as they were.",
        "",
        *report,
    ]
    write_text(options.output, observation_text(imported.observation, header=header))
    print(f"{options.output}: {len(kept)} keywords carried over as they were")
    for line in report:
        print(line)
    tell_findings(options.output, imported.overrides)
    print(f"Run it with: {command}")


def refuse_existing(path: Path) -> None:
    """
    Keep a file that somebody may have filled in, and see that a new one has a place, before long work.

    Parameters
    ----------
    path : Path
        File to be written.

    Raises
    ------
    ConfigError
        If it exists, or its directory does not.
    """
    if path.exists():
        raise ConfigError("exists already", file=path, remedy="Choose another -o, or remove it")
    if not path.resolve().parent.is_dir():
        raise ConfigError("no such directory", file=path.parent, remedy="Make it, or choose another -o")


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
