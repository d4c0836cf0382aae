"""Pointing from the telescope log, by hand, or unknown, as the stage stores and reports it."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from stillsun.config.schema import AlignConfig, ChannelConfig, ObservationConfig, TelescopeConfig
from stillsun.core.backend import get_backend
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.sky.observer import Site, helioprojective, observe, rotate_with_sun
from stillsun.sky.pointing import CSYER_UNKNOWN
from stillsun.stages.align import run
from stillsun.stages.base import ChannelPaths, StageContext

TIMES = 1756909313.6 + 30.0 * np.arange(5)
LATITUDE, LONGITUDE = np.full(5, -23.16), np.full(5, 51.4)


def align(path, latitude, longitude, guider, pointing=None, sign=1):
    """Run the stage; returns its stored values and notes."""
    columns = {"time_avg": TIMES, "latitude": latitude, "longitude": longitude, "guider_angle": guider}
    with create_store(path / "bursts.h5", Layout(5, dict.fromkeys(columns, Field())), "x") as store:
        for name, column in columns.items():
            store.write(name, column)
    product = path / "pointing.h5"

    @contextmanager
    def create(rows, fields, attributes=None):
        with create_store(product, Layout(rows, fields), "x") as store:
            yield store

    ctx = StageContext(
        channel="R",
        settings=ChannelConfig(),
        config=AlignConfig(pointing=pointing),
        observation=ObservationConfig(telescope=TelescopeConfig(guider_sign=sign)),
        backend=get_backend("numpy"),
        inputs={"bursts": StoreReader(path / "bursts.h5")},
        reference={},
        is_reference=True,
        paths=ChannelPaths(path),
        create=create,
        progress=lambda done, total: None,
        digest="x",
        provenance={"program": "stillsun", "version": "0"},
    )
    run(ctx)
    with StoreReader(product) as store:
        assert store.done().all()
        return {n: store.read(n) for n in store.names()}, ctx.notes


@pytest.mark.parametrize("sign", [1, -1])
def test_log(tmp_path, sign):
    values, notes = align(tmp_path, LATITUDE, LONGITUDE, np.full(5, 14.0), sign=sign)
    observer = observe(TIMES, Site())
    np.testing.assert_allclose(values["crval"], helioprojective(LATITUDE, LONGITUDE, observer))
    np.testing.assert_allclose(values["crota2"], sign * 0.7)
    assert values["method"] == "telescope log"
    assert notes == []


def test_gaps_in_the_log_are_noted(tmp_path):
    latitude = LATITUDE.copy()
    latitude[[0, 3]] = np.nan
    values, notes = align(tmp_path, latitude, LONGITUDE, np.full(5, 14.0))
    assert np.isfinite(values["crval"]).all()
    assert len(notes) == 1
    assert "2 of 5 frames" in notes[0]


def test_pointing_by_hand(tmp_path):
    values, notes = align(tmp_path, LATITUDE, LONGITUDE, np.full(5, 13.3), pointing=[120.0, -50.0])
    np.testing.assert_allclose(values["crval"][0], (120.0, -50.0), atol=1e-6)
    np.testing.assert_allclose(values["crval"], rotate_with_sun((120.0, -50.0), TIMES[0], TIMES, Site()))
    assert values["method"] == "given by hand"
    assert notes == []


def test_no_log(tmp_path):
    nan = np.full(5, np.nan)
    values, notes = align(tmp_path, nan, nan, nan)
    np.testing.assert_array_equal(values["crval"], 0.0)
    np.testing.assert_array_equal(values["crota2"], 0.0)
    np.testing.assert_array_equal(values["uncertainty"], CSYER_UNKNOWN)
    assert values["method"] == "unknown"
    assert any("pointing is unknown" in n and "align.pointing" in n for n in notes)
    assert any("guider angle is unknown" in n for n in notes)
