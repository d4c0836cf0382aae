"""Curves: the right quantity in the right unit, and words for what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.qa._night import EVERYTHING, Night, context

from stillsun.config.schema import ReportConfig
from stillsun.qa import curves
from stillsun.qa.metrics import series_quality
from stillsun.qa.page import Section
from stillsun.qa.products import ChannelReport, images_after, images_before


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Panels of a night by their first word, and the report."""

    def draw(night, products=EVERYTHING):
        panels = {}

        def keep(times, found):
            panels.update({panel.label.split()[0]: panel for panel in found})
            return figure(times, found)

        figure = curves.series_figure
        monkeypatch.setattr(curves, "series_figure", keep)
        channel = context(tmp_path, {"A": (night, products)}, ReportConfig()).channels["A"]
        report = ChannelReport(Section("A"))
        both = [s and series_quality(s) for s in (images_before(channel), images_after(channel))]
        curves.show_curves(channel, report, *both)
        return panels, report

    return draw


def test_shifts_by_kernel_in_arcsec(drawn):
    night = Night(4)
    panels, report = drawn(night)
    lines = {line.label: line.values for line in panels["rms"].lines}
    assert list(lines) == ["left over", "frame", "32 px"]
    # 0.05" and 0.06" a pixel along the two axes.
    assert lines["frame"] == pytest.approx(0.055 * np.hypot(*night.motion.T))
    assert lines["left over"] == pytest.approx(np.full(4, 0.0055))
    repaired = {line.label: line.values for line in panels["repaired"].lines}
    assert repaired["32 px"] == pytest.approx(np.full(4, 2.0))
    assert report.missing == []


def test_units_of_seeing_and_contrast(drawn):
    panels, _ = drawn(Night(4))
    assert panels["Fried"].label.endswith("(cm)")
    assert panels["Fried"].lines[0].values == pytest.approx([5.0, 6.0, 7.0, 8.0])
    raw, before, after = panels["contrast"].lines
    assert raw.values == pytest.approx(np.full(4, 3.0))
    assert (before.label, after.label) == ("before", "after")
    assert 3.0 < after.values.mean() < 13.0
    assert panels["light"].lines[0].values == pytest.approx(np.full(4, 4.0))


def test_what_is_not_drawn_is_said(drawn):
    night = Night(4)
    night.telescope_log = False
    panels, report = drawn(night, ("bursts", "destretch"))
    assert not {"Fried", "light", "scintillation"} & set(panels)
    assert [text.partition(":")[0] for text in report.missing] == [
        "No Fried parameter",
        "No light level",
        "No scintillation",
    ]
