"""The one way in which a service of the mesh is served."""

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Sequence

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tallymesh_core.rpc.channel import MAX_MESSAGE_BYTES, tolerance_options
from tallymesh_core.rpc.interceptors import CallInterceptor
from tallymesh_core.rpc.reflection import enable_reflection

#: Seconds between telling "not serving" and closing, so that load balancers have looked.
_LAME_DUCK_SECONDS = 0.2

logger = logging.getLogger(__name__)


class CannotListen(Exception):
    """An address cannot be listened on; the message is one line for a person."""


class HealthReport:
    """Whether the services of one server are ready, as grpc.health.v1 tells it."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._services = ("", *services)
        self._ready: bool | None = None

    async def set_ready(self, ready: bool) -> None:
        """Tells all services SERVING or NOT_SERVING."""
        if ready == self._ready:
            return
        self._ready = ready
        state = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.servicer.set(service, state.SERVING if ready else state.NOT_SERVING)


def create_server(node: str, *, max_receive_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Server:
    """Creates a server with the chain that every call passes.

    Args:
        node: Name of this process, told in every answer.
        max_receive_bytes: Longest request taken.
    """
    return grpc.aio.server(
        interceptors=[CallInterceptor(node, max_receive_bytes)],
        options=[
            *tolerance_options(),
            # A second server on the same port is a mistake, not a replica.
            ("grpc.so_reuseport", 0),
            # What is a little too long is refused in our own words, what is far too long unread.
            ("grpc.max_receive_message_length", 4 * max_receive_bytes),
            ("grpc.max_concurrent_streams", 100_000),
            # A GET by REST brings its whole URL along, which the edge takes up to 60 KiB.
            ("grpc.max_metadata_size", 64 * 1024),
            ("grpc.absolute_max_metadata_size", 128 * 1024),
        ],
    )


async def run_server(
    server: grpc.aio.Server,
    *,
    listen: Sequence[str],
    report: HealthReport,
    reflected: Sequence[str],
    grace: float,
    stop: asyncio.Event,
) -> None:
    """Serves until `stop` is set, then closes without cutting calls that end within the grace.

    Args:
        server: With its services added.
        listen: gRPC addresses to listen on.
        report: The health told; the caller sets it ready.
        reflected: Full names of the services that reflection tells of; none turns it off.
        grace: Seconds that open calls get to end.
        stop: Ends serving.

    Raises:
        CannotListen: An address is in use or not allowed.
    """
    health_pb2_grpc.add_HealthServicer_to_server(report.servicer, server)
    if reflected:
        enable_reflection((*reflected, health.SERVICE_NAME), server)
    await report.set_ready(False)
    for address in listen:
        # gRPC takes a unix socket away from whoever listens on it, without a word.
        if address.startswith("unix:") and _is_answered(address.removeprefix("unix:")):
            raise CannotListen(f"cannot listen on {address}: address in use")
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotListen(
                f"cannot listen on {address}: address in use or not allowed"
            ) from error
    await server.start()
    logger.info("listening on %s", ", ".join(listen))
    try:
        await stop.wait()
    finally:
        await report.set_ready(False)
        await asyncio.sleep(_LAME_DUCK_SECONDS)
        await server.stop(grace)


async def end_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks, waits until they have ended, and raises what one of them failed with."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def stop_on_signals(stop: asyncio.Event) -> None:
    """Makes SIGTERM and SIGINT set `stop`; asyncio alone would die of the first."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def is_loopback(address: str) -> bool:
    """Tells whether a gRPC address can be reached from this machine only."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
