"""GOES X-ray flux from real files of three generations."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import sunpy.data.test

from stillsun.errors import InputError
from stillsun.io import goes
from stillsun.io._apart import Apart
from stillsun.io.goes import read_goes

FILES = Path(sunpy.data.test.rootdir)


@pytest.mark.parametrize(
    ("name", "start", "long"),
    [
        ("sci_xrsf-l2-avg1m_g16_d20210101_truncated.nc", "2021-01-01T22:20:00", 4.0336136e-08),
        ("sci_xrsf-l2-avg1m_g15_d20190102_truncated.nc", "2019-01-02T00:00:00", 3.076879e-08),
        ("sci_xrsf-l2-flx1s_g17_d20201016_truncated.nc", "2020-10-16T00:00:00", 3.2891567e-08),
        ("sci_gxrs-l2-irrad_g15_d20131028_truncated.nc", "2013-10-28T00:00:00", 2.2854588e-06),
    ],
)
def test_times_and_flux(name, start, long):
    flux = read_goes(FILES / name)
    seconds = np.datetime64(start, "s").astype(float)
    assert flux.times[0] == pytest.approx(seconds, abs=1.5)
    assert (np.diff(flux.times) > 0).all()
    assert flux.long[0] == pytest.approx(long, rel=1e-6)
    good = np.isfinite(flux.short) & np.isfinite(flux.long)
    assert good.mean() > 0.9
    # The longer wavelengths carry most of the flux.
    assert np.median(flux.long[good]) > np.median(flux.short[good])


def test_interpolation_and_outside():
    flux = read_goes(FILES / "sci_xrsf-l2-avg1m_g16_d20210101_truncated.nc")
    middle = flux.times[:2].mean()
    _, long = flux.at(np.array([middle, flux.times[0] - 60.0]))
    assert long[0] == pytest.approx(flux.long[:2].mean())
    assert np.isnan(long[1])


def test_fill_values_are_unknown(tmp_path):
    path = tmp_path / "goes.nc"
    with h5py.File(path, "w") as file:
        file["time"] = np.array([0.5, 60.0, 120.0])
        file["time"].attrs["units"] = "seconds since 2000-01-01 12:00:00"
        file["xrsa_flux"] = np.array([1e-8, -9999.0, 1e-8], np.float32)
        file["xrsb_flux"] = np.array([1e-7, 1e-7, -9999.0], np.float32)
    flux = read_goes(path)
    np.testing.assert_array_equal(np.isnan(flux.short), [False, True, False])
    np.testing.assert_array_equal(np.isnan(flux.long), [False, False, True])


def test_another_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["time"] = np.zeros(2)
    (tmp_path / "b.nc").write_text("no")
    for name in ("a.nc", "b.nc"):
        with pytest.raises(InputError, match="GOES"):
            read_goes(tmp_path / name)


def _goes(path, unit="W/m2", time="seconds since 2000-01-01 12:00:00", **more):
    with h5py.File(path, "w") as file:
        file["time"] = np.array([0.5, 60.0, 120.0, 180.0])
        file["time"].attrs["units"] = time
        for name in ("xrsa", "xrsb"):
            file[f"{name}_flux"] = np.array([1e-8, 5e-4, 1e-8, 1e-8], np.float32)
            file[f"{name}_flux"].attrs["units"] = unit
        for name, value in more.items():
            file[name] = value
    return path


def test_flagged_values_are_unknown(tmp_path):
    """A flux of 5e-4 while the sensor is calibrated is no flare."""
    flux = read_goes(_goes(tmp_path / "a.nc", xrsb_flags=np.array([0, 1, 0, 65535], np.uint16)))
    np.testing.assert_array_equal(np.isnan(flux.long), [False, True, False, True])
    assert np.isfinite(flux.short).all()


def test_flags_that_do_not_tell_of_bad_data_are_no_reason(tmp_path):
    path = _goes(tmp_path / "a.nc", xrsb_flag=np.array([16, 1, 4, 2], np.uint8))
    with h5py.File(path, "r+") as file:
        file["xrsb_flag"].attrs["flag_meanings"] = "good_data eclipse bad_data e_contam_significant"
        file["xrsb_flag"].attrs["flag_masks"] = np.array([3, 1, 2, 4], np.uint8)
    np.testing.assert_array_equal(np.isnan(read_goes(path).long), [False, True, False, True])


def test_the_flags_of_a_real_file():
    file = FILES / "sci_gxrs-l2-irrad_g15_d20131028_truncated.nc"
    assert np.nanmax(read_goes(file).long) < 1e-5


@pytest.mark.parametrize("kind", ["unit", "time", "group", "virtual", "link", "length", "bytes"])
def test_strange_files_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "a.nc"
    odd = {"unit": {"unit": "mW/m2"}, "time": {"time": "minutes since 2000-01-01 12:00:00"}}
    _goes(path, **odd.get(kind, {}))
    with h5py.File(path, "r+") as file:
        if kind in ("group", "virtual", "link", "length"):
            del file["xrsb_flux"]
        if kind == "group":
            file.create_group("xrsb_flux")
        if kind == "virtual":
            layout = h5py.VirtualLayout((4,), np.float32)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
            file.create_virtual_dataset("xrsb_flux", layout)
        if kind == "link":
            file["xrsb_flux"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        if kind == "length":
            file["xrsb_flux"] = np.ones(3)
    if kind == "bytes":
        content = bytearray(path.read_bytes())
        content[96:2000:7] = b"\xff" * len(content[96:2000:7])
        path.write_bytes(content)
    with pytest.raises(InputError, match="GOES") as error:
        read_goes(path)
    assert error.value.file == str(path)


@pytest.mark.parametrize("does", ["os.abort()", "time.sleep(60)"])
def test_a_library_that_dies_of_a_file_ends_nothing_else(tmp_path, monkeypatch, does):
    dying = Apart("none", 0.5, 999)
    dying.command = ["python3", "-c", f"import os, sys, time; sys.stdin.buffer.read(8); {does}"]
    monkeypatch.setattr(goes, "_reader", dying)
    path = _goes(tmp_path / "a.nc")
    with pytest.raises(InputError, match="dies of it, or hangs") as error:
        read_goes(path)
    assert error.value.file == str(path)
    monkeypatch.undo()
    assert len(read_goes(path).long) == 4
