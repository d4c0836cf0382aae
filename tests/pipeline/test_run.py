"""Plan and execution with toy stages: what is made, reused, forced, resumed, and what a failure stops."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import re
import runpy
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillsun.config.compose import load_settings
from stillsun.config.schema import StageName
from stillsun.core.backend import get_backend
from stillsun.errors import InputError, StillsunError
from stillsun.io.store import Field, StoreReader
from stillsun.pipeline import session, work
from stillsun.pipeline.places import Places, Workspace, changed_by
from stillsun.pipeline.plan import Action, make_plan
from stillsun.pipeline.record import is_alive, read_record, required_record
from stillsun.pipeline.run import execute
from stillsun.products.calibration import Calibration
from stillsun.products.destretched import Destretched
from stillsun.products.registration import Registration
from stillsun.stages.base import Stage
from stillsun.stages.registry import all_stages, check_wiring

ROWS = 4
COMMAND = "stillsun run observation_file=observation.yaml"


def _calibrate(ctx):
    with ctx.create(1, {"dark": Field((3,), "float32", stack=False)}) as store:
        store.write("dark", [1, 2, 3])
        store.mark(0)


def _destretch(ctx):
    if ctx.settings.filter == "broken":
        raise InputError("broken on purpose", remedy="None")
    offset = ctx.calibration.dark[0] + len(ctx.config.kernels)
    ctx.note("kernels were counted")
    with ctx.create(ROWS, {"image": Field((5,), "float32")}) as store:
        for row in np.flatnonzero(~store.done()):
            if ctx.settings.filter == "stops" and row == 2:
                raise RuntimeError("stopped")
            store.write("image", np.full(5, offset + row), row)
            store.mark(row)
            ctx.progress(row + 1, ROWS)


def _export(ctx):
    ctx.paths.destretched.mkdir(parents=True, exist_ok=True)
    files = []
    for row in range(ROWS):
        path = ctx.paths.destretched / f"{row}.txt"
        path.write_text(str(ctx.destretched.image(row)))
        files.append(path)
    return files


def _report(ctx):
    path = ctx.work / "report.json"
    found = {name: sorted(channel.products) for name, channel in ctx.channels.items()}
    notes = {k: list(v) for k, v in ctx.told.items()}
    path.write_text(json.dumps({"channels": found, "notes": notes, "failed": ctx.failed}))
    return [path]


STAGES = {
    "calibrate": Stage("calibrate", 1, _calibrate, writes=Calibration, raw=("dark",)),
    "destretch": Stage(
        "destretch",
        1,
        _destretch,
        writes=Destretched,
        reads=(Calibration,),
        settings=("filter",),
        ignores=("window",),
    ),
    "export": Stage("export", 1, _export, reads=(Destretched,), observation=("author",)),
    "report": Stage("report", 1, _report, optional=(Destretched,), per_observation=True),
}


@pytest.fixture
def observation(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for channel in "AB":
        (raw / f"{channel}_dark.fit").write_text("dark")
        (raw / f"{channel}_data.fit").write_text("data")
    channels = "\n".join(
        f"  {c}: {{wavelength_nm: 430, plate_scale: [0.1, 0.1], exposure_ms: 10, "
        f'data: {{pattern: "{c}_data*"}}, dark: {{pattern: "{c}_dark*"}}}}'
        for c in "AB"
    )
    path = tmp_path / "observation.yaml"
    path.write_text(f"raw_dir: {raw}\nwork_dir: {tmp_path / 'work'}\nchannels:\n{channels}\n")
    return path


def _go(observation, *overrides, stages=STAGES, job=None):
    settings = load_settings([f"observation_file={observation}", *overrides])
    chosen = [s for s in settings.run.stages if s.name in stages]
    settings = replace(settings, run=replace(settings.run, stages=chosen))
    backend = get_backend("numpy")
    changed = changed_by(list(overrides), stages) if job else frozenset()
    space = Workspace(Path(settings.run.observation.work_dir), job, lambda stage: stage.name in changed)
    plan = make_plan(settings, stages, space, backend.name)
    if plan.findings:
        return plan, None
    return plan, execute(plan, settings, space, backend, bars=False, command=COMMAND)


def _bytes(directory):
    return {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.rglob("*") if p.suffix in (".h5", ".txt")
    }


def test_everything_is_made_and_then_reused(observation, tmp_path):
    _, outcome = _go(observation)
    assert len(outcome.made) == 7
    assert not outcome.failed
    before = _bytes(tmp_path / "work")
    assert len(before) == 2 * (2 + ROWS)
    plan, outcome = _go(observation)
    assert outcome.made == []
    assert all(t.action is Action.reuse for t in plan.tasks)
    assert _bytes(tmp_path / "work") == before


def test_a_changed_option_redoes_its_stage_and_what_follows(observation, tmp_path):
    _go(observation)
    _, outcome = _go(observation, "destretch.kernels=[0,64]")
    assert sorted(outcome.made) == ["A/destretch", "A/export", "B/destretch", "B/export", "report"]
    with StoreReader(tmp_path / "work" / "A" / "destretch.h5") as store:
        assert store.read("image", 0)[0] == 3
        assert store.notes == ["kernels were counted"]


def test_an_option_that_does_not_matter_redoes_nothing(observation):
    _go(observation)
    assert _go(observation, "destretch.window=3")[1].made == []


def test_a_part_of_the_observation_redoes_only_who_names_it(observation):
    stages = {
        **STAGES,
        "destretch": replace(STAGES["destretch"], observation=("telescope.diameter_mm",)),
        "export": replace(STAGES["export"], observation=("telescope",)),
    }
    _go(observation, stages=stages)
    made = _go(observation, "observation.telescope.guider_sign=-1", stages=stages)[1].made
    assert sorted(made) == ["A/export", "B/export"]
    made = _go(observation, "observation.telescope.diameter_mm=500", stages=stages)[1].made
    assert "A/destretch" in made


def test_what_stands_beside_the_frames_redoes_only_who_reads_it(observation, tmp_path):
    stages = {
        **STAGES,
        "calibrate": replace(
            STAGES["calibrate"], files=("telescope_log",), frame_independent_files=("telescope_log",)
        ),
        "destretch": replace(STAGES["destretch"], uses_frames_only=(Calibration,)),
        "export": replace(STAGES["export"], reads=(Destretched, Calibration)),
    }
    logs = []
    for number in range(2):
        path = tmp_path / f"{number}.log"
        path.write_text("x" * number)
        logs.append(f"observation.telescope_log={path}")
    _go(observation, logs[0], stages=stages)
    made = _go(observation, logs[1], stages=stages)[1].made
    assert sorted(made) == ["A/calibrate", "A/export", "B/calibrate", "B/export"]
    assert _go(observation, logs[1], "stages=[destretch]", stages=stages)[1].made == []
    # New frames, with a new log or without: everything follows.
    (tmp_path / "raw" / "A_dark.fit").write_text("another dark")
    made = _go(observation, logs[0], "channels=[A]", stages=stages)[1].made
    assert made == ["A/calibrate", "A/destretch", "A/export", "report"]
    made = _go(observation, logs[1], "force=[calibrate]", "channels=[A]", stages=stages)[1].made
    assert made == ["A/calibrate", "A/destretch", "A/export", "report"]


def test_a_missing_file_is_named_with_its_key_and_nothing_follows_from_it(observation):
    named = {
        **STAGES,
        "calibrate": replace(STAGES["calibrate"], files=("telescope_log",)),
        "destretch": replace(STAGES["destretch"], reads_reference=(Calibration,)),
    }
    plan, _ = _go(observation, "observation.telescope_log=/nowhere.txt", stages=named)
    assert set(plan.findings) == {
        "/nowhere.txt: observation.telescope_log: no such file. Correct the path or set the key to null"
    }


def test_force_and_changed_raw_files_and_versions_redo(observation, tmp_path):
    _go(observation)
    assert sorted(_go(observation, "force=[export]")[1].made) == ["A/export", "B/export"]
    (tmp_path / "raw" / "B_dark.fit").write_text("another dark")
    assert sorted(_go(observation)[1].made) == ["B/calibrate", "B/destretch", "B/export", "report"]
    newer = {**STAGES, "export": replace(STAGES["export"], version=2)}
    assert sorted(_go(observation, stages=newer)[1].made) == ["A/export", "B/export"]


def test_what_follows_from_a_forced_stage_is_made_in_a_later_run(observation, tmp_path):
    stages = {**STAGES, "destretch": replace(STAGES["destretch"], reads_reference=(Calibration,))}
    _go(observation, stages=stages)
    only = ("force=[calibrate]", "stages=[calibrate]", "channels=[A]")
    assert _go(observation, *only, stages=stages)[1].made == ["A/calibrate"]
    plan, _ = _go(observation, "stages=[export]", "channels=[B]", stages=stages)
    assert [t.name for t in plan.tasks if t.action is Action.make] == ["B/export"]
    made = _go(observation, stages=stages)[1].made
    assert sorted(made) == ["A/destretch", "A/export", "B/destretch", "B/export", "report"]
    assert _go(observation, stages=stages)[1].made == []
    assert not list((tmp_path / "work").rglob("*.redo"))


def test_a_forced_stage_that_was_stopped_is_done_by_the_next_run(observation, tmp_path):
    def stop(ctx):
        raise RuntimeError("stopped")

    _go(observation)
    stopped = {**STAGES, "destretch": replace(STAGES["destretch"], run=stop)}
    assert "A/destretch" in _go(observation, "force=[calibrate]", stages=stopped)[1].failed
    assert sorted(_go(observation)[1].made) == [
        "A/destretch",
        "A/export",
        "B/destretch",
        "B/export",
        "report",
    ]
    assert _go(observation)[1].made == []


def test_a_lost_or_cut_file_is_made_again(observation, tmp_path):
    _go(observation)
    (tmp_path / "work" / "A" / "splineDestretch" / "2.txt").unlink()
    assert _go(observation)[1].made == ["A/export"]
    (tmp_path / "work" / "B" / "destretch.h5").write_bytes(b"cut")
    assert sorted(_go(observation)[1].made) == ["B/destretch", "B/export", "report"]


def test_a_failure_stops_what_follows_but_not_the_other_channel(observation, tmp_path):
    _, outcome = _go(observation, "observation.channels.A.filter=broken")
    assert set(outcome.failed) == {"A/destretch"}
    assert outcome.skipped == ["A/export"]
    assert "B/export" in outcome.made
    report = json.loads((tmp_path / "work" / "report.json").read_text())
    assert report["channels"] == {"A": [], "B": ["destretch"]}
    assert report["failed"]["A/destretch"].startswith("broken on purpose")
    manifest = json.loads((tmp_path / "work" / ".stillsun" / "manifest.json").read_text())
    assert manifest["tasks"]["A/destretch"]["state"] == "failed"
    assert manifest["tasks"]["A/export"]["state"] == "skipped"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"work/A: no room.*Make room"),
        (
            OSError(errno.ENOSPC, "x (file write failed: filename = '/w/a.h5', errno = 28)"),
            r"^/w/a\.h5: no room",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/raw/a.fit"), r"^/raw/a\.fit: not allowed"),
        (OSError(errno.EIO, "Input/output error", "/raw/a.fit"), r"^/raw/a\.fit: cannot be read"),
        (RuntimeError("x (file write failed: filename = '/w/a.h5', errno = 28)"), r"^/w/a\.h5: no room"),
        (MemoryError("Unable to allocate 9 GiB"), r"out of memory; found Unable to allocate 9 GiB"),
    ],
)
def test_what_the_machine_refuses_is_said_in_words(observation, error, said):
    def refused(ctx):
        raise error

    stages = {**STAGES, "destretch": replace(STAGES["destretch"], run=refused)}
    _, outcome = _go(observation, "channels=[A]", stages=stages)
    assert isinstance(outcome.failed["A/destretch"], StillsunError)
    assert re.search(said, str(outcome.failed["A/destretch"]))


KERNEL = """
from numba import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""


