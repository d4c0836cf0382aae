"""Files that are complete, or not there: written under a temporary name and renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"


def part_of(path: Path) -> Path:
    """
    Give the temporary name of a file.

    Parameters
    ----------
    path : Path
        Final path.

    Returns
    -------
    Path
        Where it is written until it is complete.
    """
    return path.with_name(path.name + PART)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file under a temporary name and rename it when the block ends without error.

    Parameters
    ----------
    path : Path
        Final path; an existing file is replaced in one step.

    Yields
    ------
    Path
        Where to write; removed if the block fails.
    """
    path = Path(path)
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes | str) -> Path:
    """
    Write a small file in one step.

    Parameters
    ----------
    path : Path
        File to write, with its directory; an existing one is replaced.
    content : bytes or str
        All of it; text is written as UTF-8.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
