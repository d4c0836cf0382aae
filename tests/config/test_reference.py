"""The configuration reference is up to date, and says of every key what a person needs."""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillsun.config import reference
from stillsun.config.keys import schema_fields, strip_optional
from stillsun.config.reference import reference_markdown
from stillsun.config.schema import RunConfig, opt

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def _keys(schema, prefix=""):
    """Dotted name and type of every key."""
    for name, (hint, _) in schema_fields(schema).items():
        arguments = typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", hint
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1]):
            yield from _keys(arguments[1], f"{prefix}{name}.NAME.")


def _is_number(hint):
    hint, _ = strip_optional(hint)
    if typing.get_origin(hint) is list:
        hint = typing.get_args(hint)[0]
    return hint in (int, float)


def _faults(schema, text):
    """Keys without a row, or whose row says nothing of type, default, unit or meaning."""
    rows = {}
    for line in text.splitlines():
        key = re.match(r"\| `([^`]+)` \|", line)
        if key:
            rows[key[1]] = [cell.strip() for cell in line.strip("|").split(" | ")]
    for key, hint in _keys(schema):
        if key not in rows:
            yield f"{key}: no row"
            continue
        kind, default, unit, meaning = (rows[key] + [""] * 5)[1:5]
        # A pure number has the unit 1; what is no number has a dash.
        if not unit or (_is_number(hint) != (unit != "–") and not unit.startswith("ISO")):
            yield f"{key}: unit"
        if len(meaning) < 4:
            yield f"{key}: meaning"
        if not kind or not default:
            yield f"{key}: type or default"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text() == reference_markdown(), "run scripts/reference"


def test_every_key_is_there_with_type_default_unit_and_meaning():
    assert len(dict(_keys(RunConfig))) > 60
    assert list(_faults(RunConfig, reference_markdown())) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"unit": ""}, "size: unit"),
        ({"meaning": "?"}, "size: meaning"),
        ({"default": ""}, "size: type or default"),
        ({}, None),
    ],
)
def test_what_is_missing_is_noticed(monkeypatch, changes, fault):
    said = {"default": 3.0, "meaning": "how large it is", "unit": "px", **changes}

    @dataclass
    class Small:
        """Options."""

        size: float = opt(said["default"], said["meaning"], unit=said["unit"])

    # Local names cannot be looked up by the schema's own means.
    monkeypatch.setattr(
        f"{__name__}.schema_fields",
        lambda schema: {"size": (float, Small.__dataclass_fields__["size"].metadata)},
    )
    monkeypatch.setattr(reference, "schema_fields", schema_fields)
    if said["default"] == "":
        monkeypatch.setattr(reference, "default_text", lambda item: "")
    text = reference._table("small", Small, "")
    assert list(_faults(Small, text)) == ([] if fault is None else [fault])


def test_a_key_without_a_row_is_noticed():
    rows = reference_markdown().splitlines()
    text = "\n".join(row for row in rows if "`destretch.window`" not in row)
    assert list(_faults(RunConfig, text)) == ["destretch.window: no row"]
