"""What a person must know first: said when it is so, with what to do, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.qa._night import EVERYTHING, Night, context

from stillsun.config.schema import AlignConfig, AlignEngine, ReportConfig
from stillsun.qa.headlines import headlines
from stillsun.qa.metrics import SeriesQuality
from stillsun.qa.products import Headline

PRODUCTS = (*EVERYTHING, "registration")


class _Night(Night):
    """With what the log says of pointing, and a registration that may have failed."""

    accepted, method, aligned, error = 1, "telescope log", 0, 20.0
    lost: slice = slice(0, 0)
    light = 4.0

    def _bursts(self):
        values = super()._bursts()
        for name in ("latitude", "guider_angle", "scintillation", "light_level"):
            logged = np.full(len(self.times), 1.0)
            if name == "light_level":
                logged = np.broadcast_to(self.light, logged.shape).astype(float).copy()
            logged[self.lost] = np.nan
            values[name] = (logged, "", True)
        return values

    def _registration(self):
        values = super()._registration()
        return values | {
            "accepted": (np.uint8(self.accepted), "", False),
            "uncertainty": (np.float64(5.0), "arcsec", False),
        }

    def _pointing(self):
        return super()._pointing() | {
            "method": (self.method.encode(), "", False),
            "aligned": (np.uint8(self.aligned), "", False),
            "uncertainty": (np.full(len(self.times), self.error), "arcsec", True),
        }


@pytest.fixture
def said(tmp_path):
    """Headlines of a night."""

    def find(night, engine=AlignEngine.none, reference=False) -> list[Headline]:
        channel = context(tmp_path, {"A": (night, PRODUCTS)}, ReportConfig()).channels["A"]
        channel.options = {**channel.options, "align": AlignConfig(engine=engine)}
        channel.observation.reference_channel = "A" if reference else "R"
        flat = np.ones(len(night.times))
        statistics = SeriesQuality(night.levels, flat, flat, flat)
        found = headlines(channel, statistics, 0.7)
        assert all(headline.remedy.endswith(".") for headline in found)
        return found

    return find


def _only(found: list[Headline]) -> str:
    assert len(found) == 1
    return found[0].what


def test_a_good_channel_has_none(said):
    assert said(_Night()) == []


def test_a_good_reference_channel_has_none(said):
    night = _Night()
    night.aligned, night.accepted = 1, 0
    assert said(night, AlignEngine.hmi, reference=True) == []


def test_a_log_that_stops(said):
    night = _Night(6)
    night.lost = slice(4, 6)
    text = _only(said(night))
    assert "Telescope log: it fails for 2 of 6 bursts, from 06:40:08 UTC on" in text
    assert "pointing, guider angle, seeing and light level are not known" in text


def test_a_log_of_nothing(said):
    night = _Night(6)
    night.lost = slice(0, 6)
    assert "Telescope log: it tells nothing of this observation" in _only(said(night))


def _levels(dim: float) -> Iterator[float]:
    return (dim if k == 3 else 4.0 for k in range(6))


@pytest.mark.parametrize(
    ("light", "cause"), [(1.6, "Clouds: the telescope's light level fell"), (4.0, "A shutter?")]
)
def test_a_dark_frame_and_its_cause(said, light, cause):
    night = _Night(6)
    night.levels[3] = 400.0
    night.light = np.array(list(_levels(light)))
    text = _only(said(night))
    assert text.startswith(cause)
    assert "1 of 6 frames is darker than 70 % of the median: number 3, down to 40 %" in text


def test_a_channel_without_its_place(said):
    night = _Night()
    night.accepted = 0
    assert "known to some 5 arcsec only" in _only(said(night))


def test_no_match_to_the_sun(said):
    found = said(_Night(), AlignEngine.hmi, reference=True)
    assert "those of the telescope log, off by some 20 arcsec" in _only(found)
    assert "align.file=PATH" in found[0].remedy


def test_an_unknown_pointing(said):
    night = _Night()
    night.method, night.error = "unknown", 1000.0
    found = said(night, AlignEngine.none, reference=True)
    assert "not known where the telescope looked" in _only(found)
    assert "align.pointing=[x,y]" in found[0].remedy
