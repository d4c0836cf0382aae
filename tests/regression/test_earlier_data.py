"""Frames of the superseded system as input: destretch, alignment and export go on from them."""

from __future__ import annotations

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits
from astropy.wcs import WCS
from tests.regression.conftest import products, reduce

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.config.schema import AssembleConfig, ChannelConfig
from stillsun.io.legacy_fits import read_facts
from stillsun.stages._earlierfiles import times_of

CHANNELS = ("ROSA_GBAND", "HARDCAM")
# Cards that SSOSoft's files have, of those that stillsun's have.
KEPT = (
    "TELESCOP", "STARTOBS", "DATE-BEG", "ENDOBS", "DATE-END", "DATE-AVG", "CTYPE1", "CTYPE2", "CUNIT1",
    "CUNIT2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "CRPIX1", "CRPIX2", "CROTA2", "SCINT", "LLVL",
    "SPKLALPH",
)  # fmt: skip
FROM_DESTRETCH = ("speckle=fits", "stages=[destretch,align,export]")
FIRST = (("DARK-SUBTRACTION,FLATFIELDING", "SS0soft"), ("SPECKLE-DECONVOLUTION", "KISIP v0.6"))
LATER = (
    ("ALIGN TO SOLAR NORTH", "SS0soft"),
    ("DESTRETCHING", "pyDestretch"),
    ("CHANNEL-REG", "Register to ROSA_GBAND"),
    ("SOLAR-ALIGN", "Correct solar coords."),
    ("SOLAR-ALIGN", "Correct solar coords."),
)


def old_files(reduced, directory, product, steps):
    """What SSOSoft would have left of this reduction: frames of a store in its FITS files."""
    for channel in CHANNELS:
        (directory / channel).mkdir(parents=True)
        finals = sorted((reduced / channel / "splineDestretch").glob("*.fits"))
        with h5py.File(reduced / channel / f"{product}.h5") as store:
            for final, image in zip(finals, store["image"][:], strict=True):
                hdu, header = fits.PrimaryHDU(image.astype(">f4")), fits.getheader(final)
                for key in KEPT:
                    hdu.header[key] = header[key]
                hdu.header["DATE"] = "2025-10-07T09:37:15"
                if channel == "HARDCAM":
                    for key in ("DATE-AVG", "DATE-END", "ENDOBS"):
                        hdu.header[key] = header["DATE-BEG"]
                for n, (kind, comment) in enumerate(steps, start=1):
                    hdu.header[f"PRSTEP{n}"] = (kind, comment)
                hdu.writeto(directory / channel / final.name)
    return directory


def go_on(simulated, directory, work, *overrides):
    given = [
        f"observation.channels.{c}.reconstructed={{directory: {directory / c}, pattern: '*.fits'}}"
        for c in CHANNELS
    ]
    raw = [f"observation.channels.{c}.{role}.pattern=null" for c in CHANNELS for role in ("data", "target")]
    return reduce(simulated, work, *FROM_DESTRETCH, *given, *raw, *overrides)


def finals(work, channel):
    return sorted((work / channel / "splineDestretch").glob("*.fits"))


def kinds(header):
    return [v for k, v in header.items() if k.startswith("PRSTEP")]


