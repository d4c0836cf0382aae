"""The driver of the external program, against a program that fails in every way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stillsun.errors import ConfigError, ReconstructionError
from stillsun.speckle.kisip import process
from stillsun.speckle.kisip.mpi import make_bursts
from stillsun.speckle.kisip.outputs import read_final

SHAPE = (20, 30)


def check_images(job, numbers):
    for number in numbers:
        path = Path(f"{job.output_base(number)}.final")
        np.testing.assert_array_equal(read_final(path, *SHAPE), np.float32(number + 1))


def alive(pid):
    # The number of an ended process stays until its parent, which may be init, has asked for it.
    for _ in range(20):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def ranges(fakes, program):
    return [(int(call["first"]), int(call["last"])) for call in fakes.calls(program.bin)]


def test_all_bursts_in_one_run(fakes, fake_program, make_job):
    program, job = fake_program(), make_job(range(4))
    seen = []
    make_bursts(program, job, range(4), timeout=20, progress=lambda *n: seen.append(n), note=pytest.fail)
    check_images(job, range(4))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (4, 4)]
    assert ranges(fakes, program) == [(0, 3)]


def test_started_as_the_manual_says_and_the_caller_is_left_alone(fakes, fake_program, make_job, monkeypatch):
    program, job = fake_program(), make_job([0])
    monkeypatch.setenv("LD_LIBRARY_PATH", "/some/libraries")
    monkeypatch.chdir(job.directory.parent)
    before, here = dict(os.environ), Path.cwd()
    # Relative paths, as a user gives them.
    short = {n: getattr(job, n).relative_to(here) for n in ("directory", "bursts", "outputs", "noise")}
    program = replace(program, bin=program.bin.relative_to(here), lib=program.lib.relative_to(here))
    make_bursts(program, replace(job, **short), [0], timeout=20)
    check_images(job, [0])
    assert dict(os.environ) == before
    assert Path.cwd() == here
    (call,) = fakes.calls(program.bin)
    assert call["cwd"] == str(job.directory)
    assert call["np"] == "2"
    assert call["program"] == str(here / program.bin / "entry")
    assert call["path"] == f"{here / program.bin}:{before['PATH']}"
    assert call["library_path"] == f"{here / program.lib}:/some/libraries"
    assert call["base"] == str(job.bursts / "20250903_142152_gband_kisip.raw.batch.00")
    assert call["props"][:4] == ["30", "20", "3", "0"]


def test_environment_without_a_library_path(fake_program):
    program = fake_program()
    assert program.environment({"PATH": "/bin"}) == {
        "PATH": f"{program.bin}:/bin",
        "LD_LIBRARY_PATH": str(program.lib),
    }
    assert "LD_LIBRARY_PATH" not in replace(program, lib=None).environment({})


@pytest.mark.parametrize(
    ("fault", "told", "second"),
    [
        ({"kind": "exit", "status": 3}, "exit status 3", (2, 4)),
        ({"kind": "signal", "status": int(signal.SIGSEGV)}, "SIGSEGV", (2, 4)),
        ({"kind": "stop"}, "exit status 0", (2, 4)),
        ({"kind": "hang"}, "no progress", (2, 4)),
        ({"kind": "skip"}, "exit status 0", (2, 2)),
        ({"kind": "truncate"}, "exit status 0", (2, 2)),
        ({"kind": "no_subalpha"}, "exit status 0", (2, 2)),
    ],
)
def test_failed_once_only_what_is_missing_is_made_again(fakes, fake_program, make_job, fault, told, second):
    program, job = fake_program(burst=2, times=1, **fault), make_job(range(5))
    notes = []
    make_bursts(program, job, range(5), timeout=1.0, note=notes.append)
    check_images(job, range(5))
    assert ranges(fakes, program) == [(0, 4), second]
    (note,) = notes
    assert "burst 2 of 0 to 4" in note
    assert told in note


def test_first_burst_skipped_is_made(fakes, fake_program, make_job):
    program, job = fake_program(kind="skip", burst=0, times=1), make_job(range(3))
    make_bursts(program, job, range(3), timeout=20)
    check_images(job, range(3))
    assert ranges(fakes, program) == [(0, 2), (0, 0)]


def test_partial_batch_and_two_batches(fakes, fake_program, make_job):
    numbers = [3, 4, 998, 999, 1000, 1001]
    program, job = fake_program(), make_job(numbers)
    make_bursts(program, job, numbers, timeout=20)
    check_images(job, numbers)
    assert ranges(fakes, program) == [(3, 4), (998, 999), (0, 1)]
    assert fakes.calls(program.bin)[2]["output"].endswith("batch.01")


def test_finished_bursts_are_not_made_again(fakes, fake_program, make_job):
    program, job = fake_program(), make_job(range(4))
    make_bursts(program, job, [0, 1], timeout=20)
    Path(f"{job.output_base(1)}.final").write_bytes(b"1234")
    make_bursts(program, job, range(4), timeout=20)
    assert ranges(fakes, program) == [(0, 1), (1, 3)]
    check_images(job, range(4))
    make_bursts(program, job, range(4), timeout=20)
    assert len(fakes.calls(program.bin)) == 2


def test_non_utf8_output_is_read(fake_program, make_job, caplog):
    program, job = fake_program(kind="garbage", burst=1), make_job(range(2))
    with caplog.at_level("INFO"):
        make_bursts(program, job, range(2), timeout=20, note=pytest.fail)
    check_images(job, range(2))
    assert "subfield \ufffd\ufffd\ufffd r0 = 7" in caplog.text
    assert caplog.text.count("Master done!") == 2


def test_output_held_back_is_no_hang(fake_program, make_job):
    # No line ever comes, but files do: each burst takes its time, all together longer than the limit.
    program, job = fake_program(kind="quiet", delay=0.6), make_job(range(5))
    make_bursts(program, job, range(5), timeout=2.0, note=pytest.fail)
    check_images(job, range(5))


def test_one_bad_burst_does_not_stop_the_others(fakes, fake_program, make_job):
    program = fake_program(kind="signal", status=int(signal.SIGKILL), burst=1)
    job = make_job(range(4))
    with pytest.raises(ReconstructionError, match=r"1 of 4 bursts.*number 1.*SIGKILL") as caught:
        make_bursts(program, job, range(4), timeout=20, retries=1)
    assert "memory" in caught.value.remedy
    check_images(job, [0, 2, 3])
    assert ranges(fakes, program) == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("fault", "subfield", "cause", "runs"),
    [
        ({"kind": "signal", "status": int(signal.SIGSEGV)}, 12.0, "subfield of 12 arcsec", 3),
        ({"kind": "signal", "status": int(signal.SIGSEGV)}, 5.0, "memory", 3),
        ({"kind": "memory"}, 5.0, "memory", 3),
        ({"kind": "stop"}, 5.0, "memory, or an overloaded machine", 3),
        ({"kind": "library"}, 5.0, "library is missing", 1),
        ({"kind": "open", "status": 1}, 12.0, "Cause: burst 001: no such burst", 3),
        ({"kind": "open", "status": 2}, 5.0, "Cause: burst 001: no such burst", 1),
    ],
)
def test_failure_at_once_is_bounded_and_explained(
    fakes, fake_program, make_job, fault, subfield, cause, runs
):
    program, job = fake_program(**fault), make_job(range(3), subfield)
    with pytest.raises(ReconstructionError) as caught:
        make_bursts(program, job, range(3), timeout=20, retries=1)
    text = str(caught.value)
    assert "3 of 3 bursts" in text
    assert cause in text
    assert len(fakes.calls(program.bin)) == runs
    if fault["kind"] == "memory":
        assert "\n    malloc failed: Cannot allocate memory" in text


@pytest.fixture
def clock_of_lines(monkeypatch):
    """A second goes by with every line of the program, and hardly any else, on any machine."""
    seconds = [0.0]
    next_line = process._next_line

    def heard(lines):
        line, waiting = next_line(lines)
        seconds[0] += bool(line)
        return line, waiting

    def monotonic():
        seconds[0] += 1e-3
        return seconds[0]

    monkeypatch.setattr(process, "_next_line", heard)
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))


@pytest.mark.usefixtures("clock_of_lines")
def test_hang_is_stopped_with_all_its_processes(fakes, fake_program, make_job):
    program, job = fake_program(kind="hang"), make_job([0])
    with pytest.raises(
        ReconstructionError, match=r"(?s)no progress.*still thinking.*speckle.timeout"
    ) as caught:
        make_bursts(program, job, [0], timeout=5, retries=0)
    assert "\n" in str(caught.value)
    (call,) = fakes.calls(program.bin)
    assert not alive(call["pid"])


@pytest.mark.usefixtures("clock_of_lines")
def test_program_that_ignores_the_polite_signal_is_killed(fakes, fake_program, make_job, monkeypatch):
    monkeypatch.setattr("stillsun.speckle.kisip.process._GRACE", 0.02)
    program, job = fake_program(kind="hang", stubborn=True), make_job([0])
    with pytest.raises(ReconstructionError):
        make_bursts(program, job, [0], timeout=5, retries=0)
    (call,) = fakes.calls(program.bin)
    assert not alive(call["pid"])


def test_interrupted_caller_leaves_no_process(fakes, fake_program, make_job):
    program, job = fake_program(kind="hang", burst=1), make_job(range(2))

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_bursts(program, job, range(2), timeout=20, progress=interrupt)
    (call,) = fakes.calls(program.bin)
    assert not alive(call["pid"])


KILLED = """
import os, signal, sys
from pathlib import Path
from stillsun.speckle.kisip.process import run_process

