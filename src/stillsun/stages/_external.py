"""The external speckle program as part of a run: files for it, disk space, and its results."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from stillsun.config.schema import SpeckleConfig, SpeckleMethod
from stillsun.errors import InputError, ReconstructionError
from stillsun.io.bursts import BurstReader, write_bursts
from stillsun.speckle.burstfile import FileForm, burst_bytes, write_burst
from stillsun.speckle.engine import Reconstruction
from stillsun.speckle.initfiles import MethodParameters, PropsParameters, format_parameters
from stillsun.speckle.job import Job
from stillsun.speckle.mpi import Program, make_bursts
from stillsun.speckle.outputs import read_final, read_shifts, read_subalpha
from stillsun.stages.base import StageContext

log = logging.getLogger(__name__)

_AT_ONCE = 100
"""Bursts on disk at one time, unless they are kept."""
_OUTPUT_IMAGES = 14
"""Output of a burst in images: two of each subfield (half overlap, four images each), and reserve."""
_OWN_FILES = re.compile(r"\.batch\.\d\d\.\d\d\d(\.|$)")
_STAMP = ".made_from"


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
        place = self._config.kisip
        self._program = Program(
            bin=Path(place.bin or "."),
            lib=None if place.lib is None else Path(place.lib),
            processes=self._config.processes,
            mpirun=place.mpirun,
            executable=place.executable,
        )
        self._job = self._make_job()
        self._stamp = self._job.outputs / _STAMP

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
        self._tidy()
        total = len(self._reader)
        missing = [burst for burst in range(total) if self._job.fault(burst)]
        if not missing:
            return
        at_once = self._check_space(len(missing))
        self._write_noise()
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            self._write_bursts(part)
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
        return Reconstruction(
            image=image,
            r0=float(alpha[0, 0, 0]) * diameter,
            r0_map=alpha[1].T * np.float32(diameter),
            shifts=shifts,
            notes=tuple(notes),
        )

    def finish(self) -> None:
        """Forget what is needed only to go on with an unfinished run."""
        self._stamp.unlink(missing_ok=True)
        if not self._config.keep_bursts:
            self._job.noise.unlink(missing_ok=True)
            if self._job.bursts.is_dir() and not any(self._job.bursts.iterdir()):
                self._job.bursts.rmdir()

    def _alpha(self, burst: int) -> np.ndarray:
        base = self._job.output_base(burst)
        props = self._job.props
        return read_subalpha(base.with_name(base.name + ".subalpha"), props.rows, props.columns)

    def _make_job(self) -> Job:
        ctx, config, paths = self._ctx, self._config, self._ctx.paths
        frames, rows, columns = self._reader.shape
        begin = datetime.fromtimestamp(float(ctx.inputs["bursts"].read("time_beg", 0)), UTC)
        name = ctx.channel.lower().removeprefix("rosa_")
        date, time = f"{begin:%Y%m%d}", f"{begin:%H%M%S}"
        scale_x, scale_y = (round(float(v), 8) for v in ctx.inputs["calibration"].read("plate_scale"))
        return Job(
            directory=paths.directory,
            bursts=paths.speckle_bursts,
            outputs=paths.speckle_output,
            burst_form=FileForm(f"{{:s}}_{{:s}}_{name}_kisip.raw.batch.{{:02d}}.{{:03d}}", date, time),
            output_form=FileForm(f"{{:s}}_{{:s}}_{name}_kisip.speckle.batch.{{:02d}}.{{:03d}}", date, time),
            noise=paths.speckle_bursts / f"{name}.noise",
            method=MethodParameters(
                method=int(config.method is SpeckleMethod.triple_correlation),
                subfield_arcsec=config.subfield_arcsec,
                phase_limit=config.phase_limit,
                u_limit=config.u_limit,
                v_limit=config.v_limit,
                max_iterations=config.max_iterations,
                snr_threshold=config.snr_keep,
                weight_exponent=config.weight_exponent,
                apodisation=config.apodisation,
                noise_filter=int(config.noise_filter),
            ),
            props=PropsParameters(
                columns=columns,
                rows=rows,
                frames=frames,
                header_offset=config.kisip.header_offset,
                arcsec_per_pixel_x=scale_x,
                arcsec_per_pixel_y=scale_y,
                telescope_mm=ctx.observation.telescope.diameter_mm,
                wavelength_nm=ctx.settings.wavelength_nm,
                ao_lock_x=config.kisip.ao_lock_x,
                ao_lock_y=config.kisip.ao_lock_y,
                ao_used=int(config.ao_used),
            ),
        )

    @property
    def _burst_shape(self) -> tuple[int, int, int]:
        props = self._job.props
        return props.frames, props.rows, props.columns

    def _tidy(self) -> None:
        """Remove files that were made from something else, or belong to a finished run."""
        job = self._job
        parts = [self._ctx.inputs[name].digest for name in ("calibration", "bursts")]
        parts += [job.output_form.name(0), format_parameters(job.method), format_parameters(job.props)]
        made_from = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        if self._stamp.is_file() and self._stamp.read_text() == made_from:
            return
        for directory in (job.bursts, job.outputs):
            directory.mkdir(parents=True, exist_ok=True)
            for file in directory.iterdir():
                if _OWN_FILES.search(file.name):
                    file.unlink()
        job.noise.unlink(missing_ok=True)
        self._stamp.write_text(made_from)

    def _check_space(self, missing: int) -> int:
        """Bursts that may lie on the disk at one time."""
        job, config = self._job, self._config
        job.bursts.mkdir(parents=True, exist_ok=True)
        each = burst_bytes(self._burst_shape, job.props.header_offset)
        written = sum(f.stat().st_size for f in job.bursts.iterdir() if f.is_file())
        image = 4 * job.props.rows * job.props.columns
        results = missing * _OUTPUT_IMAGES * image + len(self._reader) * image
        # The noise file is one burst more.
        left = shutil.disk_usage(job.bursts).free + written - results - each
        wanted = missing if config.keep_bursts else 1
        if left < wanted * each:
            raise ReconstructionError(
                "the disk is too small for the files of the speckle program",
                file=job.bursts,
                expected=f"{(results + each + wanted * each) / 1e9:.3g} GB free",
                found=f"{(left + results + each) / 1e9:.3g} GB",
                remedy="Free space, choose another observation.work_dir"
                + (", set speckle.keep_bursts=false" if config.keep_bursts else "")
                + " or use speckle=masking, which writes no burst files",
            )
        return min(_AT_ONCE, left // each)

    def _write_noise(self) -> None:
        job, store = self._job, self._ctx.inputs["calibration"]
        frames, *shape = self._burst_shape
        flats = np.asarray(store.read("noise"))
        if len(flats) == 0 or list(flats.shape[1:]) != shape:
            raise InputError(
                "the calibrated flat frames do not fit the bursts",
                file=store.path,
                expected=f"frames of {shape[0]} x {shape[1]}",
                found=flats.shape,
                remedy="Run calibrate again",
            )
        if len(flats) < frames:
            self._ctx.note(
                f"noise file: {len(flats)} flat frames repeated to the {frames} of a burst; "
                "calibrate.noise_frames keeps more"
            )
        write_burst(job.noise, flats[np.arange(frames) % len(flats)], job.props.header_offset)

    def _write_bursts(self, bursts: Sequence[int]) -> None:
        job = self._job
        size = burst_bytes(self._burst_shape, job.props.header_offset)
        paths = {burst: job.burst_path(burst) for burst in bursts}
        needed = {b: p for b, p in paths.items() if not (p.is_file() and p.stat().st_size == size)}
        write_bursts(self._reader, needed, offset=job.props.header_offset)

    def _remove_bursts(self, bursts: Sequence[int]) -> None:
        for burst in bursts:
            if not self._job.fault(burst):
                self._job.burst_path(burst).unlink(missing_ok=True)

    def _report(self, before: int, total: int, done: int, _part: int) -> None:
        self._ctx.progress(before + done, total)
