"""The checked configuration as plain objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillsun.config.schema import ChannelConfig, RunConfig


@dataclass(frozen=True)
class Settings:
    """
    One run's configuration with the channels' overrides worked in.

    Attributes
    ----------
    run : RunConfig
        As composed.
    stages : dict
        Channel to stage name to the stage's options for that channel.
    """

    run: RunConfig
    stages: dict[str, dict[str, Any]]

    @property
    def channels(self) -> list[str]:
        """Channels to run, the reference channel first."""
        every = self.run.observation.channels
        chosen = [c for c in every if not self.run.channels or c in self.run.channels]
        return sorted(chosen, key=lambda c: c != self.reference)

    @property
    def reference(self) -> str:
        """The reference channel."""
        return self.run.observation.reference

    def channel(self, name: str) -> ChannelConfig:
        """Settings of a channel."""
        return self.run.observation.channels[name]
