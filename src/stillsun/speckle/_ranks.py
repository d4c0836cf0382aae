"""Processes of one MPI run: who they are, their share of the cores, and work handed out among them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from stillsun.errors import ConfigError

# Waiting in MPI itself burns the core that another process may compute on.
_POLL = 0.005
# How launchers tell a process how many they have started.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")

_Value = TypeVar("_Value")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Ranks:
    """
    The processes of a run; a single one where MPI is not there.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or None
        Communicator; None for a single process.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    """

    def __init__(self, comm: Any = None) -> None:
        self._comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()

    @classmethod
    def join(cls) -> Ranks:
        """
        Find the other processes.

        Returns
        -------
        Ranks
            All processes that the launcher has started.

        Raises
        ------
        ConfigError
            If there are others, but they cannot be reached.
        """
        started = max(int(os.environ.get(name) or 1) for name in _SIZES)
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            if started == 1:
                return cls()
            raise ConfigError(
                "processes started by mpirun cannot reach each other: mpi4py is not there or finds no MPI",
                found=str(error).partition("\n")[0],
                remedy="pip install 'stillsun[mpi]' and use the mpirun that comes with it",
            ) from error
        ranks = cls(MPI.COMM_WORLD)
        if ranks.size < started:
            raise ConfigError(
                "this mpirun does not belong to the MPI that mpi4py uses",
                expected=f"{started} processes",
                found=ranks.size,
                remedy="Use the mpirun that 'stillsun[mpi]' installs beside the program",
            )
        return ranks

    def agree(self, find: Callable[[], _Value]) -> _Value:
        """
        Let the first process find something out for all.

        Parameters
        ----------
        find : callable
            Called by the first process only.

        Returns
        -------
        object
            What it returned there. What it raises is raised in every process.
        """
        if self._comm is None:
            return find()
        answer: tuple[bool, Any] | None = None
        if self.rank == 0:
            try:
                answer = True, find()
            except Exception as error:
                answer = False, error
        good, value = self._comm.bcast(answer, root=0)
        if not good:
            raise value
        return value

    def threads(self, workers: int) -> int:
        """
        Share of the machine's cores that this process may use.

        Parameters
        ----------
        workers : int
            How many processes will work, the first ones.

        Returns
        -------
        int
            Threads.
        """
        if self._comm is None:
            return len(_cores())
        from mpi4py import MPI

        node = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        working = self.rank < workers
        beside = max(1, node.allreduce(int(working)))
        if working:
            _loosen(beside)
        mine = _cores()
        others = node.allgather(mine if working else frozenset())
        node.Free()
        sharing = sum(not mine.isdisjoint(cores) for cores in others)
        return max(1, len(mine) // max(1, sharing))

    def distribute(
        self,
        items: Sequence[_Item],
        work: Callable[[_Item], _Result],
        done: Callable[[_Item, _Result], bool],
    ) -> None:
        """
        Work through items, each in the process that is free first.

        Parameters
        ----------
        items : sequence
            The same in every process.
        work : callable
            Called with one item, in any process.
        done : callable
            Called in the first process with an item and what `work` returned for it, in the order in
            which they are finished; False: hand out no more.
        """
        workers = min(self.size, len(items))
        if self.size == 1:
            for item in items:
                if not done(item, work(item)):
                    return
            return
        if self.rank == 0:
            _hand_out(self._comm, workers, items, work, done)
        elif self.rank < workers:
            _help(self._comm, work)
        self.wait()

    def wait(self) -> None:
        """Wait for all processes: the launcher ends the others when one of them ends with an error."""
        if self._comm is not None:
            barrier = self._comm.Ibarrier()
            while not barrier.Test():
                time.sleep(_POLL)

    def abort(self, status: int) -> None:
        """
        End all processes at once, so that none waits for this one for ever.

        Parameters
        ----------
        status : int
            Exit status.
        """
        if self.size > 1:
            self._comm.Abort(status)


def _hand_out(
    comm: Any,
    workers: int,
    items: Sequence[_Item],
    work: Callable[[_Item], _Result],
    done: Callable[[_Item, _Result], bool],
) -> None:
    waiting = deque(items)
    helpers = max(workers - 1, 0)
    own: tuple[_Item, Future[_Result]] | None = None

    def finished(item: _Item, result: _Result) -> None:
        if not done(item, result):
            waiting.clear()

    # The work of this process runs beside the handing out; MPI is called by this thread only.
    with ThreadPoolExecutor(1) as pool:
        while waiting or own or helpers:
            if own and own[1].done():
                finished(own[0], own[1].result())
                own = None
            elif not own and waiting:
                item = waiting.popleft()
                own = item, pool.submit(work, item)
            elif comm.iprobe():
                helper, answer = comm.recv()
                if answer is not None:
                    finished(*answer)
                helpers -= not waiting
                comm.send((waiting.popleft(),) if waiting else None, dest=helper)
            else:
                time.sleep(_POLL)


def _help(comm: Any, work: Callable[[_Item], _Result]) -> None:
    answer: tuple[_Item, _Result] | None = None
    while True:
        comm.send((comm.Get_rank(), answer), dest=0)
        task = comm.recv(source=0)
        if task is None:
            return
        answer = task[0], work(task[0])


def _cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _loosen(beside: int) -> None:
    """Take a fair share where Open MPI has tied this process to less: one core each if they are few."""
    if "PRTE_LAUNCHED" not in os.environ or not hasattr(os, "sched_setaffinity"):
        return
    try:
        # The launcher runs on all cores that the user or the batch system gave to it.
        given = os.sched_getaffinity(os.getppid())
        if len(_cores()) < len(given) // beside:
            os.sched_setaffinity(0, given)
    except OSError:
        return
