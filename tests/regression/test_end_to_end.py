"""From raw files to FITS on a simulated observation: truth, reuse, sweeps, kills, faults."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits
from tests.regression.conftest import products, reduce

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.io.store import StoreReader, part_progress
from stillsun.synth.observation import simulate
from stillsun.synth.settings import SimulationSettings

CHANNELS = ("ROSA_GBAND", "HARDCAM")
BURSTS = 5
TO_EXPORT = "stages=[calibrate,assemble,speckle,destretch,register,align,export]"


def _compare(script, simulated, work):
    file = f"observation_file={simulated / 'observation.yaml'}"
    settings = load_settings([file, f"observation.work_dir={work}"])
    with h5py.File(simulated / "truth.h5") as truth:
        return {c: script.compare(settings, c, truth[c]) for c in settings.channels}


def test_products_are_sharper_and_steadier_than_the_raw_frames(simulated, reduced, truth_script):
    for result in _compare(truth_script, simulated, reduced).values():
        assert result.correlation["final"] > 0.95
        assert result.correlation["final"] > result.correlation["raw frame"] + 0.05
        assert result.contrast["final"] > 1.3 * result.contrast["raw frame"]
        assert result.contrast["final"] == pytest.approx(result.contrast["truth"], rel=0.4)
        assert result.motion_final < 0.2
        assert result.motion_raw > 1.0


def test_every_name_that_archives_look_for_is_there(reduced):
    for channel in CHANNELS:
        for name in ("calibration.h5", "bursts.h5", "speckle.h5", "destretch.h5", "registration.h5"):
            assert (reduced / channel / name).is_file()
        assert len(list((reduced / channel / "splineDestretch").glob("*.fits"))) == BURSTS
        assert (reduced / channel / f"{channel}_dark.fits").is_file()
        assert (reduced / "context_movies" / f"{channel}.mp4").stat().st_size > 1000
    assert (reduced / "report" / "index.html").is_file()
    assert f'"numpy": "{np.__version__}"' in (reduced / "stillsun.log").read_text()
    assert (reduced / ".hydra" / "config.yaml").is_file()
    assert not list(reduced.rglob("*.part"))


def test_every_dataset_of_the_stores_is_in_the_documentation(reduced):
    document = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    names = [(name, "/") for name in ("calibration", "bursts", "speckle", "destretch")]
    sections = [("ROSA_GBAND", *n) for n in (*names, ("registration", "register"), ("registration", "align"))]
    for channel, name, group in [*sections, ("HARDCAM", "registration", "register")]:
        with StoreReader(reduced / channel / f"{name}.h5", group) as store:
            for dataset in store.names():
                field = store.describe(dataset)
                assert field.meaning
                row = f"| `{dataset}` | {'yes' if field.stack else ''} | {field.dtype} |"
                assert row in document, dataset


def test_files_load_without_a_warning_at_the_right_time_and_place(simulated, reduced):
    with h5py.File(simulated / "truth.h5") as truth:
        start = np.datetime64(truth.attrs["start"])
        true_place = truth.attrs["pointing_arcsec"]
        offset = truth.attrs["pointing_error_arcsec"]
        times = {c: truth[c]["time"][...] for c in CHANNELS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for channel in CHANNELS:
            files = sorted((reduced / channel / "splineDestretch").glob("*.fits"))
            for number, file in enumerate(files):
                chart = sunpy.map.Map(file)
                frames = times[channel][12 * number : 12 * number + 12]
                expected = start + np.timedelta64(round(1e6 * frames.mean()), "us")
                assert abs(chart.reference_date.datetime64 - expected) <= np.timedelta64(2, "ms")
                centre = np.array([chart.center.Tx.value, chart.center.Ty.value])
                # The log is off by a known amount; the channels' own offsets are below an arcsec.
                assert np.abs(centre - true_place - offset).max() < 1.5
                with fits.open(file, checksum=True) as hdus:
                    assert len(hdus) == 1
                    assert hdus[0].data.dtype == np.dtype(">f4")
                    missing = np.isnan(hdus[0].data)
                    assert missing.sum() == hdus[0].header["NMASKPIX"] < 0.1 * missing.size
                    # What comes from nowhere lies at the rim.
                    assert not missing[20:-20, 20:-20].any()


def test_a_second_run_does_nothing(simulated, work):
    before = products(work)
    assert len(before) > 20
    assert reduce(simulated, work) == 0
    assert products(work) == before


def test_other_kernels_redo_destretch_and_what_follows(simulated, work):
    before = products(work)
    assert reduce(simulated, work, "destretch.kernels=[0,64,32]") == 0
    after = products(work)
    changed = {name for name in before if before[name] != after[name]}
    for channel in CHANNELS:
        assert f"{channel}/destretch.h5" in changed
        assert f"{channel}/calibration.h5" not in changed
        assert f"{channel}/speckle.h5" not in changed
        assert sum(n.startswith(f"{channel}/splineDestretch/") for n in changed) == BURSTS
    assert "report/index.html" in changed


def test_what_the_guider_means_redoes_no_reconstruction(simulated, reduced, capsys):
    assert reduce(simulated, reduced, "plan=true", "observation.telescope.guider_sign=-1") == 0
    done = _planned(capsys)
    assert done["ROSA_GBAND/speckle"] == done["HARDCAM/destretch"] == "reuse"
    assert done["ROSA_GBAND/align"] == done["HARDCAM/export"] == "make"


def test_another_telescope_log_redoes_no_reconstruction(simulated, reduced, capsys):
    assert reduce(simulated, reduced, "plan=true", "observation.telescope_log=null") == 0
    done = _planned(capsys)
    assert done["ROSA_GBAND/assemble"] == done["ROSA_GBAND/align"] == done["HARDCAM/export"] == "make"
    assert done["ROSA_GBAND/speckle"] == done["HARDCAM/destretch"] == done["HARDCAM/register"] == "reuse"


def test_another_target_redoes_no_reconstruction(simulated, work, capsys):
    before = products(work)
    keys = (
        "observation.channels.HARDCAM.target.pattern=null",
        "stages=[calibrate,assemble,speckle,destretch,register]",
    )
    assert reduce(simulated, work, "plan=true", *keys) == 0
    done = _planned(capsys)
    assert done["HARDCAM/calibrate"] == "make"
    assert done["HARDCAM/speckle"] == done["ROSA_GBAND/calibrate"] == "reuse"
    assert reduce(simulated, work, *keys) == 0
    after = products(work)
    assert {name for name in before if before[name] != after.get(name)} == {
        "HARDCAM/calibration.h5",
        "HARDCAM/register.png",
        "HARDCAM/registration.h5",
    }


def _planned(capsys):
    return dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if "/" in line)


def test_a_channel_that_follows_the_reference_channel(tmp_path, truth_script):
    channels = ("ROSA_GBAND", "ROSA_4170")
    settings = SimulationSettings.preset("tiny", channels, bursts=5, frames_per_burst=12, seed=3)
    simulate(tmp_path / "observation", settings)
    work = tmp_path / "work"
    assert reduce(tmp_path / "observation", work, TO_EXPORT) == 0
    before = products(work)
    own = _compare(truth_script, tmp_path / "observation", work)["ROSA_4170"]
    assert reduce(tmp_path / "observation", work, "destretch.follow_reference=true", TO_EXPORT) == 0
    changed = {n for n, v in products(work).items() if before.get(n) != v}
    assert "ROSA_4170/destretch.h5" in changed
    assert not {n for n in changed if n.startswith("ROSA_GBAND") or n.endswith(("bursts.h5", "speckle.h5"))}
    with StoreReader(work / "ROSA_4170" / "destretch.h5") as store:
        assert store.attributes["reference"] == "followed"
        np.testing.assert_array_equal(store.read("followed"), range(5))
    followed = _compare(truth_script, tmp_path / "observation", work)["ROSA_4170"]
    assert own.motion_final < followed.motion_final < 0.2 * followed.motion_raw
    header = fits.getheader(next((work / "ROSA_4170" / "splineDestretch").glob("*.fits")))
    steps = {header[c]: str(header.get(c.replace("STEP", "PARA"))) for c in header if c.startswith("PRSTEP")}
    assert "follow_reference=True" in steps["DESTRETCHING"]


def test_a_sweep_runs_all_and_keeps_all(simulated, work):
    before = products(work)
    kernels = ("[0,64,32]", "[0,128,64,32]")
    stages = "stages=[calibrate,assemble,speckle,destretch]"
    assert reduce(simulated, work, stages, "-m", f"destretch.kernels={','.join(kernels)}") == 0
    assert {n: v for n, v in products(work).items() if not n.startswith("multirun")} == before
    for choice in kernels:
        (job,) = (work / "multirun").glob(f"destretch.kernels={choice.replace('[', '[[]')}*")
        for channel in CHANNELS:
            with StoreReader(job / channel / "destretch.h5") as store:
                options = json.loads(store.attributes["config"])
                assert options["kernels"] == json.loads(choice)
                assert store.done().all()
    with (work / "multirun" / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["job"], r["channel"]) for r in rows} == {
        (f"destretch.kernels={k}", c) for k in kernels for c in CHANNELS
    }
    assert all(0 < float(r["score"]) < 1 for r in rows)
    assert (work / "multirun" / "comparison.png").stat().st_size > 5000


def test_jobs_of_a_sweep_have_no_movie_and_report_but_where_these_are_meant(simulated, work, capsys):
    kernels = "destretch.kernels=[0,64,32],[0,128,64,32]"
    for keys, expected in (
        ((kernels,), 0),
        ((kernels, "stages=[destretch,report]"), 2),
        (("report.picture_size=160,200",), 2),
    ):
        assert reduce(simulated, work, "plan=true", "-m", *keys) == 0
        made = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
        assert made.count(["movie", "make"]) + made.count(["report", "make"]) == expected


def test_what_is_left_out_of_date_is_said_by_the_run_and_by_the_status(simulated, work, capsys):
    assert reduce(simulated, work, "stages=[align]", "align=none", "channels=[ROSA_GBAND]") == 0
    end = capsys.readouterr().err.splitlines()[-1]
    assert end.startswith(
        "1 tasks done, 0 up to date, 8 taken as they are; out of date until their stages are"
    )
    assert end.partition("; log")[0].endswith(" run: ROSA_GBAND/export, movie, report")
    assert "; report: " not in end
    assert main(["status", str(work)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^movie +stale$", told, re.MULTILINE)
    assert re.search(r"^report +stale$", told, re.MULTILINE)


def test_the_ready_made_sweep_compares_kernels(simulated, work, capsys):
    stages = "stages=[calibrate,assemble,speckle,destretch]"
    assert reduce(simulated, work, stages, "channels=[HARDCAM]", "-m", "experiment=kernel_sweep") == 0
    table = capsys.readouterr().out
    assert len(re.findall(r"destretch\.kernels=\[[0-9,]+\]$", table, re.MULTILINE)) == 4
    assert (work / "multirun" / "comparison.csv").is_file()


def test_the_same_input_gives_the_same_bytes(simulated, reduced, tmp_path):
    assert (
        reduce(simulated, tmp_path / "again", "stages=[calibrate,assemble,speckle,destretch,register,align]")
        == 0
    )
    first, second = products(reduced), products(tmp_path / "again")
    names = [n for n in second if n.endswith(".h5")]
    assert len(names) == 10
    assert {n: second[n][0] for n in names} == {n: first[n][0] for n in names}


def test_dask_gives_the_same_bytes(simulated, reduced, tmp_path, capfd):
    pytest.importorskip("distributed")
    options = ("executor=dask", "executor.workers=2", "stages=[calibrate,assemble,speckle,destretch]")
    assert reduce(simulated, tmp_path / "dask", *options) == 0
    # What a worker notes is told once, here and in the log.
    note = "do not fill a burst of 12"
    assert capfd.readouterr().err.count(note) == 1
    assert (tmp_path / "dask" / "stillsun.log").read_text().count(note) == 1
    first, second = products(reduced), products(tmp_path / "dask")
    assert len(second) == 8
    assert {n: v[0] for n, v in second.items()} == {n: first[n][0] for n in second}


KILLED = """
import os, signal, sys
from stillsun.cli import main
from stillsun.io.store import StoreWriter

