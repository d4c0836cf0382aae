"""Geometry on the page: the pictures of the matches with their significance, or why there are none."""

from __future__ import annotations

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
from tests.qa._night import Night, context

from stillsun.config.schema import AlignConfig, AlignEngine, ReportConfig
from stillsun.qa.geometry import show_geometry
from stillsun.qa.page import Section
from stillsun.qa.products import ChannelReport

PRODUCTS = ("calibration", "bursts", "registration", "pointing")


class _Matched(Night):
    """Matched to the reference's target and to the Sun."""

    def _registration(self):
        return super()._registration() | {
            "significance": (np.float64(23.456), "", False),
            "residual_px": (np.float64(0.0312), "px", False),
        }

    def _pointing(self):
        return super()._pointing() | {
            "aligned": (np.uint8(1), "", False),
            "match_significance": (np.array([12.34, 9.87]), "", False),
            "match_error": (np.array([[0.0512, 0.0498], [0.06, 0.07]]), "arcsec", False),
            "fulldisk": (np.bytes_("hmi.fits"), "", False),
        }


@pytest.fixture
def shown(tmp_path):
    """Text of the section, its pictures' mean colours, and what is missing."""

    def make(night, engine=AlignEngine.hmi, pictures=()):
        channel = context(tmp_path, {"A": (night, PRODUCTS)}, ReportConfig()).channels["A"]
        for name, colour in pictures:
            matplotlib.image.imsave(tmp_path / "A" / name, np.full((40, 60, 3), colour))
        channel.options = {**channel.options, "align": AlignConfig(engine=engine, min_significance=7.5)}
        report = ChannelReport(Section("A"))
        show_geometry(channel, report)
        html = "".join(report.section.parts)
        found = [
            matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format="jpeg").mean(axis=(0, 1))
            for data in re.findall(r"base64,([^\"]+)", html)
        ]
        text = " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"base64,[^\"]+", "", html)).split())
        return text, found, report.missing

    return make


def test_matches_are_shown_with_their_significance(shown):
    text, pictures, missing = shown(
        _Matched(), pictures=[("register.png", (0.8, 0.1, 0.1)), ("align.png", (0.1, 0.1, 0.8))]
    )
    assert missing == []
    red, blue = pictures
    assert red[0] > 3 * red[2]
    assert blue[2] > 3 * blue[0]
    assert "Significance 12.3, 9.9; at least 7.5 is asked for" in text
    assert "Full-disk image hmi.fits" in text
    assert "Error of the match of the targets 0.0312 px" in text
    assert "Standard error of the match (x, y) 0.0512, 0.0498, 0.06, 0.07 arcsec" in text


def test_a_channel_that_could_not_be_registered(shown, monkeypatch):
    refused = {"accepted": (np.uint8(0), "", False)}
    registration = Night._registration
    monkeypatch.setattr(Night, "_registration", lambda night: registration(night) | refused)
    text, pictures, missing = shown(Night())
    assert (pictures, missing) == ([], [])
    assert "No picture of the registration" in text


def test_the_picture_of_a_refused_match(shown, monkeypatch):
    refused = {"accepted": (np.uint8(0), "", False)}
    registration = Night._registration
    monkeypatch.setattr(Night, "_registration", lambda night: registration(night) | refused)
    text, pictures, _ = shown(Night(), pictures=[("register.png", (0.1, 0.7, 0.1))])
    assert len(pictures) == 1
    assert "frames of the Sun, where there are some" in text


def test_a_lost_picture_is_said(shown):
    _, pictures, missing = shown(_Matched(), pictures=[("register.png", (0.5, 0.5, 0.5))])
    assert len(pictures) == 1
    assert missing == ["The picture align.png is not beside A's products any more."]


@pytest.mark.parametrize(
    ("engine", "reason"),
    [(AlignEngine.none, "no full-disk image was asked for"), (AlignEngine.hmi, "no match")],
)
def test_no_overlay_has_a_reason(shown, engine, reason):
    text, pictures, _ = shown(Night(), engine)
    assert pictures == []
    assert f"No overlay on the Sun: {'align=none, ' if engine is AlignEngine.none else ''}{reason}" in text