def test_a_damaged_kernel_is_named(observation, tmp_path):
    (tmp_path / "kernel.py").write_text(KERNEL)

    def run(ctx):
        runpy.run_path(str(tmp_path / "kernel.py"))["double"](ctx.settings.exposure_ms)
        return _destretch(ctx)

    stages = {**STAGES, "destretch": replace(STAGES["destretch"], run=run)}
    assert not _go(observation, "channels=[A]", stages=stages)[1].failed
    (index,) = tmp_path.rglob("*.nbi")
    index.write_bytes(b"")
    _, outcome = _go(observation, "channels=[A]", "force=[destretch]", stages=stages)
    assert f"{index.parent}: a compiled kernel" in str(outcome.failed["A/destretch"])


def test_a_record_that_cannot_be_written_stops_nothing(observation, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stillsun.pipeline.record.write_json", full)
    _, outcome = _go(observation, "channels=[A]")
    assert not outcome.failed
    assert "the record of the run cannot be written" in caplog.text


@pytest.mark.parametrize("work", [True, False])
def test_a_disk_that_is_full_elsewhere_is_not_taken_for_that_of_the_results(
    observation, tmp_path, monkeypatch, work
):
    def refused(ctx):
        raise OSError(errno.ENOSPC, "No space left on device")

    def usage(path):
        full = Path(path).is_relative_to(tmp_path / "work") == work
        return shutil._ntuple_diskusage(1 << 40, 0, 0 if full else 1 << 39)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    stages = {**STAGES, "destretch": replace(STAGES["destretch"], run=refused)}
    said = str(_go(observation, "channels=[A]", stages=stages)[1].failed["A/destretch"])
    place, remedy = ("work/A", "observation.work_dir") if work else ("home/.cache", "XDG_CACHE_HOME")
    assert said.startswith(f"{tmp_path / place}: no room")
    assert remedy in said


def test_a_full_place_of_compiled_kernels_is_named(observation, tmp_path, monkeypatch):
    (tmp_path / "kernel.py").write_text(KERNEL)

    def refused(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def run(ctx):
        runpy.run_path(str(tmp_path / "kernel.py"))["double"](ctx.settings.exposure_ms)

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", refused)
    stages = {**STAGES, "destretch": replace(STAGES["destretch"], run=run)}
    said = str(_go(observation, "channels=[A]", stages=stages)[1].failed["A/destretch"])
    assert "__pycache__: no room" in said
    assert "NUMBA_CACHE_DIR" in said


def test_a_scheduler_that_is_gone_is_said(observation, monkeypatch):
    def cancelled(*_):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    monkeypatch.setattr("stillsun.pipeline.executors._Inline.submit", cancelled)
    _, outcome = _go(observation, "channels=[A]")
    assert "scheduler" in str(outcome.failed["A/calibrate"])


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "[" * 100_000, "\xff", '{"tasks": []}', '{"tasks": {"a": 1}}',
     '{"tasks": {"A/export": {"notes": 3}}}', '{"tasks": {}, "is_job": false}'],
)  # fmt: skip
def test_a_damaged_record_is_named_and_stops_no_run(observation, tmp_path, damage):
    _go(observation, "channels=[A]")
    layout = Places(tmp_path / "work")
    layout.manifest.write_text(damage, encoding="latin-1")
    with pytest.raises(
        InputError, match=r"manifest\.json: the record of the runs is damaged|no run has been here"
    ):
        required_record(layout)
    assert not _go(observation, "channels=[A]", "force=[export]")[1].failed
    assert required_record(layout)["tasks"]["A/export"]["state"] == "done"


