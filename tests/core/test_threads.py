"""Blocks on threads: all of them, once, and errors come through."""

import numpy as np
import pytest

from stillsun.core._threads import over_blocks
from stillsun.core.backend import get_backend


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("count", "block"), [(0, 0), (1, 0), (7, 3), (1000, 0), (1000, 64)])
def test_every_item_once(threads, count, block):
    seen = np.zeros(count, int)

    def work(start, stop):
        assert 0 <= start < stop <= count
        seen[start:stop] += 1

    over_blocks(work, count, get_backend("numpy", threads=threads), block)
    assert (seen == 1).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_error_in_a_block_is_raised(threads):
    def work(start, stop):
        if start > 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        over_blocks(work, 10, get_backend("numpy", threads=threads), 2)
