"""Computations without a job: a gateway and real workers."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from tallymesh.v1 import work_pb2
from tallymesh.v1.dispatch_service_pb2 import Worker
from tallymesh.v1.job_service_pb2 import ComputeRequest, ComputeResponse, ListJobsRequest
from tallymesh.v1.mesh_service_pb2 import GetHealthRequest
from tallymesh_core.domain.errors import DeadlinePassed, ServiceUnavailable
from tallymesh_core.domain.jobs import LiveWorker
from tallymesh_core.rpc.status import from_rpc_error
from tallymesh_gateway import computing
from tallymesh_gateway.fleet import Fleet, KnownWorker
from tests.harness.polling import eventually
from tests.harness.ports import free_port
from tests.harness.processes import Process, Processes
from tests.integration.gateway.conftest import Gateway
from tests.integration.worker.conftest import compute_processes
from tests.integration.worker.mesh import simulate

StartWorker = Callable[[str], Any]
ENDLESS = simulate(60, busy=True, ignore_cancel=True)


@pytest.fixture
def start_worker(processes: Processes, folder: Path, gateway: Gateway) -> StartWorker:
    """Starts a worker of one slot under a name, and waits until it computes."""

    async def start(name: str) -> Process:
        env = {
            "TALLYMESH_NODE": name,
            "TALLYMESH_GATEWAY": gateway.address,
            "TALLYMESH_LISTEN": f"unix:{folder}/{name}.sock",
            "TALLYMESH_SLOTS": "1",
        }
        worker = processes.start([sys.executable, "-m", "tallymesh_worker.app"], env=env)

        async def known() -> bool:
            assert worker.alive, worker.output()
            health = await gateway.mesh.GetHealth(GetHealthRequest())
            return name in [one.worker.name for one in health.workers]

        await eventually(known, timeout=20)
        await eventually(lambda: len(compute_processes(worker.pid)) == 2)
        return worker

    return start


async def compute(gateway: Gateway, work: work_pb2.Work, **fields: Any) -> list[ComputeResponse]:
    return [one async for one in gateway.jobs.Compute(ComputeRequest(work=work, **fields))]


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, str, bool]:
    """The code, reason and message with which a call ends, and whether it says when to retry."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    error: Any = caught.value
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    again = any(detail.Unpack(retry) for detail in status.details)
    return error.code(), info.reason, status.message, again


def request(gateway: Gateway, work: work_pb2.Work, **fields: Any) -> Any:
    return gateway.jobs.Compute(ComputeRequest(work=work, **fields))


async def begun(gateway: Gateway, work: work_pb2.Work, timeout: float | None = None) -> Any:
    """A computation that has begun on a worker; one is free soon, if not at once."""
    calls: list[Any] = []

    async def begin() -> bool:
        call = gateway.jobs.Compute(ComputeRequest(work=work), timeout=timeout)
        try:
            first = await anext(aiter(call))
        except grpc.aio.AioRpcError:
            return False
        assert first.HasField("fraction")
        calls.append((call, first.handled_by))
        return True

    await eventually(begin)
    return calls[0]


def busy(worker: Process) -> list[psutil.Process]:
    """The compute processes of a worker that have computed for a while."""
    return [one for one in compute_processes(worker.pid) if one.cpu_times().user > 0.5]


async def test_progress_comes_first_and_the_result_last(
    gateway: Gateway, start_worker: StartWorker
) -> None:
    await start_worker("w1")
    told = await compute(gateway, simulate(0.5))
    fractions = [one.fraction for one in told[:-1]]
    assert fractions[0] == 0
    assert len(fractions) > 1
    assert fractions == sorted(fractions)
    assert told[-1].result.simulate.chunks == 1
    assert {(one.handled_by, one.answered_by) for one in told} == {("w1", "gateway-1")}
    added = await compute(gateway, work_pb2.Work(add=work_pb2.Add(numbers=["0.1", "0.2"])))
    assert added[-1].result.add.sum == "0.3"
    assert not (await gateway.jobs.ListJobs(ListJobsRequest())).jobs


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_who_does_not_wait_any_more_stops_the_computation(
    gateway: Gateway, start_worker: StartWorker, how: str
) -> None:
    worker = await start_worker("w1")
    call, _ = await begun(gateway, ENDLESS, timeout=2 if how == "deadline" else None)
    await eventually(lambda: busy(worker))
    (computing,) = busy(worker)
    if how == "cancel":
        call.cancel()
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: not computing.is_running(), timeout=2)


def test_details_that_contradict_the_status_are_left_out() -> None:
    details = ("grpc-status-details-bin", Status(code=5, message="no").SerializeToString())
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(details),
        details="Deadline Exceeded",
    )
    assert isinstance(from_rpc_error(error, "the worker"), ServiceUnavailable)


