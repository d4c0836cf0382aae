"""A work directory of version 0.1.0 is understood: its places, digests, records and datasets."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from stillsun.products.base import FilesProduct
from stillsun.products.channel import PRODUCTS

# Attributes of the stores and records of a simulated night that version 0.1.0 reduced.
WORK = json.loads((Path(__file__).parent / "data" / "work_0_1.json").read_text())
KINDS = {kind.name: kind for kind in PRODUCTS}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The directory again: stores without their datasets, files without their content."""
    directory = tmp_path_factory.mktemp("work")
    for stored in WORK["stores"].values():
        path = directory / stored["file"]
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "a") as file:
            file.require_group(stored["group"]).attrs.update(stored["attributes"])
    (directory / ".stillsun").mkdir()
    for name, record in WORK["records"].items():
        (directory / ".stillsun" / name).write_text(json.dumps(record))
        for file, size in record["files"].items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            with (directory / file).open("wb") as handle:
                handle.truncate(size)
    return directory


@pytest.mark.parametrize("key", WORK["stores"])
def test_a_store_is_found_with_its_datasets(work, key):
    channel, _, name = key.partition(":")
    kept = WORK["stores"][key]["attributes"]
    with KINDS[name](work, channel) as product:
        assert product.store.digest == kept["digest"]
        assert product.rows == json.loads(kept["layout"])["rows"]
    declared = KINDS[name].datasets()
    for dataset, (shape, dtype, stack) in json.loads(kept["layout"])["fields"].items():
        if name == "destretch" and dataset.startswith("shifts_"):
            continue
        field = declared[dataset].field(dict.fromkeys(_sizes(declared[dataset]), 1))
        assert (len(field.shape), field.numpy_dtype.str, field.stack) == (len(shape), dtype, stack), dataset


def _sizes(dataset):
    return [n for n in dataset.shape if isinstance(n, str)]


@pytest.mark.parametrize("name", WORK["records"])
def test_a_record_of_files_is_understood(work, name):
    channel, stage, _ = name.split(".")
    product = FilesProduct(work, "" if channel == "observation" else channel, stage)
    kept = WORK["records"][name]
    assert product.digest == kept["digest"]
    assert product.notes == kept["notes"]
    assert len(product.files) == len(kept["files"])
