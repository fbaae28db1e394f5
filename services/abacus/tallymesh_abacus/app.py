"""Wires an abacus node together and runs it."""

import asyncio
import sys
from collections.abc import Sequence

from tallymesh.v1.abacus_service_pb2_grpc import add_AbacusServiceServicer_to_server
from tallymesh_abacus.service import AbacusService
from tallymesh_abacus.settings import AbacusSettings
from tallymesh_core.rpc.readiness import make_store, serve_with_store
from tallymesh_core.rpc.role import run_role
from tallymesh_core.rpc.server import create_server, stop_on_signals
from tallymesh_core.store.failures import StoreMismatch

_SERVICE = "tallymesh.v1.AbacusService"


async def serve(settings: AbacusSettings, stop: asyncio.Event | None = None) -> None:
    """Runs an abacus node until it is stopped.

    It listens from the start, telling NOT_SERVING while the store does not answer.

    Args:
        settings: The settings.
        stop: Stops it; without one, SIGTERM and SIGINT do.

    Raises:
        CannotListen: An address is in use or not allowed.
        StoreMismatch: The store cannot be used as it is, or as configured.
    """
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
    store = make_store(settings)
    server = create_server(settings.node)
    service = AbacusService(settings.node, store)
    add_AbacusServiceServicer_to_server(service, server)
    await serve_with_store(
        server,
        store,
        settings,
        services=[_SERVICE],
        reflected=[_SERVICE],
        background=tuple,
        close=service.close,
        stop=stop,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an abacus node with the settings of the environment; returns the exit code."""
    return run_role(
        "abacus",
        "Named exact sums, shared by everyone, watched by anyone.",
        AbacusSettings,
        serve,
        arguments=arguments,
        refusals=(StoreMismatch,),
    )


if __name__ == "__main__":
    sys.exit(main())
