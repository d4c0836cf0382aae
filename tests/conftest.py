"""Shared by all tests: where the real frames are."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

DATA = Path(
    os.environ.get("STILLSUN_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
).resolve()
REAL_FRAMES = {
    "gband": "20211022_151846_gband_kisip.speckle.batch.00.{:03d}.final.fits",
    "cak": "20211022_161846_cak_kisip.speckle.batch.00.{:03d}.final.fits",
}


# Files that take longest, longest first: where files are spread over processes, a long one that comes last
# keeps one of them busy alone.
LONGEST = (
    "regression/test_coordinates.py",
    "regression/test_earlier_data.py",
    "regression/test_end_to_end.py",
    "speckle/test_masking_hard.py",
    "stages/test_align.py",
    "regression/test_status.py",
    "regression/test_raw_formats.py",
    "sky/test_match.py",
    "regression/test_bad_night.py",
    "synth/test_observation.py",
    "speckle/test_masking_adaptive.py",
    "stages/test_drift.py",
    "regression/test_device.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files change places; the tests in each keep their order."""
    place = {name: rank for rank, name in enumerate(LONGEST)}
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        inside = item.path.is_relative_to(here)
        return place.get(item.path.relative_to(here).as_posix(), len(place)) if inside else len(place)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """``made_once(name, make)``: a directory that the first process of the tests makes and all only read."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    root.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        place = root / name
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.done").exists():
                # What a process left that failed.
                shutil.rmtree(place, ignore_errors=True)
                make(place)
                (root / f"{name}.done").touch()
        return place

    return once


@pytest.fixture(scope="session")
def real_frame_path():
    """Path of a real reconstructed frame by band and number; skips visibly where there are none."""

    def path(band: str, number: int = 0) -> Path:
        file = DATA / REAL_FRAMES[band].format(number)
        if not file.is_file():
            pytest.skip(f"real frames not found: {file} (set STILLSUN_TEST_DATA)")
        return file

    return path


@pytest.fixture(scope="session")
def real_frame(real_frame_path):
    """Pixels (rows, columns) float32 of a real frame; the left-over BZERO card is not applied."""
    from astropy.io import fits

    def read(band: str, number: int = 0) -> np.ndarray:
        with fits.open(real_frame_path(band, number), do_not_scale_image_data=True) as hdus:
            return np.asarray(hdus[0].data, dtype=np.float32)

    return read


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request):
    """A GPU backend: the device that is not there, then a real one, skipped visibly without."""
    from tests.fakes.device import device

    from stillsun import get_backend
    from stillsun.errors import ConfigError

    if request.param == "stand-in":
        return device()
    try:
        return get_backend("cupy")
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def fakes():
    """The module of the stand-in for the external program."""
    path = Path(__file__).parent / "fakes" / "speckle_program.py"
    spec = importlib.util.spec_from_file_location("speckle_program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
