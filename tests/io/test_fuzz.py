"""Damaged files of every kind: read, or refused by name; a sample of what scripts/fuzz runs for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import fuzzing

KEPT = sorted((Path(__file__).parent.parent / "data" / "fuzz").glob("*"))
GOOD = ("right", "read", "refused")


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_damage_is_refused_by_name_or_harmless(name, tmp_path):
    cases = 8 if fuzzing.TARGETS[name].slow else 60
    outcomes = {number: fuzzing.run_case(name, number, tmp_path) for number in range(cases)}
    assert {n: found for n, found in outcomes.items() if found not in GOOD} == {}
    assert fuzzing.run_case(name, 0, tmp_path, fuzzing.seed_file(name)) == "read"


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.name)
def test_what_once_was_too_much_stays_refused(case, tmp_path):
    assert fuzzing.run_case(case.name.partition(".")[0], 0, tmp_path, case.read_bytes()) in GOOD
