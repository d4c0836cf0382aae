"""Burst files of a channel: what they are made for, the disk space they take, which are there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from stillsun.config.schema import SpeckleConfig, SpeckleEngine
from stillsun.core.backend import get_backend
from stillsun.core.exposures import judge_exposures
from stillsun.errors import InputError, ReconstructionError
from stillsun.io.atomic import write_whole
from stillsun.io.bursts import BurstReader
from stillsun.io.burstwriter import write_bursts
from stillsun.speckle.kisip.burstfile import FileForm, burst_bytes, write_burst
from stillsun.speckle.kisip.initfiles import MethodParameters, PropsParameters, format_parameters
from stillsun.speckle.kisip.job import Job
from stillsun.stages.base import StageContext

_OWN_FILES = re.compile(r"\.batch\.\d\d\.\d\d\d(\.|$)")
_STAMP = ".made_from"
_LEFT_OUT = ".left_out.json"


class BurstFiles:
    """
    Burst and noise files in the channel's directory.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage speckle.
    reader : BurstReader
        The bursts.

    Attributes
    ----------
    job : Job
        The bursts as the external program sees them.
    """

    def __init__(self, ctx: StageContext, reader: BurstReader) -> None:
        self._ctx = ctx
        self._reader = reader
        self.job = _make_job(ctx, reader)
        self._stamp = self.job.outputs / _STAMP
        self._record = self.job.outputs / _LEFT_OUT

    @property
    def _shape(self) -> tuple[int, int, int]:
        props = self.job.props
        return props.frames, props.rows, props.columns

    @property
    def _bytes(self) -> int:
        return burst_bytes(self._shape, self.job.props.header_offset)

    def tidy(self) -> None:
        """Remove files that were made from something else, or belong to a finished run."""
        job = self.job
        about = [job.output_form.name(0), format_parameters(job.method), format_parameters(job.props)]
        calibration, bursts = self._ctx.calibration, self._ctx.bursts
        read = (
            calibration.contents(calibration.parts) or calibration.digest,
            bursts.frames_digest or bursts.digest,
        )
        # By the digests of whole products, as earlier versions did.
        whole = (calibration.digest, bursts.digest)
        made_from, earlier = (
            hashlib.sha256("\n".join([*map(str, kept), *about]).encode()).hexdigest()
            for kept in (read, whole)
        )
        if self._stamp.is_file() and self._stamp.read_text() in (made_from, earlier):
            return
        for directory in (job.bursts, job.outputs):
            directory.mkdir(parents=True, exist_ok=True)
            for file in directory.iterdir():
                if _OWN_FILES.search(file.name):
                    file.unlink()
        job.noise.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self._stamp.write_text(made_from)

    def finish(self) -> None:
        """Forget what is needed only to go on with an unfinished run."""
        self._stamp.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        config: SpeckleConfig = self._ctx.config
        if not config.keep_bursts:
            self.job.noise.unlink(missing_ok=True)
        for directory in (self.job.bursts, self.job.outputs):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()

    def check_space(self, wanted: int, beside: int) -> int:
        """
        See that the disk has room.

        Parameters
        ----------
        wanted : int
            Burst files that must fit.
        beside : int
            Bytes of what else will be written.

        Returns
        -------
        int
            Burst files that would fit.

        Raises
        ------
        ReconstructionError
            If not all that are wanted fit.
        """
        directory, each = self.job.bursts, self._bytes
        directory.mkdir(parents=True, exist_ok=True)
        written = sum(f.stat().st_size for f in directory.iterdir() if f.is_file())
        # The noise file is one burst more.
        left = shutil.disk_usage(directory).free + written - beside - each
        if left < wanted * each:
            config: SpeckleConfig = self._ctx.config
            raise ReconstructionError(
                "the disk is too small for the files of the speckle program",
                file=directory,
                expected=f"{(beside + each + wanted * each) / 1e9:.3g} GB free",
                found=f"{(left + beside + each) / 1e9:.3g} GB",
                remedy="Free space, choose another observation.work_dir"
                + (", set speckle.keep_bursts=false" if config.keep_bursts else "")
                + (", or use speckle=masking" if config.engine is SpeckleEngine.kisip else ""),
            )
        return left // each

    def write_noise(self) -> None:
        """
        Write the noise file: as many calibrated flat frames as a burst has.

        Raises
        ------
        InputError
            If they do not fit the bursts.
        """
        frames, *shape = self._shape
        flats = np.asarray(self._ctx.calibration.noise)
        if len(flats) == 0 or list(flats.shape[1:]) != shape:
            raise InputError(
                "the calibrated flat frames do not fit the bursts",
                file=self._ctx.calibration.path,
                expected=f"frames of {shape[0]} x {shape[1]}",
                found=flats.shape,
                remedy="Run calibrate again",
            )
        if len(flats) < frames:
            self._ctx.note(
                f"noise file: {len(flats)} flat frames repeated to the {frames} of a burst; "
                "calibrate.noise_frames keeps more"
            )
        write_burst(self.job.noise, flats[np.arange(frames) % len(flats)], self.job.props.header_offset)

    def write(self, bursts: Sequence[int]) -> None:
        """
        Write the files that are not there yet, from the raw frames.

        Parameters
        ----------
        bursts : sequence of int
            Numbers of the bursts.
        """
        needed = {burst: self.job.burst_path(burst) for burst in bursts if not self._there(burst)}
        replaced = write_bursts(self._reader, needed, offset=self.job.props.header_offset)
        if replaced:
            # The results are read when these files are gone, maybe by another run.
            told = {str(burst): judged.reasons for burst, judged in replaced.items()}
            write_whole(self._record, json.dumps({**self._told(), **told}))

    def left_out(self, burst: int) -> dict[int, str]:
        """
        Exposures that are none, for which the nearest ones stand in a burst's file.

        Parameters
        ----------
        burst : int
            Number of the burst.

        Returns
        -------
        dict
            Number of each in the burst, and why.
        """
        return {int(number): str(why) for number, why in self._told().get(str(burst), {}).items()}

    def _told(self) -> dict[str, dict[str, str]]:
        try:
            told: dict[str, dict[str, str]] = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return told

    def keep(self, burst: int, frames: np.ndarray) -> None:
        """
        Write the file of a burst that is in memory.

        Parameters
        ----------
        burst : int
            Number of the burst.
        frames : numpy.ndarray
            (frames, rows, columns) float32.
        """
        if not self._there(burst):
            judged = judge_exposures(frames, get_backend("numpy"))
            if judged.reasons and len(judged.used):
                # The file is for the external program, which takes all that is in it.
                frames = frames[[judged.nearest(k) for k in range(len(frames))]]
            write_burst(self.job.burst_path(burst), frames, self.job.props.header_offset)

    def _there(self, burst: int) -> bool:
        path = self.job.burst_path(burst)
        return path.is_file() and path.stat().st_size == self._bytes


def _make_job(ctx: StageContext, reader: BurstReader) -> Job:
    config: SpeckleConfig = ctx.config
    paths = ctx.paths
    frames, rows, columns = reader.shape
    begin = datetime.fromtimestamp(float(ctx.bursts.time_beg[0]), UTC)
    name = ctx.name.lower().removeprefix("rosa_")
    date, time = f"{begin:%Y%m%d}", f"{begin:%H%M%S}"
    scale_x, scale_y = (round(float(v), 8) for v in ctx.calibration.plate_scale)
    return Job(
        directory=paths.directory,
        bursts=paths.speckle_bursts,
        outputs=paths.speckle_output,
        burst_form=FileForm(f"{{:s}}_{{:s}}_{name}_kisip.raw.batch.{{:02d}}.{{:03d}}", date, time),
        output_form=FileForm(f"{{:s}}_{{:s}}_{name}_kisip.speckle.batch.{{:02d}}.{{:03d}}", date, time),
        noise=paths.speckle_bursts / f"{name}.noise",
        method=MethodParameters.of(config),
        props=PropsParameters(
            columns=columns,
            rows=rows,
            frames=frames,
            header_offset=config.kisip.header_offset,
            arcsec_per_pixel_x=scale_x,
            arcsec_per_pixel_y=scale_y,
            telescope_mm=ctx.observation.telescope.diameter_mm,
            wavelength_nm=ctx.settings.wavelength_nm,
            ao_lock_x=config.ao_lock_x,
            ao_lock_y=config.ao_lock_y,
            ao_used=int(config.ao_used),
        ),
    )
