"""A night on which much goes wrong: the run goes on, and the first screen of the report says it all."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import yaml
from tests.regression.conftest import reduce

from stillsun.sky import _archive, download
from stillsun.synth.observation import simulate
from stillsun.synth.settings import SimulationSettings

# Beginnings of what must be said, and what must be said to be done.
TOLD = {
    "Telescope log: it fails for 3 of 6 bursts": "observation.telescope_log=PATH",
    "Clouds, or a shutter? 1 of 6 frames is darker": "Leave these frames out",
    "Place on the Sun: not matched to a full-disk image (HMI)": "align.file=PATH",
    "Registration: the channel is not laid onto the reference channel": "target frames",
}
SCREENS = ((1280, 800), (700, 1000))
STAGES = "stages=[calibrate,assemble,speckle,destretch,register,align,report]"
MEASURE = """<script>
var items = document.querySelector("main section").querySelectorAll("li");
document.body.innerHTML = Array.from(items).map(function (item) {
  return Math.round(item.getBoundingClientRect().bottom) + " " + item.textContent;
}).join("|");
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of such a night: the log stops, no network, no target for one channel, a cloud."""
    out = tmp_path_factory.mktemp("bad") / "night"
    settings = SimulationSettings.preset(
        "tiny", bursts=6, frames_per_burst=12, seed=3, cloud=(1.1, 1.7), threads=2
    )
    observation = simulate(out, settings)
    log = next((out / "level0").glob("dcss*"))
    records = log.read_text().splitlines(keepends=True)
    # A minute before the data its last two records; they hold for a minute.
    log.write_text("".join(records[: 2 * records.index(next(r for r in records if r.startswith("PT4"))) + 2]))
    tree = yaml.safe_load(observation.read_text())
    del tree["channels"]["HARDCAM"]["target"]
    # A real night has no image beside it.
    del tree["channels"]["ROSA_GBAND"]["align"]
    observation.write_text(yaml.safe_dump(tree))

    def unreachable(*_):
        raise OSError("Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_fetch", unreachable)
        patch.setattr(_archive.time, "sleep", lambda seconds: None)
        cache = f"align.cache={out / 'cache'}"
        assert reduce(out, out / "work", "align=hmi", cache, STAGES, "report.picture_size=160") == 0
    return out / "work" / "report" / "index.html"


class _First(HTMLParser):
    """Text of the first section, up to the notes of the stages."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.sections = "", 0
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.sections += tag == "section"

    def handle_data(self, data):
        if self.sections == 1:
            self.text += f" {data}"


def test_the_first_screen_says_what_went_wrong_and_what_to_do(page, tmp_path):
    first = _First(page.read_text()).text
    quiet = first.index("Noted by the stages")
    for told, remedy in TOLD.items():
        assert 0 <= first.index(told) < first.index(remedy, first.index(told)) < quiet
    assert "Name or service not known" in first[:quiet]
    assert "this channel has no target image" in first[:quiet]

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to look with; the text is right")
    for width, height in SCREENS:
        ends = _ends(browser, page, tmp_path, width, height)
        for told in TOLD:
            assert max(end for text, end in ends.items() if text.startswith(told)) < height, (width, told)


def _ends(browser, page, directory, width, height):
    """Lowest pixel of every item of the first section, as a browser window shows it, by its text."""
    measured = directory / "page.html"
    measured.write_text(page.read_text().replace("</body>", MEASURE))
    done = subprocess.run(
        [
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={directory / 'user'}",
            ),
            *(f"--window-size={width},{height}", "--dump-dom", measured.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    body = re.search(r"<body>(.*)</body>", done.stdout, flags=re.S)[1]
    return {text: int(number) for number, _, text in (item.partition(" ") for item in body.split("|"))}
