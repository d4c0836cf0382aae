"""The reference of header keywords, made from their table."""

from __future__ import annotations

from stillsun.sky.keywords import KEYWORDS

_HEAD = """\
# Header keywords

Made from the keyword table by `scripts/reference`; a test fails when it is out of date.

One frame is one file with one HDU, (rows, columns) float32, checked before it gets its name. Cards without
a source are left out. What the keywords mean for coordinates is told in [products](products.md).

| keyword | type | unit | in every file | source | meaning |
|---|---|---|---|---|---|
"""


def header_markdown() -> str:
    """
    Write the reference.

    Returns
    -------
    str
        Markdown.
    """
    rows = [
        f"| `{k.name}` | {k.kind} | {k.unit} | {'yes' if k.required else ''} | {k.source} | {k.meaning} |"
        for k in KEYWORDS
    ]
    return _HEAD + "\n".join(rows) + "\n"
