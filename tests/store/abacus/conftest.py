"""The abaci of the shared server."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def abaci(store: Store) -> Abaci:
    return Abaci(store)
