"""stillsun: from raw frames of fast solar cameras to science-ready FITS."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from stillsun._kernelcache import keep_kernels

__version__ = "0.2.0"

keep_kernels(Path(__file__).parent)

# The public functions are loaded when first used: `import stillsun` stays light.
_PUBLIC = {
    "apply_shifts": "stillsun.core.destretch",
    "destretch": "stillsun.core.destretch",
    "destretch_series": "stillsun.core.series",
    "get_backend": "stillsun.core.backend",
    "open": "stillsun.sequence.opened",
    "open_work": "stillsun.work",
    "reconstruct": "stillsun.speckle.masking",
    "reconstruct_series": "stillsun.speckle.masking",
}

# `from stillsun import *` leaves Python's own `open` alone.
__all__ = ["__version__", *sorted(_PUBLIC.keys() - {"open"})]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'stillsun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
