"""The reference of what the stores hold, made from finished ones."""

from __future__ import annotations

from collections.abc import Mapping

from stillsun.io.store import StoreReader

_HEAD = """\
# What the stores hold

Made from a reduced observation by `scripts/reference --stores`; a test fails when a dataset is missing.

Stacks have one row a burst, in the order of time. Every store has the attributes `digest` (what it was
made from), `program`, `version`, `stage`, `config` (its options as JSON), and the datasets `row_done`
(1: complete) and `notes` (what was assumed, dropped, retried or refused); each dataset has the attributes
`unit` and `meaning`. `registration.h5` has two groups: `register/crpix`, `align/crval` and so on.

Some options add datasets: `calibrate.combine=interpolate` `dark_sequences`, `dark_times`, `flat_responses`,
`flat_times`; without `destretch.preserve_flows` there is no `slow_motion` and `solved`;
`destretch.reference=two_pass` `reference`, `reference_made` and `first_pass`;
`destretch.follow_reference=true` `followed`.

Vectors are (y, x) where they are shifts of pixels, and (x, y) where they are plate scales, header values or
places on the sky. Read a store with h5py, or so:

```python
from pathlib import Path

from stillsun.io.store import StoreReader

with StoreReader(Path("WORK/ROSA_GBAND/destretch.h5")) as store:
    frame = store.read("image", 3)
```
"""


def stores_markdown(stores: Mapping[str, StoreReader]) -> str:
    """
    Write the reference.

    Parameters
    ----------
    stores : mapping of str to StoreReader
        Title to an open store.

    Returns
    -------
    str
        Markdown.
    """
    parts = [_HEAD]
    for title, store in stores.items():
        parts.append(f"\n## `{title}`\n\n| dataset | stack | type | unit | meaning |\n|---|---|---|---|---|")
        for name in store.names():
            field = store.describe(name)
            stack = "yes" if field.stack else ""
            parts.append(f"| `{name}` | {stack} | {field.dtype} | {field.unit} | {field.meaning} |")
    return "\n".join(parts) + "\n"
