"""The X-ray flux of a day: earlier downloads first, bounded attempts, a message that helps."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from stillsun.errors import InputError
from stillsun.sky import _archive
from stillsun.sky.xrays import xray_flux

# A minute before midnight.
TIME = float(np.datetime64("2025-09-03T23:59:00", "s").astype(float))
DAYS = {"2025-09-03": 2e-6, "2025-09-04": 3e-6}


def put(cache, day, level, version="v2-2-0"):
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"sci_xrsf-l2-avg1m_g18_d{day.replace('-', '')}_{version}.nc"
    with h5py.File(path, "w") as file:
        start = np.datetime64(day, "s").astype(float) - np.datetime64("2000-01-01T12", "s").astype(float)
        file["time"] = start + 60.0 * np.arange(1440)
        file["time"].attrs["units"] = "seconds since 2000-01-01 12:00:00"
        file["xrsa_flux"] = np.full(1440, level / 10)
        file["xrsb_flux"] = np.full(1440, level)
    return path


def never(day, cache):
    raise AssertionError("no download was needed")


def test_a_night_over_midnight_takes_two_files_once(tmp_path):
    asked = []

    def fetch(day, cache):
        asked.append(day)
        return put(cache, day, DAYS[day])

    times = TIME + np.array([0.0, 30.0, 120.0, np.nan])
    flux = xray_flux(times, tmp_path / "new", fetch=fetch)
    assert asked == list(DAYS)
    np.testing.assert_allclose(flux.at(times)[1], [2e-6, 2.5e-6, 3e-6, np.nan])
    xray_flux(times, tmp_path / "new", fetch=never)


def test_the_newest_version_of_earlier_downloads(tmp_path):
    put(tmp_path, "2025-09-03", 1e-6, "v2-1-0")
    put(tmp_path, "2025-09-03", 5e-6, "v2-2-0")
    flux = xray_flux(np.array([TIME - 3600]), tmp_path, fetch=never)
    assert flux.long[0] == 5e-6


def test_attempts_are_bounded_and_the_message_helps(tmp_path):
    asked = []

    def fetch(day, cache):
        asked.append(day)
        raise ConnectionError("no route to host")

    with pytest.raises(InputError, match="no route to host") as caught:
        xray_flux(np.array([TIME]), tmp_path, fetch=fetch, pause=0.0)
    assert len(asked) == 2
    assert "movie.goes_file=PATH" in str(caught.value)
    assert "2025-09-03" in str(caught.value)


def test_without_network_support_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "NEEDED", ("no_such_library",))
    with pytest.raises(InputError, match=r"stillsun\[hmi\]"):
        xray_flux(np.array([TIME]), tmp_path, pause=0.0)


@pytest.mark.remote
def test_flux_is_downloaded(tmp_path):
    if any(_archive.importlib.util.find_spec(name) is None for name in _archive.NEEDED):
        pytest.skip("sunpy's network support is not installed")
    times = np.array([TIME - 3600.0])
    try:
        flux = xray_flux(times, tmp_path, tries=1)
    except InputError as error:
        pytest.skip(f"no network: {error}")
    assert np.isfinite(flux.at(times)[1]).all()
    xray_flux(times, tmp_path, fetch=never)
