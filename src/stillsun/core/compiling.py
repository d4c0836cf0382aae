"""Hears when kernels are compiled, which takes long and happens once on a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def hearing_compilation(say: Callable[[], None]) -> Iterator[None]:
    """
    Call a function when the first kernel is compiled instead of found on disk, while the block runs.

    Parameters
    ----------
    say : callable
        Called without arguments, at most once.

    Yields
    ------
    None
        The block runs.
    """
    from numba.core import event

    class Listener(event.Listener):
        """Hears of the first compilation."""

        told = False

        def on_start(self, event: object) -> None:
            """
            Say it once.

            Parameters
            ----------
            event : object
                What Numba tells of it.
            """
            if not self.told:
                self.told = True
                say()

        def on_end(self, event: object) -> None:
            """
            Nothing is left to say.

            Parameters
            ----------
            event : object
                What Numba tells of it.
            """

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)
