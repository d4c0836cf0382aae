"""A whole simulated observation, looked at from outside: geometry, times, log, full disk, repeatability."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path

import astropy.units as u
import h5py
import numpy as np
import pytest
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.io import fits
from scipy.ndimage import gaussian_filter
from sunpy.coordinates import (
    HeliographicStonyhurst,
    Helioprojective,
    get_earth,
    propagate_with_solar_surface,
    sun,
)

from stillsun.config.compose import load_settings
from stillsun.errors import ConfigError
from stillsun.synth import ephemeris
from stillsun.synth.channels import rotation
from stillsun.synth.fulldisk import write_fulldisk
from stillsun.synth.granulation import DarkSpot
from stillsun.synth.observation import simulate
from stillsun.synth.scene import granulation_scene
from stillsun.synth.settings import SimulationSettings
from stillsun.synth.slides import ARCSEC_PER_MM, line_grid, target
from stillsun.synth.telescope import GUIDER_ZERO_DEG, MountState

SMALLEST = {
    "bursts": 2,
    "frames_per_burst": 5,
    "dark_frames": 6,
    "flat_frames": 7,
    "fiducial_frames": 2,
    "frames_per_file": 4,
    "fulldisk_pixels": 256,
}


@pytest.fixture(scope="module")
def settings():
    return SimulationSettings.preset("tiny", seed=4, **SMALLEST)


@pytest.fixture(scope="module")
def observation(settings, tmp_path_factory):
    calls = []
    out = tmp_path_factory.mktemp("simulated") / "night"
    path = simulate(out, settings, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] == len(calls)
    return path.parent


def digests(directory: Path) -> dict[str, str]:
    return {
        str(f.relative_to(directory)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(directory.rglob("*"))
        if f.is_file() and f.name != "observation.yaml"
    }


def rosa_frames(observation: Path, pattern: str) -> tuple[np.ndarray, list[str]]:
    images, dates = [], []
    for file in sorted((observation / "level0" / "das1").glob(pattern)):
        with fits.open(file) as hdus:
            images += [hdu.data.astype(float) for hdu in hdus[1:]]
            dates += [hdu.header["DATE"] for hdu in hdus[1:]]
    return np.array(images), dates


def spool_frames(observation: Path, kind: str, shape: tuple[int, int]) -> np.ndarray:
    files = sorted(
        (observation / "level0").glob(f"*_ZYLA/DBJ_data_*_{kind}/*spool.dat"), key=lambda f: f.name[:10][::-1]
    )
    padded = shape[0] + 2, shape[1] + 12
    return np.array([np.fromfile(f, np.uint16).reshape(padded) for f in files])[:, : shape[0], : shape[1]]


def test_configuration_composes_and_points_to_the_files(observation, settings):
    run = load_settings([f"observation_file={observation / 'observation.yaml'}"]).run
    assert list(run.observation.channels) == ["ROSA_GBAND", "HARDCAM"]
    assert run.observation.reference_channel == "ROSA_GBAND"
    assert Path(run.observation.telescope_log).is_file()
    counts = {"data": 10, "dark": 6, "flat": 7, "target": 2, "linegrid": 2}
    for name, channel in run.observation.channels.items():
        for role, count in counts.items():
            files = getattr(channel, role)
            found = list((Path(run.observation.raw_dir) / files.directory).glob(files.pattern))
            rosa_files = -(-count // 4)
            assert len(found) == (
                rosa_files if name.startswith("ROSA") else settings_count(settings, role, count)
            )
        assert channel.assemble["frames_per_burst"] == 5


def settings_count(settings, role, count):
    return settings.frame_count(settings.channels[1]) if role == "data" else count


def test_frame_times(observation, settings):
    _, dates = rosa_frames(observation, "das1_rosa_2025-09-03_14.21.52_*.fit")
    expected = [settings.start + timedelta(milliseconds=33 * n) for n in range(1, 11)]
    assert [datetime.fromisoformat(d) for d in dates] == expected
    run = load_settings([f"observation_file={observation / 'observation.yaml'}"]).run
    assert datetime.fromisoformat(run.observation.channels["HARDCAM"].start) == expected[0]
    with h5py.File(observation / "truth.h5") as truth:
        middle = 0.033 * np.arange(1, 11) + 0.003
        np.testing.assert_allclose(truth["ROSA_GBAND/time"], middle)
        np.testing.assert_allclose(truth["HARDCAM/time"][:2], [0.033 + 0.0147, 0.033 + 0.0441])


@pytest.mark.parametrize("channel", ["ROSA_GBAND", "HARDCAM"])
def test_calibrated_frames_are_the_truth_seen_through_the_air(observation, channel):
    """Dark and gain of the truth undo the chip; the burst's mean is the blurred truth."""
    with h5py.File(observation / "truth.h5") as truth:
        group = truth[channel]
        dark, gain, image = group["dark"][:], group["gain"][:], group["image"][:]
        good = ~(group["dead"][:] | group["hot"][:])
        level, light = group.attrs["level_dn"], group["transparency"][:5]
    if channel == "ROSA_GBAND":
        raw = rosa_frames(observation, "das1_rosa_2025-09-03_14.21.52_*.fit")[0][:5]
    else:
        raw = spool_frames(observation, "observation", dark.shape)[:5].astype(float)
    frames = (raw - dark) / np.maximum(gain, 1e-6) / level / light[:, None, None]
    assert image.shape == (2, *dark.shape)
    mean = np.where(good, frames.mean(axis=0), image[0])
    assert mean.mean() == pytest.approx(image[0].mean(), rel=0.01)
    assert mean.std() < image[0].std()
    inner = (slice(20, -20), slice(20, -20))
    soft = gaussian_filter(image[0], 8)
    assert np.corrcoef(gaussian_filter(mean, 8)[inner].ravel(), soft[inner].ravel())[0, 1] > 0.8


