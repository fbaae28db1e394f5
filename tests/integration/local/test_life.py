"""A whole mesh on this machine: it starts, mends itself, ends, and leaves nothing behind."""

import json
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from tallymesh import Client, Simulate
from tests.harness.local_mesh import LocalMesh, alive, descendants, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Processes

PRIMES_BELOW_10_6 = 78_498
NAMES = {"valkey", "abacus-1", "gateway-1", "worker-1", "worker-2", "edge"}


def assert_gone(pids: set[int], timeout: float = 10.0) -> None:
    eventually_sync(
        lambda: not [pid for pid in pids if alive(pid)],
        timeout=timeout,
        message="every process having ended",
    )


def everything(mesh: LocalMesh) -> set[int]:
    """The mesh's processes, and what each has started itself."""
    return {mesh.process.pid, *descendants(mesh.process.pid)}


def test_up_computes_mends_itself_and_stops(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder)
    pids = mesh.pids
    assert set(pids) == NAMES
    with urllib.request.urlopen(f"http://{mesh.address}/v1/health", timeout=5) as answer:
        health = json.load(answer)
    assert health["status"] == "STATUS_HEALTHY"
    assert health["worker_count"] == 2

    with Client(mesh.address) as client:
        assert client.count_primes(10**6) == PRIMES_BELOW_10_6
        for name in sorted(NAMES - {"valkey"}):
            mesh.kill(name)
        assert client.count_primes(10**6, timeout=30) == PRIMES_BELOW_10_6

    left = everything(mesh)
    assert mesh.process.stop(timeout=15) == 0
    assert_gone(left)
    assert not list(folder.glob("tallymesh-up-*"))
    assert not (folder / "mesh.json").exists()
    said = mesh.process.output()
    assert "worker-1 was killed by SIGKILL; starting it again in 0.2 s" in said
    assert "Traceback" not in said


def test_nothing_outlives_a_mesh_that_is_killed(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder)
    left = everything(mesh)
    assert len(left) >= len(NAMES)

    mesh.process.kill()

    assert_gone(left)
    (folder / "mesh.json").unlink()
    # What it could not remove itself, the next one does.
    assert len(list(folder.glob("tallymesh-up-*"))) == 1
    start_mesh(processes, folder)
    assert len(list(folder.glob("tallymesh-up-*"))) == 1


def test_data_survives_the_stores_death_and_a_restart(processes: Processes, folder: Path) -> None:
    options = ("--workers", "1", "--data", folder / "data", "--durability", "fsync")
    mesh = start_mesh(processes, folder, *options)
    with Client(mesh.address) as client:
        assert client.abacus("beans").add(5) == 5
        mesh.kill("valkey")
        assert client.abacus("beans").sum == 5
        assert client.count_primes(10**6, timeout=30) == PRIMES_BELOW_10_6
    assert mesh.process.stop(timeout=15) == 0

    mesh = start_mesh(processes, folder, *options)
    with Client(mesh.address) as client:
        assert client.abacus("beans").sum == 5


def test_without_an_edge(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--no-edge", "--gateways", "2", "--workers", "1")
    assert set(mesh.pids) == {"valkey", "abacus-1", "gateway-1", "gateway-2", "worker-1"}
    host, _, port = mesh.address.rpartition(":")
    with Client(mesh.address) as client:
        assert client.count_primes(10**6) == PRIMES_BELOW_10_6
    with Client(f"{host}:{int(port) + 1}") as client:
        assert client.abacus("beans").add(5) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts(
    processes: Processes, folder: Path, number: signal.Signals
) -> None:
    process = processes.start(
        [sys.executable, "-m", "tallymesh", "up", "--port", str(free_port())],
        env={"TMPDIR": str(folder)},
    )
    eventually_sync(
        lambda: descendants(process.pid), interval=0.005, message="a first process being started"
    )
    started = descendants(process.pid)
    process.signal(number)
    assert process.wait(timeout=15) == 0
    assert_gone(started)
    assert not list(folder.glob("tallymesh-up-*"))


def test_a_second_signal_ends_it_at_once(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--workers", "1", "--drain-grace", "60")
    with Client(mesh.address) as client:
        work = Simulate(busy=True, ignore_cancel=True)
        work.duration.FromSeconds(120)
        job = client.submit(work, chunks=1)
        eventually_sync(lambda: job.refresh().progress.chunks_running, message="it running")
    left = everything(mesh)
    mesh.process.signal(signal.SIGINT)
    eventually_sync(lambda: "stopping" in mesh.process.output(), message="it stopping")
    mesh.process.signal(signal.SIGINT)
    assert mesh.process.wait(timeout=5) == 0
    assert_gone(left)
