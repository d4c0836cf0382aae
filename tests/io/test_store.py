"""Stores: complete under their own name only, readable after a kill, resumed row by row."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from stillsun.errors import InputError
from stillsun.io import _storesums
from stillsun.io._storestate import unchanged
from stillsun.io.store import (
    Field,
    Layout,
    StoreReader,
    create_section,
    create_store,
    part_progress,
    stored_digest,
)

ROWS = 6
LAYOUT = Layout(
    ROWS,
    {
        "image": Field((20, 30), "float32", "DN", "frames"),
        "telescope/light_level": Field((), "float64", "V"),
        "file": Field((), "str", length=20),
        "dark": Field((20, 30), "float32", "DN", stack=False),
    },
    {"program": "stillsun"},
)


def _fill(store, rows=range(ROWS)):
    for row in rows:
        store.write("image", np.full((20, 30), row, np.float32), row)
        store.write("telescope/light_level", 0.5 * row, row)
        store.write("file", f"spööl{row}", row)
        store.mark(row)


def test_round_trip(tmp_path):
    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        assert not path.exists()
        _fill(store)
        store.write_notes(["one", "two"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    with StoreReader(path) as store:
        assert store.digest == "d1"
        assert store.rows == ROWS
        assert store.done().all()
        assert store.read("image").dtype == np.float32
        assert store.read("image", 3)[0, 0] == 3
        assert store.read("image", slice(2, 4)).mean() == 2.5
        assert store.read("file", 1) == "spööl1"
        assert list(store.read("file"))[5] == "spööl5"
        assert store.unit("image") == "DN"
        assert store.shape("dark") == (20, 30)
        assert store.notes == ["one", "two"]
        assert store.attributes["program"] == "stillsun"
        assert set(store.names()) == set(LAYOUT.fields)


def test_notes_without_end_are_cut_between_two_letters(tmp_path):
    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        # Behind one letter of a byte, two bytes each: the limit lies inside one of them.
        store.write_notes(["x" + "±" * 40_000])
    with StoreReader(path) as store:
        (note,) = store.notes
    assert set(note) == {"x", "±"}
    assert 65_534 <= len(note.encode()) <= 65_536


def test_an_error_leaves_no_finished_store_and_the_next_run_goes_on(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(RuntimeError), create_store(path, LAYOUT, "d1") as store:
        _fill(store, range(2))
        raise RuntimeError
    assert not path.exists()
    assert stored_digest(path) is None
    assert part_progress(path) == (2, ROWS)
    with create_store(path, LAYOUT, "d1") as store:
        assert store.resumed
        np.testing.assert_array_equal(store.done(), [1, 1, 0, 0, 0, 0])
        assert store.read("image", 1)[0, 0] == 1
        _fill(store, range(2, ROWS))
    with StoreReader(path) as store:
        np.testing.assert_array_equal(store.read("image")[:, 0, 0], np.arange(ROWS))


@pytest.mark.parametrize("change", ["digest", "layout"])
def test_a_part_file_of_something_else_is_not_taken_over(tmp_path, change):
    path = tmp_path / "a.h5"
    with pytest.raises(RuntimeError), create_store(path, LAYOUT, "d1") as store:
        _fill(store, range(2))
        raise RuntimeError
    layout = LAYOUT if change == "digest" else Layout(ROWS + 1, LAYOUT.fields)
    with create_store(path, layout, "d2" if change == "digest" else "d1") as store:
        assert not store.resumed
        assert not store.done().any()


def test_killed_in_the_middle(tmp_path):
    code = f"""
