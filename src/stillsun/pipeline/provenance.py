"""Program and versions, for records and headers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stillsun import __version__

PROVENANCE = {"program": "stillsun", "version": __version__}
_PACKAGES = ("numpy", "scipy", "numba", "h5py", "astropy", "sunpy", "hydra-core", "cupy")


def versions() -> dict[str, Any]:
    """
    What runs here.

    Returns
    -------
    dict
        Program, versions of Python and of the packages that results depend on, machine.
    """
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        **PROVENANCE,
        "python": platform.python_version(),
        "packages": packages,
        "machine": platform.platform(),
    }
