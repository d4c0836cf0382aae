"""Coordinates from raw files to headers: channels that wander, a lock that jumps, the Sun found."""

from __future__ import annotations

import dataclasses
import re

import h5py
import numpy as np
import pytest
import sunpy.map
from astropy import units as u
from astropy.io import fits
from tests.regression.conftest import products, reduce

from stillsun.synth.observation import simulate
from stillsun.synth.settings import SimulationSettings

JUMP = np.array([0.576, -0.432])  # arcsec: 12 pixels
DRIFT = np.array([0.15, -0.10])  # arcsec: 3 pixels
OFF = np.array([8.5, -5.5])  # the log's error, arcsec
BURSTS, FIRST_AFTER, FRAMES = 10, 5, 8
TO_EXPORT = "stages=[calibrate,assemble,speckle,destretch,register,align,export]"
# Channels that see the same granulation, unequal in everything else; offset of 40 px.
TURNED = {"rotation_deg": -1.2, "offset_arcsec": (1.9, -1.5)}


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    settings = SimulationSettings.preset(
        "small", ["ROSA_GBAND", "ROSA_4170"], bursts=BURSTS, frames_per_burst=FRAMES, dark_frames=8,
        flat_frames=16, fiducial_frames=4, r0_m=0.14, ao_modes=20, seed=7, drift_arcsec=tuple(DRIFT),
        relock=(FIRST_AFTER * FRAMES * 0.033, *JUMP), pointing_error_arcsec=tuple(OFF),
        guider_error_deg=0.0,
    )  # fmt: skip
    first, second = settings.channels
    channels = (
        dataclasses.replace(first, shape=(392, 400)),
        dataclasses.replace(second, shape=(360, 352), **TURNED),
    )
    out = tmp_path_factory.mktemp("wandering") / "observation"
    simulate(out, dataclasses.replace(settings, channels=channels))
    return out


@pytest.fixture(scope="module")
def aligned(observation):
    (disk,) = (observation / "hmi").glob("*.fits")
    overrides = (
        TO_EXPORT,
        "speckle=none",
        "align=hmi",
        f"align.file={disk}",
        "align.search_arcsec=20",
        "export.reconstructed=true",
    )
    assert reduce(observation, observation / "work", *overrides) == 0
    return observation / "work"


def truth(observation, channel):
    with h5py.File(observation / "truth.h5") as file:
        return {**file.attrs, **file[channel].attrs}


def headers(work, channel, directory="splineDestretch"):
    return [fits.getheader(p) for p in sorted((work / channel / directory).glob("*.fits"))]


def notes(work):
    return (work / "stillsun.log").read_text()


def middle(header):
    """Where the middle of a frame lies, arcsec."""
    blank = np.zeros((header["NAXIS2"], header["NAXIS1"]), np.float32)
    point = sunpy.map.Map(blank, header).pixel_to_world(*((n - 1) / 2 * u.pix for n in blank.shape[::-1]))
    return np.array([point.Tx.to_value(u.arcsec), point.Ty.to_value(u.arcsec)])


def turned(degrees, vector):
    turn = np.radians(degrees)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ vector


def test_a_jump_is_found_at_its_frame_and_both_sides_point_right(observation, aligned):
    assert re.search(r"the field jumped by \(-0\.5[6-9], \+0\.4[1-5]\) arcsec", notes(aligned))
    assert f"at frame {FIRST_AFTER}," in notes(aligned)
    facts = truth(observation, "ROSA_GBAND")
    finals = headers(aligned, "ROSA_GBAND")
    start = np.array(facts["pointing_arcsec"])
    for header in finals:
        # Destretch holds the field: the pixel that sees the reference point stays, and so does the point.
        assert header["CRPIX1"] == finals[0]["CRPIX1"]
        np.testing.assert_allclose((header["CRVAL1"], header["CRVAL2"]), start, atol=0.15)
        assert header["CROTA2"] == pytest.approx(facts["crota2_deg"], abs=0.1)
        assert header["CSYER1"] < 0.3
    before = headers(aligned, "ROSA_GBAND", "postSpeckle")
    moved = np.array([middle(h) - middle(before[0]) for h in before])
    jump = turned(facts["crota2_deg"], JUMP)
    np.testing.assert_allclose(np.median(moved[:FIRST_AFTER], axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(np.median(moved[FIRST_AFTER:], axis=0), jump, atol=0.05)


def test_a_drift_of_three_pixels_is_recovered(observation, aligned):
    with h5py.File(aligned / "ROSA_4170" / "registration.h5") as file:
        section = file["register"]
        rate, error = section["held_rate"][()], section["held_rate_error"][()]
        left = section["drift_rate"][()]
    seconds = BURSTS * FRAMES * 0.033
    np.testing.assert_allclose((rate + left) * seconds, DRIFT, atol=0.3 * 0.06)
    assert (error * seconds < 0.02).all()
    assert "wandered against the reference channel's" in notes(aligned)


def test_channels_lie_on_each_other_before_and_after_destretch(observation, aligned):
    facts = truth(observation, "ROSA_4170")
    for directory, wandering in (("splineDestretch", 0.0), ("postSpeckle", 1.0)):
        own, other = (headers(aligned, c, directory) for c in ("ROSA_4170", "ROSA_GBAND"))
        for row in (0, BURSTS - 1):
            offset = facts["offset_arcsec"] + wandering * row / BURSTS * DRIFT
            expected = turned(facts["crota2_deg"], offset)
            np.testing.assert_allclose(middle(own[row]) - middle(other[row]), expected, atol=0.03)
            angle = own[row]["CROTA2"] - other[row]["CROTA2"]
            assert angle == pytest.approx(facts["rotation_deg"], abs=0.02)


def test_register_and_align_again_change_nothing(observation, aligned):
    left = {k: v[0] for k, v in products(aligned).items()}
    (disk,) = (observation / "hmi").glob("*.fits")
    again = ("align=hmi", f"align.file={disk}", "align.search_arcsec=20", "speckle=none")
    for _ in range(2):
        assert reduce(observation, aligned, "stages=[register,align]", "force=[register,align]", *again) == 0
    now = {k: v[0] for k, v in products(aligned).items()}
    assert now == left


def test_a_channel_alone_is_reduced_without_the_reference_and_registered_once_that_is_there(
    simulated, tmp_path
):
    work = tmp_path / "work"
    alone, reference = "channels=[HARDCAM]", "channels=[ROSA_GBAND]"
    assert reduce(simulated, work, TO_EXPORT, "speckle=none", alone) == 0
    assert "the reference channel is not reduced; reduce it" in notes(work)
    assert "the reference channel has no pointing" in notes(work)
    (first, *_) = headers(work, "HARDCAM")
    assert first["CSYER1"] > 20
    assert "CHANNEL-REG" not in first.values()
    assert reduce(simulated, work, TO_EXPORT, "speckle=none", reference) == 0
    left = {k: v for k, v in products(work).items() if "ROSA_GBAND" in k}
    assert reduce(simulated, work, TO_EXPORT, "speckle=none", alone) == 0
    (first, *_) = headers(work, "HARDCAM")
    assert "CHANNEL-REG" in first.values()
    # What the reference channel has is read, not made.
    assert {k: v for k, v in products(work).items() if "ROSA_GBAND" in k} == left
