"""
Driver of the external speckle program: start it, watch it, check what it made, start it again.

The program reads its parameter files in the directory in which it is started, makes one burst after
the other and prints ``Master done!`` after each (SSOSoft manual, 2025-10-14, sections 4 and 7.5).
Neither its exit status nor its output tells whether a burst was made: only the files do.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillsun.errors import ConfigError, ReconstructionError
from stillsun.speckle.kisip.burstfile import BATCH
from stillsun.speckle.kisip.job import Job
from stillsun.speckle.kisip.outputs import remove_outputs
from stillsun.speckle.kisip.process import ProcessEnd, run_process

log = logging.getLogger(__name__)

MARK = "Master done!"
MAX_SUBFIELD_ARCSEC = 10.0
"""The program fails at once with larger subfields (manual, section 4)."""

_LIBRARY = ("error while loading shared libraries", "cannot open shared object file", "symbol lookup error")
_EXECUTABLE = ("command not found", "could not find an executable", "could not access or execute")
_MEMORY = ("cannot allocate memory", "out of memory", "bad_alloc", "malloc", "oom-kill", "oom_kill")
_SLOTS = ("not enough slots",)
# The open program says itself what is wrong, and by this exit status that it lies in the parameters.
_OPEN_PROGRAM = "stillsun-speckle:"
_WRONG_PARAMETERS = 2
_SHOWN = 8


@dataclass(frozen=True)
class Program:
    """
    Where the program is and how it is started.

    Attributes
    ----------
    bin : Path
        Directory of the program and its mpirun.
    lib : Path or None
        Directory of its libraries.
    processes : int
        MPI processes.
    mpirun, executable : str
        Names in `bin`.
    """

    bin: Path
    lib: Path | None
    processes: int
    mpirun: str = "mpirun"
    executable: str = "entry"

    def arguments(self) -> list[str]:
        """
        Command line.

        Returns
        -------
        list of str
            ``<bin>/mpirun -np N <bin>/entry``.
        """
        place = self.bin.resolve()
        return [str(place / self.mpirun), "-np", str(self.processes), str(place / self.executable)]

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        Environment in which the program runs; the caller's own is left alone.

        Parameters
        ----------
        base : mapping, optional
            Environment to start from, that of this process by default.

        Returns
        -------
        dict
            A copy with `bin` first on ``PATH`` and `lib` first on ``LD_LIBRARY_PATH``.
        """
        environment = dict(os.environ if base is None else base)
        for name, place in (("PATH", self.bin), ("LD_LIBRARY_PATH", self.lib)):
            if place is not None:
                before = environment.get(name)
                environment[name] = os.pathsep.join([str(place.resolve()), *([before] if before else [])])
        return environment

    def check(self) -> None:
        """
        See that the program is there.

        Raises
        ------
        ConfigError
            If mpirun, the program or the directory of its libraries is missing.
        """
        for path in (self.bin / self.mpirun, self.bin / self.executable):
            if not (path.is_file() and os.access(path, os.X_OK)):
                raise ConfigError(
                    "speckle program not found or not executable",
                    file=path,
                    remedy="Set speckle.kisip.bin to its directory, or use speckle=masking",
                )
        if self.lib is not None and not self.lib.is_dir():
            raise ConfigError(
                "directory of the speckle program's libraries not found",
                file=self.lib,
                remedy="Set speckle.kisip.lib",
            )


