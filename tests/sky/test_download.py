"""The full-disk image nearest in time: earlier downloads first, bounded attempts, a message that helps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from stillsun.errors import InputError
from stillsun.sky import _archive
from stillsun.sky.download import default_cache, fulldisk_near

TIME = 1756909313.6


def put(path, text):
    from astropy.io import fits

    hdu = fits.PrimaryHDU()
    if text:
        hdu.header["T_OBS"] = text
    hdu.writeto(path)
    return path


def never(time, cache):
    raise AssertionError("no download was needed")


def test_nearest_of_earlier_downloads(tmp_path):
    # 37 s between TAI and UTC: these are 36.4 s before, and 8.6 s after.
    put(tmp_path / "a.fits", "2025.09.03_14:21:54.2_TAI")
    near = put(tmp_path / "b.fits", "2025.09.03_14:22:39.2_TAI")
    put(tmp_path / "c.fits", "")
    (tmp_path / "d.fits").write_text("a broken download")
    assert fulldisk_near(TIME, tmp_path, fetch=never) == near


def test_one_of_another_time_is_not_taken(tmp_path):
    put(tmp_path / "a.fits", "2025.09.03_14:25:00.0_TAI")
    asked = []

    def fetch(time, cache):
        asked.append((time, cache))
        return cache / "new.fits"

    assert fulldisk_near(TIME, tmp_path, fetch=fetch) == tmp_path / "new.fits"
    assert asked == [(TIME, tmp_path)]


def test_attempts_are_bounded_and_the_message_helps(tmp_path):
    asked = []

    def fetch(time, cache):
        asked.append(time)
        raise ConnectionError("no route to host")

    with pytest.raises(InputError, match="no route to host") as caught:
        fulldisk_near(TIME, tmp_path, fetch=fetch, tries=3, pause=0.0)
    assert len(asked) == 3
    assert "align.file=PATH" in str(caught.value)
    assert "2025-09-03T14:21:53" in str(caught.value)


def test_second_attempt_may_succeed(tmp_path):
    answers = [TimeoutError("slow"), tmp_path / "new.fits"]

    def fetch(time, cache):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert fulldisk_near(TIME, tmp_path, fetch=fetch, pause=0.0) == tmp_path / "new.fits"


def test_without_network_support_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "NEEDED", ("no_such_library",))
    with pytest.raises(InputError, match=r"stillsun\[hmi\]"):
        fulldisk_near(TIME, tmp_path, pause=0.0)


def test_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/stillsun")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "stillsun"


@pytest.mark.remote
def test_image_is_downloaded(tmp_path):
    if importlib.util.find_spec("drms") is None:
        pytest.skip("sunpy's network support is not installed")
    try:
        path = fulldisk_near(TIME, tmp_path, tries=1)
    except InputError as error:
        pytest.skip(f"no network: {error}")
    assert fulldisk_near(TIME, tmp_path, fetch=never) == path