async def test_a_deadline_holds_for_all_workers_together(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "_FIRST_SECONDS", 0.4)
    silent = [free_port() for _ in range(4)]
    command = [sys.executable, "-m", "tests.harness.silent_server"]
    servers = [processes.start([*command, str(port)]) for port in silent]
    await eventually(lambda: all("ready" in server.output() for server in servers))
    known = [
        KnownWorker(
            Worker(name=f"w{port}", address=f"127.0.0.1:{port}", kernels=["simulate"], slots=1),
            LiveWorker(f"u{port}", f"w{port}", b"", held=0, seen_ms=0, draining=False),
        )
        for port in silent
    ]

    class Known(Fleet):
        async def workers(self) -> list[KnownWorker]:
            return known

    asked = computing.Computations(Known(None), "gateway-1")  # type: ignore[arg-type]
    with pytest.raises(DeadlinePassed):
        async for _ in asked.compute(simulate(), "simulate", "default", 1.0):
            pass
    await asked.close()


async def test_where_all_are_busy_it_is_told_when_to_come_back(
    gateway: Gateway, start_worker: StartWorker
) -> None:
    await start_worker("w1")
    calls = [(await begun(gateway, ENDLESS))[0] for _ in range(2)]  # its slot, and its spare
    code, reason, message, again = await refusal(request(gateway, simulate()))
    assert (code, reason, again) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_FREE_SLOT", True)
    assert message == "w1, the one worker that serves simulate, is busy"
    await start_worker("w2")
    _, handled_by = await begun(gateway, simulate(0.1))
    assert handled_by == "w2"
    for call in calls:
        call.cancel()


async def test_without_a_worker_it_is_told_so(gateway: Gateway, start_worker: StartWorker) -> None:
    none = (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_WORKER")
    assert (await refusal(request(gateway, simulate())))[:2] == none
    await start_worker("w1")
    assert (await refusal(request(gateway, simulate(), queue="heavy"))) == (
        *none,
        "no live worker serves kernel simulate on queue heavy",
        True,
    )


async def test_a_worker_that_dies_is_replaced(gateway: Gateway, start_worker: StartWorker) -> None:
    workers = {name: await start_worker(name) for name in ("w1", "w2")}
    call, first = await begun(gateway, simulate(1))
    workers[first].kill()
    rest = [one async for one in call]
    assert rest[-1].result.simulate.chunks == 1
    assert {rest[-1].handled_by, first} == {"w1", "w2"}
    fractions = [one.fraction for one in rest[:-1]]
    assert fractions == sorted(fractions)


async def test_the_only_worker_dies(gateway: Gateway, start_worker: StartWorker) -> None:
    worker = await start_worker("w1")
    call, _ = await begun(gateway, ENDLESS)
    worker.kill()
    code, reason, *_ = await asyncio.wait_for(refusal(call), 10)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")


async def test_a_worker_that_falls_silent_is_lost(
    gateway: Gateway, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_gateway.computing._SILENCE_SECONDS", 1.0)
    worker = await start_worker("w1")
    call, _ = await begun(gateway, ENDLESS)
    worker.signal(signal.SIGSTOP)
    try:
        code, reason, *_ = await asyncio.wait_for(refusal(call), 10)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    finally:
        worker.signal(signal.SIGCONT)


async def test_a_gateway_that_stops_ends_computations(
    gateway: Gateway, start_worker: StartWorker
) -> None:
    worker = await start_worker("w1")
    call, _ = await begun(gateway, ENDLESS)
    await eventually(lambda: busy(worker))
    (computing,) = busy(worker)
    gateway.stop.set()
    code, reason, *_ = await asyncio.wait_for(refusal(call), 10)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    await eventually(lambda: not computing.is_running(), timeout=2)


async def test_what_goes_wrong_is_told_by_name(gateway: Gateway, start_worker: StartWorker) -> None:
    async def told(work: work_pb2.Work, **fields: Any) -> tuple[grpc.StatusCode, str, str]:
        return (await refusal(request(gateway, work, **fields)))[:3]

    bad = grpc.StatusCode.INVALID_ARGUMENT
    code, reason, message = await told(simulate(failure_rate=2))
    assert (code, reason) == (bad, "INVALID_FIELD")
    assert message.startswith("work.simulate.failure_rate: '2.0' is not ")
    assert (await told(work_pb2.Work()))[:2] == (bad, "UNKNOWN_KERNEL")
    assert (await told(simulate(), queue="Bad!"))[:2] == (bad, "INVALID_FIELD")
    await start_worker("w1")
    aborted = grpc.StatusCode.ABORTED
    assert (await told(simulate(failure_rate=1)))[:2] == (aborted, "CHUNK_FAILED")
    assert (await told(simulate(crash_rate=1)))[:2] == (aborted, "CHUNK_CRASHED")
