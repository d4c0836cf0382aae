"""Text of the superseded system's ini files to plain values."""

from __future__ import annotations

import re


def text(value: str) -> str:
    """
    Text as it is.

    Parameters
    ----------
    value : str
        Text.

    Returns
    -------
    str
        The same.
    """
    return value


def number(value: str) -> float:
    """
    A number.

    Parameters
    ----------
    value : str
        Text.

    Returns
    -------
    float
        Its value.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return float(value)
    except ValueError:
        raise ValueError("a number") from None


def whole(value: str) -> int:
    """
    A whole number; ``64.0`` is one.

    Parameters
    ----------
    value : str
        Text.

    Returns
    -------
    int
        Its value.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        found = float(value)
    except ValueError:
        raise ValueError("a whole number") from None
    if not found.is_integer():
        raise ValueError("a whole number")
    return int(found)


def wholes(value: str) -> list[int]:
    """
    Whole numbers between commas.

    Parameters
    ----------
    value : str
        Text.

    Returns
    -------
    list of int
        Their values.

    Raises
    ------
    ValueError
        If one is no whole number.
    """
    try:
        return [whole(part) for part in value.split(",")]
    except ValueError:
        raise ValueError("whole numbers between commas") from None


def boolean(value: str) -> bool:
    """
    True or false.

    Parameters
    ----------
    value : str
        Text, as ``configparser`` takes it.

    Returns
    -------
    bool
        Its value.

    Raises
    ------
    ValueError
        If it is neither.
    """
    low = value.lower()
    if low in ("true", "yes", "on", "1"):
        return True
    if low in ("false", "no", "off", "0", "none"):
        return False
    raise ValueError("True or False")


_TURNS = {"rot90": "rot90", "flipud": "flipud", "fliplr": "fliplr", "flplr": "fliplr", "flip": "flip"}


def turns(value: str) -> list[str]:
    """
    Operations that orient an image.

    Parameters
    ----------
    value : str
        Names between commas; an angle that is a multiple of 90 degrees stands for quarter turns, 0 for
        none.

    Returns
    -------
    list of str
        Names as in `orientation`.

    Raises
    ------
    ValueError
        If one is no operation.
    """
    found: list[str] = []
    for part in (p.strip().lower() for p in value.split(",")):
        if part in _TURNS:
            found.append(_TURNS[part])
        elif re.fullmatch(r"[+-]?\d+", part) and int(part) % 90 == 0:
            found += ["rot90"] * (int(part) // 90 % 4)
        elif part not in ("", "none"):
            raise ValueError(f"rot90, flipud, fliplr or flip between commas, not {part}")
    return found


def kernels(value: str) -> list[int]:
    """
    Subfield sides of destretch.

    Parameters
    ----------
    value : str
        Whole numbers between commas.

    Returns
    -------
    list of int
        Sides, pixels.

    Raises
    ------
    ValueError
        If they are not what destretch takes.
    """
    found = wholes(value)
    sides = [k for k in found if k]
    if 0 in found[1:] or sorted(sides, reverse=True) != sides or any(k < 4 for k in sides):
        raise ValueError("sides of at least 4 px that do not grow, with 0 in the first place only")
    return found