def test_a_stamp_that_is_none_is_made_again(observation, tmp_path):
    _go(observation, "channels=[A]")
    for text in ("[]", "3", '{"files": 3}', ""):
        (tmp_path / "work" / ".stillsun" / "A.export.json").write_text(text)
        (tmp_path / "work" / ".stillsun" / "manifest.json").write_text(text)
        assert "A/export" in _go(observation, "channels=[A]")[1].made


def test_a_stopped_stage_goes_on_where_it_was(observation, tmp_path):
    work = tmp_path / "work" / "A"
    _, outcome = _go(observation, "observation.channels.A.filter=stops", "channels=[A]")
    assert set(outcome.failed) == {"A/destretch"}
    assert not (work / "destretch.h5").exists()
    with StoreReader(work / "destretch.h5.part") as store:
        np.testing.assert_array_equal(store.done(), [1, 1, 0, 0])


def test_unselected_stages_are_taken_as_they_are(observation, tmp_path):
    plan, outcome = _go(observation, "stages=[destretch]")
    assert outcome is None
    assert "destretch of A needs the product 'calibration' of A" in plan.findings[0]
    _go(observation)
    (tmp_path / "raw" / "A_dark.fit").unlink()
    plan, outcome = _go(observation, "stages=[destretch]", "destretch.kernels=[0,64]")
    assert sorted(outcome.made) == ["A/destretch", "B/destretch"]
    assert plan.lookup("calibrate", "A").action is Action.take


