"""What a plan will take: by the first raw files, by what is stored, by run times that are recorded."""

from __future__ import annotations

import json

import pytest
from astropy.io import fits
from tests.stages import _level0

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.io.rosa import open_rosa
from stillsun.pipeline.forecast import Forecast, forecast
from stillsun.pipeline.session import prepare


@pytest.fixture
def observation(tmp_path):
    _level0.make_channel(tmp_path / "raw")
    sets = "".join(f"\n    {r}: {{directory: {r}, pattern: 'das1_*.fit'}}" for r in ("data", "dark", "flat"))
    path = tmp_path / "night.yaml"
    path.write_text(
        f"raw_dir: {tmp_path / 'raw'}\nwork_dir: {tmp_path / 'work'}\nchannels:\n  C:\n"
        f"    camera: {{reader: rosa, shape: [48, 56]}}\n    wavelength_nm: 430.5\n"
        f"    plate_scale: [0.06, 0.06]\n    exposure_ms: 10.0{sets}\n"
    )
    return path


def _forecast(path, *words):
    settings = load_settings([f"observation_file={path}", "backend=numpy", "backend.threads=1", *words])
    return forecast(*_planned(settings))


def _planned(settings):
    plan, space, backend = prepare(settings)
    return plan, settings, space, backend


def test_bursts_disk_and_time_of_a_night_that_has_not_been_run(observation, tmp_path):
    exposures = open_rosa(sorted((tmp_path / "raw" / "data").glob("*.fit"))).shape[0]
    found = _forecast(observation, "assemble.frames_per_burst=4", "speckle=masking", "speckle.ao_used=false")
    size = found.sizes["C"]
    assert (size.pixels, size.exposures, size.bursts) == (48 * 56, 4, exposures // 4)
    assert found.lasting > 4 * size.pixels * size.bursts * 3
    assert found.passing == 0
    assert not found.measured
    assert not found.faults
    # Twice as many exposures to a burst: half the images to store, as many pixels to reconstruct.
    more = _forecast(observation, "assemble.frames_per_burst=8", "speckle=masking", "speckle.ao_used=false")
    assert more.sizes["C"].bursts == size.bursts // 2
    assert more.lasting < found.lasting
    kept = _forecast(observation, "assemble.frames_per_burst=4", "speckle=none", "speckle.keep_bursts=true")
    assert kept.lasting - found.lasting == 4 * size.pixels * 4 * size.bursts
    assert kept.seconds < found.seconds


def test_recorded_run_times_come_first(observation, tmp_path):
    words = (f"observation_file={observation}", "assemble.frames_per_burst=4", "speckle=none",
             "backend=numpy", "stages=[calibrate,assemble,speckle]", "progress=false")  # fmt: skip
    assert main(["run", *words]) == 0
    manifest = tmp_path / "work" / ".stillsun" / "manifest.json"
    record = json.loads(manifest.read_text())
    for name, seconds in (("C/speckle", 3600.0), ("C/assemble", 60.0)):
        record["tasks"][name]["seconds"] = seconds
    manifest.write_text(json.dumps(record))
    again = _forecast(observation, *words[1:3], "stages=[assemble,speckle]", "force=[assemble]")
    assert again.measured
    assert again.seconds == pytest.approx(3660, rel=0.01)
    assert "about 61 min, by the run times in this directory" in again.text()
    # Those of another engine say nothing.
    other = _forecast(
        observation, words[1], "speckle=masking", "stages=[assemble,speckle]", "force=[assemble]"
    )
    assert not other.measured
    assert other.seconds < 100


def test_a_wrong_first_file_is_found_by_the_plan(observation, tmp_path, capsys):
    words = [f"observation_file={observation}", "backend=numpy", "plan=true", "assemble.frames_per_burst=4"]
    assert main(["run", *words]) == 0
    said = capsys.readouterr().out
    assert "C/calibrate  make" in said
    assert "48 x 56 pixels, in " in said
    assert "time: on the order of" in said
    file = sorted((tmp_path / "raw" / "dark").glob("*.fit"))[0]
    with fits.open(file) as units:
        small = [fits.PrimaryHDU(), *(fits.ImageHDU(u.data[:40], u.header) for u in units[1:])]
    fits.HDUList(small).writeto(file, overwrite=True)
    assert main(["run", *words]) == 1
    said = capsys.readouterr()
    assert "the dark frames have another size than the data" in said.err
    assert str(file) in said.err
    assert "C/calibrate  make" in said.out
    assert not (tmp_path / "work").exists()


def test_a_disk_that_is_too_small_is_said():
    assert Forecast(lasting=2e9, passing=3e12, free=1e12).text().splitlines()[0] == (
        "disk: about 2 GB, and 3 TB for the time of the reconstruction; 1 TB are free; NOT ENOUGH"
    )
