"""Looking at a run, or planning one, loads nothing that takes long to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What reductions compute with; astropy's reader of FITS files may come with a plan that looks into one.
COMPUTES = {"scipy.stats", "scipy.optimize", "astropy.coordinates", "sunpy", "matplotlib", "dask"}
LOOKS = COMPUTES | {"scipy", "astropy", "hydra"}


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (["--help"], LOOKS | {"numpy", "omegaconf", "h5py"}),
        (["status", "{work}"], LOOKS | {"numba", "tqdm"}),
        (["run", "observation_file={simulated}/observation.yaml", "plan=true"], COMPUTES),
    ],
)
def test_what_is_loaded(arguments, never, simulated, reduced):
    words = [word.format(work=reduced, simulated=simulated) for word in arguments]
    code = f"""
import sys
from stillsun.cli import main
try:
    status = main({words!r})
except SystemExit as ended:
    status = ended.code
print("LOADED", *sys.modules)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "stillsun.cli" in loaded
    assert not loaded & never
