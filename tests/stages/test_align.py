"""Pointing from the log, by hand, unknown, or matched to the Sun, as the stage stores and reports it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests._channels import channel, context

from stillsun.config.schema import (
    AlignConfig,
    AlignEngine,
    ChannelConfig,
    ObservationConfig,
    TelescopeConfig,
    Turn,
)
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.sky.fulldisk import read_fulldisk
from stillsun.sky.observer import Site, helioprojective, observe, rotate_with_sun
from stillsun.sky.pointing import CSYER_UNKNOWN
from stillsun.stages.align import run

TIMES = 1756909313.6 + 30.0 * np.arange(5)
LATITUDE, LONGITUDE = np.full(5, -23.16), np.full(5, 51.4)


def align(path, latitude, longitude, guider, pointing=None, sign=1, offset=None):
    """Run the stage; returns its stored values and notes."""
    columns = {"time_avg": TIMES, "latitude": latitude, "longitude": longitude, "guider_angle": guider}
    with create_store(path / "bursts.h5", Layout(5, dict.fromkeys(columns, Field())), "x") as store:
        for name, column in columns.items():
            store.write(name, column)
    product = path / "pointing.h5"

    ctx = context(
        "R",
        path,
        {"bursts": path / "bursts.h5"},
        config=AlignConfig(engine=AlignEngine.none, pointing=pointing, offset=offset),
        observation=ObservationConfig(telescope=TelescopeConfig(guider_sign=sign), reference_channel="R"),
        writes=product,
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


@pytest.mark.parametrize("pointing", [None, [120.0, -50.0]])
def test_a_pointing_that_is_moved_by_hand_says_so(tmp_path, pointing):
    log = LATITUDE, LONGITUDE, np.full(5, 13.3)
    (tmp_path / "as_is").mkdir()
    before, _ = align(tmp_path / "as_is", *log, pointing=pointing)
    values, notes = align(tmp_path, *log, pointing=pointing, offset=[2.5, -1.5])
    np.testing.assert_allclose(values["crval"] - before["crval"], np.tile([2.5, -1.5], (5, 1)), atol=0.02)
    assert values["method"] == f"{before['method']}, moved by hand by (2.5, -1.5) arcsec"
    assert notes == ["the pointing was moved by hand by (2.5, -1.5) arcsec"]


def test_nothing_is_moved_that_is_unknown(tmp_path):
    nan = np.full(5, np.nan)
    values, _ = align(tmp_path, nan, nan, nan, offset=[2.5, -1.5])
    np.testing.assert_array_equal(values["crval"], 0.0)
    assert values["method"] == "unknown"


def test_no_log(tmp_path):
    nan = np.full(5, np.nan)
    values, notes = align(tmp_path, nan, nan, nan)
    np.testing.assert_array_equal(values["crval"], 0.0)
    np.testing.assert_array_equal(values["crota2"], 0.0)
    np.testing.assert_array_equal(values["uncertainty"], CSYER_UNKNOWN)
    assert values["method"] == "unknown"
    assert any("pointing is unknown" in n and "align.pointing" in n for n in notes)
    assert any("guider angle is unknown" in n for n in notes)


_SPEC = importlib.util.spec_from_file_location("_sun", Path(__file__).parents[1] / "sky" / "_sun.py")
sun = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sun)

SHAPE, SCALE = (150, 170), (0.55, 0.52)
GUIDER = 13.3 + 0.5
OFF = np.array([12.0, -9.0])


@pytest.fixture(scope="module")
def disk_path(tmp_path_factory):
    return sun.write_disk(tmp_path_factory.mktemp("sun") / "hmi.fits")


@pytest.fixture(scope="module")
def truth():
    """Helioprojective (x, y) of the centre of the field in each frame."""
    from stillsun.sky.observer import rotate_with_sun

    return rotate_with_sun((283.0, -298.0), TIMES[0], TIMES, Site())


@pytest.fixture(scope="module")
def image(disk_path, truth):
    return sun.cut(read_fulldisk(disk_path), truth[0], 0.9, SHAPE, SCALE[::-1])


def store(path, rows, values, attributes=None):
    fields = {
        k: Field(np.shape(v)[1:] if rows else np.shape(v), np.asarray(v).dtype.name, stack=rows > 0)
        for k, v in values.items()
    }
    with create_store(path, Layout(rows, fields, attributes or {}), "x") as writer:
        for name, value in values.items():
            writer.write(name, value)
    return StoreReader(path)


def solar(path, truth, image, disk_path, *, reference=None, motion=None, frames=None, sign=1, **options):
    """Run the stage with a match to the Sun; returns its product and notes."""
    path.mkdir(exist_ok=True)
    off = truth + OFF
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from sunpy.coordinates import HeliographicStonyhurst

    from stillsun.sky.observer import offline, telescope_frame

    places = []
    with offline():
        for time, point in zip(TIMES, off, strict=True):
            frame = telescope_frame(time, Site())
            at = SkyCoord(*(point * u.arcsec), frame=frame).transform_to(
                HeliographicStonyhurst(obstime=frame.obstime)
            )
            places.append((at.lat.to_value(u.deg), at.lon.to_value(u.deg)))
    lat, lon = np.array(places).T
    stack = np.stack([image] * 5) if frames is None else frames
    motion = np.zeros((5, 2), np.float32) if motion is None else motion
    # The tiles hold a part of the motion of the whole, and what is different from tile to tile.
    tiles = 0.25 * motion[:, :, None, None] + np.arange(-4, 5, dtype=np.float32).reshape(3, 3)
    inputs = {
        "bursts": store(
            path / "bursts.h5",
            5,
            {"time_avg": TIMES, "latitude": lat, "longitude": lon, "guider_angle": np.full(5, GUIDER)},
        ),
        # In camera orientation: a quarter turn away.
        "calibration": store(path / "calibration.h5", 0, {"plate_scale": np.array(SCALE)}),
        "speckle": store(path / "speckle.h5", 5, {"r0": np.array([0.12, 0.1, 0.1, 0.11, 0.1])}),
        "destretch": store(
            path / "destretch.h5",
            5,
            {
                "image": stack,
                "valid": np.ones(stack.shape, np.uint8),
                "shifts_0": 0.75 * motion,
                "shifts_64": tiles,
                "sharpness_after": np.ones(5),
            },
            {"kernels": [0, 64]},
        ),
    }
    product = path / "pointing.h5"

    config = {
        "engine": AlignEngine.hmi,
        "search_arcsec": 20.0,
        "max_rotation_deg": 0.75,
        "file": str(disk_path),
        **options,
    }
    ctx = context(
        "R" if reference is None else "S",
        path,
        inputs,
        config=AlignConfig(**config),
        settings=ChannelConfig(orientation=[Turn.rot90]),
        observation=ObservationConfig(telescope=TelescopeConfig(guider_sign=sign), reference_channel="R"),
        reference=None if reference is None else channel("R", path, {"pointing": reference}),
        writes=product,
    )
    run(ctx)
    return StoreReader(product), ctx.notes


def test_match_to_the_sun_gives_every_frame_its_pointing(tmp_path, truth, image, disk_path):
    product, notes = solar(tmp_path / "r", truth, image, disk_path)
    assert product.read("aligned")
    assert product.read("matched_frame")[0] == 0
    np.testing.assert_allclose(product.read("crval"), truth, atol=0.02)
    np.testing.assert_allclose(product.read("crota2"), 0.9, atol=0.05)
    assert (product.read("uncertainty") < 0.5).all()
    assert str(product.read("method")) == "matched to hmi.fits"
    assert notes == []
    assert (tmp_path / "r" / "align.png").stat().st_size > 10000
    # Another channel takes the solution, whatever its own log says.
    other, _ = solar(tmp_path / "s", truth + 50.0, image, disk_path, reference=product)
    np.testing.assert_allclose(other.read("crval"), product.read("crval"), atol=1e-6)
    np.testing.assert_allclose(other.read("crota2"), product.read("crota2"))
    assert other.read("aligned")
    assert not (tmp_path / "s" / "align.png").exists()


def test_the_same_match_has_the_same_bytes(tmp_path, truth, image, disk_path):
    for place in ("a", "b"):
        solar(tmp_path / place, truth, image, disk_path)
    for name in ("pointing.h5", "align.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_refused_match_leaves_the_log_and_says_what_to_try(tmp_path, truth, disk_path):
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 2.3)
    product, notes = solar(tmp_path / "r", truth, (4e4 * (1 + 0.4 * noise)).astype(np.float32), disk_path)
    assert not product.read("aligned")
    assert not product.read("match_accepted")[0]
    np.testing.assert_allclose(product.read("crval"), truth + OFF, atol=0.05)
    assert str(product.read("method")) == "telescope log"
    assert len(notes) == 1
    for key in ("align.pointing", "align.frame", "align.search_arcsec", "align.file"):
        assert key in notes[0]
    assert (tmp_path / "r" / "align.png").exists()


def test_a_pointing_by_hand_is_where_the_search_begins(tmp_path, truth, image, disk_path):
    far = [float(v) for v in truth[0] + 3.0]
    product, _ = solar(tmp_path / "r", truth + 300.0, image, disk_path, pointing=far, search_arcsec=8.0)
    assert product.read("aligned")
    np.testing.assert_allclose(product.read("crval"), truth, atol=0.02)


def test_open_sense_of_the_guider(tmp_path, truth, disk_path):
    image = sun.cut(read_fulldisk(disk_path), truth[0], -0.5, SHAPE, SCALE[::-1])
    product, notes = solar(tmp_path / "r", truth, image, disk_path, sign=0, max_rotation_deg=0.25)
    assert int(product.read("guider_sign")) == -1
    np.testing.assert_allclose(product.read("crota2"), -0.5, atol=0.05)
    assert any("-1 fits the Sun better" in n for n in notes)


def test_without_network_the_log_stays(tmp_path, truth, image, monkeypatch):
    from stillsun.errors import InputError
    from stillsun.stages import _solar

    def fail(time, cache):
        raise InputError("no full-disk image could be downloaded", remedy="Give one with align.file=PATH")

    monkeypatch.setattr(_solar, "fulldisk_near", fail)
    product, notes = solar(tmp_path / "r", truth, image, None, file=None)
    assert not product.read("aligned")
    assert str(product.read("method")) == "telescope log"
    assert any("align.file=PATH" in n and "telescope log" in n for n in notes)


def test_person_may_refuse(tmp_path, truth, image, disk_path, monkeypatch):
    from stillsun.stages import _solar

    opened = []
    monkeypatch.setattr(_solar.webbrowser, "open", opened.append)
    monkeypatch.setattr(_solar.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_solar.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    product, notes = solar(tmp_path / "r", truth, image, disk_path, verify=True)
    assert not product.read("aligned")
    assert len(opened) == 1
    assert any("a person refused" in n for n in notes)
    monkeypatch.setattr(_solar.sys.stdin, "isatty", lambda: False, raising=False)
    product, _ = solar(tmp_path / "s", truth, image, disk_path, verify=True)
    assert product.read("aligned")
    assert len(opened) == 1


def test_jump_of_the_field(tmp_path, truth, image, disk_path):
    """Destretch takes a jump out: one pointing. Where it does not, each part has its own."""
    disk = read_fulldisk(disk_path)
    step = np.array([6.0, 3.0])
    motion = np.zeros((5, 2), np.float32)
    motion[3:] = [-12.0, 5.0]
    product, notes = solar(tmp_path / "held", truth, image, disk_path, motion=motion)
    # What destretch moves by +motion had jumped by -motion.
    assert any("jumped by (-2.60, +6.60) arcsec" in n and "frame 3" in n for n in notes)
    assert product.shape("segment_point") == (2, 2)
    np.testing.assert_allclose(product.read("crval"), truth, atol=0.02)
    moved = sun.cut(disk, truth[0] + step, 0.9, SHAPE, SCALE[::-1])
    frames = np.stack([image] * 3 + [moved] * 2)
    product, _ = solar(tmp_path / "moved", truth, image, disk_path, motion=motion, frames=frames)
    np.testing.assert_allclose(product.read("crval")[:3], truth[:3], atol=0.02)
    np.testing.assert_allclose(product.read("crval")[3:], truth[3:] + step, atol=0.05)


def test_a_match_that_is_not_possible_is_the_same_with_a_file_as_with_a_download(
    tmp_path, truth, image, disk_path, monkeypatch
):
    from stillsun.stages import _solar

    monkeypatch.setattr("stillsun.sky.match._FEWEST_PX", 10_000)
    monkeypatch.setattr(_solar, "fulldisk_near", lambda time, cache: disk_path)
    for name, file in (("file", disk_path), ("cache", None)):
        product, notes = solar(tmp_path / name, truth, image, None, file=file)
        assert not product.read("aligned")
        (said,) = [n for n in notes if "not aligned to the Sun" in n]
        assert "too small for the full-disk image" in said


def test_an_image_of_another_day_is_refused(tmp_path, truth, image, tmp_path_factory):
    from stillsun.errors import InputError

    old = sun.write_disk(tmp_path_factory.mktemp("old") / "old.fits", later=-3 * 86400.0)
    with pytest.raises(InputError, match="not of the day"):
        solar(tmp_path / "r", truth, image, old)
