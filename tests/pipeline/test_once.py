"""A plain run looks at its raw files once."""

from __future__ import annotations

from tests.stages import _level0

from stillsun.cli import main
from stillsun.io import inventory


def test_raw_files_of_a_run_are_looked_at_once(tmp_path, monkeypatch, capsys):
    _level0.make_channel(tmp_path / "raw")
    sets = "".join(f"\n    {r}: {{directory: {r}, pattern: 'das1_*.fit'}}" for r in ("data", "dark", "flat"))
    path = tmp_path / "night.yaml"
    path.write_text(
        f"raw_dir: {tmp_path / 'raw'}\nwork_dir: {tmp_path / 'work'}\nchannels:\n  C:\n"
        f"    camera: {{reader: rosa, shape: [48, 56]}}\n    wavelength_nm: 430.5\n"
        f"    plate_scale: [0.06, 0.06]\n    exposure_ms: 10.0{sets}\n"
    )
    looks = []
    check = inventory.check
    monkeypatch.setattr(inventory, "check", lambda *given: looks.append(given) or check(*given))
    words = [f"observation_file={path}", "stages=[calibrate]", "backend=numpy", "progress=false"]
    assert main(["run", *words, "plan=true"]) == 0
    assert "C/calibrate  make" in capsys.readouterr().out
    assert len(looks) == 1
    assert main(["run", *words]) == 0
    assert len(looks) == 2
    assert (tmp_path / "work" / "C" / "calibration.h5").is_file()
