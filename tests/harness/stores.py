"""Ways past the transitions of a store, for tests that tamper with what it keeps."""

from typing import Any

from tallymesh_core.store.connection import Store


async def client_of(store: Store, shard: int = 0) -> Any:
    """The driver's client of the server on which a shard lives."""
    async with store.at(shard) as client:
        return client


async def all_clients(store: Store) -> list[Any]:
    """The driver's clients, one for each server that serves something."""
    async with store.everywhere() as clients:
        return clients
