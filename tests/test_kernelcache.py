"""A place for compiled kernels where neither the package nor the home can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from stillsun._kernelcache import keep_kernels


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """Nothing can be written but what lies in ``tmp``."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) == tmp_path / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    return tmp


def test_kernels_are_kept_among_temporary_files_for_this_user_only(locked):
    import numba

    keep_kernels(locked / "package")
    place = locked / f"stillsun-kernels-{os.getuid()}"
    assert os.environ["NUMBA_CACHE_DIR"] == numba.config.CACHE_DIR == str(place)
    assert place.stat().st_mode & 0o777 == 0o700
    # One that others may write to is not used.
    place.chmod(0o777)
    del os.environ["NUMBA_CACHE_DIR"]
    keep_kernels(locked / "package")
    assert os.environ["NUMBA_CACHE_DIR"] != str(place)
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == locked


def test_a_home_that_can_be_written_is_left_to_numba(locked, monkeypatch):
    (locked.parent / "home").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(locked.parent / "home" / "cache"))
    keep_kernels(locked / "package")
    assert "NUMBA_CACHE_DIR" not in os.environ
    assert not list(locked.iterdir())
