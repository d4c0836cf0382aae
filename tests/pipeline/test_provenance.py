"""What tells one version of the program from another."""

from pathlib import Path

import stillsun
from stillsun.pipeline import provenance


def test_the_hash_follows_the_sources(tmp_path, monkeypatch):
    package = tmp_path / "stillsun"
    (package / "pipeline").mkdir(parents=True)
    (package / "core.py").write_text("one = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(package / "pipeline" / "provenance.py"))
    hash_of = provenance.source_hash.__wrapped__
    first = hash_of()
    assert len(first) == 40
    (package / "notes.txt").write_text("no source")
    assert hash_of() == first
    (package / "core.py").write_text("one = 2\n")
    changed = hash_of()
    assert changed != first
    (package / "core.py").rename(package / "shell.py")
    assert hash_of() not in (first, changed)


def test_the_record_holds_it():
    found = provenance.versions()
    assert (found["version"], found["hash"]) == (stillsun.__version__, provenance.source_hash())
    assert Path(provenance.__file__).suffix in provenance._SOURCES
