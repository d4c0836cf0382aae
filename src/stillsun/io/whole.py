"""Small files that are whole, or not there."""

from __future__ import annotations

from pathlib import Path

PART = ".part"


def write_whole(path: Path, content: bytes | str) -> Path:
    """
    Write a file under a temporary name and rename it when it is complete.

    Parameters
    ----------
    path : Path
        File to write, with its directory; an existing one is replaced in one step.
    content : bytes or str
        All of it; text is written as UTF-8.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return path
