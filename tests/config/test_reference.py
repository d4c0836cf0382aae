"""The configuration reference is complete and up to date."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

from stillsun.config.keys import schema_fields
from stillsun.config.reference import reference_markdown
from stillsun.config.schema import RunConfig

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def _keys(schema, prefix=""):
    for name, (hint, metadata) in schema_fields(schema).items():
        arguments = typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", metadata
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1]):
            yield from _keys(arguments[1], f"{prefix}{name}.NAME.")


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text() == reference_markdown(), "run scripts/reference"


def test_every_key_is_there_with_a_meaning():
    text = reference_markdown()
    keys = dict(_keys(RunConfig))
    assert len(keys) > 60
    for key, metadata in keys.items():
        assert f"| `{key}` |" in text
        assert len(metadata["meaning"]) > 3, key
