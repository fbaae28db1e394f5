import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest

from tallymesh.v1 import worker_service_pb2_grpc
from tallymesh_worker.app import serve
from tallymesh_worker.settings import WorkerSettings
from tests.harness.polling import eventually
from tests.integration.worker.mesh import FakeGateway, serving


def compute_processes(worker: int | None = None) -> list[psutil.Process]:
    """The compute processes of a worker, by default of the one in this process."""
    found = []
    for process in psutil.Process(worker or os.getpid()).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "tallymesh_worker.child" in process.cmdline():
                found.append(process)
    return found


def busiest(processes: list[psutil.Process]) -> psutil.Process:
    """The one that has used most processor time: the one that computes."""
    return max(processes, key=lambda process: process.cpu_times().user)


@dataclass
class RunningWorker:
    """A worker in this process."""

    stop: asyncio.Event
    task: asyncio.Task[None]
    service: Any
    channel: grpc.aio.Channel


StartWorker = Callable[..., Any]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Holds sockets; short, as their paths must be."""
    with tempfile.TemporaryDirectory(prefix="tm-worker-") as path:
        yield Path(path)


@pytest.fixture
async def gateway(directory: Path) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway()
    async with serving(gateway, f"unix:{directory}/gateway"):
        yield gateway


@pytest.fixture
async def start_worker(directory: Path, gateway: FakeGateway) -> AsyncIterator[StartWorker]:
    """Starts a worker that has called the gateway: `await start_worker(slots=1)`."""
    workers: list[RunningWorker] = []

    async def start(**settings: object) -> RunningWorker:
        stop, address = asyncio.Event(), f"unix:{directory}/worker-{len(workers)}"
        given = {"gateway": f"unix:{directory}/gateway", "listen": address, "drain_grace": 0.0}
        task = asyncio.create_task(serve(WorkerSettings.load(**(given | settings)), stop))
        channel = grpc.aio.insecure_channel(address)
        service = worker_service_pb2_grpc.WorkerServiceStub(channel)
        worker = RunningWorker(stop, task, service, channel)
        workers.append(worker)
        await eventually(lambda: gateway.requests or task.done())
        return worker

    yield start
    for worker in workers:
        worker.stop.set()
        await worker.task
        await worker.channel.close()
    assert compute_processes() == []
