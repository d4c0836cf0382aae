"""
The program `stillsun-speckle`: the open reconstruction, with the files of the external program.

Started in a channel's working directory, alone or by mpirun, it reads the parameter files, bursts and
noise file that the external program reads and writes what that writes (SSOSoft manual, 2025-10-14,
sections 4, 7.3 and 7.4), so that it can stand in for it. Each MPI process takes the next burst as
soon as it is free.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stillsun import __version__
from stillsun.core.backend import get_backend
from stillsun.errors import ConfigError, InputError, StillsunError
from stillsun.speckle._ranks import Ranks
from stillsun.speckle.kisip.burstfile import read_burst
from stillsun.speckle.kisip.floats import check_floats, exactly
from stillsun.speckle.kisip.initfiles import (
    METHODS,
    FileParameters,
    MethodParameters,
    PropsParameters,
    format_parameters,
    read_parameters,
)
from stillsun.speckle.kisip.made import Made, fingerprint
from stillsun.speckle.kisip.mpi import MARK
from stillsun.speckle.kisip.outputs import remove_outputs, write_results
from stillsun.speckle.masking import reconstruct
from stillsun.speckle.masking.noise import FlatFrames

NAME = "stillsun-speckle"

_DESCRIPTION = """\
Open solar speckle reconstruction with the files of the external speckle program.

Reads init_file.dat, init_method.dat and init_props.dat in the directory in which it is started, and
the burst and noise files that they name; writes the output files beside the path that they give.
Alone it uses all cores; with 'mpirun -np N stillsun-speckle' each process takes burst after burst.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 all bursts are there, 1 some are not, 2 the parameters cannot be used. Only the
        first process tells; with a fault that hits one process alone, all are ended.
    """
    parser = argparse.ArgumentParser(
        prog=NAME, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    parser.parse_args(argv)
    ranks = Ranks()
    try:
        ranks = Ranks.join()
        return _run(ranks)
    except StillsunError as error:
        # Every process has it; one says it.
        if ranks.rank == 0:
            _complain(str(error))
        ranks.wait()
        return error.exit_status
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
    except MemoryError as error:
        _complain(f"out of memory: {error}. Start fewer processes")
    except OSError as error:
        _complain(str(error))
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    ranks.abort(1)
    return 1


@dataclass(frozen=True)
class _Job:
    """The bursts of one start, and how they are made."""

    file: FileParameters
    method: MethodParameters
    props: PropsParameters

    @classmethod
    def read(cls) -> _Job:
        """Read and check what the working directory holds."""
        job = cls(*read_parameters(Path()))
        if job.method.method not in range(len(METHODS)):
            raise ConfigError(
                f"init_method.dat: {NAME} knows no such method of phase reconstruction",
                expected=", ".join(f"{number} ({name})" for number, name in enumerate(METHODS)),
                found=job.method.method,
            )
        if not job.file.output_base.parent.is_dir():
            raise InputError("directory of the output files not found", file=job.file.output_base.parent)
        check_floats(job.file.noise, exactly(job._shape), str(job._shape), job.props.header_offset)
        return job

    @property
    def bursts(self) -> range:
        return range(self.file.first, self.file.last + 1)

    @cached_property
    def noise(self) -> FlatFrames:
        return FlatFrames(read_burst(self.file.noise, self._shape, self.props.header_offset))

    def burst_path(self, burst: int) -> Path:
        return _numbered(self.file.burst_base, burst)

    def output_base(self, burst: int) -> Path:
        return _numbered(self.file.output_base, burst)

    def made_from(self, burst: int) -> str | None:
        """Everything that the outputs of a burst depend on; None if the burst is not there."""
        files = (self.burst_path(burst), self.file.noise)
        if not all(file.is_file() for file in files):
            return None
        parameters = format_parameters(self.method) + format_parameters(self.props)
        return fingerprint(__version__, parameters, *files)

    def make(self, burst: int, threads: int) -> tuple[str, ...]:
        """Reconstruct one burst; returns what a person should know about it."""
        method, props = self.method, self.props
        frames = read_burst(self.burst_path(burst), self._shape, props.header_offset)
        base = self.output_base(burst)
        remove_outputs(base)
        result = reconstruct(
            frames,
            plate_scale=(props.arcsec_per_pixel_x, props.arcsec_per_pixel_y),
            wavelength=props.wavelength_nm,
            diameter=props.telescope_mm,
            noise=self.noise,
            deconvolve=True,
            backend=get_backend("numpy", threads=threads),
            **method.options(),
            ao_used=bool(props.ao_used),
            ao_lock_x=props.ao_lock_x,
            ao_lock_y=props.ao_lock_y,
            keep_subfields=True,
        )
        write_results(base, result, props.telescope_mm / 1000)
        return (f"Fried parameter {100 * result.r0:.1f} cm", *result.notes)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.props.frames, self.props.rows, self.props.columns


class _Account:
    """What the first process knows and tells: bursts that are there, made, failed."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._failed: dict[int, StillsunError] = {}
        self._made_from = {burst: job.made_from(burst) for burst in job.bursts}
        base = job.file.output_base
        self._made = Made(base.with_name(f"{base.name}.made_from"), job.props.rows, job.props.columns)

    def missing(self) -> list[int]:
        """Bursts that have to be made; the others are told to be done."""
        missing = []
        for burst in self._job.bursts:
            made_from = self._made_from[burst]
            if made_from and self._made.holds(self._job.output_base(burst), made_from):
                _say(f"burst {burst:03d}: there already", MARK)
            else:
                missing.append(burst)
        return missing

    def done(self, burst: int, result: tuple[str, ...] | StillsunError) -> bool:
        """Take in the result of a burst; False: the others would fail too."""
        if isinstance(result, StillsunError):
            self._failed[burst] = result
            _complain(f"burst {burst:03d}: {result}")
            return not isinstance(result, ConfigError)
        if made_from := self._made_from[burst]:
            self._made.add(self._job.output_base(burst), made_from)
        _say(f"burst {burst:03d}: {'; '.join(result)}", MARK)
        return True

    def close(self) -> int:
        """Exit status."""
        if not self._failed:
            return 0
        first = min(self._failed)
        if len(self._failed) > 1:
            _complain(f"{len(self._failed)} bursts not made, the first of them {first:03d}")
        return max(error.exit_status for error in self._failed.values())


def _run(ranks: Ranks) -> int:
    job = ranks.agree(_Job.read)
    account = _Account(job) if ranks.rank == 0 else None
    missing = ranks.agree(lambda: account.missing() if account else [])
    workers = min(ranks.size, len(missing))
    threads = ranks.threads(workers)
    if account and missing:
        _say(f"{NAME} {__version__}: bursts to make: {len(missing)}; {workers} x {threads} threads")

    def work(burst: int) -> tuple[str, ...] | StillsunError:
        try:
            return job.make(burst, threads)
        except StillsunError as error:
            return error

    def done(burst: int, result: tuple[str, ...] | StillsunError) -> bool:
        return account is None or account.done(burst, result)

    ranks.distribute(missing, work, done)
    return account.close() if account else 0


def _numbered(base: Path, burst: int) -> Path:
    return base.with_name(f"{base.name}.{burst:03d}")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _complain(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
