"""Spool files with ``acquisitionmetadata.ini`` beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.io import _rawfiles

from stillsun.errors import InputError
from stillsun.io.hardcam import open_hardcam
from stillsun.io.rawdirectory import find_sequences

SHAPE = (20, 30)
INI = (
    "\ufeff[data]\r\nAOIHeight = {rows}\r\nAOIWidth = {columns}\r\nAOIStride = {stride}\r\n"
    "PixelEncoding = {encoding}\r\nImageSizeBytes = {size}\r\n\r\n"
    "[multiimage]\r\nImagesPerFile = {images}\r\n"
)


def _write(directory, frames, images=1, **changes):
    """Rows of 68 bytes, 20 of them and 40 bytes behind them, as many images a file as wanted."""
    directory.mkdir(parents=True, exist_ok=True)
    told = {"rows": 20, "columns": 30, "stride": 68, "encoding": "Mono16", "size": 1400, "images": images}
    text = INI.format(**(told | changes))
    (directory / "acquisitionmetadata.ini").write_bytes(text.encode())
    for number in range(0, len(frames), images):
        content = b""
        for frame in frames[number : number + images]:
            lines = np.zeros((20, 34), dtype="<u2")
            lines[:, :30] = frame
            content += lines.tobytes() + b"\7" * 40
        (directory / _rawfiles.spool_name(number // images)).write_bytes(content)
    return sorted(directory.glob("*.dat"))


@pytest.fixture
def frames():
    return np.random.default_rng(4).integers(1, 65536, (12, *SHAPE), dtype=np.uint16)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("shape", [None, SHAPE])
def test_the_file_beside_them_states_how_images_lie_in_spool_files(tmp_path, frames, images, shape):
    paths = _write(tmp_path / "data", frames, images)
    source = open_hardcam(paths, shape, start=_rawfiles.START, interval_s=0.5)
    np.testing.assert_array_equal(source.read(0, 12), frames)
    np.testing.assert_array_equal(source.read(4, 9), frames[4:9])
    seconds = (source.start_times - _rawfiles.START) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, 0.5 * np.arange(12))
    (sequence,) = find_sequences(tmp_path).sequences
    assert (sequence.shape, sequence.frames) == (SHAPE, 12)
    np.testing.assert_allclose(sequence.sample(3), frames[:3].mean(axis=0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "Mono32"}, "expected Mono16 or Mono12; found Mono32"),
        ({"encoding": "Mono12Packed"}, "found Mono12Packed"),
        ({"rows": 10**12}, "do not fit together"),
        ({"stride": 58}, "do not fit together"),
        ({"images": 10**9}, "do not fit together"),
        ({"rows": "many"}, "damaged"),
        ({"size": 2800}, "spool files of another size; expected 2800 bytes"),
    ],
)
def test_what_it_contradicts_is_refused(tmp_path, frames, changes, words):
    paths = _write(tmp_path / "data", frames, **changes)
    with pytest.raises(InputError, match=words):
        open_hardcam(paths, SHAPE)
    (sequence,) = find_sequences(tmp_path).sequences
    assert sequence.shape is None
    assert any("acquisitionmetadata.ini" in note for note in sequence.notes)


def test_a_real_file():
    """Of an Andor camera (fujiisoup/sif_parser, testings/spool_data), with 800 bytes behind the image."""
    path = Path(__file__).parent.parent / "data" / "andor" / "0000000000spool.dat"
    source = open_hardcam([path])
    image = np.fromfile(path, dtype="<u2", count=40000).reshape(200, 200)
    np.testing.assert_array_equal(source.read(0, 1)[0], image)
    with pytest.raises(InputError, match="200 rows x 200 columns"):
        open_hardcam([path], (201, 200))


def test_a_size_that_the_configuration_states_otherwise_is_refused(tmp_path, frames):
    paths = _write(tmp_path / "data", frames)
    with pytest.raises(InputError, match=r"acquisitionmetadata\.ini: .*20 rows x 30 columns.*\[30, 20\]"):
        open_hardcam(paths, (30, 20))


def test_numbers_of_files_size_nothing(tmp_path, frames):
    """A file numbered ten thousand million: its exposure is late, and that is all."""
    paths = _rawfiles.write_hardcam(tmp_path, frames[:3])
    paths[2] = paths[2].rename(tmp_path / "9999999999spool.dat")
    source = open_hardcam(paths, SHAPE, start=_rawfiles.START, interval_s=0.01)
    np.testing.assert_array_equal(source.read(0, 3), frames[:3])
    assert any("2-9999999998 (9999999997 in all)" in text for text in source.findings)
    with pytest.raises(InputError, match="not the name of a spool file"):
        open_hardcam([tmp_path / ("9" * 40 + "spool.dat")], SHAPE)
