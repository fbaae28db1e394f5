"""The worker's process: the one place where it is wired together."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final

from tallymesh.v1 import worker_service_pb2, worker_service_pb2_grpc
from tallymesh.v1.dispatch_service_pb2 import Worker
from tallymesh_core import __version__
from tallymesh_core.rpc.role import run_role
from tallymesh_core.rpc.server import HealthReport, create_server, run_server
from tallymesh_kernels.loading import CannotLoad, load, sources
from tallymesh_worker.foreman import Foreman
from tallymesh_worker.jobs import Jobs
from tallymesh_worker.outbox import Outbox
from tallymesh_worker.pool import CannotCompute
from tallymesh_worker.service import WorkerService
from tallymesh_worker.settings import WorkerSettings
from tallymesh_worker.synchronizer import Synchronizer

SERVICE: Final = worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
MIB: Final = 1024 * 1024

logger = logging.getLogger(__name__)


async def serve(settings: WorkerSettings, stop: asyncio.Event | None = None) -> None:
    """Works until stopped, then drains.

    Args:
        settings: The settings.
        stop: Set to make the worker leave; the mesh may set it too. By default SIGTERM and SIGINT
            do, and a SIGINT after that cancels this task.

    Raises:
        CannotListen: An address is in use or not allowed.
        CannotCompute: The compute processes do not start.
        CannotLoad: A kernel of one's own cannot be had.
    """
    if stop is None:
        stop = asyncio.Event()
        _leave_on_signals(stop)
    kernels = sources(settings.kernel_modules)
    registry = load(kernels)
    jobs, outbox = Jobs(), Outbox()
    memory_limit = settings.child_memory_mib * MIB
    foreman = Foreman(
        jobs, outbox, slots=settings.slots, memory_limit=memory_limit, kernels=kernels
    )
    connected = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(foreman.pool.close)
        # Before there is any channel, so that no process is started beside running threads of it.
        await foreman.pool.start()
        registry = registry.only(foreman.pool.kernels)
        worker = Worker(
            name=settings.node,
            uid=settings.uid,
            slots=settings.slots,
            kernels=registry.names(),
            queues=settings.queue_names,
            version=__version__,
            address=settings.advertised_address,
            libraries=foreman.pool.libraries,
        )
        libraries = "; ".join(worker.libraries)
        logger.info("computing", extra={"slots": settings.slots, "libraries": libraries})
        server = asyncio.create_task(
            _serve_worker(
                settings, WorkerService(worker, registry, foreman, jobs, stop), connected, stop
            )
        )
        stack.push_async_callback(_end, server)
        synchronizer = Synchronizer(
            worker,
            settings.gateway_addresses,
            foreman,
            jobs,
            outbox,
            connected=connected.set,
            drain=stop.set,
        )
        stack.push_async_callback(synchronizer.close)
        synchronizer.wake()
        stopped = asyncio.create_task(stop.wait())
        stack.push_async_callback(_end, stopped)
        await asyncio.wait({server, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await server  # could not listen
        logger.info("draining", extra={"running": len(foreman.running())})
        await synchronizer.leave(settings.drain_grace)
        await server


async def _serve_worker(
    settings: WorkerSettings, service: WorkerService, connected: asyncio.Event, stop: asyncio.Event
) -> None:
    """Serves WorkerService where the settings say, if they say so."""
    if not settings.listen_addresses:
        await stop.wait()
        return
    server = create_server(settings.node)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(service, server)
    report = HealthReport([SERVICE])

    async def announce() -> None:
        await connected.wait()
        await report.set_ready(True)

    announcing = asyncio.create_task(announce())
    try:
        await run_server(
            server,
            listen=settings.listen_addresses,
            report=report,
            reflected=[SERVICE] if settings.reflection else [],
            grace=settings.drain_grace,
            stop=stop,
        )
    finally:
        await _end(announcing)


async def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _leave_on_signals(stop: asyncio.Event) -> None:
    """Makes SIGTERM and SIGINT set `stop`, and a SIGINT after that end the current task.

    A person at a terminal presses Ctrl-C again and means it; whoever sends SIGTERM twice may only
    want to be sure.
    """
    task = asyncio.current_task()
    assert task is not None, "coroutines run in tasks"

    def interrupt() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a worker with the settings of the environment; returns the exit code."""
    return run_role(
        "worker",
        "Computes chunks that gateways hand out, in child processes.",
        WorkerSettings,
        serve,
        arguments=arguments,
        refusals=(CannotCompute, CannotLoad),
        runner=asyncio.run,
    )


if __name__ == "__main__":
    sys.exit(main())
