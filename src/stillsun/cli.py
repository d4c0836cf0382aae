"""The command `stillsun` and its verbs."""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stillsun import __version__
from stillsun.errors import ConfigError, StillsunError

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
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-sc"], ["--shell-completion"], ["--shell_completion"]):
        return _guarded(lambda: _complete(arguments))
    if arguments[:1] == ["run"]:
        # Hydra reads its arguments itself.
        return _guarded(lambda: _run(arguments[1:]))
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
    options = parser.parse_args(arguments)
    action = {
        "simulate": _simulate,
        "sort": _sort,
        "import-ini": _import,
        "status": _status,
        "report": _report,
    }[options.verb]
    return _guarded(lambda: action(options))


def _guarded(action: Callable[[], int]) -> int:
    """Turn errors into one short message and an exit status."""
    try:
        return action()
    except StillsunError as error:
        if os.environ.get(_FULL_ERROR) == "1":
            raise
        print(f"stillsun: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read it has seen enough; the rest of the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stillsun: interrupted; the same command goes on from here", file=sys.stderr)
        return 1


def _simulate(options: argparse.Namespace) -> int:
    from stillsun.pipeline.console import Progress, bars_wanted
    from stillsun.synth import command

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with Progress("simulate", bars=bars_wanted(True)) as progress:
        command.run(options, progress)
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
    """Check the configuration, then hand over to Hydra."""
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from stillsun.config.compose import config_directory, hydra_overrides, register_schema, settings_from

    options = get_args_parser().parse_intermixed_args(arguments)
    if options.help:
        return _help(options.overrides)
    asks = options.hydra_help or options.cfg or options.info or options.shell_completion
    if not asks:
        _check(options.overrides, options.config_dir, options.multirun)
    register_schema()
    overrides = hydra_overrides(options.overrides)
    flags = [a for a in arguments if a not in options.overrides]
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = {o.get_key_element() for o in parsed if not o.is_sweep_override()}
    failures: list[StillsunError] = []
    done: dict[Path, list[Path]] = {}  # directory of a sweep to those of its jobs
    command = shlex.join(["stillsun", "run", *arguments])

    def task(composed: Any) -> float | None:
        from stillsun.pipeline.session import reduce

        here = HydraConfig.get()
        sweep = here.mode is RunMode.MULTIRUN
        job = Path(here.runtime.output_dir) if sweep else None
        try:
            # What is the same for all jobs is not what the sweep changes.
            own = [o for o in here.overrides.task if o.partition("=")[0] not in fixed] if sweep else []
            swept = [o.lstrip("+") for o in own]
            score = reduce(settings_from(composed), job, swept, command=command)
            if job is not None and score is not None:
                done.setdefault(Path(here.sweep.dir), []).append(job)
            return score
        except StillsunError as error:
            # The other jobs of a sweep go on.
            failures.append(error)
            return math.nan

    application = hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(
        task
    )
    with ExitStack() as stack:
        if "plan=true" in overrides:
            # A plan leaves nothing behind, not even Hydra's record of the configuration.
            nowhere = stack.enter_context(tempfile.TemporaryDirectory())
            overrides += [f"hydra.run.dir={nowhere}", f"hydra.sweep.dir={nowhere}"]
        stack.enter_context(_arguments(["stillsun", *overrides, *flags]))
        try:
            application()
        except (HydraException, OmegaConfBaseException) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise ConfigError("; ".join(lines[:3])) from error
    for directory, jobs in done.items():
        from stillsun.pipeline.compare import compare_jobs

        if table := compare_jobs(directory, jobs):
            print(table)
    if failures:
        raise failures[0] if len(failures) == 1 else StillsunError("\n".join(str(f) for f in failures))
    return 0


def _help(words: list[str]) -> int:
    from stillsun.config.compose import config_directory
    from stillsun.config.help import help_text

    # What is given as for a run says nothing here.
    wanted = [word for word in words if "=" not in word]
    text = help_text(config_directory(), wanted, min(shutil.get_terminal_size((100, 40)).columns, 140))
    if not text:
        raise ConfigError(f"no key {', '.join(wanted)}", remedy="stillsun run --help lists all")
    print(text, flush=True)
    return 0


def _check(overrides: list[str], config_dir: str | None, multirun: bool) -> None:
    """Find every fault before Hydra starts and anything is written."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from stillsun.config.compose import load_settings
    from stillsun.pipeline.session import prepare

    jobs = [overrides]
    if multirun:
        try:
            parsed = OverridesParser.create().parse_overrides(overrides)
            plain = [o.input_line or "" for o in parsed if not o.is_hydra_override()]
            jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(plain), None)[0]
        except HydraException as error:
            raise ConfigError(str(error).splitlines()[0]) from error
    findings: dict[str, None] = {}
    for job in jobs:
        try:
            prepare(load_settings(job, config_dir))
        except ConfigError as error:
            findings.update(dict.fromkeys(error.findings or [str(error)]))
    if findings:
        raise ConfigError(findings=list(findings))


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """Arguments of the process as Hydra sees them; Hydra raises its errors instead of leaving."""
    before, full = sys.argv, os.environ.get(_FULL_ERROR)
    sys.argv = arguments
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = full


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
