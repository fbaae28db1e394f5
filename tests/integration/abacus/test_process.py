"""The process: how it ends, and what it says when it cannot begin."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh_core.rpc.channel import open_channel
from tests.harness.polling import eventually
from tests.harness.processes import Process, Processes
from tests.harness.valkey import ValkeyServer
from tests.integration.abacus.test_service import VISITORS

PROGRAM = (
    sys.executable,
    "-c",
    "import sys; from tallymesh_abacus.app import main; sys.exit(main())",
)


@pytest.fixture
def start(processes: Processes, store_url: str, tmp_path: Path) -> Callable[..., Process]:
    defaults = {"TALLYMESH_STORE_URL": store_url, "TALLYMESH_LISTEN": f"unix:{tmp_path / 'own'}"}

    def start_program(**env: str) -> Process:
        return processes.start(PROGRAM, env=defaults | env)

    return start_program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_good_order(
    start: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    process = start()
    async with open_channel(f"unix:{tmp_path / 'own'}") as channel:
        health: Any = HealthStub(channel)  # typed for blocking channels only

        async def is_serving() -> bool:
            # It listens before it has found its store, and says so.
            answer = await health.Check(HealthCheckRequest(), wait_for_ready=True, timeout=10)
            return bool(answer.status == HealthCheckResponse.SERVING)

        await eventually(is_serving)
        request = pb.AddNumberRequest(name=VISITORS, number=1)
        await AbacusServiceStub(channel).AddNumber(request, timeout=10)
    process.signal(number)
    assert await asyncio.to_thread(process.wait, 5) == 0, process.output()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TALLYMESH_LISTEN": "0.0.0.0:7102"}, "TALLYMESH_INSECURE=1"),
        ({"TALLYMESH_SHARDS": "0"}, "TALLYMESH_SHARDS"),
        ({"TALLYMESH_DURABILITY": "fsync"}, "appendfsync always"),
        ({"TALLYMESH_STORE_URL": "http://example.org"}, "TALLYMESH_STORE_URL"),
    ],
)
def test_what_it_cannot_begin_with_is_said_in_a_line(
    start: Callable[..., Process], env: dict[str, str], said: str
) -> None:
    process = start(**env)
    assert process.wait() == 2
    assert "Traceback" not in process.output()
    assert said in process.output().splitlines()[-1]


def test_an_address_in_use(start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(TALLYMESH_LISTEN=address)
        assert process.wait() == 2
    assert "Traceback" not in process.output()
    assert f"cannot listen on {address}" in process.output().splitlines()[-1]


def test_a_store_of_another_layout(
    start: Callable[..., Process], valkey_server: ValkeyServer
) -> None:
    valkey_server.execute("HSET", "tm:meta", "schema", "999")
    process = start()
    assert process.wait() == 2
    assert "version 999" in process.output().splitlines()[-1]