def test_reconstructed_frames_are_destretched_and_placed_like_ones_reconstructed_here(
    simulated, reduced, tmp_path
):
    old = old_files(reduced, tmp_path / "old", "speckle", FIRST)
    work = tmp_path / "work"
    assert go_on(simulated, old, work, "observation.telescope_log=null") == 0
    for channel in CHANNELS:
        for new, before in zip(finals(work, channel), finals(reduced, channel), strict=True):
            header, expected = fits.getheader(new), fits.getheader(before)
            # Headers have milliseconds: times, by which motions are smoothed, differ by some microseconds.
            np.testing.assert_allclose(fits.getdata(new), fits.getdata(before), rtol=2e-6)
            assert header["DATE-BEG"] == expected["DATE-BEG"]
            middle = [header["NAXIS1"] / 2, header["NAXIS2"] / 2]
            seen, meant = (WCS(h).wcs_pix2world([middle], 0)[0] * 3600 for h in (header, expected))
            np.testing.assert_allclose(seen, meant, atol=0.03)
            assert abs(header["MJD-AVG"] - expected["MJD-AVG"]) * 86400 < 0.02
            for key in ("CRVAL1", "CRVAL2", "CSYER1"):
                assert header[key] == pytest.approx(expected[key], abs=0.02)
            for key in ("SCINT", "LLVL", "SPKLALPH", "XPOSURE", "NSUMEXP"):
                assert header[key] == pytest.approx(expected[key])
            assert header["POINTSRC"] == "earlier headers"
            assert kinds(header) == [*(k for k, _ in FIRST), "ALIGN TO SOLAR NORTH", "DESTRETCHING"]
            assert header["PRPROC2"] == "KISIP v0.6"
            assert header["PRPROC4"] == "stillsun"
            sunpy.map.Map(new).wcs  # noqa: B018
    # A second run of the same command does nothing.
    left = products(work)
    assert go_on(simulated, old, work, "observation.telescope_log=null") == 0
    assert products(work) == left


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0.4, 1.0)),
        ({"DATE-END": "2099-01-01T00:00:00"}, (0.4, 0.8)),
        ({"DATE-END": "never"}, (0.4, 0.8)),
        ({"DATE-END": "2025-09-03T14:00:00"}, (0.4, 0.8)),
        ({"DATE-AVG": "2025-09-03T15:00:00"}, (0.5, 1.0)),
        ({"DATE-AVG": "2025-09-03T15:00:00", "DATE-END": "x"}, (0.0475, 0.095)),
    ],
)
def test_one_bad_time_does_not_spoil_a_good_one(tmp_path, changes, expected):
    cards = {"DATE-BEG": "2025-09-03T14:21:52.000", "DATE-AVG": "2025-09-03T14:21:52.400",
             "DATE-END": "2025-09-03T14:21:53.000", "NSUMEXP": 10, **changes}  # fmt: skip
    hdu = fits.PrimaryHDU(np.ones((8, 8), np.float32))
    hdu.header.update(cards)
    hdu.writeto(tmp_path / "a.fits")
    settings = ChannelConfig(exposure_ms=5.0, frame_interval_ms=10.0)
    ctx = SimpleNamespace(config=AssembleConfig(), settings=settings, note=lambda said: None)
    begin, mean, end, _ = times_of(ctx, [read_facts(tmp_path / "a.fits")])
    assert (mean - begin, end - begin) == pytest.approx(expected, abs=1e-6)


def test_what_was_done_already_is_not_done_again(simulated, reduced, tmp_path, capsys):
    old = old_files(reduced, tmp_path / "old", "destretch", FIRST + LATER)
    work = tmp_path / "work"
    assert go_on(simulated, old, work, "export.reconstructed=true") == 0
    for channel in CHANNELS:
        for new, before in zip(finals(work, channel), finals(reduced, channel), strict=True):
            header = fits.getheader(new)
            known = np.isfinite(fits.getdata(before))
            assert known.mean() > 0.9
            np.testing.assert_array_equal(fits.getdata(new)[known], fits.getdata(before)[known])
            # Coordinates are made anew; the steps of the pixels stay as they were written.
            assert kinds(header) == [k for k, _ in (FIRST + LATER)[:4]]
            assert header["PRPROC4"] == "pyDestretch"
            assert header["CRVAL1"] == pytest.approx(fits.getheader(before)["CRVAL1"], abs=0.01)
        with h5py.File(work / channel / "destretch.h5") as store:
            assert not store["shifts_0"][:].any()
    assert "destretched already" in (work / "stillsun.log").read_text()
    assert "set reconstructed.turned=false" in (work / "stillsun.log").read_text()


def test_a_step_that_was_written_too_early_is_seen_in_the_shape_or_said_by_hand(simulated, reduced, tmp_path):
    # GBAND is not square, so that its frames tell; HARDCAM's are, and a person must.
    old = old_files(reduced, tmp_path / "old", "speckle", (*FIRST, LATER[0]))
    work = tmp_path / "work"
    by_hand = "observation.channels.HARDCAM.reconstructed.turned=false"
    assert go_on(simulated, old, work, by_hand) == 0
    for channel in CHANNELS:
        for new, before in zip(finals(work, channel), finals(reduced, channel), strict=True):
            np.testing.assert_allclose(fits.getdata(new), fits.getdata(before), rtol=2e-6)
    assert "have the shape of the camera: they are turned now" in (work / "stillsun.log").read_text()