def test_darks_and_flats_show_the_chip(observation):
    darks, _ = rosa_frames(observation, "das1_rosa_dark_*.fit")
    flats, _ = rosa_frames(observation, "das1_rosa_flat_*.fit")
    assert (len(darks), len(flats)) == (6, 7)
    with h5py.File(observation / "truth.h5") as truth:
        dark, gain = truth["ROSA_GBAND/dark"][:], truth["ROSA_GBAND/gain"][:]
        good = ~(truth["ROSA_GBAND/dead"][:] | truth["ROSA_GBAND/hot"][:])
    assert np.std((darks.mean(axis=0) - dark)[good]) < 4 / np.sqrt(6)
    flat = flats.mean(axis=0) - darks.mean(axis=0)
    flat /= flat[good].mean()
    assert np.std((flat - gain)[good]) < 0.015
    assert np.corrcoef(flat[good], gain[good])[0, 1] > 0.85


def test_geometry_of_every_channel(tmp_path):
    """Dots at known places of the sky are found where scale, orientation, offset and angle put them."""
    scale, size = 0.05, 700
    dots = np.array([(0.0, 2.6), (2.1, -1.2), (-2.4, -0.7)])  # arcsec, x and y
    y, x = (np.indices((size, size)) - size // 2) * scale
    # A constant border would be cropped.
    data = np.random.default_rng(0).normal(1, 1e-3, (size, size)).astype(np.float32)
    for dx, dy in dots:
        data -= 0.6 * np.exp(-0.5 * ((x - dx) ** 2 + (y - dy) ** 2) / 0.25**2)
    fits.PrimaryHDU(data).writeto(tmp_path / "dots.fits")
    settings = SimulationSettings.preset(
        "tiny",
        ["ROSA_GBAND", "ROSA_4170", "ROSA_CAK", "HARDCAM"],
        scene=tmp_path / "dots.fits",
        scene_scale=scale,
        flow_km_s=0.0,
        r0_m=50.0,
        crota2_deg=2.5,
        **(SMALLEST | {"bursts": 1, "frames_per_burst": 1, "dark_frames": 1, "flat_frames": 1}),
    )
    out = simulate(tmp_path / "night", settings).parent
    turns = {"rot90": np.rot90, "flipud": np.flipud, "fliplr": np.fliplr, "flip": np.flip}
    for setup in settings.channels:
        with h5py.File(out / "truth.h5") as truth:
            group = truth[setup.name]
            dark, gain = group["dark"][:], group["gain"][:]
            good, level = ~(group["dead"][:] | group["hot"][:]), group.attrs["level_dn"]
        if setup.is_rosa:
            (file,) = (out / "level0" / setup.computer).glob(f"{setup.computer}_rosa_2025-09-03_14.21*")
            raw = fits.getdata(file, 1).astype(float)
        else:
            raw = spool_frames(out, "observation", dark.shape)[0].astype(float)
        image = np.where(good, (raw - dark) / np.maximum(gain, 1e-6) / level, 1.0)
        steps = setup.orientation
        for step in steps:
            image = turns[step](image)
        sx, sy = setup.plate_scale if steps.count("rot90") % 2 == 0 else setup.plate_scale[::-1]
        rows, columns = np.indices(image.shape)
        place = np.stack([(columns - (image.shape[1] - 1) / 2) * sx, (rows - (image.shape[0] - 1) / 2) * sy])
        sky = (
            np.tensordot(rotation(setup.rotation_deg), place, 1)
            + np.array(setup.offset_arcsec)[:, None, None]
        )
        sky = np.tensordot(rotation(2.5), sky, 1)
        for dot in dots:
            near = np.hypot(sky[0] - dot[0], sky[1] - dot[1]) < 0.9
            weight = np.clip(np.median(image) - image, 0.05, None)[near] - 0.05
            centre = (sky[:, near] * weight).sum(axis=1) / weight.sum()
            np.testing.assert_allclose(centre, dot, atol=0.03, err_msg=setup.name)


def test_log_as_a_plain_parser_reads_it(observation, settings):
    values: dict[str, list[str]] = {}
    (log,) = (observation / "level0").glob("dcss_*.txt")
    for line in log.read_text().splitlines():
        key, _, rest = line.partition("=")
        values.setdefault(key.strip(), []).append(rest.split("/")[0].strip().strip("'"))
    times = np.array(values["DST_TIME"], dtype="datetime64[ms]")
    assert (np.diff(times) == np.timedelta64(1, "s")).all()
    assert times[0] < np.datetime64(settings.start) < times[-1]
    assert len({len(v) for v in values.values()}) == 1
    now = int(np.argmin(np.abs(times - np.datetime64(settings.start))))
    instant = times[now].item()
    assert float(values["DST_GDRN"][now]) - GUIDER_ZERO_DEG == pytest.approx(
        settings.crota2_deg + settings.guider_error_deg
    )
    earth = get_earth(instant)
    assert float(values["DST_SDIM"][now]) == pytest.approx(
        2 * np.degrees(np.arcsin(696000.0 / earth.radius.to_value(u.km))) * 3600, abs=0.1
    )
    point = SkyCoord(
        float(values["DST_SLNG"][now]) * u.deg,
        float(values["DST_SLAT"][now]) * u.deg,
        696000 * u.km,
        frame=HeliographicStonyhurst(obstime=instant),
    ).transform_to(Helioprojective(observer=earth, obstime=instant, rsun=696000 * u.km))
    with h5py.File(observation / "truth.h5") as truth:
        x, y = truth.attrs["pointing_arcsec"]
    assert point.Tx.to_value(u.arcsec) - x == pytest.approx(settings.pointing_error_arcsec[0], abs=0.1)
    assert point.Ty.to_value(u.arcsec) - y == pytest.approx(settings.pointing_error_arcsec[1], abs=0.1)
    assert all(re.fullmatch(r"[A-Z0-9_]{1,8} *= +\S+ / .+", line) for line in log.read_text().splitlines())


def test_ephemeris_against_sunpy():
    time = datetime(2025, 9, 3, 14, 21, 52)
    view, earth = ephemeris.sun_view(time), get_earth(time)
    assert view.latitude == pytest.approx(earth.lat.to_value(u.deg), abs=0.003)
    assert view.distance == pytest.approx(earth.radius.to_value(u.m), rel=1e-4)
    assert view.carrington == pytest.approx(sun.L0(time).to_value(u.deg), abs=0.01)
    base = SkyCoord(
        17.6 * u.deg, -11.3 * u.deg, 696000 * u.km, frame=HeliographicStonyhurst(obstime=time)
    ).transform_to(Helioprojective(observer=earth, obstime=time, rsun=696000 * u.km))
    later = time + timedelta(hours=1)
    with propagate_with_solar_surface():
        moved = base.transform_to(
            Helioprojective(observer=get_earth(later), obstime=later, rsun=696000 * u.km)
        )
    longitude = ephemeris.carried(-11.3, 17.6, time, later)
    x, y = ephemeris.to_helioprojective(-11.3, longitude, later)
    assert x == pytest.approx(moved.Tx.to_value(u.arcsec), abs=0.1)
    assert y == pytest.approx(moved.Ty.to_value(u.arcsec), abs=0.1)
    assert ephemeris.to_stonyhurst(x, y, later) == pytest.approx((-11.3, longitude), abs=1e-6)


def test_fulldisk_image_is_a_silent_map_with_the_spot_in_its_place(tmp_path):
    settings = SimulationSettings.preset("tiny", fulldisk_pixels=2048)
    scene = granulation_scene(50.0, 1, spots=[DarkSpot(6.0, -4.0, 6.0)])
    time = settings.start + timedelta(seconds=20)
    pointing = MountState(settings).pointing(time)
    path = write_fulldisk(tmp_path, settings, scene, pointing, 24.0, time)
    image = sunpy.map.Map(path)
    assert type(image).__name__ == "HMIMap"
    assert image.observer_coordinate.lat.to_value(u.deg) == pytest.approx(7.22, abs=0.02)
    assert abs((image.reference_date.utc.datetime - time).total_seconds()) < 0.01
    rows, columns = np.indices(image.data.shape)
    # A spot in the middle of limb darkening: the darkest spot within the field.
    column, row = image.wcs.world_to_pixel(
        SkyCoord(*(pointing + np.array([6.0, -4.0])) * u.arcsec, frame=image.coordinate_frame)
    )
    near = np.hypot(rows - row, columns - column) < 9
    weight = np.where(near, np.clip(0.8 * np.median(image.data[near]) - image.data, 0, None), 0)
    assert (
        np.hypot((weight * rows).sum() / weight.sum() - row, (weight * columns).sum() / weight.sum() - column)
        < 0.7
    )
    middle = image.data[1024 - 20 : 1024 + 20, 1024 - 20 : 1024 + 20].mean()
    limb = image.wcs.world_to_pixel(SkyCoord(0 * u.arcsec, 900 * u.arcsec, frame=image.coordinate_frame))
    assert 0.4 < image.data[int(limb[1]), int(limb[0])] / middle < 0.65
    assert np.isnan(image.data[0, 0])


def test_slides():
    axis = np.arange(-8, 8, 0.02)
    x, y = np.meshgrid(axis, axis)
    grid = line_grid(x, y, turn_deg=0.0)
    profile = grid.mean(axis=0)
    lines = np.flatnonzero(
        (profile[1:-1] < profile[:-2]) & (profile[1:-1] <= profile[2:]) & (profile[1:-1] < 0.3)
    )
    groups = np.split(lines, np.flatnonzero(np.diff(lines) > 5) + 1)
    spacing = np.diff([g.mean() for g in groups]) * 0.02
    np.testing.assert_allclose(spacing, ARCSEC_PER_MM, atol=0.03)
    picture = target(x, y)
    shapes = [np.rot90(f, k) for f in (picture, picture[:, ::-1]) for k in range(4)]
    alike = [np.corrcoef(picture.ravel(), s.ravel())[0, 1] for s in shapes[1:]]
    assert max(alike) < 0.6
    assert 0.02 < np.mean(picture < 0.5) < 0.5


def test_same_settings_same_bytes_whatever_the_threads(observation, settings, tmp_path):
    again = simulate(tmp_path / "again", dataclasses.replace(settings, threads=1)).parent
    here, there = digests(observation), digests(again)
    assert "truth.h5" in here
    assert here == there


def test_a_place_that_is_in_use_is_refused(tmp_path, settings):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        simulate(tmp_path, settings)
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        simulate(tmp_path / "new", settings)


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError) as caught:
        SimulationSettings.preset("tiny", bursts=0, r0_m=-1.0)
    assert len(caught.value.findings) == 2
    with pytest.raises(ConfigError, match="unknown channel"):
        SimulationSettings.preset("tiny", ["ROSA_XBAND"])
    with pytest.raises(ConfigError, match="a channel stands twice"):
        SimulationSettings.preset("tiny", ["HARDCAM", "HARDCAM"])
    with pytest.raises(ConfigError, match="unknown size"):
        SimulationSettings.preset("huge")


def test_a_cloud_dims_frames_and_log_alike(tmp_path):
    settings = SimulationSettings.preset(
        "tiny", ["ROSA_GBAND"], seed=4, cloud=(0.2, 0.4), cloud_transmission=0.5, **SMALLEST
    )
    simulate(tmp_path / "night", settings)
    with h5py.File(tmp_path / "night" / "truth.h5") as file:
        time, light = file["ROSA_GBAND/time"][:], file["ROSA_GBAND/transparency"][:]
    behind = (time > 0.22) & (time < 0.38)
    assert 0 < behind.sum() < time.size
    np.testing.assert_allclose(light[behind], 0.5, atol=0.02)
    np.testing.assert_allclose(light[(time < 0.2) | (time > 0.4)], 1.0, atol=0.02)
    assert MountState(settings).light_level(0.3) == pytest.approx(2.0, abs=0.05)
