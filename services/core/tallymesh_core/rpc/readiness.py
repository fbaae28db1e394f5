"""A service that uses the store: it listens at once, and is ready while the store serves."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import grpc.aio

from tallymesh_core.config.settings import StoreSettings
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.rpc.server import HealthReport, end_tasks, run_server
from tallymesh_core.store.connection import Store

_RETRY_SECONDS = 0.2

logger = logging.getLogger(__name__)


def make_store(settings: StoreSettings) -> Store:
    """Makes the store of the settings, without connecting to it.

    Raises:
        StoreMismatch: Its URL holds what cannot be used.
    """
    return Store(
        settings.store_url,
        shards=settings.shards,
        durability=settings.durability,
        tolerated=settings.tolerated_conditions,
    )


async def serve_with_store(
    server: grpc.aio.Server,
    store: Store,
    settings: StoreSettings,
    *,
    services: Sequence[str],
    reflected: Sequence[str],
    background: Callable[[], Iterable[Coroutine[Any, Any, None]]],
    close: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serves until `stop` is set; tells NOT_SERVING as long as the store does not serve.

    Args:
        server: With its services added.
        store: Not connected yet. It is closed at the end.
        settings: Where to listen, and how.
        services: Full names of the services whose health is told.
        reflected: Full names of the services that reflection tells of.
        background: Makes the tasks that run once the store has been found; if one fails, all stops.
        close: Ends what has no end of its own, when `stop` is set.
        stop: Ends serving.

    Raises:
        CannotListen: An address is in use or not allowed.
        StoreMismatch: The store cannot be used as it is, or as configured.
    """
    report = HealthReport(services)

    async def attend() -> None:
        if not await _connect_store(store, stop):
            return
        tasks = [
            asyncio.create_task(one) for one in (_report_store(store, report, stop), *background())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await end_tasks(tasks)

    async def close_at_stop() -> None:
        await stop.wait()
        close()

    beside = [asyncio.create_task(attend()), asyncio.create_task(close_at_stop())]
    for task in beside:
        task.add_done_callback(partial(_stop_on_failure, stop))
    try:
        await run_server(
            server,
            listen=settings.listen_addresses,
            report=report,
            reflected=reflected if settings.reflection else (),
            grace=settings.drain_grace,
            stop=stop,
        )
    finally:
        try:
            await end_tasks(beside)
        finally:
            await store.close()


async def _connect_store(store: Store, stop: asyncio.Event) -> bool:
    """Connects to the store, waiting for it as long as need be; False if told to stop meanwhile.

    Raises:
        StoreMismatch: The store cannot be used as it is, or as configured.
    """
    told = False
    while not stop.is_set():
        try:
            await store.connect()
        except StoreUnavailable as error:
            if not told:
                logger.warning("waiting for the store: %s", error.__cause__ or error)
            told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await stop.wait()
        else:
            return True
    return False


async def _report_store(store: Store, report: HealthReport, stop: asyncio.Event) -> None:
    """Keeps the health report true, for ever; once told to stop, the service is not ready.

    Raises:
        StoreMismatch: The store's layout has become another one.
    """
    for sentence in store.state.unseen:
        logger.warning("%s", sentence)
    is_lost, problems = False, tuple[str, ...]()
    async for state in store.watch():
        if state.trouble:
            if not is_lost:
                logger.warning("store lost: %s", state.trouble.__cause__ or state.trouble)
        else:
            if is_lost:
                logger.info("store found again")
            for sentence in set(state.problems) - set(problems):
                logger.warning("%s", sentence)
            if problems and not state.problems:
                logger.info("the store is well again")
            problems = state.problems
        is_lost = state.trouble is not None
        await report.set_ready(not is_lost and not stop.is_set())


def _stop_on_failure(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        stop.set()
