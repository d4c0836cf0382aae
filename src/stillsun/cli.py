"""The command `stillsun` and its verbs."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from stillsun import __version__
from stillsun.errors import StillsunError

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
_VERBS = ("run", "simulate", "sort", "import-ini", "status", "report")
_FULL_ERROR = "HYDRA_FULL_ERROR"


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
    _open_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-sc"], ["--shell-completion"], ["--shell_completion"]):
        return _guarded(lambda: _complete(arguments))
    if arguments[:1] == ["run"]:
        # Hydra reads its arguments itself.
        return _guarded(lambda: _run(arguments[1:]), "goes on from here")
    from stillsun import overview
    from stillsun.synth import command as simulator
    from stillsun.verbs import configure_import, configure_sort

    parser = argparse.ArgumentParser(
        prog="stillsun", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"stillsun {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("run", help="reduce an observation (a Hydra application)", add_help=False)
    simulator.configure(verbs.add_parser("simulate", help="write a simulated observation with known truth"))
    configure_sort(verbs.add_parser("sort", help="find out what lies in a directory of raw files"))
    configure_import(
        verbs.add_parser("import-ini", help="turn a configuration of SSOSoft into an observation file")
    )
    overview.configure_status(
        verbs.add_parser("status", help="what is done, what is missing, what to do next")
    )
    overview.configure_report(verbs.add_parser("report", help="make the report of a work directory again"))
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    action = {
        "simulate": _simulate,
        "sort": _sort,
        "import-ini": _import,
        "status": _status,
        "report": _report,
    }[options.verb]
    return _guarded(lambda: action(options))


def _open_streams() -> None:
    """Open nothing in the place of streams that the caller has closed: a product would get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _guarded(action: Callable[[], int], again: str = "begins again") -> int:
    """Turn errors into one short message and an exit status; `again`: what the same command does then."""
    try:
        with _ended_tidily():
            return action()
    except StillsunError as error:
        if os.environ.get(_FULL_ERROR) == "1":
            raise
        _complain(str(error))
        return error.exit_status
    except BrokenPipeError:
        # Whoever read it has seen enough; the rest of the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:
        from stillsun.pipeline.systemerrors import in_words

        if os.environ.get(_FULL_ERROR) == "1":
            raise
        _complain(str(in_words(error)))
        return 1
    except KeyboardInterrupt as error:
        _complain(f"{str(error) or 'interrupted'}; the same command {again}")
        return 1


def _complain(text: str) -> None:
    # The terminal may be gone.
    with suppress(OSError):
        print(f"stillsun: {text}", file=sys.stderr, flush=True)


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Let a polite kill and a closed terminal end the command as Ctrl-C does: with all that it started."""

    def end(number: int, _: object) -> None:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    # With nohup a closed terminal is ignored already.
    taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _simulate(options: argparse.Namespace) -> int:
    from stillsun.pipeline.console import Progress, bars_wanted
    from stillsun.synth import command

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with Progress("simulate", bars=bars_wanted(True)) as progress:
        command.run(options, progress)
    path = options.out.expanduser() / "observation.yaml"
    reduce = shlex.join(["stillsun", "run", f"observation_file={path}"])
    print(f"{path.parent}: an observation with known truth. Reduce it with: {reduce}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from stillsun.overview import run_status

    run_status(options)
    return 0


def _report(options: argparse.Namespace) -> int:
    from stillsun.overview import run_report

    run_report(options)
    return 0


def _sort(options: argparse.Namespace) -> int:
    from stillsun.pipeline.console import Progress, bars_wanted
    from stillsun.verbs import run_sort

    with Progress("sort", bars=bars_wanted(True)) as progress:
        run_sort(options, progress)
    return 0


def _import(options: argparse.Namespace) -> int:
    from stillsun.verbs import run_import

    run_import(options)
    return 0


def _run(arguments: list[str]) -> int:
    from stillsun.application import run

    return run(arguments)


def _complete(arguments: list[str]) -> int:
    line = os.environ.get("COMP_LINE", "")
    head, verb, rest = line.partition(" run ")
    if verb:
        # The shell completes "stillsun run KEY": Hydra must see it without the verb.
        os.environ["COMP_LINE"] = f"{head} {rest}"
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    elif line:
        if len(f"{line}|".split()) == 2:
            print("\n".join(_VERBS))
        return 0
    key, given, begun = line.rpartition(" ")[2].partition("=")
    from stillsun.config.keys import value_choices

    # Hydra knows a key's present value only.
    if verb and given and "query=" in arguments[-1] and (choices := value_choices(key)):
        print("\n".join(f"{key}={choice}" for choice in choices if choice.startswith(begun)))
        return 0
    return _run(arguments)


if __name__ == "__main__":
    sys.exit(main())
