"""Who runs the tasks: this process one after another, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from stillsun.config.schema import ExecutorConfig, ExecutorName
from stillsun.errors import ConfigError

_GET_DASK = "pip install 'stillsun[dask]', or use executor=serial"


class _Inline(Executor):
    """Runs a call when it is submitted."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # belongs to the caller who asks for the result
            future.set_exception(error)
        return future


def check_executor(config: ExecutorConfig) -> list[str]:
    """
    Look whether what runs the tasks is installed.

    Parameters
    ----------
    config : ExecutorConfig
        Choice and size.

    Returns
    -------
    list of str
        What is missing.
    """
    if config.name is ExecutorName.dask and find_spec("distributed") is None:
        return [f"executor=dask: Dask is not installed; {_GET_DASK}"]
    return []


@contextmanager
def open_executor(config: ExecutorConfig, cores: int, channels: int) -> Iterator[tuple[Executor, int, int]]:
    """
    Open what runs the tasks.

    Parameters
    ----------
    config : ExecutorConfig
        Choice and size.
    cores : int
        Cores that may be used here.
    channels : int
        Channels of the run: more tasks than that seldom wait at a time.

    Yields
    ------
    executor : concurrent.futures.Executor
        Takes tasks.
    workers : int
        How many tasks it runs at a time.
    threads : int
        Threads for each of them.

    Raises
    ------
    ConfigError
        If Dask is not installed or its scheduler does not answer.
    """
    if config.name is ExecutorName.serial:
        yield _Inline(), 1, cores
        return
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError(
            "executor=dask: Dask is not installed",
            remedy=_GET_DASK,
        ) from error
    if config.address is None:
        count = config.workers or max(1, min(cores, channels))
        with (
            LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client.get_executor(pure=False), count, max(1, cores // count)
        return
    try:
        client = Client(config.address, timeout="10s")
    except (OSError, TimeoutError) as error:
        raise ConfigError(
            "executor.address: the Dask scheduler does not answer", found=config.address, remedy=str(error)
        ) from error
    with client:
        offers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not offers:
            raise ConfigError("executor.address: the Dask scheduler has no workers", found=config.address)
        yield client.get_executor(pure=False), len(offers), min(w["nthreads"] for w in offers)
