"""An installed wheel has its configuration and data, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Tables and kernels that modules read.
DATA = (".npz", ".cu")


@pytest.mark.slow
def test_conf_and_data_travel_in_the_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    sources = {p.relative_to(ROOT / "conf") for p in (ROOT / "conf").rglob("*.yaml")}
    installed = tmp_path / "site" / "stillsun" / "conf"
    assert {p.relative_to(installed) for p in installed.rglob("*.yaml")} == sources
    package = tmp_path / "site" / "stillsun"
    data = {p.relative_to(ROOT / "src" / "stillsun") for p in (ROOT / "src").rglob("*") if p.suffix in DATA}
    assert data == {p.relative_to(package) for p in package.rglob("*") if p.suffix in DATA}
    code = "from stillsun.config.compose import config_directory; print(config_directory())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()) == installed.resolve()
