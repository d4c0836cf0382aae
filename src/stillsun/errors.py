"""The one family of errors: each names what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class StillsunError(Exception):
    """
    Base of all errors that a user can act on.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    file : str or Path, optional
        File or directory concerned.
    expected, found : optional
        What should be there, and what is.
    remedy : str, optional
        What to do about it.
    """

    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        expected: Any = None,
        found: Any = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message
        self.file = None if file is None else str(file)
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(message, file, expected, found, remedy)

    def __str__(self) -> str:
        parts = [self.message if self.file is None else f"{self.file}: {self.message}"]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = "; ".join(parts)
        return text if self.remedy is None else f"{text.rstrip('.')}. {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[StillsunError], state: dict[str, Any]) -> StillsunError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class ConfigError(StillsunError):
    """
    The configuration, or what it points to, cannot be used; raised before any work.

    Parameters
    ----------
    message : str
        What is wrong; ignored where `findings` are given.
    findings : sequence of str, optional
        All faults found, one line each.
    **details
        As for `StillsunError`.
    """

    exit_status = 2

    def __init__(self, message: str = "", *, findings: Sequence[str] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.findings = tuple(findings)

    def __str__(self) -> str:
        if not self.findings:
            return super().__str__()
        if len(self.findings) == 1:
            return self.findings[0]
        return "\n".join(
            [f"{len(self.findings)} faults in the configuration:", *(f"  - {f}" for f in self.findings)]
        )


class InputError(StillsunError):
    """A file or array handed in is damaged, missing or of another kind than declared."""


class ReconstructionError(StillsunError):
    """Speckle reconstruction or its external program failed."""


class RegistrationError(StillsunError):
    """Images could not be registered to each other or to the Sun."""
