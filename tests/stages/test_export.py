"""Final files: everything a finished file must pass, on files that the stage wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import warnings
from datetime import datetime

import numpy as np
import pytest
import sunpy.map
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, get_earth, propagate_with_solar_surface
from tests._channels import context

from stillsun.config.schema import CameraConfig, ChannelConfig, ExportConfig, Missing, ObservationConfig, Turn
from stillsun.core.orient import Orientation
from stillsun.errors import InputError
from stillsun.io.store import Field, Layout, create_store
from stillsun.products.flags import Flag
from stillsun.sky.keywords import KEYWORDS
from stillsun.sky.pointing import MATCHED
from stillsun.sky.validate import check_header
from stillsun.stages.export import run

# A camera frame with more columns than rows, unequal scales, and a quarter turn among the turns.
CAMERA = (52, 64)
SCALE = (0.0601234, 0.0598765)
TURNS = [Turn.rot90, Turn.flipud]
FRAMES, PER_BURST, EXPOSURE = 3, 64, 0.010
START = Time("2025-09-03T14:21:52.4561").unix
INTERVAL = 0.0333
LATITUDE, LONGITUDE, GUIDER = -23.16, 51.40, 13.323
FIGURE_5 = """
SIMPLE BITPIX NAXIS NAXIS1 NAXIS2 BUNIT AUTHOR TELESCOP ORIGIN INSTRUME WAVE WAVEUNIT DATE STARTOBS
DATE-BEG ENDOBS DATE-END TEXPOSUR DATE-AVG CRVAL1 CRVAL2 CTYPE1 CTYPE2 CUNIT1 CUNIT2 CDELT1 CDELT2 CRPIX1
CRPIX2 CROTA2 SCINT LLVL SPKLALPH PRSTEP1 PRSTEP2 PRSTEP3 PRSTEP4
"""
FURTHER = """
EXTNAME FILENAME SOLARNET OBS_HDU DATE-OBS TIMESYS WCSAXES WCSNAME RSUN_REF DSUN_OBS HGLN_OBS HGLT_OBS
OBSGEO-X OBSGEO-Y OBSGEO-Z XPOSURE NSUMEXP BTYPE WAVELNTH OBSRVTRY DETECTOR CHECKSUM DATASUM HASH_SW
"""
OPTIONS = {
    "speckle": {"subfield_arcsec": 7.0, "processes": 2, "kisip": {"version": "0.6"}},
    "destretch": {
        "kernels": [0, 128, 64, 32, 12],
        "reference": "running",
        "window": 10,
        "repair_tolerance": 0.5,
        "preserve_flows": False,
        "interpolation": "lanczos4",
    },
}
MOTION = np.array([-2.0, 1.5])
ORIENTATION = Orientation.from_steps([t.value for t in TURNS])
SHAPE = ORIENTATION.shape(CAMERA)


class Night:
    """The stored products of one channel, and the stage that runs on them."""

    def __init__(self, path, *, log=True, registered=True, engine="masking", reference=True, frames=FRAMES,
                 disk=None):  # fmt: skip
        self.path, self.reference, self.frames = path, reference, frames
        rng = np.random.default_rng(11)
        self.oriented = rng.normal(20000, 1500, (frames, *SHAPE)).astype(np.float32)
        beg = START + np.arange(frames) * PER_BURST * INTERVAL
        known = 1.0 if log else np.nan
        self.time_avg = beg + 0.5 * ((PER_BURST - 1) * INTERVAL + EXPOSURE)
        self.stores = {
            "calibration": (
                0,
                {
                    "dark": np.full(CAMERA, 100, np.float32),
                    "bad_pixels": np.zeros(CAMERA, np.uint8),
                    "gain": np.ones(CAMERA, np.float32),
                    "plate_scale": np.array(SCALE),
                    "dark_frames": np.int64(256),
                    "flat_frames": np.int64(512),
                },
            ),
            "bursts": (
                frames,
                {
                    "time_beg": beg,
                    "time_avg": self.time_avg,
                    "time_end": beg + (PER_BURST - 1) * INTERVAL + EXPOSURE,
                    "frames_used": np.full(frames, PER_BURST),
                    "latitude": np.full(frames, LATITUDE * known),
                    "longitude": np.full(frames, LONGITUDE * known),
                    "guider_angle": np.full(frames, GUIDER * known),
                    "scintillation": np.full(frames, 0.483 * known),
                    "light_level": np.full(frames, 3.97 * known),
                    "solar_radius": np.full(frames, 951.2 * known),
                },
            ),
            "speckle": (
                frames,
                {
                    "image": np.stack([ORIENTATION.inverse().apply(f) for f in self.oriented]) + 1,
                    "alpha": np.full(frames, 0.1607),
                    "r0": np.full(frames, 0.1607 * 0.762),
                    "steadied": np.full(frames, 0.0312),
                },
            ),
            "destretch": (
                frames,
                {
                    "image": self.oriented,
                    "residual_px": np.full(frames, 0.2),
                    # A field moves by what all kernels say of it together.
                    "shifts_0": np.tile(MOTION[::-1] - 0.4, (frames, 1)),
                    **{f"shifts_{k}": np.full((frames, 2, 3, 3), 0.1) for k in (128, 64, 32, 12)},
                },
            ),
        }
        if registered:
            self.stores["registration"] = (
                0,
                {
                    "crpix": np.array([26.5, 32.5]) + (0.0 if reference else 3.3),
                    "plate_scale": np.array(ORIENTATION.plate_scale(SCALE)),
                    "rotation_deg": np.float64(0.0 if reference else 0.5),
                    "uncertainty": np.float64(0.0),
                    "accepted": np.uint8(1),
                },
            )
        if log:
            from stillsun.sky.observer import Site, observe
            from stillsun.sky.pointing import pointing_from_log

            full = [np.full(frames, v) for v in (LATITUDE, LONGITUDE, GUIDER)]
            self.pointing = pointing_from_log(*full, observe(self.time_avg, Site()), Site())
            self.stores["pointing"] = (
                frames,
                {
                    "crval": self.pointing.crval,
                    "crota2": self.pointing.crota2,
                    "uncertainty": self.pointing.uncertainty,
                    "method": self.pointing.method if disk is None else MATCHED + disk,
                    "aligned": np.uint8(disk is not None),
                },
            )
        for name, (rows, values) in self.stores.items():
            self._store(name, rows, values, engine)

    def _store(self, name, rows, values, engine):
        fields = {}
        for key, value in values.items():
            value = np.asarray(value)
            stack = rows > 0 and key not in ("method", "aligned")
            kind = "str" if value.dtype.kind == "U" else value.dtype.name
            fields[key] = Field(value.shape[1:] if stack else value.shape, kind, stack=stack)
        about = {
            "stage": {"calibration": "calibrate", "registration": "register"}.get(name, name),
            "program": "stillsun",
            "version": "0.1.0",
            "config": json.dumps(OPTIONS.get(name, {})),
            "engine": engine,
            "kernels": OPTIONS["destretch"]["kernels"],
        }
        with create_store(self.path / f"{name}.h5", Layout(rows, fields, about), "x") as store:
            for key, value in values.items():
                store.write(key, value)

    def export(self, digest="0123456789abcdef" * 2, **options):
        """Run the stage; returns its files."""

        ctx = context(
            "ROSA_GBAND",
            self.path / "ROSA_GBAND",
            {name: self.path / f"{name}.h5" for name in self.stores},
            config=ExportConfig(**options),
            settings=ChannelConfig(
                camera=CameraConfig(name="ROSA", model="Andor iXon"),
                wavelength_nm=430.5,
                wavelength_width_nm=0.92,
                filter="G band",
                plate_scale=list(SCALE),
                exposure_ms=1000 * EXPOSURE,
                orientation=TURNS,
            ),
            observation=ObservationConfig(
                name="20250903_142152",
                author="sellers",
                reference_channel="ROSA_GBAND" if self.reference else "ROSA_4170",
            ),
            progress=lambda done, total: self.seen.append((done, total)),
            digest=digest,
            provenance={"program": "stillsun", "version": "0.1.0", "hash": "0123abcd" * 5},
        )
        self.seen = []
        *files, self.table = run(ctx)
        return files


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    made = Night(tmp_path_factory.mktemp("night"))
    made.files = made.export(reconstructed=True)
    return made


@pytest.fixture(scope="module")
def file(night):
    return night.files[0]


def test_files_and_their_names(night):
    names = [str(f.relative_to(night.path / "ROSA_GBAND")) for f in night.files]
    frames = [f"rosa_gband_20250903_142152_{i:05d}.fits" for i in range(FRAMES)]
    assert names == [
        *(f"splineDestretch/{n}" for n in frames),
        *(f"postSpeckle/{n}" for n in frames),
        "ROSA_GBAND_dark.fits",
        "ROSA_GBAND_gain.fits",
    ]
    on_disk = {p for p in (night.path / "ROSA_GBAND").rglob("*") if p.is_file()}
    assert on_disk == {*night.files, night.path / "ROSA_GBAND" / "sequence.ecsv"}
    assert night.table.name == "sequence.ecsv"
    assert night.seen[-1] == (2 * FRAMES, 2 * FRAMES)


def test_one_hdu_with_right_checksums_and_the_right_pixels(night):
    for row, path in enumerate(night.files[:FRAMES]):
        with fits.open(path, checksum=True) as hdus:
            assert len(hdus) == 1
            assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
            hdus.verify("exception")
            data, header = hdus[0].data, hdus[0].header
            assert header["BITPIX"] == -32
            assert "BZERO" not in header
            np.testing.assert_array_equal(data, night.oriented[row])
            wide = data.astype(float)
            for key, value in (
                ("DATAMIN", wide.min()),
                ("DATAMAX", wide.max()),
                ("DATAMEAN", wide.mean()),
                ("DATAMEDN", np.median(wide)),
                ("DATARMS", wide.std()),
            ):
                assert header[key] == pytest.approx(value, rel=1e-7)


def test_the_table_has_a_row_for_each_image(night):
    path = night.path / "ROSA_GBAND" / "sequence.ecsv"
    table = Table.read(path)
    assert " ".join(table.colnames) == (
        "index file date_beg date_avg date_end r0_cm mfgs contrast residual_px scintillation light_level "
        "crval1 crval2 crota2 pointing_error exposures_used valid_share quality"
    )
    assert all(column.description for column in table.columns.values())
    assert [str(table[n].unit) for n in ("r0_cm", "crval1", "crota2", "scintillation")] == [
        "cm",
        "arcsec",
        "deg",
        "arcsec",
    ]
    assert list(table["index"]) == list(range(FRAMES))
    for row, file in zip(table, night.files, strict=False):
        header = fits.getheader(path.parent / row["file"])
        assert header["FILENAME"] == file.name
        assert (row["date_avg"], row["crval1"]) == (header["DATE-AVG"], header["CRVAL1"])
        middle = night.oriented[row["index"]][16:48, 13:39].astype(float)
        assert row["contrast"] == pytest.approx(middle.std() / middle.mean(), rel=1e-4)
        # White noise: the median of nine takes most of its gradient.
        assert 0.5 < row["mfgs"] < 0.8
    assert set(table["exposures_used"]) == {PER_BURST}
    np.testing.assert_allclose(table["pointing_error"], 20.0)
    np.testing.assert_allclose(table["residual_px"], 0.2)
    np.testing.assert_allclose(table["valid_share"], 1.0)
    assert set(table["quality"]) == {0}
    assert table.meta["channel"] == "ROSA_GBAND"
    before = path.read_bytes(), path.stat().st_mtime_ns
    night.export(reconstructed=True)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("missing", Missing)
def test_pixels_from_nowhere(tmp_path, missing):
    night = Night(tmp_path, frames=3)
    valid = np.ones((3, *SHAPE), np.uint8)
    valid[0, :4] = 0
    valid[1, :20] = 0
    valid[2] = 0  # destretch did not move this one
    (tmp_path / "destretch.h5").unlink()
    night._store("destretch", 3, night.stores["destretch"][1] | {"valid": valid}, "masking")
    files = night.export(missing=missing, reconstructed=True)
    total = valid[0].size
    for row, count in enumerate((4 * SHAPE[1], 20 * SHAPE[1], 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data, header = sunpy.map.Map(files[row]).data, fits.getheader(files[row])
        assert (header["NTOTPIX"], header["NMASKPIX"]) == (total, count)
        assert header["PCT_MASK"] == pytest.approx(100 * count / total, rel=1e-4)
        kept = valid[row].astype(bool) if count else np.ones(SHAPE, bool)
        np.testing.assert_array_equal(data[kept], night.oriented[row][kept])
        assert np.isnan(data).sum() == (count if missing is Missing.nan else 0)
        wide = night.oriented[row][kept].astype(float)
        assert header["DATAMIN"] == pytest.approx(wide.min(), rel=1e-7)
        assert header["DATAMEAN"] == pytest.approx(wide.mean(), rel=1e-7)
        assert header["DATARMS"] == pytest.approx(wide.std(), rel=1e-7)
        assert bool(header["QUALITY"] & Flag.many_missing) == (row == 1)
        with fits.open(files[row], checksum=True) as hdus:
            assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
    np.testing.assert_allclose(Table.read(night.table)["valid_share"], 1 - np.array([4, 20, 0]) / SHAPE[0])
    assert np.isfinite(fits.getdata(files[3])).all()


def test_flags_say_what_is_wrong_with_an_image(tmp_path):
    night = Night(tmp_path, frames=4, log=False, reference=False, registered=False)
    more = {
        "destretch": {
            "match": np.array([0, 1, 2, 3], np.uint8),
            "residual_px": np.array([0.1, 0.1, 0.6, 0.1]),
        },
        "speckle": {
            "exposures": np.array([PER_BURST, PER_BURST, 20, PER_BURST]),
            **{f"time_{k}": night.stores["bursts"][1][f"time_{k}"] for k in ("beg", "avg", "end")},
        },
        "bursts": {"light_level": np.array([4.0, 4.0, 4.0, 2.0])},
    }
    for name, values in more.items():
        rows, known = night.stores[name]
        (tmp_path / f"{name}.h5").unlink()
        night._store(name, rows, known | values, "masking")
    headers = [fits.getheader(f) for f in night.export()[:4]]
    all_of_them = {Flag.not_pointed, Flag.not_registered}
    found = [{f for f in Flag if h["QUALITY"] & f} - all_of_them for h in headers]
    assert found == [{Flag.unlike}, {Flag.poor}, {Flag.unsteady, Flag.few_exposures}, {Flag.dim}]
    assert all(h["QUALITY"] & Flag.not_pointed and h["QUALITY"] & Flag.not_registered for h in headers)
    assert [h["NEXPLOST"] for h in headers] == [0, 0, PER_BURST - 20, 0]
    assert [h["DSRESID"] for h in headers] == [0.1, 0.1, 0.6, 0.1]
    assert [h["IMG_NUM"] for h in headers] == [0, 1, 2, 3]
    assert headers[0]["CADMIN"] == pytest.approx(headers[0]["CADMAX"], abs=2e-4)


def test_reconstructed_frames_are_oriented_and_know_no_destretch(night):
    with fits.open(night.files[FRAMES]) as hdus:
        np.testing.assert_array_equal(hdus[0].data, night.oriented[0] + 1)
        assert hdus[0].header["LEVEL"] == "1"
        assert "CRDER1" not in hdus[0].header
        assert "DESTRETCHING" not in hdus[0].header["PRSTEP*"].values()
        # Content that destretch moved by +shift lay that much before.
        after = fits.getheader(night.files[0])
        for axis, shift in enumerate(MOTION, start=1):
            assert hdus[0].header[f"CRPIX{axis}"] == pytest.approx(after[f"CRPIX{axis}"] - shift, abs=1e-5)


def test_solar_alignment_is_a_step_with_its_image(tmp_path):
    night = Night(tmp_path, disk="hmi.fits")
    header = fits.getheader(night.export()[0])
    number = len(header["PRSTEP*"])
    assert header[f"PRSTEP{number}"] == "SOLAR-ALIGN"
    assert header[f"PRREF{number}"] == "hmi.fits"
    assert re.search(
        r"POINTING UPDATED ON \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$", str(header["COMMENT"]), re.MULTILINE
    )
    assert check_header(header) == []


def test_every_keyword_is_there(file):
    header = fits.getheader(file)
    assert [k for k in (FIGURE_5 + FURTHER).split() if k not in header] == []
    assert not [k for k in header if re.fullmatch(r"(PC|CD)\d_\d", k)]
    assert check_header(header) == []
    assert header["FILENAME"] == file.name
    assert header["EXTNAME"] == header["DETECTOR"] == "ROSA_GBAND"
    assert (header["NSUMEXP"], header["EXPFRAME"], header["XPOSURE"]) == (64, 0.01, 0.64)
    assert (header["SCINT"], header["LLVL"], header["RSUN_ARC"]) == (0.483, 3.97, 951.2)
    assert (header["SPKLALPH"], header["ATMOS_R0"]) == (0.1607, pytest.approx(12.245, abs=1e-3))
    assert header["SPKLFLIK"] == 0.0312
    assert header["POINT_ID"] == "20250903_142152"
    assert header["CADENCE"] == pytest.approx(64 * INTERVAL, abs=1e-4)
    order = [k.name for k in KEYWORDS if k.name in header]
    assert [k for k in header if k in order] == order
    assert all(len(line) == 80 for line in header.tostring(sep="\n", padding=False).splitlines())


def test_scale_and_reference_pixel_of_an_unequal_sensor(file):
    header = fits.getheader(file)
    # The quarter turn swaps the axes: 52 columns, 64 rows, and the scales with them, not rounded.
    assert (header["NAXIS1"], header["NAXIS2"]) == (52, 64)
    assert (header["CRPIX1"], header["CRPIX2"]) == (26.5, 32.5)
    assert (header["CDELT1"], header["CDELT2"]) == (SCALE[1], SCALE[0])
    assert header["CRDER1"] == pytest.approx(0.2 * SCALE[1] / np.sqrt(2), rel=0.01)
    assert header["CRDER2"] == pytest.approx(0.2 * SCALE[0] / np.sqrt(2), rel=0.01)


def test_times(file):
    header = fits.getheader(file)
    span = 63 * INTERVAL + EXPOSURE
    assert header["DATE-BEG"] == header["DATE-OBS"] == header["STARTOBS"] == "2025-09-03T14:21:52.456"
    # The end is that of the last exposure, not its start, and not the first one's.
    assert header["DATE-END"] == header["ENDOBS"] == Time(START + span, format="unix").isot
    assert header["DATE-AVG"] == Time(START + span / 2, format="unix").isot
    for key in ("OBS", "BEG", "AVG", "END"):
        assert header[f"MJD-{key}"] == pytest.approx(Time(header[f"DATE-{key}"]).mjd, abs=1e-10)
    assert Time(header["DATE-END"]) - Time(header["DATE-BEG"]) >= header["XPOSURE"] * u.s
    datetime.strptime(header["DATE"], "%Y-%m-%dT%H:%M:%S")


def test_processing_steps(file):
    header = fits.getheader(file)
    assert list(header["PRSTEP*"].values()) == [
        "DARK-SUBTRACTION,FLATFIELDING",
        "SPECKLE-DECONVOLUTION",
        "ALIGN TO SOLAR NORTH",
        "DESTRETCHING",
    ]
    assert header.comments["PRSTEP4"] == "stillsun 0.1.0"
    assert header["PRPARA1"] == "dark_frames=256; flat_frames=512"
    assert header["PRPROC2"] == "stillsun"
    assert header["PRMODE2"] == "speckle masking"
    assert header["PRPARA2"] == "subfield_arcsec=7.0"
    assert header["PRPARA4"] == (
        "kernels=0,128,64,32,12; reference=running; window=10; repair_tolerance=0.5; preserve_flows=False; "
        "interpolation=lanczos4"
    )
    assert header["PRPARA3"] == f"turns={ORIENTATION.text}"


@pytest.mark.parametrize(
    ("engine", "step", "program", "version"),
    [
        ("kisip", "SPECKLE-DECONVOLUTION", "KISIP", "0.6"),
        ("none", "SPATIAL-ALIGNMENT,SUMMING", "stillsun", "0.1.0"),
    ],
)
def test_steps_name_the_engine(tmp_path, engine, step, program, version):
    header = fits.getheader(Night(tmp_path, engine=engine, frames=1).export()[0])
    assert (header["PRSTEP2"], header["PRPROC2"], header["PRPVER2"]) == (step, program, version)
    assert header.comments["PRSTEP2"].startswith(f"{program} {version}")


@pytest.mark.parametrize(
    ("options", "program", "version"),
    [
        ({"executable": "entry", "name": None, "version": None}, "entry", None),
        ({"executable": "entry", "name": None, "version": "0.6"}, "KISIP", "0.6"),
        ({"executable": "other", "name": None, "version": "2"}, "other", "2"),
        ({"executable": "entry", "name": "NEWSP", "version": None}, "NEWSP", None),
    ],
)
def test_an_external_program_has_the_name_that_it_is_given(tmp_path, monkeypatch, options, program, version):
    monkeypatch.setitem(OPTIONS["speckle"], "kisip", options)
    header = fits.getheader(Night(tmp_path, engine="kisip", frames=1).export()[0])
    assert (header["PRPROC2"], header.get("PRPVER2")) == (program, version)


def test_exposures_that_were_left_out_are_not_in_the_header(tmp_path):
    night = Night(tmp_path, frames=2)
    beg = START + INTERVAL * np.array([2.0, PER_BURST])
    more = {
        "exposures": np.array([PER_BURST - 3, PER_BURST]),
        "time_beg": beg,
        "time_avg": beg + 0.95,
        "time_end": beg + 2.0,
    }
    rows, values = night.stores["speckle"]
    (tmp_path / "speckle.h5").unlink()
    night._store("speckle", rows, values | more, "masking")
    header = fits.getheader(night.export()[0])
    assert header["NSUMEXP"] == PER_BURST - 3
    assert header["XPOSURE"] == header["TEXPOSUR"] == pytest.approx((PER_BURST - 3) * EXPOSURE)
    for key, moment in (("BEG", beg[0]), ("AVG", beg[0] + 0.95), ("END", beg[0] + 2.0)):
        said = np.datetime64(header[f"DATE-{key}"], "us").astype(np.int64) / 1e6
        assert said == pytest.approx(moment, abs=1e-3)
        assert header[f"MJD-{key}"] == pytest.approx(moment / 86400 + 40587, abs=1e-8)


def test_registered_channel(tmp_path):
    header = fits.getheader(Night(tmp_path, reference=False, frames=1).export()[0])
    assert (header["CRPIX1"], header["CRPIX2"]) == (29.8, 35.8)
    assert header["CROTA2"] == pytest.approx(0.523)
    assert (header["PRSTEP5"], header["PRREF5"]) == ("CHANNEL-REG", "ROSA_4170")
    assert "PRSTEP6" not in header


def test_a_registration_by_hand_is_a_step_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIONS, "registration", {"offset": [1.0, 2.0]})
    header = fits.getheader(Night(tmp_path, reference=False, frames=1).export()[0])
    assert (header["PRSTEP5"], header["PRMODE5"]) == ("CHANNEL-REG", "given by hand")


def test_the_target_is_also_there_as_the_frames_are_turned(tmp_path):
    night = Night(tmp_path, frames=1)
    rows, values = night.stores["calibration"]
    target = np.random.default_rng(3).normal(900, 50, CAMERA).astype(np.float32)
    (tmp_path / "calibration.h5").unlink()
    night._store("calibration", rows, values | {"target": target}, "masking")
    night.export()
    found = tmp_path / "ROSA_GBAND" / "ROSA_GBAND_orientation_target.fits"
    np.testing.assert_array_equal(fits.getdata(found), ORIENTATION.apply(target))
    np.testing.assert_array_equal(fits.getdata(found.with_name("ROSA_GBAND_target.fits")), target)
    assert ORIENTATION.text in str(fits.getheader(found)["COMMENT"])
    night.export(calibration=False, digest="f" * 32)
    Night(tmp_path, frames=1).export(calibration=False, digest="f" * 32)
    assert not found.exists()


def test_astropy_and_sunpy_agree_silently(night, file):
    header = fits.getheader(file)
    wcs = WCS(header)
    assert wcs.wcs.cdelt == pytest.approx([SCALE[1] / 3600, SCALE[0] / 3600])
    map_ = sunpy.map.Map(file)
    corners = np.array([[1.0, 1.0], [52.0, 1.0], [1.0, 64.0], [52.0, 64.0], [26.5, 32.5]])
    world = wcs.all_pix2world(corners, 1) * 3600
    sky = map_.pixel_to_world(*(corners.T - 1) * u.pix)
    np.testing.assert_allclose(
        sky.Tx.to_value(u.arcsec), (world[:, 0] + 648000) % 1296000 - 648000, atol=1e-9
    )
    np.testing.assert_allclose(sky.Ty.to_value(u.arcsec), world[:, 1], atol=1e-9)
    back = map_.world_to_pixel(sky)
    np.testing.assert_allclose([back.x.value, back.y.value], corners.T - 1, atol=1e-6)
    # The reference value lies at the reference pixel.
    np.testing.assert_allclose(
        [sky.Tx[4].to_value(u.arcsec), sky.Ty[4].to_value(u.arcsec)], night.pointing.crval[0], atol=1e-4
    )
    assert (map_.exposure_time, map_.wavelength) == (0.64 * u.s, 430.5 * u.nm)
    assert map_.detector == "ROSA_GBAND"
    assert map_.rsun_meters == 696000 * u.km
    assert map_.coordinate_frame.observer is not None
    assert map_.reference_date.isot == header["DATE-AVG"]


def test_coordinates_are_those_of_the_telescope_log(night, file):
    map_ = sunpy.map.Map(file)
    point = SkyCoord(
        HeliographicStonyhurst(
            LONGITUDE * u.deg, LATITUDE * u.deg, 696000 * u.km, obstime=map_.reference_date
        )
    ).transform_to(map_.coordinate_frame)
    pixel = map_.world_to_pixel(point)
    # 0.01 px is 0.6 mas.
    np.testing.assert_allclose([pixel.x.value, pixel.y.value], [25.5, 31.5], atol=0.01)
    assert map_.observer_coordinate.separation_3d(get_earth(map_.reference_date)) < 6400 * u.km


def hmi_like(when: Time) -> sunpy.map.GenericMap:
    """A small full disk seen from Earth, upside down as HMI is, with a bright patch where the log points."""
    n, scale = 300, 7.0
    earth = get_earth(when)
    frame = Helioprojective(observer=earth, obstime=when, rsun=696000 * u.km)
    header = sunpy.map.make_fitswcs_header(
        (n, n),
        SkyCoord(0 * u.arcsec, 0 * u.arcsec, frame=frame),
        reference_pixel=[150, 150] * u.pix,
        scale=[scale, scale] * u.arcsec / u.pix,
        rotation_angle=179.9 * u.deg,
        instrument="HMI",
        wavelength=6173 * u.AA,
    )
    empty = sunpy.map.Map(np.zeros((n, n)), header)
    spot = SkyCoord(
        HeliographicStonyhurst(LONGITUDE * u.deg, LATITUDE * u.deg, 696000 * u.km, obstime=when)
    ).transform_to(frame)
    at = empty.world_to_pixel(spot)
    y, x = np.indices((n, n))
    return sunpy.map.Map(np.exp(-((x - at.x.value) ** 2 + (y - at.y.value) ** 2) / 2 / 3**2), header)


def test_full_disk_image_reprojects_onto_the_frame(file):
    map_ = sunpy.map.Map(file)
    disk = hmi_like(map_.reference_date - 20 * u.s)
    with propagate_with_solar_surface():
        there = disk.reproject_to(map_.wcs, algorithm="interpolation", order="bicubic").data
    assert np.isfinite(there).all()
    # The patch, 3 pixels of 7 arcsec wide, is centred on the field: the gradient there vanishes.
    y, x = np.indices(there.shape)
    curve = np.polynomial.polynomial.polyvander2d(
        (x - 25.5).ravel() * SCALE[1], (y - 31.5).ravel() * SCALE[0], [2, 2]
    )[:, [0, 1, 2, 3, 6]]
    fit = np.linalg.lstsq(curve, np.log(there).ravel(), rcond=None)[0]
    offset = [-fit[3] / 2 / fit[4], -fit[1] / 2 / fit[2]]
    np.testing.assert_allclose(offset, [0.0, 0.0], atol=0.3)


def test_it_rotates_and_plots(file, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    map_ = sunpy.map.Map(file)
    turned = map_.rotate()
    assert turned.rotation_matrix == pytest.approx(np.eye(2), abs=1e-12)
    figure = pyplot.figure()
    axes = figure.add_subplot(projection=map_)
    map_.plot(axes=axes)
    map_.draw_grid(axes=axes)
    figure.savefig(tmp_path / "map.png")
    pyplot.close(figure)
    assert (tmp_path / "map.png").stat().st_size > 10000


@pytest.mark.parametrize("kind", ["frame", "calibration", "unknown pointing"])
def test_fitsverify_finds_nothing(night, tmp_path, kind):
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian package fitsverify)")
    path = {"frame": night.files[0], "calibration": night.files[-1]}.get(kind)
    if path is None:
        path = Night(tmp_path, log=False, registered=False, frames=1).export()[0]
    done = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert "found 0 warning(s) and 0 error(s)" in done.stdout, done.stdout
    assert done.returncode == 0


def test_without_log_and_registration(tmp_path):
    path = Night(tmp_path, log=False, registered=False, reference=False, frames=1).export()[0]
    header = fits.getheader(path)
    assert [k for k in ("SCINT", "LLVL", "RSUN_ARC") if k in header] == []
    assert (header["CRVAL1"], header["CRVAL2"], header["POINTSRC"]) == (0.0, 0.0, "unknown")
    # The error is larger than the Sun: nobody can take the centre for the truth.
    assert header["CSYER1"] > header["RSUN_OBS"]
    assert "POINTING UNKNOWN" in str(header["COMMENT"])
    assert "NOT REGISTERED" in str(header["COMMENT"])
    assert "CHANNEL-REG" not in header["PRSTEP*"].values()
    assert check_header(header) == []
    assert sunpy.map.Map(path).scale.axis1.to_value("arcsec/pix") == SCALE[1]


def test_without_the_stage_align_the_log_still_tells_the_pointing(tmp_path):
    night = Night(tmp_path, frames=2)
    (tmp_path / "pointing.h5").unlink()
    del night.stores["pointing"]
    for row, path in enumerate(night.export(calibration=False)):
        header = fits.getheader(path)
        assert header["POINTSRC"] == "telescope log"
        assert header["CSYER1"] == 20.0
        assert header["CRVAL1"] == pytest.approx(night.pointing.crval[row, 0], abs=1e-4)
        assert header["CROTA2"] == pytest.approx(GUIDER - 13.3, abs=1e-6)


def test_calibration_images_stay_in_camera_orientation(night):
    with fits.open(night.path / "ROSA_GBAND" / "ROSA_GBAND_dark.fits", checksum=True) as hdus:
        header = hdus[0].header
        assert hdus[0].data.shape == CAMERA
        assert (header["BTYPE"], header["BUNIT"], header["LEVEL"]) == ("Dark", "DN", "0.5")
        assert ORIENTATION.text in str(header["COMMENT"])
        assert "CTYPE1" not in header
    assert "BUNIT" not in fits.getheader(night.files[-1])


def test_a_measured_plate_scale_is_written_as_text_too(tmp_path):
    night = Night(tmp_path, frames=1)
    path = tmp_path / "ROSA_GBAND" / "plate_scale.txt"
    for source, there in (("configured", False), ("line grid", True), ("line grid", True)):
        rows, values = night.stores["calibration"]
        (tmp_path / "calibration.h5").unlink()
        night._store("calibration", rows, values | {"plate_scale_source": np.array(source)}, "masking")
        files = night.export()
        assert (path in files) is there
        assert path.is_file() is there
    np.testing.assert_allclose(np.loadtxt(path), SCALE, atol=1e-8)
    night.export(calibration=False)
    assert not path.exists()


def state(directory):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.rglob("*.fits")}


def test_running_twice_changes_no_byte(tmp_path):
    night = Night(tmp_path)
    files = night.export(reconstructed=True)
    before = state(tmp_path)
    assert night.export(reconstructed=True) == files
    assert state(tmp_path) == before


def test_interrupted_export_goes_on(tmp_path):
    night = Night(tmp_path)
    files = night.export()
    before = state(tmp_path)
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:-5000])
    left = files[0].with_name(files[0].name + ".part")
    left.write_bytes(b"SIMPLE")
    night.export()
    after = state(tmp_path)
    assert after.keys() == before.keys()
    assert not left.exists()
    for path in set(before) - set(files[1:3]):
        assert after[path] == before[path]
    assert fits.getdata(files[2]).shape == SHAPE


def test_products_made_again_are_exported_again(tmp_path):
    old = {p: fits.getheader(p) for p in Night(tmp_path, disk="hmi.fits").export()}
    assert "SOLAR-ALIGN" in next(iter(old.values()))["PRSTEP*"].values()
    # The same digest, but nobody is there this time to accept the match.
    assert set(Night(tmp_path).export()) == set(old)
    for path in old:
        header = fits.getheader(path)
        assert "SOLAR-ALIGN" not in header["PRSTEP*"].values()
        assert header["DIGEST"] == old[path]["DIGEST"]


def test_new_content_replaces_and_removes_old_files(tmp_path):
    night = Night(tmp_path)
    old = night.export(reconstructed=True)
    foreign = old[0].parent / "notes.fits"
    foreign.write_bytes(b"mine")
    shorter = Night(tmp_path, frames=2)
    shorter.oriented[:] = 5.0
    files = shorter.export(digest="f" * 32, calibration=False)
    assert sorted(p.name for p in old[0].parent.iterdir()) == ["notes.fits", *(f.name for f in files)]
    assert not (tmp_path / "ROSA_GBAND" / "postSpeckle").exists()
    assert not list((tmp_path / "ROSA_GBAND").glob("*.fits"))
    assert all(fits.getheader(f)["DIGEST"] == "f" * 32 for f in files)


def test_what_another_run_asked_for_stays_while_it_is_true(tmp_path, caplog):
    night = Night(tmp_path, frames=2)
    night.export(reconstructed=True)
    left = state(tmp_path)
    night.export(calibration=False, digest="f" * 32)
    kept = state(tmp_path)
    for path, was in left.items():
        assert path in kept
        assert (kept[path] == was) == (path.parent.name != "splineDestretch")
    assert "removed" not in caplog.text
    Night(tmp_path, frames=2).export(calibration=False)
    assert re.search(r"ROSA_GBAND: removed 2 files of an earlier reduction.*postSpeckle", caplog.text)


def test_pixels_that_are_not_finite_are_refused(tmp_path):
    night = Night(tmp_path, frames=2)
    bad = night.oriented.copy()
    bad[1, 3, 4] = np.nan
    night._store("destretch", 2, night.stores["destretch"][1] | {"image": bad}, "masking")
    with pytest.raises(InputError, match=r"00001\.fits.*finite"):
        night.export()
    assert len(list((tmp_path / "ROSA_GBAND" / "splineDestretch").glob("*.fits"))) == 1


def test_headers_of_a_sequence_are_quick(tmp_path):
    """A 2500th of a minute is 24 ms; small frames leave the header, the check and the file."""
    night = Night(tmp_path, frames=40)
    start = time.process_time()
    night.export(calibration=False)
    assert (time.process_time() - start) / 40 < 0.024