import os, signal, numpy as np
from stillsun.io.store import Field, Layout, create_store
layout = Layout(50, {{"image": Field((300, 300), "float32"), "x": Field()}})
with create_store({str(tmp_path / "a.h5")!r}, layout, "d") as store:
    for row in range(50):
        store.write("image", np.full((300, 300), row, "f4"), row)
        store.write("x", row, row)
        store.mark(row)
        if row == 23:
            store.write("image", np.full((300, 300), -1, "f4"), 24)
            os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert part_progress(tmp_path / "a.h5") == (24, 50)
    with StoreReader(tmp_path / "a.h5.part") as store:
        np.testing.assert_array_equal(store.read("image", slice(0, 24))[:, 5, 5], np.arange(24))
        np.testing.assert_array_equal(store.read("x", slice(0, 24)), np.arange(24))


def test_same_content_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        with create_store(tmp_path / name, LAYOUT, "d1") as store:
            _fill(store)
            store.write("dark", np.ones((20, 30)))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_sections_are_kept_when_another_is_written(tmp_path):
    path = tmp_path / "registration.h5"
    layout = Layout(2, {"x": Field()})
    for group, value in (("register", 1.0), ("align", 2.0), ("register", 3.0)):
        with create_section(path, group, layout, f"digest-{group}") as store:
            store.write("x", [value, value])
            store.write_notes([group])
    assert [p.name for p in tmp_path.iterdir()] == ["registration.h5"]
    for group, value in (("register", 3.0), ("align", 2.0)):
        assert stored_digest(path, group) == f"digest-{group}"
        with StoreReader(path, group) as store:
            np.testing.assert_array_equal(store.read("x"), value)
            assert store.notes == [group]
    assert stored_digest(path, "other") is None


def test_a_section_that_was_not_joined_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "registration.h5"
    layout = Layout(2, {"x": Field()})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stillsun.io.store._copy_others", interrupt)
    with pytest.raises(KeyboardInterrupt), create_section(path, "register", layout, "d") as store:
        store.write("x", [1.0, 1.0])
        store.mark(())
    monkeypatch.undo()
    assert all(p.suffix == ".part" for p in tmp_path.iterdir())
    with create_section(path, "register", layout, "d") as store:
        assert store.resumed
    assert [p.name for p in tmp_path.iterdir()] == ["registration.h5"]


def test_a_damaged_file_is_replaced_by_its_first_new_section(tmp_path):
    path = tmp_path / "registration.h5"
    path.write_text("no HDF5")
    with create_section(path, "align", Layout(1, {"x": Field()}), "d") as store:
        store.write("x", [1.0])
    assert stored_digest(path, "align") == "d"


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(InputError, match="not found"):
        StoreReader(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text\.h5.*Delete"):
        StoreReader(tmp_path / "text.h5")
    assert stored_digest(tmp_path / "text.h5") is None


@pytest.mark.parametrize("name", ["a.h5", "a.h5.part"])
def test_a_directory_in_the_place_of_a_store_is_named_before_any_work(tmp_path, name):
    (tmp_path / name).mkdir()
    with (
        pytest.raises(InputError, match=rf"{name}: a directory .* Move"),
        create_store(tmp_path / "a.h5", LAYOUT, "d"),
    ):
        pytest.fail("the work began")


def test_text_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match="longer"), create_store(tmp_path / "a.h5", LAYOUT, "d") as store:
        store.write("file", "x" * 30, 0)


def _damage(path, name, row, h5py_path=None):
    """Zero a page in a dataset's row, behind the store's back."""
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file[h5py_path or name]
        offset = dataset.id.get_offset() + (row * dataset[row].nbytes if row is not None else 0)
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(512))


@pytest.mark.parametrize(("name", "row"), [("image", 3), ("dark", None), ("telescope/light_level", 2)])
def test_damage_in_a_finished_store_is_found(tmp_path, name, row):
    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        _fill(store)
        store.write("dark", np.ones((20, 30)))
    assert stored_digest(path) == "d1"
    _damage(path, name, row)
    # Not made: the next run makes it again.
    assert stored_digest(path) is None
    with StoreReader(path) as store:
        with pytest.raises(InputError, match=rf"a\.h5: .*{name}: other values"):
            store.read(name)
        with pytest.raises(InputError, match="other values"):
            store.read(name, row)
        other = "dark" if name == "image" else "image"
        assert store.read(other).any()


