"""The tasks of a run: one stage for one channel each, and the plan that they make up."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from stillsun.io.store import stored_digest
from stillsun.pipeline.layout import Layout
from stillsun.pipeline.workspace import read_stamp
from stillsun.stages.base import Stage

#: Attribute of a product that says what its frames are made from.
FRAMES = "frames_digest"


class Action(Enum):
    """What is done about a task."""

    make = "make"
    reuse = "reuse"
    take = "take as it is"


@dataclass
class Task:
    """
    One stage for one channel.

    Attributes
    ----------
    stage : Stage
        What is done.
    channel : str
        For which channel; empty for a stage of the whole observation.
    digest : str
        What the result is made from.
    frames : str
        What the frames in it are made from: the digest without what stands beside them.
    action : Action
        Make, reuse (same digest), or take (stage not chosen: whatever is there).
    layout : Layout
        Where the result is, or will be.
    again : bool
        It is there with this digest, but is made again: it was forced, or something it is made of is made.
    same_frames : bool
        It is made, but the frames in it are those that are there.
    """

    stage: Stage
    channel: str
    digest: str
    frames: str
    action: Action
    layout: Layout
    again: bool = False
    same_frames: bool = False

    @property
    def name(self) -> str:
        """Channel and stage."""
        return f"{self.channel}/{self.stage.name}" if self.channel else self.stage.name

    def is_made(self) -> bool:
        """
        Look whether the result is there.

        Returns
        -------
        bool
            True if it has the task's digest.
        """
        if self.stage.writes:
            return stored_digest(*self.layout.store(self.channel, self.stage.writes)) == self.digest
        stamp = read_stamp(self.layout.stamp(self.channel, self.stage.name), self.layout.work)
        return stamp.get("digest") == self.digest


@dataclass
class Plan:
    """
    All tasks of a run in the order in which they can be done.

    Attributes
    ----------
    tasks : list of Task
        The tasks.
    findings : list of str
        What stands in the way; empty for a plan that can be carried out.
    redo : list of Path
        Marks of all that is to be made again, here or, where stage or channel are not chosen, in a later run.
    faulty : set of str
        ``CHANNEL:product`` of the tasks that the findings are about, and of those that would follow.
    """

    tasks: list[Task] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    redo: list[Path] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def lookup(self, stage: str, channel: str) -> Task | None:
        """
        Find a task.

        Parameters
        ----------
        stage, channel : str
            Names.

        Returns
        -------
        Task or None
            The task, where there is one.
        """
        return next((t for t in self.tasks if t.stage.name == stage and t.channel == channel), None)

    def producer(self, product: str, channel: str) -> Task | None:
        """
        Find the task that writes a product.

        Parameters
        ----------
        product, channel : str
            Names.

        Returns
        -------
        Task or None
            The task, where there is one.
        """
        return next((t for t in self.tasks if t.stage.writes == product and t.channel == channel), None)

    def table(self) -> str:
        """
        The plan as text.

        Returns
        -------
        str
            One line a task.
        """
        width = max((len(t.name) for t in self.tasks), default=0)
        lines = [f"{t.name:<{width}}  {t.action.value:<13}  {self._result(t)}" for t in self.tasks]
        return "\n".join(lines)

    @staticmethod
    def _result(task: Task) -> str:
        if not task.stage.writes:
            return f"{task.layout.work}: files"
        path, group = task.layout.store(task.channel, task.stage.writes)
        return str(path) if group == "/" else f"{path} ({group})"
