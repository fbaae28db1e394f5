"""The abaci of each kind of store, and what the tests add to them."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store
from tallymesh_core.store.ledger import Origin
from tallymesh_core.store.sums import Abacus
from tests.store.conftest import Layout

VISITORS = Abacus("default", "visitors")
ORIGIN = Origin("anonymous", "abacus-1")


@pytest_asyncio.fixture
async def store(layout: Layout) -> AsyncIterator[Store]:
    opened = await Store.open(layout.url, shards=layout.shards)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def abaci(store: Store) -> Abaci:
    return Abaci(store)
