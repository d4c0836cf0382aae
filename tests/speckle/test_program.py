"""The program `stillsun-speckle`: its files, restarts, failures, and processes beside each other."""

from __future__ import annotations

import functools
import os
import queue
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from stillsun.core.backend import get_backend
from stillsun.errors import ConfigError, InputError
from stillsun.speckle._ranks import Ranks
from stillsun.speckle.kisip.burstfile import FileForm, write_burst
from stillsun.speckle.kisip.initfiles import MethodParameters, PropsParameters
from stillsun.speckle.kisip.job import Job
from stillsun.speckle.kisip.mpi import MARK, Program, make_bursts
from stillsun.speckle.kisip.outputs import (
    read_final,
    read_ratios,
    read_shifts,
    read_subalpha,
    read_subfields,
    subfield_grid,
)
from stillsun.speckle.masking import reconstruct
from stillsun.speckle.program import main

SHAPE = (6, 80, 112)
OFFSET = 16
BURSTS = range(3)
COMMAND = [sys.executable, "-m", "stillsun.speckle.program"]


def scene(seed, rows, columns):
    noise = np.random.default_rng(seed).normal(size=(rows, columns))
    field = scipy.ndimage.gaussian_filter(noise, 1.5) - scipy.ndimage.gaussian_filter(noise, 6)
    return 1 + 0.1 * field / field.std()


@functools.cache
def burst(seed):
    """Frames of a scene, displaced by whole pixels and blurred each in its way, with noise."""
    _, rows, columns = SHAPE
    rng = np.random.default_rng(seed)
    wide = scene(seed, rows + 16, columns + 16)
    result = []
    for y, x in displacements(seed):
        blurred = scipy.ndimage.gaussian_filter(wide, rng.uniform(0.7, 1.3))
        # Content moves by plus the displacement.
        result.append(blurred[8 - y : 8 - y + rows, 8 - x : 8 - x + columns])
    return (3000 * np.array(result) + rng.normal(size=SHAPE) * 20).astype(np.float32)


def displacements(seed):
    return np.random.default_rng(seed + 100).integers(-3, 4, size=(SHAPE[0], 2)) * (1, 2)


@functools.cache
def noise():
    return (3000 + np.random.default_rng(99).normal(size=SHAPE) * 20).astype(np.float32)