def test_channels_are_registered_by_calibrated_target_images(simulated, reduced, tmp_path):
    old = old_files(reduced, tmp_path / "old", "speckle", FIRST)
    work = tmp_path / "work"
    targets = [
        f"observation.channels.{c}.target={{directory: {reduced / c}, pattern: '{c}_target.fits'}}"
        for c in CHANNELS
    ]
    for c in CHANNELS:
        with h5py.File(reduced / c / "calibration.h5") as store:
            x, y = store["plate_scale"][()]
        targets.append(f"observation.channels.{c}.plate_scale=[{x},{y}]")
    assert go_on(simulated, old, work, "stages=[destretch,register,align,export]", *targets) == 0
    with (
        h5py.File(reduced / "HARDCAM" / "registration.h5") as before,
        h5py.File(work / "HARDCAM" / "registration.h5") as after,
    ):
        for name in ("translation", "rotation_deg", "accepted"):
            np.testing.assert_allclose(
                after[f"register/{name}"][()], before[f"register/{name}"][()], atol=0.01
            )
    assert kinds(fits.getheader(finals(work, "HARDCAM")[0]))[-1] == "CHANNEL-REG"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("mixed", "processed differently"),
        ("shape", "camera.shape"),
        ("time", "frame_interval_ms"),
    ],
)
def test_files_that_do_not_fit_are_named(simulated, reduced, tmp_path, capsys, change, expected):
    old = old_files(reduced, tmp_path / "old", "speckle", FIRST)
    path = sorted((old / "ROSA_GBAND").glob("*.fits"))[2]
    others = []
    if change == "shape":
        others = ["observation.channels.ROSA_GBAND.camera.shape=[100,120]"]
    with fits.open(path, mode="update") as hdus:
        if change == "mixed":
            hdus[0].header["PRSTEP3"] = "DESTRETCHING"
        elif change == "time":
            for key in ("STARTOBS", "DATE-BEG"):
                del hdus[0].header[key]
    assert go_on(simulated, old, tmp_path / "work", "channels=[ROSA_GBAND]", *others) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.real
def test_real_frames_of_2021(real_frame_path, tmp_path):
    directory = real_frame_path("gband").parent
    channels = {"ROSA_GBAND": ("gband", 33.0, 0), "ROSA_CAK": ("cak", 165.0, 1)}
    lines = [f"raw_dir: {directory}", f"work_dir: {tmp_path / 'work'}", "name: '20211022'", "defaults:"]
    lines += [f"  - /channel/{name.lower()}@channels.{name}" for name in channels]
    lines += ["channels:"]
    for name, (band, interval, ahead) in channels.items():
        lines += [
            f"  {name}:",
            "    plate_scale: [0.048, 0.048]",
            f"    frame_interval_ms: {interval}",
            f"    clock_offset_h: {ahead}",
            f"    reconstructed: {{pattern: '*_{band}_*.fits'}}",
        ]
    (tmp_path / "obs.yaml").write_text("\n".join(lines))
    arguments = [f"observation_file={tmp_path / 'obs.yaml'}", "backend=numpy", *FROM_DESTRETCH]
    assert load_settings(arguments).channels == ["ROSA_GBAND", "ROSA_CAK"]
    assert main(["run", *arguments, "align=none", "align.pointing=[120,-200]"]) == 0
    for name, (band, interval, _) in channels.items():
        first, second = finals(tmp_path / "work", name)
        with fits.open(first) as hdus:
            header, image = hdus[0].header, hdus[0].data
            assert "BZERO" not in header
            assert header["POINTSRC"] == "given by hand"
            # Of the first frame of the burst, in UTC for both computers.
            assert header["DATE-BEG"].startswith("2021-10-22T15:18:46")
            assert header["NSUMEXP"] == 64
            assert 0.1 < np.nanstd(image) / np.nanmean(image) < 0.2
        step = fits.getval(second, "MJD-AVG") - fits.getval(first, "MJD-AVG")
        assert step * 86400 == pytest.approx(64 * interval / 1000, abs=0.01)
        assert kinds(header)[0] == "DARK-SUBTRACTION,FLATFIELDING"
        sunpy.map.Map(first).wcs  # noqa: B018
        assert image.shape == fits.getdata(real_frame_path(band)).shape
