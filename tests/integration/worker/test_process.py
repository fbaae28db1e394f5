"""The worker as a process of its own."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.harness.polling import eventually
from tests.harness.processes import Process, Processes
from tests.integration.worker.conftest import busiest, compute_processes
from tests.integration.worker.mesh import FakeGateway, simulate

COMMAND = [sys.executable, "-m", "tallymesh_worker.app"]


@pytest.fixture
def drain_grace() -> float:
    """Long enough for all that is computed here; a test may have another."""
    return 10.0


@pytest.fixture
async def worker(
    processes: Processes, directory: Path, gateway: FakeGateway, drain_grace: float
) -> Process:
    """A worker of one slot that has called the gateway."""
    env = {
        "TALLYMESH_GATEWAY": f"unix:{directory}/gateway",
        "TALLYMESH_SLOTS": "1",
        "TALLYMESH_DRAIN_GRACE": str(drain_grace),
    }
    process = processes.start(COMMAND, env=env)
    await eventually(lambda: gateway.requests, message=process.output())
    return process


async def test_compute_processes_die_with_their_worker(
    worker: Process, gateway: FakeGateway
) -> None:
    children = compute_processes(worker.pid)
    gateway.add("job", simulate(60, busy=True, ignore_cancel=True))
    await eventually(lambda: busiest(children).cpu_times().user > 0.2)
    worker.kill()
    await eventually(lambda: not any(map(_alive, children)))


async def test_sigterm_drains(worker: Process, gateway: FakeGateway) -> None:
    job = gateway.add("job", simulate(0.3))
    await eventually(gateway.held)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: not worker.alive)
    assert worker.exit_code == 0, worker.output()
    assert job.counted_once
    assert gateway.last.draining


async def test_sigterm_under_load_loses_nothing(worker: Process, gateway: FakeGateway) -> None:
    jobs = [gateway.add(f"job-{number}", simulate(0.001), 20) for number in range(200)]
    await eventually(lambda: jobs[20].done)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: not worker.alive)
    assert worker.exit_code == 0, worker.output()
    assert gateway.last.draining
    assert not gateway.last.held
    assert all(job.nothing_lost for job in jobs)
    assert not any(job.failures for job in jobs)
    assert not jobs[-1].counted, "the load was to outlast the worker"


async def test_a_second_sigterm_does_no_harm(worker: Process, gateway: FakeGateway) -> None:
    job = gateway.add("job", simulate(0.6))
    await eventually(gateway.held)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: gateway.last.draining)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: not worker.alive)
    assert worker.exit_code == 0, worker.output()
    assert job.counted_once


@pytest.mark.parametrize("drain_grace", [0.3])
async def test_a_chunk_without_end_is_handed_back_after_the_grace(
    worker: Process, gateway: FakeGateway
) -> None:
    children = compute_processes(worker.pid)
    job = gateway.add("job", simulate(3600, busy=True, ignore_cancel=True))
    await eventually(lambda: busiest(children).cpu_times().user > 0.2)
    victim = busiest(children)
    computing_on: list[bool] = []

    def look() -> None:
        if gateway.last.returned:
            computing_on.append(_alive(victim))

    gateway.heard = look
    worker.signal(signal.SIGTERM)
    await eventually(lambda: not worker.alive, timeout=3)
    assert worker.exit_code == 0, worker.output()
    assert job.returned == [0]
    assert not job.failures
    assert computing_on == [False], "handed back to others once it is not computed any more"


@pytest.mark.parametrize("drain_grace", [60.0])
async def test_a_second_interrupt_ends_it_at_once(worker: Process, gateway: FakeGateway) -> None:
    children = compute_processes(worker.pid)
    gateway.add("job", simulate(60))
    await eventually(gateway.held)
    worker.signal(signal.SIGINT)
    await eventually(lambda: gateway.last.draining)
    worker.signal(signal.SIGINT)
    await eventually(lambda: not worker.alive)
    assert worker.exit_code == 1
    assert "Traceback" not in worker.output()
    assert not any(map(_alive, children))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLYMESH_SLOTS", "0"),
        ("TALLYMESH_QUEUES", "Bad Queue"),
        ("TALLYMESH_GATEWAY", ","),
        ("TALLYMESH_UID", "no_good"),
        ("TALLYMESH_NODE", "No_Good"),
        ("TALLYMESH_LISTEN", "0.0.0.0:7009"),
        ("TALLYMESH_ADVERTISE", "worker.internal"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(processes: Processes, name: str, value: str) -> None:
    process = processes.start(COMMAND, env={name: value})
    assert process.wait() == 2
    assert process.output().startswith("tallymesh worker: ")
    assert name in process.output()
    assert process.output().count("\n") == 1


async def test_an_address_in_use_is_told_in_one_line(
    processes: Processes, gateway: FakeGateway, directory: Path
) -> None:
    taken = f"unix:{directory}/nowhere/worker"
    process = processes.start(
        COMMAND,
        env={
            "TALLYMESH_GATEWAY": f"unix:{directory}/gateway",
            "TALLYMESH_LISTEN": taken,
            "TALLYMESH_LOG_LEVEL": "error",
            "GRPC_VERBOSITY": "NONE",
        },
    )
    await eventually(lambda: not process.alive)
    assert process.exit_code == 2
    assert process.output().startswith(f"tallymesh worker: cannot listen on {taken}")


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
