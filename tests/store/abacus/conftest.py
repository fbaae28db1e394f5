"""The abaci of each kind of store."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store
from tests.store.conftest import Layout


@pytest_asyncio.fixture
async def store(layout: Layout) -> AsyncIterator[Store]:
    opened = await Store.open(layout.url, shards=layout.shards)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def abaci(store: Store) -> Abaci:
    return Abaci(store)
