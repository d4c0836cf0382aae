"""Shared by the tests of the external speckle program."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.speckle.kisip.burstfile import FileForm, write_burst
from stillsun.speckle.kisip.initfiles import MethodParameters, PropsParameters
from stillsun.speckle.kisip.job import Job
from stillsun.speckle.kisip.mpi import Program

SHAPE = (3, 20, 30)


@pytest.fixture
def fake_program(fakes, tmp_path):
    """Install the stand-in with a fault; gives the Program."""

    def install(**fault) -> Program:
        place = fakes.install(tmp_path / "kisip" / "bin", **fault)
        (tmp_path / "kisip" / "lib").mkdir()
        return Program(place, tmp_path / "kisip" / "lib", processes=2)

    return install


@pytest.fixture
def make_job(tmp_path):
    """Write bursts with these numbers and a noise file; gives the Job."""

    def make(numbers, subfield=5.0, offset=0) -> Job:
        work = tmp_path / "work"
        job = Job(
            directory=work,
            bursts=work / "preSpeckle",
            outputs=work / "speckle",
            burst_form=FileForm("20250903_142152_gband_kisip.raw.batch.{:02d}.{:03d}"),
            output_form=FileForm("20250903_142152_gband_kisip.speckle.batch.{:02d}.{:03d}"),
            noise=work / "preSpeckle" / "noise",
            method=MethodParameters(1, subfield, 95, 10, 10, 30, 80, 1.2, 15, 1),
            props=PropsParameters(SHAPE[2], SHAPE[1], SHAPE[0], offset, 0.06, 0.0602, 762, 430.5, -1, -1, 1),
        )
        job.bursts.mkdir(parents=True)
        write_burst(job.noise, np.ones(SHAPE), offset)
        for number in numbers:
            write_burst(job.burst_path(number), np.full(SHAPE, number + 1.0), offset)
        return job

    return make
