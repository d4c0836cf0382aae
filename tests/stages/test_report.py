"""The report: what stands on the page, with all products and with few."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from tests.qa._night import EVERYTHING, Night, context

from stillsun.config.schema import ReportConfig
from stillsun.products.destretched import Destretched
from stillsun.products.reconstructed import Reconstructed
from stillsun.stages import report
from stillsun.stages.registry import STAGES

VOID = {"meta", "img", "br", "link", "input"}


class _Checker(HTMLParser):
    """Tags that are closed in order, addresses, and the text of the sections."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self.sections: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[k] for k in ("src", "href") if k in found]
        if tag == "img":
            self.alternatives.append(found["alt"])
        if tag == "section":
            self.sections.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "section" in self.open:
            self.sections[-1] += data + " "


def _make(work, nights, config=None, **more):
    ctx = context(work, nights, config or ReportConfig(picture_size=128), **more)
    files = report.run(ctx)
    text = files[0].read_text()
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    return files, text, checker


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Page of one channel with all products: directory, files, text, what a parser sees."""
    work = tmp_path_factory.mktemp("full")
    return work, *_make(work, {"A": (Night(), EVERYTHING)})


def test_page_needs_nothing_else(full):
    work, files, text, page = full
    assert files[0] == work / "report" / "index.html"
    assert all(a.startswith(("data:image/", "#part-")) for a in page.addresses)
    assert "url(" not in text
    assert "@import" not in text
    pictures = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', text)
    assert len(pictures) == 4 + 4 + 3 + 2 + 1 + 1
    for kind, data in pictures:
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format=kind)
        assert image.std() > 0
    assert all(page.alternatives)


def test_what_is_missing_is_said_first(full):
    # The small night has no registration; nothing else is missing, and nothing was noted.
    first = " ".join(full[-1].sections[0].split())
    said = "A: The channel was not registered to the reference channel."
    fine = "Nothing failed, and no condition of the checklist is broken."
    assert first == f"What to know first {fine} Not on this page {said}"


def test_a_program_reads_what_the_page_says(full, tmp_path):
    _, files, text, _ = full
    found = json.loads(files[-1].read_text())
    judged = found["channels"]["A"]["checklist"]
    assert len(judged) == sum(found["conditions"].values()) > 3
    assert {c["holds"] for c in judged} <= {True, False, None}
    for check in judged:
        assert check["condition"] in text
    night = Night(8)
    night.levels[5] = 600.0
    files, _, _ = _make(
        tmp_path,
        {"A": (night, ("destretch",))},
        told={"A/align": ["no log"], "A/export": []},
        failed={"A/calibrate": "no flats"},
    )
    cloudy = json.loads(files[-1].read_text())
    assert cloudy["failed"] == {"A/calibrate": "no flats"}
    assert cloudy["notes"] == {"A/align": ["no log"]}
    assert any("darker than 70 %" in h["what"] for h in cloudy["channels"]["A"]["headlines"])


def test_failures_come_first(tmp_path):
    notes = {
        "A/assemble": ["37 frames left out <at the end>"],
        "A/align": ["no telescope log"],
        "B/align": ["no telescope log"],
    }
    _, _, page = _make(
        tmp_path, {"A": (Night(), ()), "B": (Night(), ())}, told=notes, failed={"B/calibrate": "no flats"}
    )
    first = " ".join(page.sections[0].split())
    assert first.index("B/calibrate failed no flats") < first.index("37 frames left out <at the end>")
    assert "the same command goes on from there" in first
    assert "A/align, B/align: no telescope log" in first


def test_an_incomplete_channel_says_why(tmp_path):
    night = Night()
    night.telescope_log = False
    nights = {"FEW": (night, ("bursts", "speckle")), "NONE": (Night(), ())}
    stale = tmp_path / "report" / "FEW_before_after.jpg"
    stale.parent.mkdir()
    stale.touch()
    files, _, page = _make(tmp_path, nights)
    assert not stale.exists()
    few, none = page.sections[3], page.sections[4]
    for text in (
        "No destretched frames",
        "No calibration images",
        "No scintillation: there is no telescope log",
        "No shifts",
        "not registered",
        "pointing on the Sun is not known",
    ):
        assert text in few
    assert "No frames to show" in none
    assert "Nothing is drawn against time" in none
    assert not any(a.startswith("NONE") for a in page.alternatives)
    assert [f.name for f in files] == ["index.html", "report.json"]


def test_clouds_are_found(tmp_path):
    night = Night(8)
    night.levels[5] = 600.0
    _, _, page = _make(tmp_path / "a", {"A": (night, ("destretch",))})
    assert "1 of 8 frames is darker than 70 % of the median: number 5, down to 60 %" in page.sections[0]
    assert "Leave these frames out" in page.sections[0]
    _, _, page = _make(
        tmp_path / "b", {"A": (night, ("destretch",))}, ReportConfig(dim_fraction=0.5, picture_size=128)
    )
    assert "darker" not in page.sections[0]


def test_comparison_shows_both_sides_of_destretch(tmp_path):
    night = Night(12, (160, 200))
    night.seeing_blur[:] = 0.8
    night.seeing_blur[4], night.r0[4], night.motion[4] = 0.7, 0.3, (2, -3)
    files, _, page = _make(tmp_path, {"A": (night, EVERYTHING)}, ReportConfig(picture_size=200))
    assert files[1].name == "A_before_after.jpg"
    drawn = matplotlib.image.imread(files[1])[..., 0]
    middle_x, middle_y = drawn.shape[1] // 2, drawn.shape[0] // 2
    # Below: means over frames; motion washes out the one before destretch only.
    frame = np.s_[middle_y + 60 : -70]
    before, after = drawn[frame, 90 : middle_x - 40], drawn[frame, middle_x + 90 : -40]
    assert after.std() > 1.3 * before.std()
    # Above: one frame, the same Sun in the same orientation on both sides.
    top = np.s_[60 : middle_y - 70]
    pair = [drawn[top, x : x + middle_x - 130] for x in (90, middle_x + 90)]
    # Row 0 is at the bottom of the picture.
    moved = np.roll(pair[1], (-2, -3), (0, 1))[10:-10, 10:-10]
    assert np.corrcoef(moved.ravel(), pair[0][10:-10, 10:-10].ravel())[0, 1] > 0.98
    glance = page.sections[1]
    contrasts = [float(v) for v in re.findall(r"([\d.]+) %", glance)]
    assert contrasts[-1] > 1.3 * contrasts[-2]


def test_table_of_all_channels(full):
    glance = " ".join(full[-1].sections[1].split())
    # 128 px of 0.06" and 96 px of 0.05": measured scale, turned by the orientation.
    assert "7.7 x 4.8" in glance
    assert "2024-08-30 06:40:00 to 06:40:10" in glance
    assert "7.5 cm" in glance


def test_settings_and_bad_pixels(full):
    text = " ".join(full[-1].sections[3].split())
    assert "Wavelength 430.5 nm" in text
    assert "Plate scale (x, y), oriented 0.06000, 0.05000 arcsec/px" in text
    assert "6 bad pixels of 12288 (0.049 %), filled from their neighbours: 1 dead, 5 hot" in text
    assert "Destretch kernels 0, 32 px" in text
    assert "(helioprojective x, y; first … last frame) 100, -250 … 103, -250 arcsec" in text


def test_times_and_movies(tmp_path):
    movies = tmp_path / "context_movies"
    movies.mkdir()
    (movies / "A.mp4").write_bytes(b"")
    seconds = {"A/speckle": 12.5, "B/speckle": 2.5, "movie": 4.0}
    nights = {"A": (Night(), ()), "B": (Night(), ())}
    _, _, page = _make(tmp_path, nights, seconds=seconds)
    timing = " ".join(page.sections[-1].split())
    assert "speckle 12.5 s 2.5 s 15.0 s" in timing
    assert "movie – – 4.0 s" in timing
    assert "../context_movies/A.mp4" in page.addresses


def test_title_and_picture_size(tmp_path, full):
    config = ReportConfig(title="Sunspot <NOAA 12887>", picture_size=64)
    files, text, _ = _make(tmp_path, {"A": (Night(), ("speckle", "destretch"))}, config)
    assert "<h1>Sunspot &lt;NOAA 12887&gt;</h1>" in text
    assert "<h1>test night</h1>" in full[2]
    # Two frames of 128 px, and the same binned by two.
    wide, narrow = (matplotlib.image.imread(f[1]).shape[1] for f in (full[1], files))
    assert wide - narrow == 128


def test_progress_and_repeat(tmp_path):
    seen = []
    nights = {"A": (Night(2), EVERYTHING), "B": (Night(2), ("destretch",))}
    files, _, _ = _make(tmp_path, nights, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert seen == sorted(seen)
    before = [f.read_bytes() for f in files]
    files, _, _ = _make(tmp_path, nights)
    assert [f.read_bytes() for f in files] == before
    assert not list((tmp_path / "report").glob("*.part"))


def test_declaration_lets_an_incomplete_run_through():
    assert STAGES["report"].per_observation
    assert STAGES["report"].reads == ()
    assert {Reconstructed, Destretched} <= set(STAGES["report"].optional)


@pytest.mark.parametrize("frames", [1, 2])
def test_short_series(tmp_path, frames):
    _, _, page = _make(tmp_path, {"A": (Night(frames), ("bursts", "speckle", "destretch"))})
    assert ("No correlation from frame to frame" in page.sections[3]) == (frames == 1)
