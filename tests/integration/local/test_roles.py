"""Each role by itself, as a container or a unit file starts it."""

import sys
from pathlib import Path

import pytest

from tallymesh import Client, TallymeshError
from tests.harness.polling import eventually_sync
from tests.harness.processes import Process, Processes


def start(processes: Processes, *words: str) -> Process:
    return processes.start([sys.executable, "-m", "tallymesh", *words])


def wait_for_workers(client: Client, *running: Process) -> None:
    def ready() -> bool:
        for process in running:
            assert process.alive, process.output()
        try:
            return client.health().worker_count > 0
        except TallymeshError:
            return False

    eventually_sync(ready, timeout=20, message="a worker in the mesh")


def test_a_gateway_and_a_worker(processes: Processes, folder: Path, store_url: str) -> None:
    address = f"unix:{folder}/gateway.sock"
    gateway = start(processes, "gateway", "--listen", address, "--store-url", store_url)
    worker = start(processes, "worker", "--gateway", address, "--slots", "1", "--node", "w-1")
    with Client(address) as client:
        wait_for_workers(client, gateway, worker)
        assert client.count_primes(100) == 25
        assert [w.worker.name for w in client.health().workers] == ["w-1"]
    assert worker.stop() == 0
    assert gateway.stop() == 0


def test_both_in_one(processes: Processes, folder: Path, store_url: str) -> None:
    address = f"unix:{folder}/node.sock"
    node = start(processes, "node", "--listen", address, "--store-url", store_url, "--slots", "1")
    with Client(address) as client:
        wait_for_workers(client, node)
        assert client.count_primes(100) == 25
    assert node.stop() == 0
    assert "Traceback" not in node.output()


def test_an_abacus(processes: Processes, folder: Path, store_url: str) -> None:
    address = f"unix:{folder}/abacus.sock"
    abacus = processes.start(
        [sys.executable, "-m", "tallymesh", "abacus"],
        env={"TALLYMESH_LISTEN": address, "TALLYMESH_STORE_URL": store_url},
    )
    with Client(address) as client:
        assert client.abacus("beans").add(5) == 5
    assert abacus.stop() == 0


@pytest.mark.parametrize("role", ["gateway", "node"])
def test_a_bad_setting_is_named(processes: Processes, role: str) -> None:
    process = start(processes, role, "--listen", "0.0.0.0:7101")
    assert process.wait() == 2
    said = process.output().splitlines()
    assert len(said) == 1, said
    assert "TALLYMESH_LISTEN" in said[0]
    assert "TALLYMESH_INSECURE=1" in said[0]