# It says nothing more, so that a closed pipe does not end it.
program = "sleep 60 & echo $$ $! > pids; cat pids; wait"

def die(marks):
    os.kill(os.getpid(), signal.SIGKILL)

run_process(
    ["/bin/sh", "-c", program],
    Path(sys.argv[1]), os.environ, mark=" ", timeout=20, watch=int, on_mark=die,
)
"""


def test_killed_caller_leaves_no_process(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_missing_program_is_named_before_anything(fake_program, make_job):
    program, job = fake_program(), make_job([0])
    with pytest.raises(ConfigError, match=r"bin/other: .*speckle.kisip.bin"):
        make_bursts(replace(program, executable="other"), job, [0], timeout=20)
    with pytest.raises(ConfigError, match=r"bin/mpiexec: "):
        make_bursts(replace(program, mpirun="mpiexec"), job, [0], timeout=20)
    with pytest.raises(ConfigError, match=r"speckle.kisip.lib"):
        make_bursts(replace(program, lib=program.bin / "lib"), job, [0], timeout=20)


def test_program_that_cannot_run_is_an_error(fake_program, make_job):
    program, job = fake_program(), make_job([0])
    (program.bin / "mpirun").write_text("#!/no/such/shell\n")
    with pytest.raises(ReconstructionError, match=r"cannot be started.*speckle.kisip.bin"):
        make_bursts(program, job, [0], timeout=20)


def test_header_offset_is_written_and_told(fakes, fake_program, make_job):
    program, job = fake_program(), make_job([0], offset=2880)
    make_bursts(program, job, [0], timeout=20)
    check_images(job, [0])
    assert fakes.calls(program.bin)[0]["props"][3] == "2880"