def test_jobs_of_a_sweep_share_what_they_do_not_change(observation, tmp_path):
    work = tmp_path / "work"
    results = {}
    for kernels in ("[0,64]", "[0,128,64]"):
        job = work / "multirun" / kernels
        _, outcome = _go(observation, f"destretch.kernels={kernels}", job=job)
        results[kernels] = outcome.made
        with StoreReader(job / "A" / "destretch.h5") as store:
            assert store.read("image", 0)[0] == 1 + len(json.loads(kernels))
    assert "A/calibrate" in results["[0,64]"]
    assert "A/calibrate" not in results["[0,128,64]"]
    assert (work / "A" / "calibration.h5").is_file()
    assert not (work / "A" / "destretch.h5").exists()
    assert _go(observation, "destretch.kernels=[0,64]", job=work / "multirun" / "[0,64]")[1].made == []
    assert "A/calibrate" not in _go(observation)[1].made


def test_a_job_keeps_its_own_result_even_where_the_work_directory_has_the_same(observation, tmp_path):
    job = tmp_path / "work" / "multirun" / "same"
    _go(observation, "destretch.kernels=[0,64]")
    _go(observation, "destretch.kernels=[0,64]", job=job)
    _go(observation, "destretch.kernels=[0,32]")
    with StoreReader(job / "A" / "destretch.h5") as store:
        assert store.read("image", 0)[0] == 3


