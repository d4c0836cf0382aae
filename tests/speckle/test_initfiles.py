"""Parameter files of the external program: exact text, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillsun.errors import InputError
from stillsun.speckle.kisip import initfiles
from stillsun.speckle.kisip.initfiles import FileParameters, MethodParameters, PropsParameters

FILE = FileParameters(
    Path("/data/work/preSpeckle/20250903_142152_gband_kisip.raw.batch.01"),
    7,
    42,
    Path("/data/work/speckle/20250903_142152_gband_kisip.speckle.batch.01"),
    Path("/data/work/preSpeckle/gband.noise"),
)
METHOD = MethodParameters(1, 5.0, 95.0, 10.0, 10.0, 30, 80.0, 1.2, 15.0, 1)
PROPS = PropsParameters(1004, 1002, 64, 0, 0.0599, 0.0603, 762.0, 430.5, -1, -1, 1)


def test_text_is_exact(tmp_path):
    initfiles.write_parameters(tmp_path, FILE, METHOD, PROPS)
    assert (tmp_path / "init_file.dat").read_bytes() == (
        b"/data/work/preSpeckle/20250903_142152_gband_kisip.raw.batch.01\n007\n042\n"
        b"/data/work/speckle/20250903_142152_gband_kisip.speckle.batch.01\n"
        b"/data/work/preSpeckle/gband.noise\n"
    )
    assert (tmp_path / "init_method.dat").read_bytes() == b"1\n5\n95\n10\n10\n30\n80\n1.2\n15\n1\n"
    assert (tmp_path / "init_props.dat").read_bytes() == (
        b"1004\n1002\n64\n0\n0.0599\n0.0603\n762\n430.5\n-1\n-1\n1\n"
    )


def test_values_come_back(tmp_path):
    initfiles.write_parameters(tmp_path, FILE, METHOD, PROPS)
    assert initfiles.read_parameters(tmp_path) == (FILE, METHOD, PROPS)


def test_values_written_by_hand_are_read():
    method = initfiles.parse_parameters("1\r\n5.0\n95\n10\n10\n30\n80\n1.30\n 15 \n0\n", MethodParameters)
    assert (method.subfield_arcsec, method.weight_exponent, method.apodisation) == (5.0, 1.3, 15)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\n5\n", "expected 10; found 2"),
        ("1\n5\n95\n10\n10\n30\n80\nmuch\n15\n1\n", "line 8 .*weight_exponent.*much"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, words):
    initfiles.write_parameters(tmp_path, FILE, METHOD, PROPS)
    (tmp_path / "init_method.dat").write_text(text)
    with pytest.raises(InputError, match=f"init_method.dat: .*{words}"):
        initfiles.read_parameters(tmp_path)
    (tmp_path / "init_method.dat").unlink()
    with pytest.raises(InputError, match=r"init_method.dat: .*not found"):
        initfiles.read_parameters(tmp_path)
