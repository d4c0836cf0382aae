"""Reading ahead of and writing behind a loop that computes, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

_DEPTH = 2


def read_ahead(read: Callable[[Item], T], items: Iterable[Item], depth: int = _DEPTH) -> Iterator[T]:
    """
    Read items while earlier ones are worked on.

    Parameters
    ----------
    read : callable
        Gives the value of an item; called in another thread, in order.
    items : iterable
        What to read.
    depth : int, optional
        Values that are held at most.

    Yields
    ------
    object
        The values in order; an error of `read` comes up at its item.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="stillsun-read") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class WriteBehind:
    """
    Carries out calls in order in another thread, while the caller goes on.

    Leaving the block waits for what was handed in, after an error of the block too: what was computed
    is not lost. An error of a call comes up at the next one, or at the end.

    Parameters
    ----------
    depth : int, optional
        Calls that wait at most; one more waits for the first.
    """

    def __init__(self, depth: int = _DEPTH) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stillsun-write")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            while self._waiting and not self._failed:
                self._finish_first(quiet=kind is not None)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """
        Hand in a call.

        Parameters
        ----------
        call : callable
            What to do.
        *arguments
            Its arguments; must not be changed any more.
        """
        while len(self._waiting) >= self._depth:
            self._finish_first()
        self._waiting.append(self._pool.submit(self._guarded, call, arguments))

    def _guarded(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        # After a failure nothing may follow: rows are kept in order.
        if self._failed:
            return
        try:
            call(*arguments)
        except BaseException:
            self._failed = True
            raise

    def _finish_first(self, quiet: bool = False) -> None:
        try:
            self._waiting.popleft().result()
        except Exception:
            if not quiet:
                raise