def make_bursts(
    program: Program,
    job: Job,
    bursts: Iterable[int],
    *,
    timeout: float,
    retries: int = 3,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> None:
    """
    Let the program make bursts until the outputs of all of them are there.

    After every run the outputs are looked at again, and the program is started anew for those that
    are missing only. A burst with which it fails again and again is left until the others are made.

    Parameters
    ----------
    program : Program
        The program.
    job : Job
        Files and parameters.
    bursts : iterable of int
        Numbers of the bursts; those whose outputs are complete are not made again.
    timeout : float
        Seconds without a new burst or output file after which the program is stopped.
    retries : int, optional
        Times that a burst is tried again.
    progress : callable, optional
        Called with (bursts made, bursts in all).
    note : callable, optional
        Called with a sentence whenever the program has to be started again.

    Raises
    ------
    ConfigError
        If the program is not there.
    ReconstructionError
        If bursts are still missing when all has been tried; says how the program ended, its last
        lines and the likely cause.
    """
    wanted = sorted(set(bursts))
    total = len(wanted)
    report = progress or (lambda done, total: None)
    program.check()
    job.outputs.mkdir(parents=True, exist_ok=True)
    missing = {burst for burst in wanted if job.fault(burst)}
    failures = dict.fromkeys(missing, 0)
    fruitless = 0
    failed: tuple[ProcessEnd, str] | None = None
    while trying := sorted(burst for burst in missing if failures[burst] <= retries):
        run = _first_run(trying)
        made = total - len(missing)
        outcome = _run_once(program, job, run, timeout, partial(_report_run, report, made, total))
        left = [burst for burst in run if job.fault(burst)]
        missing -= set(run) - set(left)
        report(total - len(missing), total)
        if not left:
            fruitless = 0
            if outcome.status:
                log.warning("speckle program: all bursts are there, but %s", outcome.describe())
            continue
        cause, hopeless = likely_cause(outcome, job.method.subfield_arcsec)
        failed = outcome, cause
        failures[left[0]] += 1
        fruitless = fruitless + 1 if len(left) == len(run) else 0
        # Given up one burst and no luck with the next: it is not the burst that is wrong.
        if hopeless or fruitless > retries + 1:
            break
        if note:
            note(
                f"speckle program: burst {left[0]} of {run[0]} to {run[-1]} was not made, "
                f"{outcome.describe()}; attempt {failures[left[0]]} of {retries + 1}"
            )
    if missing and failed:
        raise _failure(job, sorted(missing), total, *failed)


def likely_cause(outcome: ProcessEnd, subfield_arcsec: float) -> tuple[str, bool]:
    """
    Guess from a failed run what went wrong.

    Parameters
    ----------
    outcome : ProcessEnd
        How the run ended.
    subfield_arcsec : float
        Size of the subfields.

    Returns
    -------
    cause : str
        The likely cause and what to do.
    hopeless : bool
        It would be the same again.
    """
    own_words = [line for line in outcome.tail if line.startswith(_OPEN_PROGRAM)]
    if own_words:
        cause = own_words[0].removeprefix(_OPEN_PROGRAM).strip()
        return f"Cause: {cause}", outcome.status == _WRONG_PARAMETERS
    text = "\n".join(outcome.tail).lower()

    def told(words: Sequence[str]) -> bool:
        return any(word in text for word in words)

    if told(_LIBRARY):
        return "Likely cause: a library is missing; set speckle.kisip.lib", True
    if told(_EXECUTABLE) or outcome.status == 127:
        return "Likely cause: the program or a part of it is missing; look at speckle.kisip.bin", True
    if told(_SLOTS):
        return "Likely cause: more processes than the machine has cores; lower speckle.processes", True
    if outcome.stopped:
        return (
            "Likely cause: it hangs, or the machine is overloaded; lower speckle.processes or raise "
            "speckle.timeout",
            False,
        )
    if subfield_arcsec > MAX_SUBFIELD_ARCSEC and outcome.marks == 0:
        return (
            f"Likely cause: a subfield of {subfield_arcsec:g} arcsec; it fails above "
            f"{MAX_SUBFIELD_ARCSEC:g}: lower speckle.subfield_arcsec",
            False,
        )
    if told(_MEMORY) or outcome.signal in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS):
        return "Likely cause: not enough memory; lower speckle.processes or free memory", False
    return "Likely cause: not enough memory, or an overloaded machine; lower speckle.processes", False


def _run_once(
    program: Program, job: Job, run: range, timeout: float, on_mark: Callable[[int], None]
) -> ProcessEnd:
    for burst in run:
        remove_outputs(job.output_base(burst))
    job.write_parameters(run)
    log.info("%s: bursts %d to %d in %s", " ".join(program.arguments()), run[0], run[-1], job.directory)
    try:
        outcome = run_process(
            program.arguments(),
            job.directory.resolve(),
            program.environment(),
            mark=MARK,
            timeout=timeout,
            watch=lambda: job.outputs.stat().st_mtime_ns,
            on_mark=on_mark,
        )
    except OSError as error:
        raise ReconstructionError(
            "the speckle program cannot be started",
            file=program.arguments()[0],
            found=error,
            remedy="Look at speckle.kisip.bin",
        ) from error
    log.info("speckle program: %s, %d bursts in %.1f s", outcome.describe(), outcome.marks, outcome.seconds)
    return outcome


def _report_run(report: Callable[[int, int], None], made: int, total: int, marks: int) -> None:
    report(min(made + marks, total), total)


def _first_run(bursts: Sequence[int]) -> range:
    # The program takes consecutive numbers of one batch.
    first = last = bursts[0]
    for burst in bursts[1:]:
        if burst != last + 1 or burst // BATCH != first // BATCH:
            break
        last = burst
    return range(first, last + 1)


def _failure(
    job: Job, missing: Sequence[int], total: int, outcome: ProcessEnd, cause: str
) -> ReconstructionError:
    lines = "".join(f"\n    {line}" for line in outcome.tail[-_SHOWN:]) or " none"
    return ReconstructionError(
        f"the speckle program did not make {len(missing)} of {total} bursts, the first of them number "
        f"{missing[0]}",
        file=f"{job.output_base(missing[0])}.final",
        found=f"{outcome.describe()}; last lines of its output:{lines}\n ",
        remedy=cause,
    )
