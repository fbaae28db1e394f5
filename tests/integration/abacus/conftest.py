"""Abacus nodes in this process, and stubs to call them by."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh_abacus.app import serve
from tallymesh_abacus.settings import AbacusSettings
from tallymesh_core.rpc.channel import open_channel
from tests.harness.polling import eventually

if TYPE_CHECKING:
    from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceAsyncStub

SERVICE = "tallymesh.v1.AbacusService"


@dataclass(frozen=True)
class Node:
    """A running node."""

    name: str
    address: str
    stub: "AbacusServiceAsyncStub"
    health: Any
    stop: asyncio.Event
    running: asyncio.Task[None]

    async def serving(self) -> bool:
        """Tells whether the node says that it is ready; an AssertionError if it does not answer."""
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        answer = await self.health.Check(request, wait_for_ready=True, timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _health_stub(channel: Any) -> Any:  # typed for blocking channels only
    return health_pb2_grpc.HealthStub(channel)


StartNode = Callable[..., Awaitable[Node]]


@pytest_asyncio.fixture
async def start_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartNode]:
    """Starts nodes: `await start_node(store_url, name)`; `ready=False` does not wait for them."""
    # No load balancer looks at these nodes before they close.
    monkeypatch.setattr("tallymesh_core.rpc.server._LAME_DUCK_SECONDS", 0.0)
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            store_url: str, name: str = "abacus-1", *, ready: bool = True, drain_grace: float = 2
        ) -> Node:
            address = f"unix:{tmp_path / name}"
            settings = AbacusSettings.load(
                store_url=store_url, node=name, listen=address, drain_grace=drain_grace
            )
            stop = asyncio.Event()
            running = asyncio.create_task(serve(settings, stop))
            channel = await stack.enter_async_context(open_channel(address))

            async def end() -> None:
                stop.set()
                await running

            stack.push_async_callback(end)
            node = Node(
                name=name,
                address=address,
                stub=AbacusServiceStub(channel),
                health=_health_stub(channel),
                stop=stop,
                running=running,
            )
            if ready:
                await eventually(node.serving)
            return node

        yield start


@pytest_asyncio.fixture
async def node(start_node: StartNode, store_url: str) -> Node:
    return await start_node(store_url)
