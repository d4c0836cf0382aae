"""The table of keywords, headers made from it, and the validator's findings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from stillsun.sky.header import HeaderTemplate, ProcessingStep, build_header, card_value
from stillsun.sky.keywords import KEYWORDS, TABLE, card_comment
from stillsun.sky.times import iso, mjd, mjd_of_text
from stillsun.sky.validate import check_header

STEPS = (
    ProcessingStep("DARK-SUBTRACTION,FLATFIELDING", "stillsun", "0.1.0"),
    ProcessingStep("ALIGN TO SOLAR NORTH", "stillsun", "0.1.0", vocabulary="DEROTATION"),
)
TIME = 1756909312.456


def complete():
    """A value of the right kind for every keyword."""
    kinds = {"text": "x", "int": 7, "float": 1.5, "bool": True}
    values = {k.name: kinds.get(k.kind) for k in KEYWORDS}
    for name, offset in (("BEG", 0.0), ("OBS", 0.0), ("AVG", 1.0), ("END", 2.0)):
        values[f"DATE-{name}"] = str(iso(TIME + offset))
        values[f"MJD-{name}"] = float(mjd(TIME + offset))
    values |= {
        "DATE": "2025-10-07T09:37:15",
        "STARTOBS": values["DATE-BEG"],
        "ENDOBS": values["DATE-END"],
        "DATEREF": values["DATE-BEG"],
        "MJDREF": values["MJD-BEG"],
    }
    return values


def header(**changes):
    return build_header({**complete(), **changes}, STEPS, ["a comment"])


def test_table_is_sound():
    assert len(TABLE) == len(KEYWORDS)
    for row in KEYWORDS:
        assert re.fullmatch(r"[A-Z0-9_-]{1,8}", row.name)
        assert row.kind in ("text", "int", "float", "bool", "time")
        assert row.meaning
        assert row.source
    assert card_comment(TABLE["CRVAL1"]).startswith("[arcsec] ")
    names = [k.name for k in KEYWORDS]
    first_axis = min(names.index(n) for n in ("CTYPE1", "CRPIX1", "CRVAL1", "CDELT1", "CROTA2", "WCSNAME"))
    assert names.index("WCSAXES") < first_axis


def test_a_complete_header_has_no_fault():
    assert check_header(header()) == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"CRVAL1": None}, "CRVAL1: missing"),
        ({"CRPIX1": float("nan")}, "CRPIX1: missing"),
        ({"AUTHOR": ""}, "AUTHOR: missing"),
        ({"MJD-AVG": 60000.0}, "MJD-AVG: 60000.0 is not DATE-AVG"),
        ({"DATE-END": "2025-09-03T14:21:52.000"}, "not in order"),
        ({"ENDOBS": "2025-09-03T14:21:52.456"}, "ENDOBS: expected DATE-END"),
        ({"XPOSURE": 2.5}, "XPOSURE: 2.5 s do not fit"),
        ({"TEXPOSUR": 2.2}, "TEXPOSUR: expected XPOSURE"),
        ({"WAVE": 656.0}, "WAVE: expected WAVELNTH"),
        ({"DATE-BEG": "yesterday"}, "DATE-BEG: expected an ISO 8601 time"),
        ({"CDELT1": -0.06}, "CDELT1: expected a positive scale"),
    ],
)
def test_wrong_values_are_found(changes, finding):
    assert any(finding in f for f in check_header(header(**changes))), check_header(header(**changes))


def test_all_faults_are_found_at_once():
    made = header(CRVAL1=None, XPOSURE=9.0)
    made["PC1_1"] = 1.0
    made["CD1_2"] = 0.0
    made["SOLARCHK"] = "x"
    made["NSUMEXP"] = 64.5
    made.comments["CRPIX1"] = "arcsec"
    made["PRSTEP4"] = "DESTRETCHING"
    made["PRPROC9"] = "stillsun"
    made.append(made.cards["CRPIX2"])
    found = check_header(made)
    for start in (
        "CRVAL1: missing",
        "XPOSURE",
        "PC1_1, CD1_2: not allowed beside CROTA2",
        "SOLARCHK: not in the table",
        "NSUMEXP: expected int",
        "CRPIX1: expected the comment",
        "PRSTEPn: expected 1 to 3 in order, found [1, 2, 4]",
        "PRPROC9: there is no PRSTEP9",
        "CRPIX2: more than once",
    ):
        assert any(f.startswith(start) for f in found), start


def test_steps_are_not_repeated_and_axes_come_first():
    made = build_header(complete(), [*STEPS, STEPS[0]])
    assert any("DARK-SUBTRACTION,FLATFIELDING is given more than once" in f for f in check_header(made))
    solar = ProcessingStep("SOLAR-ALIGN", "stillsun")
    assert check_header(build_header(complete(), [*STEPS, solar, solar])) == []
    assert check_header(build_header(complete())) == ["PRSTEP1: missing"]
    moved = header()
    moved.remove("WCSAXES")
    moved["WCSAXES"] = (2, card_comment(TABLE["WCSAXES"]))
    assert any(f.startswith("WCSAXES: expected before") for f in check_header(moved))


def test_values_are_plain_and_rounded_as_the_table_says():
    assert card_value(TABLE["CRVAL1"], np.float64(725.94912345)) == 725.9491
    assert card_value(TABLE["CRPIX1"], 1021.714285714) == 1021.71429
    # A plate scale is not rounded: a thousandth of an arcsec is 4 pixels at the edge of the frame.
    assert card_value(TABLE["CDELT1"], 0.0601234567) == 0.0601234567
    assert np.float32(card_value(TABLE["DATAMIN"], np.float32(0.1))) == np.float32(0.1)
    assert str(card_value(TABLE["CROTA2"], -1e-9)) == "0.0"
    assert card_value(TABLE["NSUMEXP"], np.int64(64)) == 64
    assert type(card_value(TABLE["NSUMEXP"], np.int64(64))) is int
    assert card_value(TABLE["SCINT"], np.nan) is None


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("R. Müller, Zürich", "R. Muller, Zurich"),
        ("Hα 656.28 nm – 0.25 Å", "Halpha 656.28 nm - 0.25 A"),
        ("Straße\tØ 日", "Strasse O ?"),
    ],
)
def test_texts_are_in_the_letters_of_fits(text, plain):
    step = ProcessingStep("DESTRETCHING", "stillsun", parameters=text)
    header = build_header({"AUTHOR": text}, [step], [text])
    assert (header["AUTHOR"], header["PRPARA1"], str(header["COMMENT"])) == (plain, plain, plain)
    frame = HeaderTemplate({"FILTER": text}).fill({"OBJECT": text})
    assert (frame["FILTER"], frame["OBJECT"]) == (plain, plain)


def test_unknown_keywords_are_refused():
    with pytest.raises(KeyError, match="SOLARCHK"):
        build_header({"SOLARCHK": 1})


def test_long_values_cut_the_comment_only():
    made = build_header({"FILENAME": "x" * 60, "POINT_ID": "y" * 67})
    assert made["FILENAME"] == "x" * 60
    assert made["POINT_ID"] == "y" * 67
    assert all(len(line) == 80 for line in made.tostring(sep="\n", padding=False).splitlines())
    long = build_header({}, [ProcessingStep("A", "p", parameters="k=1; " * 30)])
    assert long["PRPARA1"].strip() == ("k=1; " * 30).strip()
    assert list(long)[-2:] == ["LONGSTRN", "PRPARA1"]
    assert "LONGSTRN" not in made


def test_template_fills_frames_independently():
    common = {k: v for k, v in complete().items() if k not in ("CRVAL1", "SCINT", "FILENAME")}
    template = HeaderTemplate(common, STEPS)
    one = template.fill({"CRVAL1": 1.0, "SCINT": 0.5, "FILENAME": "a"})
    two = template.fill({"CRVAL1": 2.0, "SCINT": np.nan, "FILENAME": "b"})
    three = template.fill({"CRVAL1": 3.0, "SCINT": 0.7, "FILENAME": "c"})
    assert [h["CRVAL1"] for h in (one, two, three)] == [1.0, 2.0, 3.0]
    assert one["SCINT"] == 0.5
    assert "SCINT" not in two
    assert list(one) == list(three)
    assert [k for k in list(one) if k != "SCINT"] == list(two)
    assert check_header(three) == []


def test_times_round_once():
    assert str(iso(TIME + 0.0004)) == "2025-09-03T14:21:52.456"
    assert str(iso(1756909312.9996)) == "2025-09-03T14:21:53.000"
    assert mjd_of_text("2025-09-03T14:21:52.456") == pytest.approx(60921.5985237963, abs=1e-10)
    assert float(mjd(1756909312.9996)) == mjd_of_text("2025-09-03T14:21:53")


def test_the_header_reference_is_up_to_date():
    from stillsun.sky.reference import header_markdown

    document = Path(__file__).parents[2] / "docs" / "header.md"
    assert document.read_text() == header_markdown(), "run scripts/reference"
