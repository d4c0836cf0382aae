"""The external speckle program as part of a run, and its results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from stillsun.config.schema import SpeckleConfig
from stillsun.errors import InputError, ReconstructionError
from stillsun.io.bursts import BurstReader
from stillsun.speckle.engine import Reconstruction
from stillsun.speckle.kisip.mpi import Program, make_bursts
from stillsun.speckle.kisip.outputs import read_final, read_shifts, read_subalpha
from stillsun.stages._burstfiles import BurstFiles
from stillsun.stages.base import StageContext

log = logging.getLogger(__name__)


def program_of(config: SpeckleConfig) -> Program:
    """
    The external program that the options name.

    Parameters
    ----------
    config : SpeckleConfig
        Options of the stage.

    Returns
    -------
    Program
        It may not be there, see `Program.check`.
    """
    place = config.kisip
    return Program(
        bin=Path(place.bin or "."),
        lib=None if place.lib is None else Path(place.lib),
        processes=config.processes,
        mpirun=place.mpirun,
        executable=place.executable,
    )


_AT_ONCE = 100
"""Bursts on disk at one time, unless they are kept."""
_OUTPUT_IMAGES = 14
"""Output of a burst in images: two of each subfield (half overlap, four images each), and reserve."""


class ExternalRun:
    """
    All bursts of a channel through the external program.

    What the program made is kept until the whole sequence is there: a run that was interrupted, or
    failed, goes on with the bursts that are missing.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage.
    reader : BurstReader
        The bursts.
    """

    def __init__(self, ctx: StageContext, reader: BurstReader) -> None:
        self._ctx = ctx
        self._config: SpeckleConfig = ctx.config
        self._reader = reader
        self._program = program_of(self._config)
        self._files = BurstFiles(ctx, reader)
        self._job = self._files.job

    def make(self) -> None:
        """
        See that the outputs of all bursts are there.

        Raises
        ------
        ConfigError
            If the program is not there.
        ReconstructionError
            If the disk is too small, or bursts cannot be made.
        """
        self._program.check()
        if not self._config.deconvolve:
            self._ctx.note(
                "speckle.deconvolve=false is not known to the external program: images are deconvolved"
            )
        self._files.tidy()
        total = len(self._reader)
        missing = [burst for burst in range(total) if self._job.fault(burst)]
        if not missing:
            return
        image = 4 * self._job.props.rows * self._job.props.columns
        results = (len(missing) * _OUTPUT_IMAGES + total) * image
        fit = self._files.check_space(len(missing) if self._config.keep_bursts else 1, results)
        at_once = min(_AT_ONCE, fit)
        self._files.write_noise()
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            self._files.write(part)
            try:
                make_bursts(
                    self._program,
                    self._job,
                    part,
                    timeout=self._config.timeout,
                    retries=self._config.kisip.retries,
                    progress=partial(self._report, total - len(missing) + start, total),
                    note=self._ctx.note,
                )
            finally:
                if not self._config.keep_bursts:
                    self._remove_bursts(part)

    @cached_property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the subfields' centres, as even as the program's files let one know."""
        _, across, along = self._alpha(0).shape
        _, rows, columns = self._reader.shape
        return (np.arange(along) + 0.5) * rows / along - 0.5, (
            np.arange(across) + 0.5
        ) * columns / across - 0.5

    def read(self, burst: int) -> Reconstruction:
        """
        Result of a burst.

        Parameters
        ----------
        burst : int
            Number of the burst.

        Returns
        -------
        Reconstruction
            Image, Fried parameters and, where the program wrote them, shifts.

        Raises
        ------
        ReconstructionError
            If the image holds no number at all, or the subfields are not those of the first burst.
        """
        props = self._job.props
        base = self._job.output_base(burst)
        notes: list[str] = []
        image = read_final(base.with_name(base.name + ".final"), props.rows, props.columns)
        bad = ~np.isfinite(image)
        if bad.all():
            raise ReconstructionError("the speckle program's image holds no number", file=f"{base}.final")
        if bad.any():
            image[bad] = np.median(image[~bad])
            notes.append(f"{int(bad.sum())} pixels without a value filled with the median")
        alpha = self._alpha(burst)
        if alpha.shape != self._alpha(0).shape:
            raise ReconstructionError(
                "the speckle program changed its subfields",
                file=f"{base}.subalpha",
                expected=self._alpha(0).shape,
                found=alpha.shape,
                remedy="Delete this file and run again",
            )
        diameter = props.telescope_mm / 1000
        try:
            grid = (alpha.shape[1], alpha.shape[2])
            tracked = read_shifts(base.with_name(base.name + ".ct"), props.frames, grid)
            shifts = tracked[:, ::-1].transpose(0, 1, 3, 2)
        except InputError as error:
            log.debug("no shifts: %s", error)
            shifts = None
        left_out, used = self._files.left_out(burst), None
        if left_out:
            which = ", ".join(f"{number} ({why})" for number, why in left_out.items())
            notes.append(f"{len(left_out)} exposures left out, the nearest ones stand for them: {which}")
            used = np.array([k for k in range(props.frames) if k not in left_out], dtype=np.int64)
        return Reconstruction(
            image=image,
            r0=float(alpha[0, 0, 0]) * diameter,
            r0_map=alpha[1].T * np.float32(diameter),
            shifts=shifts,
            notes=tuple(notes),
            used=used,
        )

    def finish(self) -> None:
        """Forget what is needed only to go on with an unfinished run."""
        self._files.finish()

    def _alpha(self, burst: int) -> np.ndarray:
        base = self._job.output_base(burst)
        props = self._job.props
        return read_subalpha(base.with_name(base.name + ".subalpha"), props.rows, props.columns)

    def _remove_bursts(self, bursts: Sequence[int]) -> None:
        for burst in bursts:
            if not self._job.fault(burst):
                self._job.burst_path(burst).unlink(missing_ok=True)

    def _report(self, before: int, total: int, done: int, _part: int) -> None:
        self._ctx.progress(before + done, total)
