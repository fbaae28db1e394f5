"""Wires an abacus node together and runs it."""

import asyncio
import contextlib
import sys

from tallymesh.v1.abacus_service_pb2_grpc import add_AbacusServiceServicer_to_server
from tallymesh_abacus.service import AbacusService
from tallymesh_abacus.settings import AbacusSettings
from tallymesh_core.config.settings import BadSettings
from tallymesh_core.rpc.loop import run
from tallymesh_core.rpc.readiness import open_store, report_store
from tallymesh_core.rpc.server import (
    CannotListen,
    HealthReport,
    create_server,
    run_server,
    stop_on_signals,
)
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.telemetry.logging import configure

_SERVICE = "tallymesh.v1.AbacusService"


def main() -> int:
    """Runs an abacus node by the settings in the environment; returns the exit code."""
    try:
        settings = AbacusSettings.load()
        configure(settings.log_level, settings.log_format, settings.node)
        run(serve(settings))
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
    attendant = asyncio.create_task(_attend_store(settings, service, report, stop))
    farewell = asyncio.create_task(_close_watches(service, stop))
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
        await farewell
        attendant.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attendant


async def _attend_store(
    settings: AbacusSettings, service: AbacusService, report: HealthReport, stop: asyncio.Event
) -> None:
    """Opens the store for the service, and tells by health whether it serves, until cancelled."""
    try:
        store = await open_store(settings, stop)
        if store is None:
            return
        try:
            service.open(store)
            await report_store(store, report, stop)
        finally:
            await store.close()
    finally:
        stop.set()


async def _close_watches(service: AbacusService, stop: asyncio.Event) -> None:
    await stop.wait()
    service.close()
