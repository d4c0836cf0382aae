"""Whether a result is up to date: what its stage reads of a product decides, not the whole product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stillsun.errors import InputError
from stillsun.pipeline.digests import digest
from stillsun.products.base import Product, StoreProduct

if TYPE_CHECKING:
    from stillsun.pipeline.plan import Task
    from stillsun.stages.base import Stage


@dataclass
class Inputs:
    """
    What a task reads, by ``CHANNEL:product``.

    Attributes
    ----------
    whole : dict
        Digest of each product, or of its frames where only these are read.
    parts : dict
        The same, but the contents of what is read where a stage declares that it reads a part.
    remade : list of str
        Tasks whose being made makes this one again.
    unsure : list of str
        Tasks that are to be made, but may come out the same in what is read.
    """

    whole: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    remade: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    def add(self, key: str, stage: Stage, kind: type[StoreProduct], source: Task, *, settled: bool) -> None:
        """
        Add a product; `settled`: all that is to be made of it is made.

        Until then it is supposed that what is made again comes out as it is.
        """
        frames_only = kind in stage.uses_frames_only
        names = stage.parts.get(kind, ())
        here = not settled or source.is_made()
        contents = source.product.contents(names) if names and here else None
        whole = source.frames if frames_only else source.digest
        # What failed is not read: a result without it must not pass for one with it.
        self.whole[key] = whole if here else f"without {whole}"
        self.parts[key] = self.whole[key] if contents is None else contents
        if source.is_open:
            self.unsure.append(source.name)
        elif source.is_new and not (frames_only and source.same_frames):
            (self.remade if contents is None or source.remake else self.unsure).append(source.name)


def decide(task: Task, inputs: Inputs, *, settled: bool) -> None:
    """
    Say what is done about a task; `settled`: what it reads is as it will be.

    A result of an earlier version is recognised by the digests of whole products.
    """
    forms = list(_forms(task, inputs))
    found = task.product.digest
    same = next((form for form in forms if form[0] == found), None)
    if same is None:
        going_on = (form for form in forms if task.product.progress(form[0]) is not None)
        task.digest, task.frames = next(going_on, forms[0])
    else:
        task.digest, task.frames = same
    anew = task.remake or bool(inputs.remade)
    task.again = same is not None and anew
    task.is_new = same is None or anew
    task.is_open = not task.is_new and not settled and bool(inputs.unsure)
    stored = None if anew or same is not None else stored_frames(task.stage, task.product)
    task.same_frames = stored is not None and stored in (frames for _, frames in forms)
    if task.same_frames and stored is not None:
        task.frames = stored


def _forms(task: Task, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Digests, of all and of what the frames depend on: of parts, and as earlier versions made them."""
    kept = zip(task.stage.files, task.ingredients["files"], strict=True)
    files = [d for key, d in kept if key not in task.stage.frame_independent_files]
    for given in (inputs.parts, inputs.whole):
        made_of: dict[str, Any] = {**task.ingredients, "inputs": given}
        yield digest(made_of), digest({**made_of, "files": files})
        if inputs.parts == inputs.whole or inputs.unsure:
            return


def stored_frames(stage: Stage, product: Product) -> str | None:
    """What the frames that are there were made from, where that is kept."""
    try:
        return product.frames_digest if stage.frame_independent_files else None
    except InputError:
        return None


def changed_options(product: Product, options: Mapping[str, Any]) -> str:
    """Keys of a stage that were otherwise when its product was made."""
    if not isinstance(product, StoreProduct):
        return ""
    try:
        with product:
            before = product.options
    except (InputError, ValueError):
        return ""
    said = [f"{k} was {before[k]}, is {v}" for k, v in options.items() if k in before and before[k] != v]
    return "; ".join(said)
