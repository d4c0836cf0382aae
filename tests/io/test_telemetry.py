"""Telescope logs of both styles, and logs that are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.errors import InputError
from stillsun.io.telemetry import read_telescope_log

START = np.datetime64("2025-09-03T14:20:00.000", "ms")


def _values(k):
    return {
        "SLAT": -23.0 - 0.01 * k,
        "SLNG": 51.0 + 0.02 * k,
        "GDRN": 13.3 + 0.1 * k,
        "SEE": 0.5 + 0.01 * k,
        "LLVL": 4.0 - 0.05 * k,
        "SDIM": 1902.4,
    }


def _dcss_record(k, leave_out=()):
    lines = [
        f"DST_TIME= '{START + np.timedelta64(10 * k, 's')}' / UTC",
        "WP_TIME = '2025-09-03T01:01:01' / of the wave plate",
        "DST_AZ  =  120.5 / azimuth / degrees",
    ]
    lines += [
        f"DST_{name:<4s}= {value:.5f} / {name}" for name, value in _values(k).items() if name not in leave_out
    ]
    return lines


def _icc_record(k):
    time = START + np.timedelta64(10 * k, "s")
    lines = [f"TIME {str(time)[11:21]}", "DATE 09/03/25", "CTRK TRACK_ERROR 0.1"]
    return lines + [f"VTT {name} {value:.5f}" for name, value in _values(k).items()]


def _write(path, records):
    path.write_text("\n".join(line for record in records for line in record) + "\n")
    return path


def _at(log, seconds, **options):
    return log.at(
        np.array([START + np.timedelta64(round(1e3 * s), "ms") for s in np.atleast_1d(seconds)]), **options
    )


@pytest.mark.parametrize("style", [_dcss_record, _icc_record])
def test_values_at_and_between_records(tmp_path, style):
    log = read_telescope_log(_write(tmp_path / "log.txt", [style(k) for k in range(6)]))
    assert log.findings == ()
    assert log.times.size == 6
    state = _at(log, [20.0, 25.0])
    np.testing.assert_allclose(state.latitude, [-23.02, -23.025])
    np.testing.assert_allclose(state.longitude, [51.04, 51.05])
    np.testing.assert_allclose(state.guider_angle, [13.5, 13.55])
    np.testing.assert_allclose(state.scintillation, [0.52, 0.525])
    np.testing.assert_allclose(state.light_level, [3.9, 3.875])
    np.testing.assert_allclose(state.solar_radius, 951.2)


def test_too_far_from_any_record_is_unknown(tmp_path):
    log = read_telescope_log(_write(tmp_path / "log.txt", [_dcss_record(k) for k in (0, 1, 30, 31)]))
    state = _at(log, [-30.0, -90.0, 155.0, 24 * 3600.0, 40.0], max_distance_s=60)
    np.testing.assert_array_equal(np.isnan(state.latitude), [False, True, True, True, False])
    # Near one side of a hole: the nearest record, no line across.
    assert state.latitude[4] == pytest.approx(-23.01)


def test_a_missing_field_does_not_shift_the_others(tmp_path):
    records = [_dcss_record(k, leave_out=("SLAT",) if k == 2 else ()) for k in range(6)]
    log = read_telescope_log(_write(tmp_path / "log.txt", records))
    state = _at(log, [20.0, 40.0])
    np.testing.assert_allclose(state.longitude, [51.04, 51.08])
    np.testing.assert_allclose(state.latitude, [-23.02, -23.04])


def test_damage_disorder_and_repetition_are_counted(tmp_path):
    records = [_dcss_record(k) for k in range(8)]
    records[3][3] = "DST_SLAT= -2#.03 / SLAT"
    records[5][0] = "DST_TIME= '2025-09-03T14:2' / UTC"
    records[1], records[2] = records[2], records[1]
    records.insert(7, records[6])
    log = read_telescope_log(_write(tmp_path / "log.txt", records))
    text = " ".join(log.findings)
    assert "2 damaged" in text
    assert "1 records out of order" in text
    assert "1 repeated" in text
    assert (np.diff(log.times) > np.timedelta64(0)).all()
    np.testing.assert_allclose(_at(log, [10.0, 20.0, 70.0]).longitude, [51.02, 51.04, 51.14])


def test_guider_angle_across_the_full_circle(tmp_path):
    records = [_dcss_record(k) for k in range(2)]
    for record, angle in zip(records, (359.9, 0.1), strict=True):
        record[:] = [line for line in record if "GDRN" not in line] + [f"DST_GDRN= {angle} / deg"]
    angle = _at(read_telescope_log(_write(tmp_path / "log.txt", records)), [2.0, 5.0, 8.0]).guider_angle
    np.testing.assert_allclose(np.mod(angle + 180, 360) - 180, [-0.06, 0.0, 0.06], atol=1e-9)


def test_solar_radius_is_not_halved_twice(tmp_path):
    records = [[line.replace("1902.4", "951.2") for line in _dcss_record(k)] for k in range(3)]
    log = read_telescope_log(_write(tmp_path / "log.txt", records))
    np.testing.assert_allclose(_at(log, 10.0).solar_radius, 951.2)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(range(256)) * 20, b"DST_TIME= '????-09-03T14:2?' / UTC\nDST_SLAT= 1.0 / deg\n"],
    ids=["empty", "binary", "damaged"],
)
def test_a_log_without_a_record_tells_nothing_and_says_so(tmp_path, content):
    path = tmp_path / "log.txt"
    with pytest.raises(InputError, match="telescope_log"):
        read_telescope_log(path)
    path.write_bytes(content)
    log = read_telescope_log(path)
    assert log.times.size == 0
    assert "no record; expected DST_TIME" in log.findings[-1]
    assert np.isnan(_at(log, [0.0, 5.0]).latitude).all()


@pytest.mark.parametrize(
    "line",
    [
        "VTT " + "SLAT " * 20_000,
        "TIME " * 20_000 + "\t" * 50_000,
        "DST_" + "A" * 100_000,
        " " * 100_000 + "x",
    ],
)
def test_long_lines_take_no_time(tmp_path, line):
    """Patterns that tried every split of a line took minutes for one of 100 kB."""
    path = _write(tmp_path / "log.txt", [_dcss_record(k) for k in range(3)])
    path.write_text("\n".join([line] * 30) + "\n" + path.read_text())
    assert read_telescope_log(path).times.size == 3
