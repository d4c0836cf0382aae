"""Raw files read back by plain astropy and NumPy; header cards against those of a real frame."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from astropy.io import fits

from stillsun.synth.camera import Detector
from stillsun.synth.rawfiles import spool_name, write_rosa, write_spool

START = datetime(2021, 10, 22, 15, 18, 46)


def frames(count, shape=(12, 17)):
    rng = np.random.default_rng(count)
    values = rng.integers(0, 65536, (count, *shape), dtype=np.uint16)
    values[:, 0, :3] = 0, 32768, 65535
    return values


def test_rosa_files_are_valid_fits_with_the_pixels_in_order(tmp_path):
    written = frames(10)
    files = write_rosa(
        tmp_path, written, computer="das1", serial="2996", start=START, exposure_ms=6.0, interval_ms=33.0,
        frames_per_file=4,
    )  # fmt: skip
    assert [f.name for f in files] == [f"das1_rosa_2021-10-22_15.18.46_{k:04d}.fit" for k in range(3)]
    read, numbers = [], []
    for file in files:
        with fits.open(file) as hdus:
            hdus.verify("exception")
            assert hdus[0].data is None
            for hdu in hdus[1:]:
                assert hdu.data.dtype == np.uint16
                assert (hdu._orig_bitpix, hdu._orig_bzero) == (16, 32768)
                read.append(hdu.data.copy())
                numbers.append(int(hdu.header["FRAME NUMBER"]))
    np.testing.assert_array_equal(read, written)
    assert numbers == list(range(1, 11))


def test_rosa_kinds_have_their_names(tmp_path):
    for kind in ("dark", "flat"):
        (file,) = write_rosa(
            tmp_path, frames(1), computer="das3", serial="1", start=START, exposure_ms=60.0,
            interval_ms=165.0, kind=kind,
        )  # fmt: skip
        assert file.name == f"das3_rosa_{kind}_2021-10-22_15.18.46_0000.fit"


@pytest.mark.parametrize(
    ("band", "serial", "exposure", "interval"), [("gband", "2996", 6.0, 33.0), ("cak", "4325", 60.0, 165.0)]
)
def test_header_cards_are_those_of_a_real_frame(tmp_path, real_frame_path, band, serial, exposure, interval):
    start = START.replace(hour=16) if band == "cak" else START
    (file,) = write_rosa(
        tmp_path, frames(64), computer="das1", serial=serial, start=start, exposure_ms=exposure,
        interval_ms=interval,
    )  # fmt: skip
    real = fits.getheader(real_frame_path(band))
    simulated = fits.getheader(file, 64)
    for key in real:
        if key in ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND"):
            continue
        if key in ("FINISH X", "FINISH Y", "FRAME DELTA"):
            continue
        if key == "CAMERA TEMPERATURE":
            assert str(simulated.cards[key])[:30] == str(real.cards[key])[:30]
            continue
        # DATE of frame 64 among them: the trigger and 64 intervals.
        assert str(simulated.cards[key]) == str(real.cards[key]), key
    assert str(simulated.cards["FRAME DELTA"])[:24] == str(real.cards["FRAME DELTA"])[:24]
    assert list(simulated)[9:] == list(real)[10:]


def test_spool_files_least_significant_digit_first(tmp_path):
    assert [spool_name(n)[:10] for n in (0, 1, 9, 10, 123)] == [
        "0000000000", "1000000000", "9000000000", "0100000000", "3210000000",
    ]  # fmt: skip
    written = frames(12, (10, 14))
    write_spool(
        tmp_path, written, start=datetime(2025, 9, 3, 14, 21, 52), seconds=lambda number: 0.5 * number
    )
    names = sorted((f.name for f in tmp_path.iterdir()), key=lambda name: name[:10][::-1])
    for name, frame in zip(names, written, strict=True):
        raw = np.fromfile(tmp_path / name, dtype=np.uint16).reshape(12, 26)
        np.testing.assert_array_equal(raw[:10, :14], frame)
        assert not raw[10:].any()
        assert not raw[:, 14:].any()
    # 2025-09-03T14:21:54 UTC, two seconds after the first exposure.
    times = [(tmp_path / name).stat().st_mtime for name in names]
    np.testing.assert_allclose(times, 1756909314 + 0.5 * np.arange(len(names)), atol=1e-3)


def test_noise_of_the_detector():
    detector = Detector(
        (200, 220), [1], electrons=12000, read_noise=10, electrons_per_dn=2.9, bias=400, saturation=16383
    )
    rng = np.random.default_rng(1)
    stack = np.array([detector.expose(np.ones((200, 220), np.float32), rng) for _ in range(24)], dtype=float)
    assert stack.dtype == float
    good = ~(detector.dead | detector.hot)
    signal = (stack.mean(axis=0) - detector.dark) / detector.gain.clip(1e-6)
    assert signal[good].mean() * 2.9 == pytest.approx(12000, rel=1e-3)
    variance = stack.var(axis=0, ddof=1)[good].mean() * 2.9**2
    # Photons, read-out, and the rounding to whole DN.
    assert variance == pytest.approx(12000 * detector.gain[good].mean() + 100 + 2.9**2 / 12, rel=0.01)
    darks = np.array([detector.expose(None, rng) for _ in range(24)], dtype=float)
    np.testing.assert_allclose(darks.mean(axis=0)[good], detector.dark[good], atol=5)
    assert darks.var(axis=0, ddof=1).mean() * 2.9**2 == pytest.approx(100 + 2.9**2 / 12, rel=0.03)
    assert (stack[:, detector.dead].mean(axis=0) < 450).all()
    assert (detector.dark[detector.hot] > 550).all()


def test_saturation_clips():
    detector = Detector(
        (32, 32), [2], electrons=12000, read_noise=10, electrons_per_dn=0.5, bias=100, saturation=20000
    )
    frame = detector.expose(np.full((32, 32), 9.0, np.float32), np.random.default_rng(0))
    assert (frame[~detector.dead] == 20000).all()
