"""The tiers: imports point down only, and the core runs without the upper libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stillsun

ROOT = Path(stillsun.__file__).parent
CORE = {
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "threadpoolctl",
}  # the last is the compiler that comes with Numba
# Room -> rooms of the package it may import, libraries it may import.
TIERS: dict[str, tuple[set[str], set[str]]] = {
    "core": ({"errors", "core"}, CORE | {"cupy", "cupyx"}),
    "speckle": ({"errors", "core", "speckle"}, CORE | {"cupy", "cupyx", "mpi4py"}),
    "config": ({"errors", "config"}, {"hydra", "omegaconf", "yaml"}),
    "io": ({"errors", "core", "speckle", "config.schema", "io"}, CORE | {"h5py", "astropy.io.fits"}),
    "sky": ({"errors", "core", "io", "config.schema", "sky"}, CORE | {"astropy", "sunpy"}),
    "products": (
        {"errors", "core", "io", "sky", "config.schema", "config.settings", "products"},
        CORE | {"astropy"},
    ),
    "sequence": (
        {"errors", "core", "io", "sky", "products", "sequence"},
        {"numpy", "scipy", "astropy", "sunpy", "dask", "ndcube"},
    ),
    "qa": (
        {"errors", "core", "io", "products", "config.schema", "qa"},
        CORE | {"matplotlib", "av", "PIL"},
    ),
    "synth": (
        {"errors", "core", "io", "sky", "config.schema", "synth"},
        CORE | {"h5py", "astropy", "yaml", "omegaconf"},
    ),
    "stages": (
        {"errors", "core", "speckle", "io", "sky", "products", "qa", "config.schema", "stages"},
        CORE | {"astropy", "matplotlib", "av", "PIL"},
    ),
    "pipeline": (
        {"errors", "core", "io", "products", "qa", "stages", "config.schema", "config.settings", "pipeline"},
        {"tqdm", "numpy", "dask"},
    ),
    "cli": ({"errors", "config", "io", "synth", "pipeline", "cli"}, {"omegaconf"}),
}
OMEGACONF = {"config/compose.py", "config/overrides.py", "cli/run.py"}
HYDRA = "config/_hydra.py"  # by name, when first asked for


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _allowed(name: str, rooms: set[str], libraries: set[str]) -> bool:
    top = name.partition(".")[0]
    if top == "stillsun":
        rest = name.partition(".")[2]
        return rest in ("", "__version__") or any(rest == r or rest.startswith(f"{r}.") for r in rooms)
    if top in sys.stdlib_module_names or top == "__future__":
        return True
    return any(name == x or name.startswith(f"{x}.") for x in libraries)


@pytest.mark.parametrize("room", TIERS)
def test_imports_point_down(room):
    rooms, libraries = TIERS[room]
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in sorted(_imports(path))
        if not _allowed(name, rooms, libraries)
    ]
    assert not wrong


def test_every_room_has_a_tier():
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").is_file()}
    assert rooms == set(TIERS)


def test_hydra_is_imported_in_few_places_only():
    used = {str(path.relative_to(ROOT)): _imports(path) for path in ROOT.rglob("*.py")}
    assert {p for p, names in used.items() if any(n.startswith("omegaconf") for n in names)} <= OMEGACONF
    assert not [p for p, names in used.items() if any(re.match(r"hydra\b", n) for n in names)]
    assert [p for p in used if "hydra._internal" in (ROOT / p).read_text()] == [HYDRA]


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_core_and_speckle_run_without_the_upper_libraries():
    code = """
import importlib, pkgutil, sys
for name in ("astropy", "sunpy", "h5py", "hydra", "omegaconf", "matplotlib"):
    sys.modules[name] = None
import stillsun
for room in ("core", "speckle"):
    package = importlib.import_module(f"stillsun.{room}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from stillsun import apply_shifts, destretch, destretch_series, get_backend, reconstruct
import numpy as np
image = np.random.default_rng(1).normal(size=(64, 64)).astype("f4")
assert destretch(image, image, kernels=(0, 32)).image.shape == (64, 64)
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light():
    code = """
import sys, stillsun
heavy = {"numpy", "numba", "astropy", "hydra", "h5py", "cupy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr
