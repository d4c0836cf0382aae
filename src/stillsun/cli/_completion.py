"""Completion of verbs, keys and values in a shell."""

from __future__ import annotations

import os
from collections.abc import Iterable


def complete(arguments: list[str], verbs: Iterable[str]) -> int:
    """Print what a shell may offer, or the code that makes it ask."""
    line = os.environ.get("COMP_LINE", "")
    head, verb, rest = line.partition(" run ")
    if verb:
        # The shell completes "stillsun run KEY": Hydra must see it without the verb.
        os.environ["COMP_LINE"] = f"{head} {rest}"
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    elif line:
        if len(f"{line}|".split()) == 2:
            print("\n".join(verbs))
        return 0
    from stillsun.config.keys import value_choices

    key, given, begun = line.rpartition(" ")[2].partition("=")
    # Hydra knows a key's present value only.
    if verb and given and "query=" in arguments[-1] and (choices := value_choices(key)):
        print("\n".join(f"{key}={choice}" for choice in choices if choice.startswith(begun)))
        return 0
    from stillsun.cli.run import run_words

    return run_words(arguments)
