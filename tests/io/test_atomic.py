"""Small files: whole, or not there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from stillsun.io.atomic import write_whole


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "sub" / "a.txt", "ö")
    assert path.read_bytes() == "ö".encode()

    def full(part, content):
        part.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_text(encoding="utf-8") == "ö"
    assert list(path.parent.iterdir()) == [path]
