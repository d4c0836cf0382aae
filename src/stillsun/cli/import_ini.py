"""The verb `import-ini`: an observation file from a configuration of the superseded system."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from stillsun.cli._files import refuse_existing, tell_findings, write_text

HELP = "turn a configuration of SSOSoft into an observation file"
DESCRIPTION = """\
Turns an ini file of the superseded system, SSOSoft, into an observation file. Every keyword of the ini file
is carried over, or reported with the reason why not; the report also stands at the top of the new file.

  stillsun import-ini 142152.ini -o 142152.yaml
  stillsun run observation_file=142152.yaml plan=true
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stillsun import-ini``."""
    parser.add_argument("ini", type=Path, metavar="FILE.ini", help="configuration of the superseded system")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OBS.yaml", help="observation file to be written"
    )


def run(options: argparse.Namespace) -> int:
    """Import, write, check and report."""
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
    return 0