@functools.cache
def engine(number, **options):
    """What the engine itself makes of a burst."""
    return reconstruct(
        burst(number),
        plate_scale=(0.06, 0.062),
        wavelength=430.5,
        diameter=762.0,
        noise=noise(),
        backend=get_backend("numpy", threads=2),
        **{
            "subfield_arcsec": 3.0,
            "phase_limit": 90.0,
            "u_limit": 12.0,
            "v_limit": 14.0,
            "max_iterations": 4,
            "snr_keep": 75.0,
            "weight_exponent": 1.3,
            "apodisation": 25.0,
        }
        | options,
    )


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A working directory with bursts, noise and parameter files; also the current one."""
    work = tmp_path / "ROSA_GBAND"
    job = Job(
        directory=work,
        bursts=work / "preSpeckle",
        outputs=work / "speckle",
        burst_form=FileForm("20250903_142152_gband_kisip.raw.batch.{:02d}.{:03d}"),
        output_form=FileForm("20250903_142152_gband_kisip.speckle.batch.{:02d}.{:03d}"),
        noise=work / "preSpeckle" / "gband.noise",
        method=MethodParameters(1, 3.0, 90, 12, 14, 4, 75, 1.3, 25, 1),
        props=PropsParameters(SHAPE[2], SHAPE[1], SHAPE[0], OFFSET, 0.06, 0.062, 762, 430.5, -1, -1, 0),
    )
    job.bursts.mkdir(parents=True)
    job.outputs.mkdir()
    write_burst(job.noise, noise(), OFFSET)
    for number in BURSTS:
        write_burst(job.burst_path(number), burst(number), OFFSET)
    job.write_parameters(BURSTS)
    monkeypatch.chdir(work)
    return job


def image_path(job, number):
    return Path(f"{job.output_base(number)}.final")


def image(job, number):
    return read_final(image_path(job, number), *SHAPE[1:])


def check_images(job, numbers=BURSTS):
    for number in numbers:
        np.testing.assert_array_equal(image(job, number), engine(number).image)


def times(job):
    return {number: image_path(job, number).stat().st_mtime_ns for number in BURSTS}


def remade(job, before):
    after = times(job)
    return [number for number in BURSTS if after[number] != before[number]]


# --- what it writes


def test_same_bytes_as_the_engine(job, capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.count(MARK) == len(BURSTS)
    check_images(job)
    for number in BURSTS:
        expected, base = engine(number), job.output_base(number)
        rows, columns = expected.r0_map.shape
        assert rows != columns
        assert subfield_grid(rows * columns, *SHAPE[1:]) == (columns, rows)
        alpha = read_subalpha(Path(f"{base}.subalpha"), *SHAPE[1:])
        np.testing.assert_allclose(alpha[0], expected.r0 / 0.762, rtol=1e-6)
        np.testing.assert_allclose(alpha[1], expected.r0_map.T / 0.762, rtol=1e-6)
    assert not list(job.outputs.glob("*.part"))


def test_tracking_is_x_before_y(job):
    assert main([]) == 0
    columns, rows = engine(0).r0_map.shape[::-1]
    tracked = read_shifts(Path(f"{job.output_base(0)}.ct"), SHAPE[0], (columns, rows))
    # The displacement is taken back, up to a common shift.
    wanted = -displacements(0)[:, ::-1]
    wanted = wanted - wanted.mean(axis=0)
    found = tracked.mean(axis=(2, 3)) - tracked.mean(axis=(0, 2, 3))
    assert np.abs(wanted).max() > 2
    np.testing.assert_allclose(found, wanted, atol=0.5)


def test_subfields_are_x_before_y_and_their_pixels_as_in_the_image(job):
    assert main([]) == 0
    base, expected = job.output_base(0), engine(0, keep_subfields=True).subfields
    rows, columns = expected.images.shape[:2]
    for suffix, values in ((".subrec", expected.images), (".subamp", expected.amplitudes)):
        found = read_subfields(Path(f"{base}{suffix}"), (columns, rows))
        np.testing.assert_array_equal(found, values.transpose(1, 0, 2, 3))
    ratios = read_ratios(Path(f"{base}.subrsr"), (columns, rows))
    np.testing.assert_array_equal(ratios, expected.ratio.transpose(1, 0, 2))


def test_parameters_have_their_meaning(job):
    changed = {
        "method": ("method", 0),
        "phase_limit": ("phase_limit", 60.0),
        "subfield_arcsec": ("subfield_arcsec", 4.0),
        "max_iterations": ("max_iterations", 0),
        "snr_keep": ("snr_keep", 30.0),
        "apodisation": ("apodisation", 60.0),
        "noise_filter": ("noise_filter", False),
    }
    for key, (option, value) in changed.items():
        replace(
            job, method=replace(job.method, **{key: type(getattr(job.method, key))(value)})
        ).write_parameters(range(1))
        assert main([]) == 0
        value = "knox_thompson" if key == "method" else value
        np.testing.assert_array_equal(image(job, 0), engine(0, **{option: value}).image, err_msg=key)
        assert not np.array_equal(image(job, 0), engine(0).image), key


# --- starting it again


def test_a_second_start_makes_nothing_again(job, capsys):
    assert main([]) == 0
    before = times(job)
    job.write_parameters(BURSTS)
    capsys.readouterr()
    assert main([]) == 0
    assert remade(job, before) == []
    assert capsys.readouterr().out.count(MARK) == len(BURSTS)


def test_only_what_is_missing_or_changed_is_made_again(job):
    assert main([]) == 0
    before = times(job)
    image_path(job, 1).unlink()
    assert main([]) == 0
    assert remade(job, before) == [1]

    before = times(job)
    write_burst(job.burst_path(2), burst(7), OFFSET)
    assert main([]) == 0
    assert remade(job, before) == [2]
    np.testing.assert_array_equal(image(job, 2), engine(7).image)

    # Put there by another program: complete, but not ours.
    image_path(job, 0).write_bytes(np.zeros(SHAPE[1:], np.float32).tobytes())
    assert main([]) == 0
    check_images(job, [0, 1])


def test_everything_is_made_again_with_other_parameters(job):
    assert main([]) == 0
    before = times(job)
    replace(job, method=replace(job.method, phase_limit=80)).write_parameters(BURSTS)
    assert main([]) == 0
    assert remade(job, before) == list(BURSTS)


def test_killed_and_restarted_it_loses_the_burst_in_hand_only(job):
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if MARK in line:
                process.kill()
                break
    first = image_path(job, 0).stat().st_mtime_ns
    # What a kill in the middle of a line leaves.
    with next(job.outputs.glob("*.made_from")).open("a") as file:
        file.write("20250903_142152_gband")
    assert main([]) == 0
    assert image_path(job, 0).stat().st_mtime_ns == first
    check_images(job)
    before = times(job)
    assert main([]) == 0
    assert remade(job, before) == []


# --- what goes wrong


def test_a_burst_that_is_not_there_does_not_stop_the_others(job, capsys):
    assert main([]) == 0
    replace(job, method=replace(job.method, phase_limit=80)).write_parameters(BURSTS)
    old = image_path(job, 1).read_bytes()
    job.burst_path(1).unlink()
    assert main([]) == 1
    out, err = capsys.readouterr()
    assert str(job.burst_path(1)) in err
    assert out.count(MARK) == 2 * len(BURSTS) - 1
    np.testing.assert_array_equal(image(job, 2), engine(2, phase_limit=80.0).image)
    # Nothing to make it from: what was there is not lost.
    assert image_path(job, 1).read_bytes() == old


def test_a_burst_without_structure_is_named(job, capsys):
    write_burst(job.burst_path(0), np.full(SHAPE, 5.0), OFFSET)
    assert main([]) == 1
    assert "burst 000" in capsys.readouterr().err
    assert not image_path(job, 0).exists()
    check_images(job, [1, 2])


def damage_method(job):
    replace(job, method=replace(job.method, method=2)).write_parameters(BURSTS)


def damage_limit(job):
    replace(job, method=replace(job.method, phase_limit=0)).write_parameters(BURSTS)


def damage_init(job):
    (job.directory / "init_props.dat").unlink()


def damage_noise(job):
    write_burst(job.noise, noise()[:-1], OFFSET)


def damage_outputs(job):
    job.outputs.rmdir()


@pytest.mark.parametrize(
    ("damage", "status", "named"),
    [
        (damage_method, 2, "triple_correlation"),
        (damage_limit, 2, "phase_limit"),
        (damage_init, 1, "init_props.dat"),
        (damage_noise, 1, "gband.noise"),
        (damage_outputs, 1, "speckle"),
    ],
)
def test_what_cannot_be_used_is_named_once(job, capsys, damage, status, named):
    damage(job)
    assert main([]) == status
    out, err = capsys.readouterr()
    assert any(name in err for name in named.split("|"))
    assert err.count("\n") == 1
    assert MARK not in out
    assert not list(job.directory.rglob("*.final"))


def test_what_the_system_refuses_is_one_line(job, capsys):
    (job.outputs / f"{job.output_form.name(0)}.ct").mkdir()
    assert main([]) == 1
    err = capsys.readouterr().err
    assert ".ct" in err
    assert "Traceback" not in err


def test_processes_that_cannot_reach_each_other_do_not_work_twice(job):
    # Started by an mpirun of which mpi4py, or this machine, knows nothing.
    run = subprocess.run(
        COMMAND, env={**os.environ, "PMI_SIZE": "4"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "mpirun" in run.stderr
    assert not list(job.outputs.iterdir())


# --- in place of the external program


def install(place, mpirun):
    """A directory with an mpirun and the program, as speckle.kisip.bin wants it."""
    place.mkdir(parents=True)
    (place / "mpirun").write_text(mpirun)
    (place / "stillsun-speckle").write_text(
        f"#!{sys.executable}\nimport sys\nfrom stillsun.speckle.program import main\nsys.exit(main())\n"
    )
    for name in ("mpirun", "stillsun-speckle"):
        (place / name).chmod(0o755)
    return place


def test_it_stands_in_for_the_external_program(job, fakes, tmp_path):
    place = install(tmp_path / "bin", fakes.MPIRUN)
    program = Program(place, None, processes=2, executable="stillsun-speckle")
    seen = []
    make_bursts(program, job, BURSTS, timeout=60, progress=lambda *n: seen.append(n), note=pytest.fail)
    check_images(job)
    assert seen[-1] == (3, 3)
    before = times(job)
    image_path(job, 1).unlink()
    make_bursts(program, job, BURSTS, timeout=60, note=pytest.fail)
    assert remade(job, before) == [1]


# --- work handed out


class Pair:
    """A communicator between threads: what `Ranks` uses of mpi4py."""

    def __init__(self, rank, boxes, meeting):
        self.rank, self.boxes, self.meeting = rank, boxes, meeting

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.boxes)

    def iprobe(self):
        return not self.boxes[self.rank].empty()

    def recv(self, source=None):
        return self.boxes[self.rank].get(timeout=10)

    def send(self, value, dest):
        self.boxes[dest].put(value)

    def bcast(self, value, root):
        if self.rank == root:
            for box in self.boxes:
                box.put(value)
        return self.recv()

    def Ibarrier(self):
        self.meeting.wait(10)
        return self

    def Test(self):
        return True


def in_threads(size, action):
    boxes, meeting = [queue.Queue() for _ in range(size)], threading.Barrier(size)
    errors = []

    def run(rank):
        try:
            action(Ranks(Pair(rank, boxes, meeting)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return errors


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_every_item_is_worked_on_once(size, count):
    worked, finished = queue.Queue(), []

    def action(ranks):
        def work(item):
            worked.put((item, ranks.rank))
            return -item

        def done(item, result):
            assert ranks.rank == 0
            finished.append((item, result))
            return True

        ranks.distribute(range(count), work, done)

    assert in_threads(size, action) == []
    assert sorted(finished) == [(item, -item) for item in range(count)]
    assert sorted(item for item, _ in worked.queue) == list(range(count))


def test_the_free_one_takes_the_next():
    release, takers = threading.Event(), {}

    def action(ranks):
        def work(item):
            takers[item] = ranks.rank
            if item == 0:
                assert release.wait(10)
            elif item == 9:
                release.set()

        ranks.distribute(range(10), work, lambda item, result: True)

    assert in_threads(2, action) == []
    assert {takers[item] for item in range(1, 10)} == {1 - takers[0]}


def test_no_more_is_handed_out_after_a_stop():
    finished = []

    def action(ranks):
        def done(item, result):
            finished.append(item)
            return item < 5

        ranks.distribute(range(1000), lambda item: item, done)

    assert in_threads(3, action) == []
    assert len(finished) < 12


def test_all_hear_of_an_error_of_the_first():
    def find():
        raise InputError("no such thing", file="init_file.dat")

    errors = in_threads(3, lambda ranks: ranks.agree(find))
    assert [str(error) for error in errors] == ["init_file.dat: no such thing"] * 3
    answers = []
    assert in_threads(3, lambda ranks: answers.append(ranks.agree(lambda: ranks.rank))) == []
    assert answers == [0, 0, 0]


def test_a_process_alone_has_all_cores():
    assert Ranks().threads(1) == get_backend("numpy").threads


def test_launcher_of_another_mpi(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert Ranks.join().size == 1
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"stillsun\[mpi\]"):
        Ranks.join()


# --- under a real MPI

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
}


@pytest.fixture(scope="session")
def mpirun():
    """Start the program under the mpirun of this environment; skips visibly where there is none."""
    beside = Path(sys.executable).with_name("mpirun")
    launcher = str(beside) if beside.is_file() else shutil.which("mpirun")
    if launcher is None:
        pytest.skip("no mpirun (pip install 'stillsun[mpi]')")

    def start(count, command=COMMAND, **environment):
        return subprocess.run(
            [launcher, "-np", str(count), *command],
            env=os.environ | ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    reaches = "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2"
    trial = start(2, [sys.executable, "-c", reaches])
    if trial.returncode:
        pytest.skip(f"mpi4py does not work with {launcher}: {trial.stderr[-300:]}")
    return start


@pytest.mark.parametrize("count", [2, 4])
def test_same_bytes_with_any_number_of_processes(job, mpirun, count):
    run = mpirun(count)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(MARK) == len(BURSTS)
    assert f"{min(count, 3)} x " in run.stdout
    check_images(job)


def test_one_process_tied_to_one_core_takes_all(job, mpirun):
    run = mpirun(1, PRTE_MCA_hwloc_default_binding_policy="core")
    assert run.returncode == 0, run.stderr
    assert f"1 x {get_backend('numpy').threads} threads" in run.stdout
    check_images(job)
    again = mpirun(3)
    assert again.returncode == 0
    assert again.stdout.count("there already") == len(BURSTS)


def test_processes_tell_of_a_missing_burst(job, mpirun):
    job.burst_path(1).unlink()
    run = mpirun(2)
    assert run.returncode == 1
    assert str(job.burst_path(1)) in run.stderr
    check_images(job, [0, 2])


def test_wrong_parameters_are_told_by_one_process(job, mpirun):
    damage_method(job)
    run = mpirun(3)
    assert run.returncode == 2
    assert run.stderr.count("triple_correlation") == 1


@pytest.mark.parametrize("number", [0, 2])
def test_no_process_is_left_waiting(job, mpirun, number):
    # Hits whichever process takes this burst.
    (job.outputs / f"{job.output_form.name(number)}.ct").mkdir()
    run = mpirun(3)
    assert run.returncode == 1
    assert f"{number:03d}.ct" in run.stderr