def test_a_copy_that_lost_its_time_is_verified_and_used(tmp_path):
    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        _fill(store)
    copy = tmp_path / "b.h5"
    copy.write_bytes(path.read_bytes())
    assert stored_digest(copy) == "d1"
    assert unchanged(copy)


def test_a_store_of_an_earlier_version_without_sums_stays_valid(tmp_path):
    import h5py

    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        _fill(store)
    old = tmp_path / "old.h5"
    with h5py.File(path) as file, h5py.File(old, "w") as copy:
        for name in file:
            if name != "sums":
                file.copy(name, copy)
        for name, value in file.attrs.items():
            if name != "seal":
                copy.attrs[name] = value
    assert stored_digest(old) == "d1"
    with StoreReader(old) as store:
        assert store.read("image", 3)[0, 0] == 3


def test_reading_of_damage_makes_the_store_stale_even_if_its_time_is_kept(tmp_path):
    import os

    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        _fill(store)
    before = path.stat()
    _damage(path, "image", 3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stored_digest(path) == "d1"
    with StoreReader(path) as store, pytest.raises(InputError):
        store.read("image", 3)
    assert stored_digest(path) is None


def test_a_damaged_row_of_a_part_file_is_made_again(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(RuntimeError), create_store(path, LAYOUT, "d1") as store:
        _fill(store, range(4))
        raise RuntimeError
    _damage(tmp_path / "a.h5.part", "image", 2)
    with create_store(path, LAYOUT, "d1") as store:
        assert store.resumed
        np.testing.assert_array_equal(store.done(), [1, 1, 0, 1, 0, 0])
        _fill(store, [2, 4, 5])
    with StoreReader(path) as store:
        np.testing.assert_array_equal(store.read("image")[:, 0, 0], np.arange(ROWS))


def test_a_part_file_made_in_several_steps_begins_anew_when_it_is_damaged(tmp_path):
    path = tmp_path / "a.h5"
    layout = Layout(ROWS, {**LAYOUT.fields, "first": Field((), "uint8", ledger=True)})
    for damage in (False, True):
        with pytest.raises(RuntimeError), create_store(path, layout, "d1") as store:
            assert not store.resumed or not damage
            for row in range(4):
                store.write("image", np.full((20, 30), row + 1, np.float32), row)
                store.mark(row, "first")
            raise RuntimeError
        # A kill while the row that comes next is written is no damage.
        _damage(tmp_path / "a.h5.part", "image", 2 if damage else 0)
        with pytest.raises(RuntimeError), create_store(path, layout, "d1") as store:
            assert store.resumed is not damage
            raise RuntimeError
        if not damage:
            (tmp_path / "a.h5.part").unlink()


def test_no_byte_of_a_store_can_change_unnoticed(tmp_path):
    """Random bytes, in values and in HDF5's own structures: refused, or made again, or as it was."""
    path = tmp_path / "a.h5"
    with create_store(path, LAYOUT, "d1") as store:
        _fill(store)
        store.write("dark", np.ones((20, 30)))
        store.write_notes(["note"])
    whole = path.read_bytes()
    with StoreReader(path) as store:
        truth = {name: store.read(name) for name in store.names()}
        about = store.attributes
    rng = np.random.default_rng(8)
    for place in rng.integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        digest = stored_digest(path)
        if digest != "d1":
            continue
        with StoreReader(path) as store:
            assert store.attributes == about
            for name, values in truth.items():
                np.testing.assert_array_equal(store.read(name), values)


def test_sums_of_few_values_are_those_of_the_kernel():
    rng = np.random.default_rng(3)
    for shape in ((5, 1), (7, 1000), (1, 4097), (3, 0)):
        words = rng.integers(0, 2**32, shape, dtype=np.uint32)
        words[0] = 0
        np.testing.assert_array_equal(_storesums._numpy_sums(words), _storesums._kernel()(words))
