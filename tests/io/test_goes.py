"""GOES X-ray flux from real files of three generations."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import sunpy.data.test

from stillsun.errors import InputError
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
