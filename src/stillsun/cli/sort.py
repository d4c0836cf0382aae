"""The verb `sort`: what lies in a directory of raw files, and a draft of an observation file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stillsun.cli._files import refuse_existing, tell_findings, write_text
from stillsun.errors import ConfigError

if TYPE_CHECKING:
    from stillsun.io.classify import Sorted


HELP = "find out what lies in a directory of raw files"
DESCRIPTION = """\
Looks through a directory of raw files. Darks and flats of ROSA are told by name, HARDcam's sequences by the
name of their directory; all are looked at as well, which tells data, target, line grid, dot grid and
pinhole apart. Prints what was found and how sure it is, and writes a draft of an observation file with the
longest sequence of data. What the files do not tell is marked in it with CHECK and FILL IN.

  stillsun sort /data/2025/09/03/level0 -o night.yaml
  stillsun run observation_file=night.yaml plan=true
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stillsun sort``."""
    parser.add_argument("raw", type=Path, metavar="RAW", help="directory of raw files")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("observation.yaml"),
        metavar="OBS.yaml",
        help="draft to be written (default: observation.yaml here)",
    )


def run(options: argparse.Namespace) -> int:
    """Look through a directory, print the table and write the draft."""
    from stillsun.io.classify import sort_sequences
    from stillsun.io.draft import draft_text
    from stillsun.io.rawdirectory import find_sequences
    from stillsun.pipeline.console import Progress, bars_wanted

    refuse_existing(options.output)
    if not options.raw.is_dir():
        raise ConfigError("no such directory", file=options.raw, remedy="Give the directory of the raw files")
    directory = find_sequences(options.raw.resolve())
    with Progress("sort", bars=bars_wanted(True)) as progress:
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
    return 0


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
