"""The command `stillsun`; each verb has a file of its name here."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from stillsun import __version__
from stillsun.cli._guard import guarded, open_streams

_DESCRIPTION = """\
Reduces fast solar imaging from raw camera files to science-ready FITS.

A night of one's own:
  stillsun sort RAW -o night.yaml                        find out what lies in a directory of raw files
  stillsun import-ini FILE.ini -o night.yaml             or carry over a configuration of SSOSoft
  stillsun run observation_file=night.yaml plan=true     check everything, say what would be done
  stillsun run observation_file=night.yaml               do it; the same command goes on after a stop
  stillsun status WORK --watch                           how far it is, what to do next
  stillsun report WORK                                   make the page to judge it by again

To try it:
  stillsun simulate OUT                                  an observation with known truth
  stillsun run observation_file=OUT/observation.yaml     reduce it

Help on a verb: stillsun VERB --help. Every key of the configuration: stillsun run --help.
Completion of verbs and keys in this shell: eval "$(stillsun -sc install=bash)" (or zsh, fish)
"""
_RUN = "reduce an observation (a Hydra application)"
# Modules that declare HELP, DESCRIPTION, configure(parser) and run(options), which gives the exit status.
_VERBS = ("simulate", "sort", "import-ini", "status", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 the run failed, 2 wrong usage or configuration.
    """
    open_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-sc"], ["--shell-completion"], ["--shell_completion"]):
        from stillsun.cli._completion import complete

        return guarded(lambda: complete(arguments, ("run", *_VERBS)))
    if arguments[:1] == ["run"]:
        return guarded(lambda: _run(arguments[1:]), "goes on from here")
    parser = argparse.ArgumentParser(
        prog="stillsun", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"stillsun {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("run", help=_RUN, add_help=False)  # Hydra reads its arguments itself
    for name in _VERBS:
        verb = importlib.import_module(f"stillsun.cli.{name.replace('-', '_')}")
        own = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.configure(own)
        own.set_defaults(action=verb.run)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    return guarded(lambda: options.action(options))


def _run(words: list[str]) -> int:
    from stillsun.cli.run import run_words

    return run_words(words)
