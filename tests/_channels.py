"""Channels and stage contexts made of stores that a test wrote by hand."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from stillsun.config.schema import ChannelConfig, ObservationConfig
from stillsun.core.backend import get_backend
from stillsun.io.store import Layout, StoreReader, create_store
from stillsun.products.channel import PRODUCTS, Channel, ChannelPaths
from stillsun.stages.base import StageContext

KINDS = {kind.name: kind for kind in PRODUCTS}


def opened(stores):
    """Products on stores: open ones, or their files, by name of the product."""
    return {
        name: KINDS[name].on(store if isinstance(store, StoreReader) else StoreReader(store))
        for name, store in stores.items()
    }


def channel(name, directory, stores, *, settings=None, observation=None, options=None):
    """A channel with the products in these stores."""
    return Channel(
        name,
        observation or ObservationConfig(reference_channel=name),
        settings or ChannelConfig(),
        options or {},
        ChannelPaths(Path(directory)),
        opened(stores),
    )


def context(
    name,
    directory,
    stores,
    *,
    config,
    settings=None,
    observation=None,
    writes=None,
    digest="x",
    backend=None,
    progress=lambda done, total: None,
    **more,
):
    """A context whose stage writes its store to the file `writes`."""

    @contextmanager
    def create(rows, fields, attributes=None):
        assert writes is not None, "this stage writes no store"
        with create_store(writes, Layout(rows, fields, attributes or {}), digest) as store:
            yield store

    return StageContext(
        name,
        observation or ObservationConfig(reference_channel=name),
        settings or ChannelConfig(),
        {},
        ChannelPaths(Path(directory)),
        opened(stores),
        config=config,
        backend=backend or get_backend("numpy", threads=2),
        create=create,
        progress=progress,
        digest=digest,
        **{"provenance": {"program": "stillsun", "version": "0", "hash": "0123abcd" * 5}, **more},
    )
