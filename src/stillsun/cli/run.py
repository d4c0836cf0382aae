"""The verb `run`: configuration checked, plan printed, or the work handed over to Hydra."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf.errors import OmegaConfBaseException

from stillsun import __version__
from stillsun.cli._guard import FULL_ERROR
from stillsun.config import _hydra
from stillsun.config.compose import (
    config_directory,
    hydra_overrides,
    hydra_settings,
    load_settings,
    register_schema,
    settings_from,
)
from stillsun.config.keys import find_key
from stillsun.config.overrides import first_lines, split_jobs, tidy_overrides
from stillsun.config.schema import AlignEngine, ExecutorName, StageName
from stillsun.config.settings import Settings
from stillsun.errors import ConfigError, StillsunError

if TYPE_CHECKING:
    from stillsun.pipeline.session import Prepared

# What a sweep makes once at the end of the search, if at all.
_OF_THE_WHOLE = (StageName.movie, StageName.report)


def run_words(arguments: list[str]) -> int:
    """Run the pipeline as a Hydra application, or only tell what was asked for."""
    _refuse_dashes(arguments)
    parser = _hydra.get_args_parser()
    parser.prog = "stillsun run"
    for action in parser._actions:
        if "--version" in action.option_strings:
            action.version = f"stillsun {__version__}"
    options = parser.parse_intermixed_args(arguments)
    if options.help:
        return _help(options.overrides)
    command = shlex.join(["stillsun", "run", *arguments])
    flags = [a for a in arguments if a not in options.overrides]
    if options.hydra_help or options.cfg or options.info or options.shell_completion:
        words = tidy_overrides(options.overrides, multirun=options.multirun)
        try:
            return _hand_over(words, flags, command, options.config_dir, options.multirun)
        except ConfigError:
            if not (options.multirun or options.hydra_help or options.shell_completion):
                load_settings(words, options.config_dir)  # says more
            raise
    words = tidy_overrides(options.overrides, multirun=options.multirun)
    jobs = _jobs(words, options.config_dir, options.multirun)
    checked, prepared = _check(jobs, options.config_dir)
    if checked[0].run.plan:
        if not options.multirun:
            _tell_plan(checked[0], prepared[0])
            return 0
        return _plan(checked, jobs, words, options.config_dir)
    _check_questions(checked)
    ready = None if options.multirun else (checked[0], prepared[0])
    return _hand_over(words, flags, command, options.config_dir, options.multirun, ready)


def _check_questions(checked: list[Settings]) -> None:
    """Refuse a question that nobody would see before there is any work."""
    run = checked[0].run
    asked = run.align.verify and run.align.engine is AlignEngine.hmi and StageName.align in run.stages
    if asked and run.executor.name is ExecutorName.dask:
        raise ConfigError(
            "align.verify=true asks in this process", remedy="Give executor=serial, or align.verify=false"
        )
    if asked and not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            "align.verify=true: there is no terminal to ask on",
            remedy="Run it in a terminal, or give align.verify=false and look at WORK/CHANNEL/align.png",
        )


def _refuse_dashes(arguments: list[str]) -> None:
    """Keys written like options, which Hydra's parser would not explain."""
    for word in arguments:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            continue
        try:
            find_key(name)
        except KeyError:
            continue
        raise ConfigError(
            f"{word}: keys have no dashes", remedy=f"Write {name}={value if equals else 'VALUE'}"
        )


def _help(words: list[str]) -> int:
    from stillsun.config.help import help_text

    # What is given as for a run says nothing here.
    wanted = [word for word in words if "=" not in word]
    text = help_text(config_directory(), wanted, min(shutil.get_terminal_size((100, 40)).columns, 140))
    if not text:
        raise ConfigError(f"no key {', '.join(wanted)}", remedy="stillsun run --help lists all")
    print(text, flush=True)
    return 0


def _jobs(words: list[str], config_dir: str | None, multirun: bool) -> list[list[str]]:
    """Overrides of each job; those of a plain run are all words."""
    if not multirun and not any(word.lstrip("+").startswith("experiment=") for word in words):
        return [words]
    plain = _without_sweeps(words)
    sweeper = hydra_settings(plain, config_dir).sweeper
    if multirun and not sweeper._target_.endswith(f".{_hydra.BasicSweeper.__name__}"):
        # It chooses the values one after another; what stays the same can be checked.
        return [[o for o in plain if not o.startswith("hydra")]]
    params = [f"{k}={v}" for k, v in (sweeper.params or {}).items()]
    if multirun:
        return split_jobs(words, params)
    if params:
        raise ConfigError(
            "the experiment is a sweep and needs -m", remedy=f"It would run {', '.join(params)}; add -m"
        )
    return [words]


def _without_sweeps(words: list[str]) -> list[str]:
    return [o for o in words if not _hydra.OverridesParser.create().parse_override(o).is_sweep_override()]


