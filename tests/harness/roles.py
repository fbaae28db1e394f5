"""The services of a mesh, each by itself, on a store that is not theirs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tallymesh import Client, TallymeshError
from tests.harness.polling import eventually_sync
from tests.harness.processes import Process, Processes


@dataclass(frozen=True)
class Roles:
    """A gateway, an abacus node and a worker.

    Attributes:
        gateway: Address of the gateway.
        abacus: Address of the abacus node.
        processes: By role.
    """

    gateway: str
    abacus: str
    processes: Mapping[str, Process]

    @property
    def ready(self) -> set[str]:
        """The addresses at which a service says that it is ready."""
        return {address for address in (self.gateway, self.abacus) if _is_ready(address)}

    def wait_until_ready(self) -> None:
        """Waits until all of them work together."""

        def working() -> bool:
            for process in self.processes.values():
                assert process.alive, process.output()
            try:
                with Client(self.gateway) as client:
                    return client.health().worker_count == 1 and len(self.ready) == 2
            except TallymeshError:
                return False

        eventually_sync(working, timeout=30, message="the roles working together")


def start_roles(
    processes: Processes, folder: Path, store_url: str, *, worker: Mapping[str, str] | None = None
) -> Roles:
    """Starts the roles and waits until they work together.

    Args:
        processes: Ends them with the test.
        folder: For their sockets.
        store_url: The store of gateway and abacus.
        worker: Environment of the worker only.
    """
    usual = (sys.executable, "-m", "tallymesh")
    gateway, abacus = f"unix:{folder}/gateway.sock", f"unix:{folder}/abacus.sock"
    env = {
        "TALLYMESH_STORE_URL": store_url,
        "TALLYMESH_ABACUS": abacus,
        "TALLYMESH_GATEWAY": gateway,
        "TALLYMESH_SLOTS": "2",
    }
    started = {
        "gateway": processes.start(
            (*usual, "gateway"), env={**env, "TALLYMESH_LISTEN": gateway, "TALLYMESH_NODE": "g"}
        ),
        "abacus": processes.start(
            (*usual, "abacus"), env={**env, "TALLYMESH_LISTEN": abacus, "TALLYMESH_NODE": "a"}
        ),
        "worker": processes.start(
            (*usual, "worker"), env={**env, "TALLYMESH_NODE": "w", **(worker or {})}
        ),
    }
    roles = Roles(gateway, abacus, started)
    roles.wait_until_ready()
    return roles


def _is_ready(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        health: Any = HealthStub(channel)
        try:
            answer = health.Check(HealthCheckRequest(), wait_for_ready=True, timeout=5)
        except grpc.RpcError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)
