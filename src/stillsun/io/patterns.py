"""Paths and file patterns as people write them."""

from __future__ import annotations

from pathlib import Path

from stillsun.errors import ConfigError


def read_path(text: str, key: str) -> Path:
    """
    Read a path that a person wrote.

    Parameters
    ----------
    text : str
        Path; ``~`` stands for a home directory.
    key : str
        Key of the configuration, for the message.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    ConfigError
        If no path can be made of it.
    """
    try:
        if "\0" in text:
            raise ValueError("it has a character that no path can have")
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{key}: not a path ({error})", found=repr(text), remedy="Correct it") from error


def pattern_fault(pattern: str) -> str | None:
    """
    Say why a file pattern cannot be used.

    Parameters
    ----------
    pattern : str
        Shell pattern.

    Returns
    -------
    str or None
        What must be otherwise; None where it can be used.
    """
    parts = pattern.split("/")
    if not pattern.strip() or "\0" in pattern:
        return "must be the shell pattern of file names, such as *.fit"
    if pattern.startswith("/") or ".." in parts:
        return "must stay below the directory: give another directory instead"
    if any("**" in part and part != "**" for part in parts):
        return "must have ** as a whole name only, as in **/*.fit"
    return None
