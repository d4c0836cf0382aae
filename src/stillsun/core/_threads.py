"""Row blocks on threads: Numba kernels without the interpreter lock, SciPy's FFT, one pool."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import lru_cache

from stillsun.core.backend import Backend


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="stillsun")


# A pool's threads do not survive a fork; the child makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_blocks(work: Callable[[int, int], None], count: int, backend: Backend, block: int = 0) -> None:
    """
    Run ``work(start, stop)`` over ``range(count)`` in blocks, on the threads of the backend.

    Own threads and not Numba's: several callers may be active at once, which Numba's default
    threading layer does not survive.

    Parameters
    ----------
    work : callable
        Takes the first item and the one behind the last; releases the interpreter lock. Blocks must
        not depend on each other.
    count : int
        Number of items.
    backend : Backend
        Tells the number of threads.
    block : int, optional
        Items of a block; by default four blocks a thread.
    """
    if block <= 0:
        block = max(1, -(-count // (4 * backend.threads)))
    starts = range(0, count, block)
    if backend.threads == 1 or len(starts) < 2:
        for start in starts:
            work(start, min(start + block, count))
        return
    jobs = [_pool(backend.threads).submit(work, start, min(start + block, count)) for start in starts]
    # None is left running on data that the caller gives up when it gets an error.
    wait(jobs, return_when=FIRST_EXCEPTION)
    for job in jobs:
        job.cancel()
    wait(jobs)
    for job in jobs:
        if not job.cancelled():
            job.result()