def _check(jobs: list[list[str]], config_dir: str | None) -> tuple[list[Settings], list[Prepared]]:
    """Find every fault of every job before anything is written; gives also what each would do."""
    from stillsun.pipeline.session import prepare

    findings: dict[str, None] = {}
    checked, prepared = [], []
    for job in jobs:
        try:
            checked.append(load_settings(job, config_dir))
            prepared.append(prepare(checked[-1]))
        except ConfigError as error:
            findings.update(dict.fromkeys(error.findings or [str(error)]))
    if findings:
        raise ConfigError(findings=list(findings))
    return checked, prepared


def _tell_plan(settings: Settings, prepared: Prepared) -> None:
    """Print the plan, and what it will take; what is wrong with the first raw files is an error."""
    from stillsun.pipeline.forecast import forecast

    plan = prepared[0]
    print(plan.table())
    if any(task.is_new for task in plan.tasks):
        found = forecast(plan, settings, *prepared[1:])
        print(f"\n{found.text()}")
        if found.faults:
            raise StillsunError("\n".join(found.faults))


def _plan(checked: list[Settings], jobs: list[list[str]], words: list[str], config_dir: str | None) -> int:
    """Print what the jobs of a sweep would do; nothing is left behind, not even Hydra's record."""
    from stillsun.pipeline.session import prepare

    fixed = _fixed(words)
    own = [word for word in words if word.startswith("hydra.")]
    for settings, job in zip(checked, jobs, strict=True):
        told = hydra_settings([*job, *own], config_dir)
        swept = _swept(job, fixed)
        print(f"{' '.join(swept) or 'job'}:")
        settings = _of_a_job(settings, swept, words)
        print(prepare(settings, Path(told.sweep.dir).resolve() / told.sweep.subdir, swept)[0].table())
    return 0


def _of_a_job(settings: Settings, swept: list[str], words: list[str]) -> Settings:
    """A sweep's job without movie and report: the comparison stands for them, unless they are asked for."""
    if _chooses_stages(words):
        return settings
    told = {word.partition(".")[0] for word in swept}
    kept = [s for s in settings.run.stages if s not in _OF_THE_WHOLE or s.name in told]
    return replace(settings, run=replace(settings.run, stages=kept))


def _chooses_stages(words: list[str]) -> bool:
    return any(word.lstrip("+").startswith("stages=") for word in words)


def _fixed(words: list[str]) -> set[str]:
    """Keys that a sweep does not change."""
    parsed = _hydra.OverridesParser.create().parse_overrides(words)
    return {o.get_key_element() for o in parsed if not o.is_sweep_override()}


def _swept(overrides: list[str], fixed: set[str]) -> list[str]:
    """What a job differs from the others in."""
    return [o.lstrip("+") for o in overrides if o.partition("=")[0] not in fixed]


def _hand_over(
    words: list[str],
    flags: list[str],
    command: str,
    config_dir: str | None,
    multirun: bool,
    ready: tuple[Settings, Prepared] | None = None,
) -> int:
    """Let Hydra do what is asked for; `ready`: a plain run and its plan, made once."""
    register_schema()
    swept: list[str] = []
    if multirun:
        swept = list(hydra_settings(_without_sweeps(words), config_dir).sweeper.get("params") or {})
    overrides = hydra_overrides(words, config_dir, multirun=multirun, swept=swept)
    fixed = _fixed(overrides)
    failures: list[StillsunError] = []
    done: dict[Path, list[Path]] = {}  # directory of a sweep to those of its jobs

    def task(composed: Any) -> float | None:
        from stillsun.pipeline.session import reduce

        here = _hydra.HydraConfig.get()
        sweep = here.mode is _hydra.RunMode.MULTIRUN
        job = Path(here.runtime.output_dir) if sweep else None
        try:
            swept = _swept(here.overrides.task, fixed) if sweep else []
            settings = settings_from(composed)
            if sweep:
                settings = _of_a_job(settings, swept, words)
            planned = ready[1] if ready is not None and ready[0] == settings else None
            score = reduce(settings, job, swept, command=command, prepared=planned)
            if job is not None and score is not None:
                done.setdefault(Path(here.sweep.dir), []).append(job)
            return score
        except StillsunError as error:
            # The other jobs of a sweep go on.
            failures.append(error)
            return math.nan

    application = _hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(
        task
    )
    with _arguments(["stillsun", *overrides, *flags]):
        try:
            application()
        except (_hydra.HydraException, OmegaConfBaseException) as error:
            raise ConfigError(first_lines(error)) from error
    for directory, jobs in done.items():
        from stillsun.pipeline.sweep import compare_jobs

        if table := compare_jobs(directory, jobs):
            print(table)
            if not _chooses_stages(words):
                print("Jobs have no movie and no report; they are made where stages=[...] names them")
    if failures:
        raise failures[0] if len(failures) == 1 else StillsunError("\n".join(str(f) for f in failures))
    return 0


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """Arguments of the process as Hydra sees them; Hydra raises its errors instead of leaving."""
    before, full = sys.argv, os.environ.get(FULL_ERROR)
    sys.argv = arguments
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = full
