"""A stage that makes something else of the same input has a new version: see scripts/golden."""

from __future__ import annotations

import json

import pytest
from tests.regression import golden


@pytest.fixture(scope="module")
def kept():
    return json.loads(golden.FILE.read_text())


def test_results_change_with_the_version_only(simulated, reduced, kept):
    assert golden.faults(kept, golden.summary(simulated, reduced)) == []


def test_a_change_is_seen(kept):
    changed = json.loads(json.dumps(kept))
    numbers = changed["results"]["destretch"]["ROSA_GBAND/image"]
    numbers[5] += 2 * golden.TOLERANCE["destretch"] * numbers[4]
    (said,) = golden.faults(kept, changed["results"])
    assert said.startswith(
        "destretch makes something else of the same input (ROSA_GBAND/image): raise its version"
    )
    kept = {**kept, "versions": {**kept["versions"], "speckle": kept["versions"]["speckle"] - 1}}
    (said,) = golden.faults(kept, changed["results"])
    assert said.startswith("speckle has version")
    changed["results"]["raw"].popitem()
    assert "the simulated night is another" in golden.faults(kept, changed["results"])[0]
