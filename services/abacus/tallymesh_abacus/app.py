"""Wires an abacus node together and runs it."""

import asyncio
import contextlib
import logging
import sys

from tallymesh.v1.abacus_service_pb2_grpc import add_AbacusServiceServicer_to_server
from tallymesh_abacus.service import AbacusService
from tallymesh_abacus.settings import AbacusSettings
from tallymesh_core.config.settings import BadSettings
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.rpc.server import (
    CannotListen,
    HealthReport,
    create_server,
    run_server,
    stop_on_signals,
)
from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store, StoreMismatch
from tallymesh_core.telemetry.logging import configure

_SERVICE = "tallymesh.v1.AbacusService"
#: Seconds between looks at the store: while it answers, and while it does not.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.25

logger = logging.getLogger(__name__)


def main() -> int:
    """Runs an abacus node by the settings in the environment; returns the exit code."""
    try:
        settings = AbacusSettings.load()
        configure(settings.log_level, settings.log_format, settings.node)
        asyncio.run(serve(settings))
    except (BadSettings, StoreMismatch, CannotListen) as error:
        sys.stderr.write(f"tallymesh abacus: {error}\n")
        return 2
    return 0


async def serve(settings: AbacusSettings, stop: asyncio.Event | None = None) -> None:
    """Runs an abacus node until it is stopped.

    It serves from the start, telling NOT_SERVING while the store does not answer.

    Args:
        settings: The settings.
        stop: Stops it; without one, SIGTERM and SIGINT do.

    Raises:
        BadSettings: The store's URL is none.
        CannotListen: An address is in use or not allowed.
        StoreMismatch: The store cannot be used as configured.
    """
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
    server = create_server(settings.node)
    service = AbacusService(settings.node)
    add_AbacusServiceServicer_to_server(service, server)
    report = HealthReport([_SERVICE])
    async with contextlib.AsyncExitStack() as stack:
        attendant = asyncio.create_task(_attend_store(settings, service, report, stop, stack))
        try:
            await run_server(
                server,
                listen=settings.listen_addresses,
                report=report,
                reflected=[_SERVICE] if settings.reflection else [],
                grace=settings.drain_grace,
                stop=stop,
            )
        finally:
            stop.set()
            await attendant


async def _open_store(settings: AbacusSettings) -> Store:
    try:
        return await Store.open(
            settings.store_url, shards=settings.shards, durability=settings.durability
        )
    except ValueError as error:
        raise BadSettings(f"TALLYMESH_STORE_URL: {error}") from error


async def _attend_store(
    settings: AbacusSettings,
    service: AbacusService,
    report: HealthReport,
    stop: asyncio.Event,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Keeps the service in touch with its store until the stop, and tells by health if it is.

    Looking lays out anew a store that came back empty. The stack closes the store, once no call
    needs it any more.
    """
    store: Store | None = None
    waiting = False
    try:
        while not stop.is_set():
            try:
                if store is None:
                    store = await _open_store(settings)
                    stack.push_async_callback(store.close)
                    service.open(Abaci(store))
                else:
                    await store.prepare(settings.shards)
                    if settings.durability == "fsync":
                        await store.demand_fsync()
            except StoreUnavailable as error:
                await report.set_ready(False)
                if not waiting:
                    logger.warning("%s; waiting for it (%s)", error.message, error.__cause__)
                waiting = True
            else:
                await report.set_ready(not stop.is_set())
                if waiting:
                    logger.info("the store answers again")
                waiting = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS if waiting else _LOOK_SECONDS):
                    await stop.wait()
    finally:
        stop.set()
        service.close()