def test_changed_by_names_a_stage_and_what_follows():
    assert changed_by(["destretch.window=3"], STAGES) == {"destretch", "export", "report"}
    assert changed_by(["+observation.channels.A.export.calibration=false"], STAGES) == {"export"}
    assert changed_by(["progress=false", "observation.work_dir=x"], STAGES) == frozenset()
    assert changed_by(["observation.author=me"], STAGES) == set(STAGES)


def test_the_real_stages_are_wired():
    stages = all_stages()
    assert list(stages) == list(StageName.__members__)


def test_faults_of_wiring_are_found():
    with pytest.raises(RuntimeError, match="no stage before it writes"):
        check_wiring([STAGES["destretch"]])
    with pytest.raises(RuntimeError, match="another stage writes"):
        check_wiring([STAGES["calibrate"], STAGES["calibrate"]])


def test_a_second_run_waits_for_the_first(observation, tmp_path, caplog):
    _go(observation)
    with (tmp_path / "work" / ".stillsun" / "A.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        # The first run ends when the second says that it waits.
        release = logging.Handler()
        release.emit = lambda record: (
            fcntl.flock(handle, fcntl.LOCK_UN) if "waits for another run" in record.getMessage() else None
        )
        logger = logging.getLogger("stillsun.pipeline.work")
        logger.addHandler(release)
        try:
            with caplog.at_level("WARNING", logger="stillsun"):
                _, outcome = _go(observation, "force=[export]", "channels=[A]")
        finally:
            logger.removeHandler(release)
    assert "waits for another run" in caplog.text
    assert "A/export" in outcome.reused
    assert "A/export" not in outcome.seconds
    assert read_record(Places(tmp_path / "work"))["tasks"]["A/export"]["state"] == "done"


def test_a_report_is_made_again_when_what_it_tells_has_changed(observation, tmp_path):
    def failing(ctx):
        if not (tmp_path / "repaired").exists():
            raise InputError("a cable came loose")
        return _export(ctx)

    stages = {
        **STAGES,
        "export": replace(STAGES["export"], run=failing),
        "report": replace(STAGES["report"], reports_on_run=True),
    }

    def told():
        return json.loads((tmp_path / "work" / "report.json").read_text())["failed"]

    _, outcome = _go(observation, "channels=[A]", stages=stages)
    assert told()["A/export"] == "a cable came loose"
    (tmp_path / "repaired").touch()
    _, outcome = _go(observation, "channels=[A]", stages=stages)
    assert outcome.made == ["A/export", "report"]
    assert not told().get("A/export")
    _, outcome = _go(observation, "channels=[A]", stages=stages)
    assert outcome.made == []


def test_what_another_run_made_again_is_not_taken_for_ones_own(observation, tmp_path):
    def meddled(ctx):
        _destretch(ctx)
        if ctx.name == "B":
            _go(observation, "channels=[A]", "destretch.kernels=[0,64]", "stages=[calibrate,destretch]")

    stages = {**STAGES, "destretch": replace(STAGES["destretch"], run=meddled)}
    _, outcome = _go(observation, stages=stages)
    assert list(outcome.failed) == ["A/export", "report"]
    assert "A/destretch was made again meanwhile, by another run" in str(outcome.failed["A/export"])
    assert not (tmp_path / "work" / "A" / "splineDestretch").exists()
    assert "B/export" in outcome.made
    _, outcome = _go(observation)
    assert not outcome.failed
    assert set(outcome.made) == {"A/destretch", "A/export", "report"}


def test_a_stage_without_a_result_does_not_count_as_done(observation, tmp_path):
    def nothing(ctx):
        ctx.note("no tool for it")

    stages = {**STAGES, "export": replace(STAGES["export"], run=nothing)}
    _, outcome = _go(observation, stages=stages)
    assert sorted(outcome.empty) == ["A/export", "B/export"]
    assert outcome.notes["A/export"] == ["no tool for it"]
    record = json.loads((tmp_path / "work" / ".stillsun" / "manifest.json").read_text())
    assert record["tasks"]["A/export"]["state"] == "empty"
    assert sorted(_go(observation)[1].made) == ["A/export", "B/export"]
    # What was done before does not stay when it is redone without a result.
    _go(observation, "force=[export]", stages=stages)
    assert sorted(_go(observation)[1].made) == ["A/export", "B/export"]


def test_the_record_can_be_read_while_a_run_goes_on(observation, tmp_path):
    places = Places(tmp_path / "work")
    seen = {}

    def look(ctx):
        record = read_record(places)
        seen["alive"] = is_alive(places, record)
        seen["states"] = {name: task["state"] for name, task in record["tasks"].items()}
        ctx.progress(3, 7)
        seen["progress"] = json.loads(places.progress("").read_text())
        return []

    stages = {**STAGES, "report": replace(STAGES["report"], run=look)}
    _go(observation, "observation.channels.A.filter=broken", stages=stages)
    assert seen["alive"]
    assert seen["states"]["A/calibrate"] == "done"
    assert seen["states"]["A/destretch"] == "failed"
    assert seen["states"]["A/export"] == "skipped"
    assert seen["states"]["report"] == "running"
    assert (seen["progress"]["done"], seen["progress"]["total"]) == (3, 7)
    assert not places.progress("").exists()
    record = read_record(places)
    assert not is_alive(places, record)
    assert record["ended"] > record["started"]
    assert record["tasks"]["B/destretch"]["seconds"] > 0


def test_the_record_tells_how_long_a_task_took_last_time(observation, tmp_path):
    _go(observation)
    before = read_record(Places(tmp_path / "work"))["tasks"]["A/destretch"]["seconds"]
    _go(observation, "destretch.kernels=[0,64]")
    assert read_record(Places(tmp_path / "work"))["tasks"]["A/destretch"]["expected"] == before


def test_a_run_of_one_channel_keeps_the_record_of_the_other(observation, tmp_path):
    _go(observation)
    _go(observation, "channels=[A]", "force=[export]")
    tasks = read_record(Places(tmp_path / "work"))["tasks"]
    assert tasks["B/export"]["state"] == "done"
    assert tasks["B/export"]["seconds"] > 0
    assert tasks["A/calibrate"]["seconds"] > 0


def test_what_is_taken_although_it_is_out_of_date_is_said(observation, tmp_path, caplog):
    caplog.set_level(logging.INFO, "stillsun")
    _go(observation)
    outcome = _go(observation, "stages=[destretch]", "destretch.kernels=[0, 16]")[1]
    assert sorted(outcome.stale) == ["A/export", "B/export", "report"]
    assert "A/export: taken as it is, out of date" in caplog.text
    assert "A/calibrate: taken as it is\n" in caplog.text
    assert session._ending(outcome) == (
        "2 tasks done, 0 up to date, 5 taken as they are; out of date until their stages are run: "
        "A/export, B/export, report"
    )
    # The next run goes by the product that is there: nothing else is to be said of it.
    outcome = _go(observation, "stages=[export]", "destretch.kernels=[0, 16]")[1]
    assert outcome.stale == ["report"]
    assert _go(observation, "stages=[report]", "destretch.kernels=[0, 16]")[1].stale == []
    # Another option than that of the product that is taken.
    assert "A/destretch" in _go(observation, "stages=[export]")[1].stale


def test_the_first_compilation_is_said(observation, caplog):
    from numba import njit

    def compiling(ctx):
        assert njit(lambda x: x + 1)(1) == 2
        assert njit(lambda x: x + 2)(1) == 3
        _calibrate(ctx)

    caplog.set_level(logging.INFO, "stillsun")
    work._say_compiling.cache_clear()
    stages = {"calibrate": replace(STAGES["calibrate"], run=compiling)}
    _go(observation, "channels=[A]", stages=stages)
    assert caplog.text.count("compiling what this machine has not run yet") == 1
    caplog.clear()
    work._say_compiling.cache_clear()
    njit(lambda x: x + 3)(1)
    _go(observation, "channels=[A]", "force=[calibrate]")
    assert "compiling" not in caplog.text


def test_the_plan_says_why_a_stage_is_made(observation, tmp_path):
    plan, _ = _go(observation, "channels=[A]")
    assert "(not there yet)" in plan.table()

    def why(*overrides):
        settings = load_settings([f"observation_file={observation}", "channels=[A]", *overrides])
        plan = make_plan(settings, STAGES, Workspace(tmp_path / "work"), "numpy")
        return {task.name: task.why for task in plan.tasks}

    assert not any(why().values())
    assert why("force=[destretch]")["A/destretch"] == "forced"
    changed = why("destretch.kernels=[0, 16]")
    assert changed["A/destretch"] == "kernels was [0, 128, 64, 32, 12], is [0, 16]"
    assert changed["A/export"] == "made of A/destretch"
    assert not changed["A/calibrate"]


def _with_parts(ctx):
    """A calibration whose images are made of the darks, and its target of the target's files."""
    raw = Path(ctx.observation.raw_dir)
    dark = (raw / f"{ctx.name}_dark.fit").read_text()
    targets = [p.read_text() for p in raw.glob(f"{ctx.name}_target.fit")]
    fields = {"dark": Field((2000,), "float32", stack=False)}
    if targets:
        fields["target"] = Field((3,), "float32", stack=False)
    with ctx.create(1, fields) as store:
        store.write("dark", len(dark))
        if targets:
            store.write("target", len(targets[0]))
        store.mark(0)


def _register(ctx):
    with ctx.create(1, {"shape": Field((2,), "int64", stack=False)}) as store:
        store.write("shape", 0 if ctx.calibration.target is None else ctx.calibration.target[:2])
        store.mark(0)


PARTS = {
    "calibrate": replace(STAGES["calibrate"], run=_with_parts, raw=("dark", "target")),
    "destretch": replace(STAGES["destretch"], parts={Calibration: ("dark",)}),
    "register": Stage(
        "register",
        1,
        _register,
        writes=Registration,
        reads=(Calibration,),
        parts={Calibration: ("target",)},
    ),
    "export": STAGES["export"],
}
TARGET_FILES = 'observation.channels.A.target.pattern="A_target*"'


def _made(observation, *overrides, stages=PARTS):
    plan, outcome = _go(observation, "channels=[A]", *overrides, stages=stages)
    assert not outcome.failed
    return {name.partition("/")[2] for name in outcome.made}, plan


def test_what_a_stage_reads_of_a_product_decides(observation, tmp_path):
    raw = tmp_path / "raw"
    assert _made(observation)[0] == {"calibrate", "destretch", "register", "export"}
    # A target where there was none, another one, and none again.
    for text in ("target", "another target", None):
        (raw / "A_target.fit").write_text(text or "")
        keys = (TARGET_FILES,) if text else ()
        assert _made(observation, *keys)[0] == {"calibrate", "register"}
        assert _made(observation, *keys)[0] == set()
    # Written again, as by a copy: nothing has changed but the files' times.
    (raw / "A_dark.fit").write_text("krad")
    assert _made(observation)[0] == {"calibrate"}
    (raw / "A_dark.fit").write_text("another dark")
    assert _made(observation)[0] == {"calibrate", "destretch", "export"}
    assert _made(observation, "force=[calibrate]")[0] == {"calibrate", "destretch", "register", "export"}


def test_the_plan_says_what_may_stay_as_it_is(observation, tmp_path):
    _made(observation)
    (tmp_path / "raw" / "A_target.fit").write_text("target")
    settings = load_settings([f"observation_file={observation}", "channels=[A]", TARGET_FILES])
    plan = make_plan(settings, PARTS, Workspace(tmp_path / "work"), "numpy")
    action = {t.stage.name: t.action for t in plan.tasks}
    assert action == {
        "calibrate": Action.make,
        "destretch": Action.open,
        "register": Action.open,
        "export": Action.open,
    }
    assert plan.lookup("destretch", "A").why == "made if A/calibrate comes out otherwise"
    # A run that ends between the two leaves nothing to chance.
    assert _made(observation, TARGET_FILES, "stages=[calibrate]")[0] == {"calibrate"}
    made, plan = _made(observation, TARGET_FILES)
    assert made == {"register"}
    assert read_record(Places(tmp_path / "work"))["tasks"]["A/register"]["state"] == "done"


def test_a_failed_source_is_not_taken_for_the_one_that_was_there(observation, tmp_path):
    def broken(ctx):
        raise InputError("damaged target")

    def with_reference(ctx):
        there = ctx.reference is not None and ctx.reference.has(Calibration)
        with ctx.create(1, {"accepted": Field((), "int64", stack=False)}) as store:
            store.write("accepted", int(there))
            store.mark(0)

    register = replace(
        PARTS["register"],
        run=with_reference,
        reads=(),
        reads_reference=(Calibration,),
        parts={Calibration: ("target",)},
    )
    stages = {"calibrate": PARTS["calibrate"], "register": register}
    _go(observation, stages=stages)
    (tmp_path / "raw" / "A_dark.fit").write_text("new!")
    failing = {**stages, "calibrate": replace(PARTS["calibrate"], run=broken)}
    assert "A/calibrate" in _go(observation, stages=failing)[1].failed
    product = Registration(tmp_path / "work", "B")
    assert not product.accepted
    product.close()
    assert "B/register" in _go(observation, stages=stages)[1].made
    assert Registration(tmp_path / "work", "B").accepted


def test_results_of_an_earlier_version_stay(observation):
    whole = {name: replace(stage, parts={}) for name, stage in PARTS.items()}
    assert _made(observation, stages=whole)[0] == {"calibrate", "destretch", "register", "export"}
    assert _made(observation)[0] == set()
    assert _made(observation, "force=[export]")[0] == {"export"}
    assert _made(observation)[0] == set()


def test_a_part_that_is_not_declared_cannot_be_read(observation):
    stages = {**PARTS, "register": replace(PARTS["register"], parts={Calibration: ("dark",)})}
    _, outcome = _go(observation, "channels=[A]", stages=stages)
    assert "target of" in str(outcome.failed["A/register"])