mark, target = StoreWriter.mark, sys.argv[1]

def killing(self, *place):
    mark(self, *place)
    if self.path.name == target and self.done().sum() == 2:
        os.kill(os.getpid(), signal.SIGKILL)

StoreWriter.mark = killing
main(sys.argv[2:])
"""


@pytest.mark.parametrize("stage", ["speckle", "destretch"])
def test_killed_and_run_again(simulated, reduced, tmp_path, stage):
    work = tmp_path / "killed"
    file = f"{stage}.h5"
    arguments = [
        file,
        "run",
        f"observation_file={simulated / 'observation.yaml'}",
        f"observation.work_dir={work}",
        "backend=numpy",
        "stages=[calibrate,assemble,speckle,destretch]",
    ]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert part_progress(work / "ROSA_GBAND" / file) == (2, BURSTS)
    assert not (work / "ROSA_GBAND" / file).exists()
    assert reduce(simulated, work, "stages=[calibrate,assemble,speckle,destretch]") == 0
    first, second = products(reduced), products(work)
    assert {n: v[0] for n, v in second.items()} == {n: first[n][0] for n in second}
    assert f"goes on, 2 of {BURSTS} rows are done" in (work / "stillsun.log").read_text()


def test_tile_aligned_mean(simulated, tmp_path, truth_script):
    assert reduce(simulated, tmp_path / "none", "speckle=none", TO_EXPORT, "channels=[ROSA_GBAND]") == 0
    with StoreReader(tmp_path / "none" / "ROSA_GBAND" / "speckle.h5") as store:
        assert np.isnan(store.read("r0")).all()
        assert np.isfinite(store.read("image")).all()
    header = fits.getheader(next((tmp_path / "none" / "ROSA_GBAND" / "splineDestretch").glob("*.fits")))
    assert "SPECKLE-DECONVOLUTION" not in [header[k] for k in header if k.startswith("PRSTEP")]
    assert "SPKLALPH" not in header


def test_external_program(simulated, tmp_path, fakes):
    program = tmp_path / "kisip" / "bin"
    fakes.install(program)
    work = tmp_path / "kisip-work"
    options = ("speckle=kisip", f"speckle.kisip.bin={program}", TO_EXPORT)
    assert reduce(simulated, work, *options) == 0
    for channel in CHANNELS:
        assert not list((work / channel / "preSpeckle").glob("*batch*"))
        assert len(list((work / channel / "splineDestretch").glob("*.fits"))) == BURSTS


def test_plan_writes_nothing(simulated, tmp_path, capsys):
    assert reduce(simulated, tmp_path / "plan", "plan=true") == 0
    text = capsys.readouterr().out
    assert "ROSA_GBAND/calibrate" in text
    assert "HARDCAM/export" in text
    assert not list((tmp_path).rglob("*.h5"))
    assert not (tmp_path / "plan").exists()


def test_cupy_without_a_gpu_is_one_clear_line(simulated, tmp_path, capsys):
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            pytest.skip("there is a GPU")
    except Exception:
        pass
    assert reduce(simulated, tmp_path / "gpu", "backend=cupy") == 2
    text = capsys.readouterr().err
    assert text.startswith("stillsun: backend=cupy")
    assert len(text.splitlines()) == 1
    assert not (tmp_path / "gpu").exists()


def test_auto_says_what_it_took(simulated, tmp_path):
    assert reduce(simulated, tmp_path / "auto", "backend=auto", "stages=[calibrate]") == 0
    assert "backend numpy: CPU" in (tmp_path / "auto" / "stillsun.log").read_text()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["observation.raw_dir=/nowhere"], ["/nowhere", "observation.raw_dir"]),
        (
            [
                "observation.channels.HARDCAM.data.pattern=*.none",
                "observation.channels.ROSA_GBAND.flat.pattern=*.none",
            ],
            ["HARDCAM.data.pattern", "ROSA_GBAND.flat.pattern", "*.none"],
        ),
        (["observation.telescope_log=/nowhere.txt"], ["/nowhere.txt", "telescope_log"]),
        (
            ["destretch.kernel=[0]", "speckle=kiss"],
            ["did you mean kernels?", "allowed: fits, kisip, masking, none"],
        ),
        (["stages=[export]"], ["export", "needs the product"]),
    ],
)
def test_faults_are_named_before_any_work(simulated, tmp_path, capsys, overrides, expected):
    assert reduce(simulated, tmp_path / "faulty", *overrides) == 2
    text = capsys.readouterr().err
    for part in expected:
        assert part in text
    assert not (tmp_path / "faulty").exists()


def test_a_damaged_raw_file_is_named_and_nothing_half_written_looks_finished(simulated, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(simulated, damaged)
    file = sorted((damaged / "level0" / "das1").glob("das1_rosa_2025-09-03_14.21.52_*.fit"))[-1]
    file.write_bytes(file.read_bytes()[:-30000])
    raw = f"observation.raw_dir={damaged / 'level0'}"
    assert reduce(simulated, tmp_path / "work", raw, TO_EXPORT) == 1
    text = capsys.readouterr().err
    assert text.count(file.name) == text.count("truncated") == 1
    assert "ROSA_GBAND/assemble failed" in text
    log = (tmp_path / "work" / "stillsun.log").read_text()
    assert f"ROSA_GBAND/assemble failed: {file}" in log
    assert not list((tmp_path / "work" / "ROSA_GBAND").rglob("*destretch*"))
    # The other channel is finished.
    assert len(list((tmp_path / "work" / "HARDCAM" / "splineDestretch").glob("*.fits"))) == BURSTS


@pytest.mark.real
@pytest.mark.slow
def test_an_observation_of_a_real_frame(real_frame_path, tmp_path, truth_script):
    settings = SimulationSettings.preset(
        "tiny", ["ROSA_GBAND"], scene=real_frame_path("gband"), bursts=4, frames_per_burst=24
    )
    simulate(tmp_path / "real", settings)
    assert reduce(tmp_path / "real", tmp_path / "work", TO_EXPORT) == 0
    (result,) = _compare(truth_script, tmp_path / "real", tmp_path / "work").values()
    assert result.correlation["final"] > 0.93
    # Of what lacks in the raw frame, which adaptive optics leave little of, most is there again.
    assert 1 - result.correlation["final"] < 0.4 * (1 - result.correlation["raw frame"])
    assert result.contrast["final"] > 1.3 * result.contrast["raw frame"]
    assert result.motion_final < 0.3


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stillsun", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("stillsun ")
    assert Path(tmp_path).is_dir()
