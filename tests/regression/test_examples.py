"""Every Python example of README and docs runs, on a reduced observation where it reads products."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stillsun.products.bursts import Bursts
from stillsun.products.destretched import Destretched
from stillsun.products.reconstructed import Reconstructed
from stillsun.stages.base import Stage
from stillsun.stages.registry import Later

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.S | re.M)


WITH_EXAMPLES = [page for page in PAGES if _blocks(page)]


def _given() -> dict[str, object]:
    """What the short examples take as given."""
    rng = np.random.default_rng(5)
    reference = 10 + gaussian_filter(rng.normal(size=(96, 96)), 2.0)
    burst = np.stack([reference + 0.02 * rng.normal(size=reference.shape) for _ in range(6)])
    products = {kind.__name__: kind for kind in (Bursts, Reconstructed, Destretched)}
    return {"burst": burst, "reference": reference, "Stage": Stage, "Later": Later, **products}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda p: p.stem)
def test_the_examples_run(page, reduced, tmp_path, monkeypatch):
    (tmp_path / "WORK").symlink_to(reduced)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda *_, **__: None)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    names = _given()
    try:
        for number, block in enumerate(_blocks(page)):
            exec(compile(block, f"{page.name}, example {number + 1}", "exec"), names)
    finally:
        plt.close("all")
        matplotlib.use(before)


def test_there_are_examples():
    assert {"README", "api", "run_a_night"} <= {page.stem for page in WITH_EXAMPLES}
