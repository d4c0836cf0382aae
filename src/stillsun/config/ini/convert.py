"""Text of the superseded system's ini files to plain values; a ValueError says what is expected."""

from __future__ import annotations

import math
import re

# No count or size in a configuration is larger.
_LARGEST = 2**31
_TURNS = {"rot90": "rot90", "flipud": "flipud", "fliplr": "fliplr", "flplr": "fliplr", "flip": "flip"}
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0", "none"), False),
}
_REFERENCES = {"running": "running", "reference": "fixed"}


def text(value: str) -> str:
    """Text as it is."""
    return value


def number(value: str) -> float:
    """A finite number."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("a number")
    return found


def whole(value: str) -> int:
    """A whole number; ``64.0`` is one."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not found.is_integer() or abs(found) >= _LARGEST:
        raise ValueError("a whole number")
    return int(found)


def boolean(value: str) -> bool:
    """True or false, as ``configparser`` takes it."""
    if value.lower() not in _BOOLEANS:
        raise ValueError("True or False")
    return _BOOLEANS[value.lower()]


def reference(value: str) -> str:
    """Kind of the reference of destretch."""
    if value.lower() not in _REFERENCES:
        raise ValueError("running or reference")
    return _REFERENCES[value.lower()]


def flow_window(value: str) -> int:
    """Frames; 0 for ``none``."""
    return 0 if value.lower() == "none" else whole(value)


def turns(value: str) -> list[str]:
    """
    Operations that orient an image, between commas.

    An angle that is a multiple of 90 degrees stands for quarter turns, 0 for none.
    """
    found: list[str] = []
    for part in (p.strip().lower() for p in value.split(",")):
        if part in _TURNS:
            found.append(_TURNS[part])
        elif re.fullmatch(r"[+-]?\d{1,4}", part) and int(part) % 90 == 0:
            found += ["rot90"] * (int(part) // 90 % 4)
        elif part not in ("", "none"):
            raise ValueError(f"rot90, flipud, fliplr or flip between commas, not {part}")
    return found


def kernels(value: str) -> list[int]:
    """Sides of destretch's subfields, pixels."""
    try:
        found = [whole(part) for part in value.split(",")]
    except ValueError:
        raise ValueError("whole numbers between commas") from None
    sides = [k for k in found if k]
    if 0 in found[1:] or sorted(sides, reverse=True) != sides or any(k < 4 for k in sides):
        raise ValueError("sides of at least 4 px that do not grow, with 0 in the first place only")
    return found
