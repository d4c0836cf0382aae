"""Program and versions, for records and headers."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stillsun import __version__

PROVENANCE = {"program": "stillsun", "version": __version__}
_PACKAGES = ("numpy", "scipy", "numba", "h5py", "astropy", "sunpy", "hydra-core", "cupy")

# What decides on results, in a checkout as in a wheel.
_SOURCES = (".py", ".cu", ".npz")


@cache
def source_hash() -> str:
    """
    Hash of the program's source files, which tells versions apart that have one number.

    Returns
    -------
    str
        First 40 hexadecimal digits of their SHA-256.
    """
    package = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in _SOURCES):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:40]


def versions() -> dict[str, Any]:
    """
    What runs here.

    Returns
    -------
    dict
        Program, hash of its sources, versions of Python and of the packages that results depend on, machine.
    """
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        **PROVENANCE,
        "hash": source_hash(),
        "python": platform.python_version(),
        "packages": packages,
        "machine": platform.platform(),
    }
