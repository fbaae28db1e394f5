import asyncio
import itertools
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tallymesh.v1 import (
    dead_letter_service_pb2_grpc,
    dispatch_service_pb2_grpc,
    job_service_pb2_grpc,
    mesh_service_pb2_grpc,
)
from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh_gateway.app import serve
from tallymesh_gateway.settings import GatewaySettings
from tests.harness.polling import eventually


@dataclass
class Gateway:
    """A gateway in this process, and stubs to speak to it."""

    channel: grpc.aio.Channel
    stop: asyncio.Event
    address: str

    def __post_init__(self) -> None:
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.dispatch = dispatch_service_pb2_grpc.DispatchServiceStub(self.channel)
        self.letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(self.channel)
        self.mesh = mesh_service_pb2_grpc.MeshServiceStub(self.channel)


@dataclass
class Worker:
    """A worker that a test plays call by call."""

    gateway: Gateway
    name: str = "w1"
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    kernels: tuple[str, ...] = ("simulate", "add")
    held: list[pb.ChunkRange] = field(default_factory=list)
    calls: "itertools.count[int]" = field(default_factory=itertools.count)

    async def call(
        self, *, capacity: int = 0, wait: float = 0, **said: Any
    ) -> pb.SynchronizeResponse:
        """One call; what is assigned is noted as held."""
        held = said.pop("held", self.held)
        answer = await self.gateway.dispatch.Synchronize(
            pb.SynchronizeRequest(
                call_id=str(said.pop("call_id", next(self.calls))),
                worker=pb.Worker(name=self.name, uid=self.uid, slots=1, kernels=self.kernels),
                capacity=capacity,
                wait=Duration(nanos=int(wait * 1e9)) if wait < 1 else Duration(seconds=int(wait)),
                held=held,
                **said,
            )
        )
        self.held += [one.chunks for one in answer.assignments]
        return answer

    async def finish(self, **said: Any) -> pb.SynchronizeResponse:
        """Hands in 1 for each chunk held."""
        results = [
            pb.ChunkResults(chunks=one, sums=[1] * one.count, compute_micros=[1000] * one.count)
            for one in self.held
        ]
        answer = await self.call(results=results, **said)
        self.held = [one.chunks for one in answer.assignments]
        return answer


@asynccontextmanager
async def running_gateway(store_url: str, node: str = "gateway-1") -> AsyncIterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="tm-gw-") as directory:
        address = f"unix:{Path(directory) / 'gateway.sock'}"
        settings = GatewaySettings.load(
            store_url=store_url,
            listen=address,
            node=node,
            abacus=f"unix:{directory}/none.sock",
            drain_grace=1,
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(settings, stop))
        # It looks for the gateway before that listens, and is to look again at once.
        options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            health: Any = HealthStub(channel)  # typed for blocking channels only

            async def is_serving() -> bool:
                # It listens before it has found its store, and says so.
                answer = await health.Check(HealthCheckRequest(), wait_for_ready=True, timeout=10)
                return bool(answer.status == HealthCheckResponse.SERVING)

            await eventually(is_serving)
            yield Gateway(channel, stop, address)
        stop.set()
        await serving


@pytest.fixture
async def gateway(store_url: str) -> AsyncIterator[Gateway]:
    async with running_gateway(store_url) as running:
        yield running


@pytest.fixture
def worker(gateway: Gateway) -> Worker:
    return Worker(gateway)
