"""A service is ready while its store serves."""

import asyncio
import contextlib
import logging

from tallymesh_core.config.settings import StoreSettings
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.rpc.server import HealthReport
from tallymesh_core.store.connection import Store

_RETRY_SECONDS = 0.2

logger = logging.getLogger(__name__)


async def open_store(settings: StoreSettings, stop: asyncio.Event) -> Store | None:
    """Opens the store, waiting for it as long as need be; None if told to stop meanwhile.

    Raises:
        StoreMismatch: The store cannot be used as configured.
    """
    told = False
    while not stop.is_set():
        try:
            return await Store.open(
                settings.store_url, shards=settings.shards, durability=settings.durability
            )
        except StoreUnavailable as error:
            if not told:
                logger.warning("waiting for the store: %s", error.__cause__ or error)
            told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await stop.wait()
    return None


async def report_store(store: Store, report: HealthReport, stop: asyncio.Event) -> None:
    """Keeps the health report true, for ever; once told to stop, the service is not ready.

    Raises:
        StoreMismatch: The store is no more as configured.
    """
    lost = False
    async for trouble in store.health():
        if trouble and not lost:
            logger.warning("store lost: %s", trouble.__cause__ or trouble)
        if lost and not trouble:
            logger.info("store found again")
        lost = trouble is not None
        await report.set_ready(not lost and not stop.is_set())
